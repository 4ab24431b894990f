"""What a layout cannot hold is refused before an image is made."""

from dataclasses import replace

import pytest

from XraySynthLib.data.sets import LAYOUTS, SetSubject, layout_module
from XraySynthLib.data.sets.parts import parts_of
from XraySynthLib.errors import UsageError


def check(description):
    layout_module(description.layout).check(description)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_that_fits(layout, make_description):
    check(make_description(layout))


def test_a_scene_is_for_a_few_images(make_description):
    check(make_description("scene", n_images=100))
    with pytest.raises(UsageError, match="at most 200 images, this set has 202"):
        check(make_description("scene", n_images=101))


@pytest.mark.parametrize(("layout", "most"), [("webdataset", 16), ("dicom", 16), ("coco", 99)])
def test_masks(layout, most, make_description):
    description = make_description(layout)
    names = tuple(f"label {number}" for number in range(most + 1))
    check(replace(description, mask_names=names[:-1]))
    with pytest.raises(UsageError, match=f"at most {most} masks an image, {most + 1} are asked"):
        check(replace(description, mask_names=names))


@pytest.mark.parametrize("name", ["Müller (2)", "case-1.2_b", "s" * 48])
def test_subjects_that_can_be_patients(name, make_description):
    check(replace(make_description("dicom"), subjects=(SetSubject(name, "train"),)))


@pytest.mark.parametrize(
    "name",
    ["..", "../evil", "/etc", "a\\b", "a^b", "a=b", "C:", "tab\t", "dot.", " a", "Parts", "s" * 49],
)
def test_subjects_that_cannot(name, make_description, make_sample, tmp_path):
    description = replace(make_description("dicom"), subjects=(SetSubject(name, "train"),))
    with pytest.raises(UsageError, match="cannot be a patient"):
        check(description)
    folder = tmp_path / "above" / "set"
    folder.mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be a patient"):
        layout_module("dicom").write_part(folder, *_one_part(name, make_sample))
    assert [*tmp_path.rglob("*")] == [folder.parent, folder]


def _one_part(name, make_sample):
    return parts_of([(name, "train")], 1, 1)[0], [make_sample(0)]
