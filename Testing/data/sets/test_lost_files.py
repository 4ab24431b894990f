"""A set that lost files is refused: it is no smaller set, and none without labels."""

import pytest

from XraySynthLib.data.sets import SetDescription, open_set
from XraySynthLib.errors import UnreadableFileError


@pytest.mark.parametrize(
    ("layout", "lost", "n_lost"),
    [
        ("webdataset", "train-000000.tar", 2),
        ("synthex", "train_data/proj/00001.tiff", 1),
        ("dicom", "subject-a/subject-a-000001.dcm", 1),
    ],
)
def test_images(layout, lost, n_lost, write_set):
    folder, _ = write_set(layout)
    (folder / lost).unlink()
    assert len(open_set(folder, "test")) == 3
    for split, n_images in ((None, 6), ("train", 3)):
        with pytest.raises(UnreadableFileError, match=f"{n_lost} of its {n_images} images"):
            open_set(folder, split)


@pytest.mark.parametrize(
    ("layout", "lost"),
    [
        ("dicom", "subject-a/subject-a-000001.sample.json"),
        ("dicom", "subject-a/subject-a-000001.masks.png"),
        ("synthex", "train_data/seg/00001.png"),
        ("synthex", "train_data/lands/00001.h5"),
    ],
)
def test_labels(layout, lost, write_set):
    folder, _ = write_set(layout)
    (folder / lost).unlink()
    with pytest.raises(UnreadableFileError, match="there is no"):
        list(open_set(folder))


def test_a_plan_that_was_altered(write_set):
    folder, _ = write_set("coco", options={"seed": 3})
    path = folder / "set.json"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(UnreadableFileError, match="it is damaged: its SHA-256"):
        open_set(folder)


def test_an_older_plan_has_no_digest(write_set):
    folder, _ = write_set("coco")
    path = folder / "set.json"
    whole = SetDescription.read(path)
    lines = path.read_text().splitlines()
    assert lines[-2].startswith('  "sha256"')
    path.write_text("\n".join([*lines[:-3], lines[-3].rstrip(","), "}"]))
    assert SetDescription.read(path) == whole
