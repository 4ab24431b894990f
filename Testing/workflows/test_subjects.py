"""What is taken for a subject, and what is refused because it would end in a wrong set."""

import json
import pickle
import shutil

import numpy as np
import pytest

from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.formats import read_landmarks, write_landmarks
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.workflows import export_images
from XraySynthLib.workflows.subjects import SubjectFolder, find_subjects, unused_volumes


@pytest.fixture
def subjects(tmp_path, write_subject):
    """A folder with the subject anna."""
    write_subject(tmp_path / "subjects/anna")
    return tmp_path / "subjects"


def say_of_anna(subjects, **origin):
    (subjects / "anna/provenance.json").write_text(json.dumps(origin))


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "../x",
            "a/b",
            "a\\b",
            "..",
            ".hidden",
            "a:b",
            "a\nb",
            "a*",
            "ends.",
            " a",
            "a" * 65,
            "a\0",
            "CON",
            "nul.txt",
            "com1 .x.y",
            "lpt\u00b9",
            "\u9aa8" * 51,
        ],
    )
    def test_that_cannot_name_files(self, name, subjects):
        say_of_anna(subjects, subject=name)
        with pytest.raises(UnreadableFileError, match="cannot name files"):
            find_subjects(subjects)

    @pytest.mark.parametrize(
        "name",
        [
            "a",
            "J\u00fcrgen 2",
            "1.2.840.10008",
            "rendered-0-0001",
            "a" * 64,
            "\u9aa8" * 50,
            "Conny",
            "com",
        ],
    )
    def test_that_can(self, name, subjects):
        say_of_anna(subjects, subject=name)
        assert [subject.name for subject in find_subjects(subjects)] == [name]

    @pytest.mark.parametrize("name", ["Anna", "anna"])
    def test_that_some_systems_take_for_one(self, name, subjects):
        shutil.copytree(subjects / "anna", subjects / "ben")
        (subjects / "ben/provenance.json").write_text(json.dumps({"subject": name}))
        with pytest.raises(UnreadableFileError, match=r"/anna and .*/ben .*one name"):
            find_subjects(subjects)

    def test_no_text(self, subjects):
        say_of_anna(subjects, subject=["anna"])
        with pytest.raises(UnreadableFileError, match="name in quotes"):
            find_subjects(subjects)


@pytest.mark.parametrize("people", ["p1", [1], {"p1": 1}, [""]])
def test_people_behind_that_are_no_list_of_names(people, subjects):
    say_of_anna(subjects, config={"derived_from": people})
    with pytest.raises(UnreadableFileError, match="list of names"):
        find_subjects(subjects)


@pytest.mark.parametrize(
    ("copy", "says"),
    [
        ("ct.nii", "2 CTs, ct.nii and ct.nii.gz"),
        ("image.nii.gz", "2 CTs"),
        ("seg.nii.gz", "label maps"),
    ],
)
def test_two_of_a_kind(copy, says, subjects):
    shutil.copy(subjects / "anna/ct.nii.gz", subjects / "anna" / copy)
    with pytest.raises(UnreadableFileError, match=says):
        find_subjects(subjects)


def test_a_volume_beside_the_ct_is_not_used_and_named(subjects):
    found = find_subjects(subjects)
    assert unused_volumes(found) == []
    shutil.move(subjects / "anna/labels.nii.gz", subjects / "anna/ct_seg.nii.gz")
    (subject,) = found = find_subjects(subjects)
    assert subject.ct.name == "ct.nii.gz" and subject.labels is None
    assert [path.name for path in unused_volumes(found)] == ["ct_seg.nii.gz"]


def test_landmarks_with_a_suffix_in_capitals(subjects):
    (subjects / "anna/points.mrk.json").rename(subjects / "anna/POINTS.MRK.JSON")
    (subject,) = find_subjects(subjects)
    assert subject.landmarks.name == "POINTS.MRK.JSON" and len(subject.read()[1].names) == 2


def test_paths_are_absolute(subjects, monkeypatch):
    """Workers elsewhere have another working directory."""
    monkeypatch.chdir(subjects.parent)
    (subject,) = find_subjects(subjects.relative_to(subjects.parent))
    assert subject.ct.is_absolute() and subject.landmarks.is_absolute()
    monkeypatch.chdir(subjects / "anna")
    assert [subject.name for subject in find_subjects(subjects / "anna")] == ["anna"]


def test_the_voxels_beside_a_header_count(subjects):
    """A .mhd file has its voxels in a .raw file beside it."""
    (subjects / "anna/ct.nii.gz").unlink()
    (subjects / "anna/ct.mhd").write_text("ElementDataFile = ct.raw")
    (subjects / "anna/ct.raw").write_bytes(b"1234")
    (subject,) = find_subjects(subjects)
    before = subject.digest()
    (subjects / "anna/ct.raw").write_bytes(b"1235")
    assert subject.digest() != before


def test_a_subject_is_read_once_until_it_changes(subjects, monkeypatch):
    """Each part brings its own copy of the subject to a worker."""
    n_read = 0
    read = SubjectFolder.read

    def counted(subject):
        nonlocal n_read
        n_read += 1
        return read(subject)

    monkeypatch.setattr(SubjectFolder, "read", counted)
    (subject,) = find_subjects(subjects)

    def load():
        copy = pickle.loads(pickle.dumps(subject))
        return export_images._load_subject(copy, (), copy.changed_ns())

    load()
    first = load()
    assert n_read == 1
    points = read_landmarks(subject.landmarks)
    write_landmarks(LandmarkSet(points.names, points.points_ras_mm + 1), subject.landmarks)
    again = load()
    assert n_read == 2
    assert not np.array_equal(first.landmarks.points_ras_mm, again.landmarks.points_ras_mm)


def test_the_aim_needs_whole_points(subjects):
    (subject,) = find_subjects(subjects)
    volume, _ = subject.read()
    points = LandmarkSet(("a", "b", "c"), [[0, 0, 0], [2, 4, 6], [50, np.nan, 50]])
    assert subject.aim_ras_mm(volume, points).tolist() == [1, 2, 3]
