import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from XraySynthLib.data.sets.coco_masks import box_of_mask, mask_of_segmentation, rle_of_mask


def test_runs_go_down_the_columns():
    mask = np.zeros((4, 3), bool)
    mask[1:3, 0] = True
    mask[0, 2] = True
    assert rle_of_mask(mask) == {"size": [4, 3], "counts": "125ON"}  # 1 2 5, 1 - 2, 3 - 5
    np.testing.assert_array_equal(
        mask_of_segmentation({"size": [4, 3], "counts": [1, 2, 5, 1, 3]}, (4, 3)), mask
    )


def test_a_mask_that_starts_set():
    assert rle_of_mask(np.ones((4, 3), bool)) == {"size": [4, 3], "counts": "0<"}


@pytest.fixture(scope="module")
def pycocotools():
    return pytest.importorskip("pycocotools.mask")


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.02, 0.5, 0.999, 1.0])
def test_same_text_as_pycocotools(pycocotools, share):
    mask = np.random.default_rng(3).random((200, 310)) < share
    ours = rle_of_mask(mask)
    theirs = pycocotools.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert ours["counts"] == theirs["counts"].decode()
    np.testing.assert_array_equal(mask_of_segmentation(ours, mask.shape), mask)
    box = box_of_mask(mask)
    assert (box or [0, 0, 0, 0]) == pycocotools.toBbox(theirs).tolist()


def test_a_large_image(pycocotools):
    mask = np.zeros((3000, 4000), bool)
    mask[1500, 2] = mask[:, 3990] = True
    theirs = pycocotools.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert rle_of_mask(mask)["counts"] == theirs["counts"].decode()


def test_polygons_as_pycocotools_has_them(pycocotools):
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.column_stack([60 + 40 * np.cos(turn), 50 + 30 * np.sin(turn)]).ravel().tolist()
    polygons = [circle, [100.2, 3, 118, 3, 118, 9.7]]
    ours = mask_of_segmentation(polygons, (90, 120))
    theirs = pycocotools.decode(pycocotools.merge(pycocotools.frPyObjects(polygons, 90, 120)))
    assert ours.sum() > 3500
    assert (ours != theirs.astype(bool)).sum() < 30  # of pixels that the outline crosses


def test_polygons_count_from_the_corner():
    mask = mask_of_segmentation([[2, 3, 8, 3, 8, 7, 2, 7]], (10, 12))
    assert box_of_mask(mask) == [2, 3, 6, 4]
    assert mask.sum() == 24


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_damaged_counts_are_refused_or_fill_the_image(counts):
    try:
        mask = mask_of_segmentation({"size": [5, 6], "counts": counts}, (5, 6))
    except ValueError:
        return
    assert mask.shape == (5, 6)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        5,
        "P",
        {"size": [5, 6]},
        {"size": [6, 5], "counts": [30]},
        {"size": [5, 6], "counts": []},
        {"size": [5, 6], "counts": [1.5, 28.5]},
        {"size": [5, 6], "counts": [2**62, 2**62, 2**62, 2**62 + 30]},
        {"size": [5, 6], "counts": "o" * 40},
        [[0, 0, 1, 1]],
        [[0, 0, 1, 1, 2]],
        [[0, 0, 1, 1, float("nan"), 2]],
    ],
)
def test_what_is_no_segmentation(segmentation):
    with pytest.raises(ValueError, match=r"segmentation|Segmentation"):
        mask_of_segmentation(segmentation, (5, 6))
