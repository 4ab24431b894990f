"""Two subjects' samples with everything that a set can hold."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from XraySynthLib.data import LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.pelvis import BONE_NAMES, LANDMARK_NAMES
from XraySynthLib.data.sets import SetDescription, SetSubject
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

ROWS, COLUMNS = 48, 64
SPLITS = "train", "test"
SUBJECTS = ("subject-a", "subject-b")


def make_sample(index: int, subject: str = "subject-a", quantity=Quantity.LINE_INTEGRAL) -> Sample:
    """An image whose View, landmarks, masks and provenance all differ from the next one's."""
    rng = np.random.default_rng((5, index))
    intrinsics = Intrinsics(
        pixel_spacing_mm=[4.5, 4.7], shape_px=(ROWS, COLUMNS), principal_point_px=[31.0, 24.5]
    )
    view = view_from_carm(CArmPose(10.0 * index - 15, 5.0, 3.0, [1, 2, 3], 600.0), intrinsics)
    points = rng.uniform(-90, 90, (14, 3))
    points[3] = np.nan  # not defined
    points[5] = [400, 0, 0]  # outside the image
    values = rng.uniform(0.1, 0.9, (ROWS, COLUMNS))
    if quantity is Quantity.LINE_INTEGRAL:
        values = values * 8 - 0.1
    masks = {}
    for number, name in BONE_NAMES.items():  # each a box; neighbours overlap
        masks[name] = np.zeros((ROWS, COLUMNS), bool)
        masks[name][4 * number : 4 * number + 9, 5 * number : 5 * number + 12] = True
    return Sample(
        key=f"{subject}-{index:06d}",
        xray=Xray(values, quantity, view=view),
        landmarks=LandmarkSet(LANDMARK_NAMES, points).seen_from(view),
        masks=masks,
        provenance=Provenance(
            "simulated", subject, (3, index), {"derived_from": ["person-1"], "kvp": 80}
        ),
    )


def make_description(
    layout: str,
    n_images: int = 3,
    part_size: int = 2,
    options=None,
    subjects: Sequence[str] = SUBJECTS,
) -> SetDescription:
    return SetDescription(
        layout=layout,
        subjects=tuple(
            SetSubject(name, SPLITS[number % 2]) for number, name in enumerate(subjects)
        ),
        images_per_subject=n_images,
        part_size=part_size,
        landmark_names=LANDMARK_NAMES,
        mask_names=tuple(BONE_NAMES.values()),
        options=options or {},
    )


@pytest.fixture(name="make_sample")
def _make_sample() -> Callable:
    return make_sample


@pytest.fixture(name="make_description")
def _make_description() -> Callable:
    return make_description


@pytest.fixture
def write_set(tmp_path) -> Callable:
    """Write a set of subjects x 3 images in a layout; returns its folder and its samples."""
    from XraySynthLib.data.formats.sample_files import sample_to_record
    from XraySynthLib.data.sets import layout_module
    from XraySynthLib.data.sets.description import SET_NAME, UNFINISHED_NAME
    from XraySynthLib.data.sets.parts import write_part_record

    def write(layout: str, quantity=None, folder=None, options=None, subjects=SUBJECTS):
        module = layout_module(layout)
        description = make_description(layout, options=options, subjects=subjects)
        folder = folder or tmp_path / layout
        (folder / "parts").mkdir(parents=True)
        description.write(folder / UNFINISHED_NAME)
        quantity = quantity or module.QUANTITIES[0]
        everything = []
        for part in description.parts:
            samples = [make_sample(item, part.subject, quantity) for item in part.items]
            files = module.write_part(folder, part, iter(samples))
            write_part_record(folder, part, files, [*map(sample_to_record, samples)], "none")
            everything += samples
        module.assemble(folder, description)
        description.write(folder / SET_NAME)
        (folder / UNFINISHED_NAME).unlink()
        return folder, everything

    return write


@pytest.fixture
def assert_same_sample() -> Callable:
    """Compare a sample read with the one written, all but values to `atol` and `rtol` exactly."""

    def check(sample: Sample, wanted: Sample, atol: float = 0, rtol: float = 0) -> None:
        assert sample.key == wanted.key
        assert sample.xray.quantity is wanted.xray.quantity
        np.testing.assert_allclose(sample.xray.values, wanted.xray.values, rtol, atol)
        assert sample.xray.view.to_dict() == wanted.xray.view.to_dict()
        for name in ("names", "points_px", "visible", "confidence"):
            read, written = getattr(sample.landmarks, name), getattr(wanted.landmarks, name)
            np.testing.assert_array_equal(read, written)
        assert list(sample.masks) == list(wanted.masks)
        for name, mask in wanted.masks.items():
            np.testing.assert_array_equal(sample.masks[name], mask)
        assert vars(sample.provenance) == vars(wanted.provenance)

    return check
