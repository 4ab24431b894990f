"""Files with random damage end in an image or in one sentence, never in a traceback."""

import shutil

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.formats import (
    read_landmarks,
    read_sample,
    read_volume,
    read_xrays,
    write_landmarks,
    write_sample,
    write_volume,
    write_xray,
    write_xray_dicom,
)
from XraySynthLib.errors import UnreadableFileError

N_CASES = 30
READERS = {
    "ct.nii": read_volume,
    "ct.nii.gz": read_volume,
    "ct.nrrd": read_volume,
    "ct.mha": read_volume,
    "x.tiff": read_xrays,
    "x.png": read_xrays,
    "x.dcm": read_xrays,
    "l.mrk.json": read_landmarks,
    "l.fcsv": read_landmarks,
    "l.csv": read_landmarks,
    "sample.json": read_sample,
    "labels.png": lambda path: read_sample(path.parent),
}


@pytest.fixture
def whole(tmp_path, oblique_volume, line_integral, general_view):
    """A folder with one good file of every kind."""
    display = Xray(np.tanh(line_integral.values), Quantity.DISPLAY, None, general_view)
    masks = {"bone": line_integral.values > 3}
    landmarks = ImageLandmarkSet(("a",), [[1, 2]], [True], [1])
    write_sample(Sample("k", display, landmarks, masks, Provenance("real", "s")), tmp_path)
    for name in READERS:
        if name.startswith("ct"):
            write_volume(oblique_volume, tmp_path / name)
        elif name in ("x.tiff", "x.png"):
            write_xray(display, tmp_path / name)
        elif name.startswith("l."):
            write_landmarks(LandmarkSet(("a", "b"), [[1, 2, 3], [4, 5, 6]]), tmp_path / name)
    write_xray_dicom(display, tmp_path / "x.dcm", subject="s", uid_seed="1")
    return tmp_path


def damaged(data, random):
    """Cut the end off, or overwrite a few bytes, mostly of the header."""
    if random.random() < 0.3:
        return data[: random.integers(len(data))]
    changed = bytearray(data)
    reach = len(data) if random.random() < 0.3 else min(len(data), 600)
    for _ in range(random.integers(1, 6)):
        changed[random.integers(reach)] = random.integers(256)
    return bytes(changed)


@pytest.mark.parametrize("name", READERS)
def test_random_damage(whole, random, capfd, name):
    data = (whole / name).read_bytes()
    folder = whole / "damaged"
    n_refused = 0
    for _ in range(N_CASES):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for needed in ("sample.json", "xray.tiff", "labels.png"):
            shutil.copy(whole / needed, folder)
        (folder / name).write_bytes(damaged(data, random))
        try:
            READERS[name](folder / name)
        except UnreadableFileError as error:
            n_refused += 1
            assert "\n" not in str(error)
            assert len(str(error)) < 300
    assert n_refused > 0
    assert capfd.readouterr().err == ""
