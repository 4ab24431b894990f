"""Masks are of the bones that they are called after, whoever made the label map."""

import numpy as np
import pytest

from XraySynthLib.data.formats import read_labels, write_labels
from XraySynthLib.data.sets import open_set


@pytest.fixture
def export(xraysynth, write_subject, tmp_path):
    """`export(map_of, ...)`: export a subject whose labels 3 and 7 are numbered like that."""
    write_subject(tmp_path / "subject")
    path = tmp_path / "subject/labels.nii.gz"
    labels, ras_from_ijk = read_labels(path)

    def run(map_of, *words):
        renumbered = np.vectorize(lambda label: map_of.get(label, 0))(labels)
        write_labels(renumbered, ras_from_ijk, path)
        return xraysynth(
            "export", "--subjects", tmp_path / "subject", "--output", tmp_path / "set",
            "--views", 1, "--shape-px", 40, 40, "--pixel-spacing-mm", 5, 5,
            "--collimated-share", 0, *(words or ("--format", "webdataset")),
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    "ids", [{3: 1, 7: 4}, {3: 77, 7: 25}, {3: 95, 7: 97}, {3: 95, 7: 127}],
    ids=["deepfluoro", "totalsegmentator", "maisi", "s1"],
)  # fmt: skip
def test_bones_of_every_maker_become_masks(export, ids, tmp_path):
    outcome = export(ids)
    assert outcome.code == 0, outcome.err
    (sample,) = open_set(tmp_path / "set")
    assert set(sample.masks) == {"left hemipelvis", "sacrum"}
    assert sample.masks["left hemipelvis"].sum() > 2 * sample.masks["sacrum"].sum() > 0


@pytest.mark.parametrize("ids", [{3: 1}, {3: 2, 7: 40}, {3: 60, 7: 61}, {}])
def test_maps_of_unknown_makers_are_refused(export, ids, failed, tmp_path):
    failed(export(ids), 1, f"labels.nii.gz has the labels {', '.join(map(str, ids.values()))}")
    assert not (tmp_path / "set/set.json").exists()


def test_maps_are_judged_before_an_image_is_made(export, failed, tmp_path, monkeypatch):
    from XraySynthLib.workflows import export as workflow

    monkeypatch.setattr(workflow, "make_part", None)
    words = ("--format", "webdataset", "--label-values", 99)
    for more in ((), ("--dry-run",)):
        failed(export({3: 3, 7: 7}, *words, *more), 1, "none of the labels 99; it has 3, 7")
        failed(export({3: 60, 7: 61}, *words[:2], *more), 1, "which are not known as bones")


def test_no_map_is_read_where_no_masks_are_made(export, tmp_path):
    outcome = export({3: 60, 7: 61}, "--format", "webdataset", "--no-masks")
    assert outcome.code == 0, outcome.err


def test_labels_chosen_are_taken_as_they_are(export, tmp_path):
    outcome = export({3: 60, 7: 61}, "--format", "webdataset", "--label-values", 61)
    assert outcome.code == 0, outcome.err
    assert set(open_set(tmp_path / "set")[0].masks) == {"label 61"}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("webdataset", "--label-values", 3, 3), 2, "each once, got 3, 3"),
        (("webdataset", "--label-values", 0), 2, "0 is background"),
        (("webdataset", "--label-values", 3, -1), 2, "1 or more"),
        (("webdataset", "--label-values", 300), 1, "none of the labels 300; it has 3, 7"),
        (("deepfluoro", "--label-values", 3, 7), 2, "leave 7 out"),
        (("synthex", "--label-values", 10), 2, "leave 10 out"),
    ],
)
def test_labels_that_make_no_masks_are_refused(export, words, code, says, failed):
    failed(export({3: 3, 7: 7}, "--format", *words), code, says)
