"""Whether the interface stays quick: C-arm DRR on Slicer's MRML library and the tests' stand-in.

    python Testing/benchmark/slicer_interface.py [--output FILE.csv]

- preview: from a slider's move to the new image of 256 px in the scene, median and longest of 50,
  and how many a second that is;
- first: the longest time for which the event loop did not turn from choosing the CT to the first
  preview;
- gap: the longest time for which the event loop did not turn while an X-ray with the whole physics
  was taken in a child process, from the button's press to the image in the scene;
- memory: how much the process grew over 50 previews, and over 50 of such jobs on a small detector.

The CT is the sample subject. Nothing is drawn on a screen, so rendering is not in these times. The
table says the machine's load: other work makes gaps that are not the module's.
"""

import argparse
import csv
import os
import statistics
import sys
import time
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing" / "slicer" / "standin"), str(REPOSITORY / "XraySynth")]

import application  # noqa: E402
import qt  # noqa: E402

slicer = application.install()
RUNS = 50


def open_panel() -> tuple[object, float]:
    """The panel of C-arm DRR with a CT chosen, after its first preview, and the longest gap, ms."""
    import XraySynthDRR
    from XraySynthSlicer.ct import add_sample_subject

    ct = add_sample_subject(slicer.mrmlScene)
    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    widget = XraySynthDRR.XraySynthDRRWidget(parent)
    widget.setup()
    widget.enter()
    widget.ui.fullWhenReleasedCheck.checked = False
    longest, started = 0.0, time.perf_counter()
    widget.ui.ctSelector.setCurrentNode(ct)
    while widget.ui.xraySelector.currentNode() is None:
        qt.application.processEvents()
        longest = max(longest, 1e3 * (time.perf_counter() - started))
        started = time.perf_counter()
    return widget, longest


def longest_gap_ms(widget: object) -> float:
    """Turn the event loop until the job has ended; the longest single turn."""
    longest = 0.0
    while True:
        started = time.perf_counter()
        qt.application.processEvents()
        longest = max(longest, 1e3 * (time.perf_counter() - started))
        if not widget.panel.running:
            return longest
        time.sleep(0.001)


def previews_ms(widget: object) -> list[float]:
    """Turn the C-arm step by step."""
    times = []
    for step in range(RUNS):
        started = time.perf_counter()
        widget.ui.primarySlider.value = step - 25
        qt.application.processEvents()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def job_ms(widget: object) -> float:
    """Take an X-ray; the longest gap, the button's press included."""
    started = time.perf_counter()
    widget.ui.applyButton.click()
    pressed = 1e3 * (time.perf_counter() - started)
    return max(pressed, longest_gap_ms(widget))


def memory_mib() -> float:
    """What the process occupies."""
    return psutil.Process().memory_info().rss / 2**20


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--jobs", type=int, default=RUNS, help="how many jobs to run")
    arguments = parser.parse_args()
    widget, first_ms = open_panel()
    previews_ms(widget)
    before = memory_mib()
    times = previews_ms(widget)
    rows = [
        ("longest gap until the first preview", first_ms, "ms"),
        ("preview, median", statistics.median(times), "ms"),
        ("preview, longest", max(times), "ms"),
        ("previews", 1e3 / statistics.median(times), "a second"),
        ("memory grown over 50 previews", memory_mib() - before, "MiB"),
        ("longest gap while an X-ray of 1024 px is taken", job_ms(widget), "ms"),
    ]
    widget.ui.imagePxSpin.value = 128
    job_ms(widget)
    before = memory_mib()
    gaps = [job_ms(widget) for _ in range(arguments.jobs)]
    rows += [
        (f"longest gap over {len(gaps)} X-rays of 128 px", max(gaps), "ms"),
        (f"memory grown over {len(gaps)} X-rays of 128 px", memory_mib() - before, "MiB"),
    ]
    load = os.getloadavg()[0]
    with arguments.output.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(("what", "value", "unit", "cpus", "load_average"))
        for what, value, unit in rows:
            cpus = len(os.sched_getaffinity(0))
            writer.writerow((what, f"{value:.1f}", unit, cpus, f"{load:.1f}"))
    widget.cleanup()


if __name__ == "__main__":
    main()
