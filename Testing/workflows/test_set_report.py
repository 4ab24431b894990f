"""The page of a set says how it was made and what is in it."""

import html
import re

import numpy as np
import pytest

from XraySynthLib.data.sets import SetDescription, open_set
from XraySynthLib.workflows.set_report import grey_values


@pytest.fixture
def export(xraysynth, write_subject, tmp_path):
    """`export(...)`: a set of three subjects, one in each split; returns its folder."""

    def run(*words):
        for name in ("anna", "ben", "carl"):
            write_subject(tmp_path / "subjects" / name)
        outcome = xraysynth(
            "export", "--subjects", tmp_path / "subjects", "--output", tmp_path / "set",
            "--format", "webdataset", "--no-masks", "--progress", "none", "--workers", 1, *words,
        )  # fmt: skip
        assert (outcome.code, outcome.err) == (0, "")
        return tmp_path / "set"

    return run


def test_the_collimators_border_is_not_counted(export):
    folder = export(
        "--views", 1, "--shape-px", 100, 100, "--pixel-spacing-mm", 2, 2, "--collimated-share", 1,
        "--quantity", "display",
    )  # fmt: skip
    samples = open_set(folder)
    black = np.mean([(sample.xray.values == 0).mean() for sample in samples])
    histograms = grey_values(samples, SetDescription.read(folder / "set.json"))
    assert set(histograms) == {"train", "val", "test"}
    assert black > 0.4
    for edges, shares in histograms.values():
        assert shares[:2].sum() < 0.1 and shares.sum() == pytest.approx(1, abs=0.02)
        assert edges[-1] > 0.8


def test_the_page_says_how_the_set_was_made(export):
    folder = export(
        "--views", 1, "--shape-px", 12, 16, "--pixel-spacing-mm", 15, 12.5, "--seed", 31,
        "--primary-deg", -3, 4.5, "--kvp", 70, 90, "--source-to-detector-mm", 1100,
    )  # fmt: skip
    page = html.unescape((folder / "index.html").read_text("utf-8"))
    rows = dict(re.findall(r"<tr><td>(\w+)</td><td>([^<]*)</td></tr>", page))
    expected = {
        "seed": "31", "primary_deg": "-3, 4.5", "kvp": "70, 90", "directions_deg": "(0, 0)",
        "source_to_detector_mm": "1100", "shape_px": "12, 16", "pixel_spacing_mm": "15, 12.5",
    }  # fmt: skip
    assert rows.items() >= expected.items()


def test_images_of_one_pixel_make_a_page(export):
    """A split's few values may all lie beyond the histogram's ends."""
    folder = export(
        "--views", 1, "--shape-px", 1, 1, "--pixel-spacing-mm", 9, 9, "--collimated-share", 0,
        "--isocenter-offset-mm", -5, 5,
    )  # fmt: skip
    assert (folder / "index.html").exists()
