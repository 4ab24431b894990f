"""What cannot become a set is said before an image is made, and by a dry run."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.formats import read_landmarks, read_volume, write_labels, write_landmarks


@pytest.fixture
def refused(xraysynth, write_subject, failed, tmp_path):
    """`refused(code, words, *options)`: a dry run ends so and leaves no folder."""
    write_subject(tmp_path / "subjects/anna")

    def check(code, words, *options):
        outcome = xraysynth(
            "export", "--subjects", tmp_path / "subjects", "--output", tmp_path / "set",
            "--dry-run", "--shape-px", 40, 48, *options,
        )  # fmt: skip
        failed(outcome, code, words)
        assert not (tmp_path / "set").exists()

    return check


@pytest.fixture
def anna(refused, tmp_path) -> Path:
    return tmp_path / "subjects/anna"


def test_a_scene_of_too_many_images(refused):
    refused(2, "at most 200 images", "--format", "scene", "--views", 201)


def test_too_many_masks(refused):
    words = ("--format", "webdataset", "--views", 2, "--label-values", *range(1, 18))
    refused(2, "at most 16 masks", *words)


def test_a_name_that_is_no_patients(refused, anna):
    anna.rename(anna.with_name("a^b"))
    refused(1, "cannot name files", "--format", "dicom", "--views", 2)


def test_a_label_map_of_another_grid(refused, anna):
    volume = read_volume(anna / "ct.nii.gz", anna / "labels.nii.gz")
    moved = volume.ras_from_ijk.copy()
    moved[0, 3] += 40
    write_labels(volume.labels, moved, anna / "labels.nii.gz")
    refused(1, "labels.nii.gz: its grid is not the CT's", "--format", "coco", "--views", 2)


def test_landmarks_far_from_the_ct(refused, anna):
    points = read_landmarks(anna / "points.mrk.json")
    undefined = [np.nan] * 3
    far = LandmarkSet(points.names, [undefined, points.points_ras_mm[0] + [0, 2500, 0]])
    write_landmarks(far, anna / "points.mrk.json")
    refused(1, "mm away from it", "--format", "coco", "--views", 2)


def test_a_truncated_ct(refused, anna):
    shutil.copy(anna / "points.mrk.json", anna / "ct.nii.gz")
    refused(1, "ct.nii.gz: it is truncated", "--format", "coco", "--views", 2)


def test_a_volume_that_is_not_used_is_named(xraysynth, anna, tmp_path):
    (anna / "labels.nii.gz").rename(anna / "ct_seg.nii.gz")
    words = ("--views", 2, "--format", "coco", "--output", tmp_path / "set", "--dry-run")
    outcome = xraysynth("export", "--subjects", tmp_path / "subjects", *words)
    assert outcome.code == 0
    assert "ct_seg.nii.gz: not used, being called neither ct nor labels" in outcome.err
