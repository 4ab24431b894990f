"""From labelled bones or some landmarks to all landmarks, by the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.anatomy.render import render_ct
from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.data.formats import read_landmarks, write_labels, write_landmarks
from XraySynthLib.data.pelvis import LANDMARK_NAMES


@pytest.fixture(scope="module")
def a_subject():
    return sample_subject(3)


def test_some_landmarks(a_subject, xraysynth, tmp_path):
    truth, given = a_subject.landmarks, tmp_path / "some.mrk.json"
    points = truth.points_ras_mm.copy()
    points[[1, 4, 9]] = np.nan
    write_landmarks(replace(truth, points_ras_mm=points), given)
    words = ("fit", "--landmarks", given, "--output", tmp_path / "fit")
    for _ in range(2):  # the same command again does the same
        outcome = xraysynth(*words)
        assert (outcome.code, outcome.err) == (0, "")
        found = read_landmarks(tmp_path / "fit" / "landmarks.mrk.json")
        apart_mm = np.linalg.norm(found.points_ras_mm - truth.points_ras_mm, axis=1)
        assert apart_mm.max() < 15 and np.flatnonzero(apart_mm > 0.01).tolist() == [1, 4, 9]
    result = json.loads((tmp_path / "fit" / "fit.json").read_text("utf-8"))
    assert len(result["seen"]) == 11 and result["residual_mm"] < 2 and result["doubt"] == ""


def test_a_poor_fit_is_said(a_subject, xraysynth, tmp_path):
    points = a_subject.landmarks.points_ras_mm.copy()
    points[LANDMARK_NAMES.index("ASIS-r")] += [0, -60, 0]
    write_landmarks(replace(a_subject.landmarks, points_ras_mm=points), tmp_path / "wrong.fcsv")
    outcome = xraysynth("fit", "--landmarks", tmp_path / "wrong.fcsv", "--output", tmp_path / "fit")
    assert outcome.code == 0 and outcome.err.count("\n") == 1
    assert "mm off any likely pelvis, ASIS-r farthest" in outcome.err
    points = a_subject.landmarks.points_ras_mm * [-1, 1, 1]
    write_landmarks(replace(a_subject.landmarks, points_ras_mm=points), tmp_path / "mirror.fcsv")
    words = ("--landmarks", tmp_path / "mirror.fcsv", "--output", tmp_path / "fit")
    assert "Left and right look exchanged: FH-l" in xraysynth("fit", *words).err


def test_labelled_bones(a_subject, xraysynth, tmp_path):
    volume = render_ct(a_subject, (80, 60, 96), 4.0)
    labels = volume.labels.copy()
    labels[labels == 6] = 0  # no right femur
    write_labels(labels, volume.ras_from_ijk, tmp_path / "labels.nii.gz")
    output = tmp_path / "fit"
    outcome = xraysynth("fit", "--labels", tmp_path / "labels.nii.gz", "--output", output)
    assert outcome.code == 0 and "No whole bone was given around FH-r" in outcome.err
    found = read_landmarks(output / "landmarks.mrk.json")
    apart_mm = found.points_ras_mm - a_subject.landmarks.points_ras_mm
    assert np.median(np.linalg.norm(apart_mm, axis=1)) < 3
    result = json.loads((output / "fit.json").read_text("utf-8"))
    assert "FH-r" not in result["seen"] and result["residual_mm"]["left_hemipelvis"] < 2


def test_what_cannot_be_fitted(xraysynth, tmp_path, failed):
    points, labels = tmp_path / "points.mrk.json", tmp_path / "labels.nrrd"
    write_landmarks(replace(sample_subject(3).landmarks), points)
    write_labels(np.zeros((8, 8, 8), np.uint8), np.eye(4), labels)
    output = ("--output", tmp_path / "fit")
    failed(xraysynth("fit", *output), 2, "--labels or to --landmarks")
    failed(xraysynth("fit", *output, "--labels", labels, "--landmarks", points), 2, "one of them")
    failed(xraysynth("fit", *output, "--landmarks", tmp_path / "no.fcsv"), 1, "does not exist")
    failed(xraysynth("fit", *output, "--labels", labels), 1, "labels.nrrd")
    failed(xraysynth("fit", "--output", tmp_path, "--landmarks", points), 2, "holds no fit")
    assert not (tmp_path / "fit").exists()
