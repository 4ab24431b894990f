"""Milliseconds that the landmark detector takes for an image once it is loaded; a CSV.

    python Testing/benchmark/detector_speed.py [--model FOLDER] [--threads 2] [--output FILE.csv]

Without --model a network of the default size that has learned nothing: the time is the same. An
image is made ready, seen both ways up, and decoded; reading and writing files is not counted.
Median of 20, by the clock and of all threads.
"""

import argparse
import csv
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from XraySynthLib.data import Quantity, Xray
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.detection.model import Detector, DetectorConfig, load_detector
from XraySynthLib.detection.network import HeatmapNetwork, NetworkConfig

SHAPES = ((512, 512), (1024, 1024), (1536, 1536), (3000, 2400))
REPETITIONS = 20


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("detector_speed.csv")
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    if options.model is None:
        network = NetworkConfig(len(LANDMARK_NAMES))
        config = DetectorConfig("untrained", LANDMARK_NAMES, 192, network)
        detector = Detector(config, HeatmapNetwork(network))
    else:
        detector = load_detector(options.model)
    rows = []
    for shape in SHAPES:
        xray = Xray(np.random.default_rng(0).random(shape), Quantity.DISPLAY)
        detector.detect(xray)
        times = []
        for _ in range(REPETITIONS):
            start = time.perf_counter(), time.process_time()
            detector.detect(xray)
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        clock_ms, threads_ms = 1000 * np.median(times, axis=0)
        rows.append((*shape, options.threads, round(clock_ms, 1), round(threads_ms, 1)))
        print(*rows[-1])
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("rows", "columns", "threads", "clock_ms", "all_threads_ms"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
