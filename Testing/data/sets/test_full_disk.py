"""A disk that takes no more, for which a limit on the size of files stands here."""

import errno
from contextlib import contextmanager

import pytest

from XraySynthLib.data.sets import layout_module

resource = pytest.importorskip("resource", reason="Windows has no such limit")


@contextmanager
def largest_file(n_bytes):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("layout", "n_bytes", "refused"),
    [
        ("coco", 2000, "images/subject-a-000000.png"),
        ("coco", 9000, "annotations/train.json"),
        ("deepfluoro", 200, "parts/000000.h5"),
        ("deepfluoro", 9000, "parts/000000.h5"),
        ("deepfluoro", 50_000, "deepfluoro.h5"),
        ("synthex", 9000, "train_data/proj/00000.tiff"),
        ("webdataset", 20_000, "train-000000.tar"),
        ("dicom", 200, "subject-a/subject-a-000000.sample.json"),
        ("dicom", 5000, "subject-a/subject-a-000000.dcm"),
        ("scene", 3000, "parts/000000.zip"),
        ("scene", 9000, "parts/000000.zip"),
        ("scene", 30_000, "scene.mrb"),
    ],
)
def test_the_error_names_the_file_and_nothing_stays(
    layout, n_bytes, refused, make_sample, make_description, tmp_path
):
    module, description = layout_module(layout), make_description(layout)
    (tmp_path / "parts").mkdir()
    description.write(tmp_path / "unfinished.json")

    def write_all():
        for part in description.parts:
            samples = (make_sample(i, part.subject, module.QUANTITIES[0]) for i in part.items)
            module.write_part(tmp_path, part, samples)
        return module.assemble(tmp_path, description)

    with largest_file(n_bytes), pytest.raises(OSError) as caught:
        write_all()
    assert caught.value.errno in (errno.EFBIG, errno.EIO)  # SimpleITK does not say which
    assert caught.value.filename == str(tmp_path / refused)
    assert not [*tmp_path.rglob(".tmp-*")] and not (tmp_path / refused).exists()
    write_all()
    assert (tmp_path / refused).exists()
