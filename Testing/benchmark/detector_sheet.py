"""What a landmark detector finds in some images of a set, beside the truth, on one sheet.

    xraysynth detect --image SET/images --output FOUND --no-overlay
    python Testing/benchmark/detector_sheet.py SET FOUND [--count 8] [--output FILE.png]

Images are taken at even steps through the set, whatever the errors. Amber rings are the truth, red
crosses what was found; a line joins the two. Landmarks that were missed, or found over a fiftieth
of the image away, are named.
"""

import argparse
from pathlib import Path

import numpy as np

from XraySynthLib.data.sets import open_set
from XraySynthLib.evaluation import read_predictions
from XraySynthLib.workflows.figures import Panel, write_sheet

COLUMNS = 4


def main() -> None:
    """Make the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("found", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("detector-sheet.png"))
    options = parser.parse_args()
    samples, predictions = open_set(options.set), read_predictions(options.found)
    panels = []
    for number in np.linspace(0, len(samples) - 1, options.count).astype(int).tolist():
        sample = samples[number]
        found = predictions[sample.key].landmarks
        panels.append(Panel(sample.xray, sample.landmarks, sample.provenance.subject, found))
    write_sheet(panels, COLUMNS, options.output)


if __name__ == "__main__":
    main()
