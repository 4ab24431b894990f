"""Label maps of others: every id has its tissue; another grid keeps places, sides and thin bone."""

import numpy as np
import pytest

from XraySynthLib.anatomy.grids import Grid
from XraySynthLib.anatomy.label_maps import (
    BODY,
    OUTSIDE,
    tissue_map,
    tissue_table,
    with_deepfluoro_ids,
)
from XraySynthLib.anatomy.parts import LABEL_IDS
from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.geometry.transforms import rotation

GRID = Grid((24, 24, 24), 3.0, np.array([5.0, -8.0, 12.0]))


@pytest.mark.parametrize(("maker", "n_ids"), [("totalsegmentator", 117), ("maisi", 133)])
def test_every_id_is_listed_and_bones_agree_with_the_fit(maker, n_ids):
    table = tissue_table(maker)
    assert len(table) == n_ids + 1 and table[0] == ("background", 0)
    for bone, label in LABEL_IDS[maker].items():
        assert table[label][1] == bone
    for name, tissue in table.values():
        sides = {"left": "right", "right": "left"}
        for side, other in sides.items():
            if tissue is not None and tissue < BODY and side in Label(tissue).name.lower():
                assert side in name and other not in name


@pytest.mark.parametrize(
    ("maker", "label", "name", "tissue"),
    [
        ("totalsegmentator", 26, "vertebrae_S1", Label.SACRUM),
        ("totalsegmentator", 27, "vertebrae_L5", Label.VERTEBRAE),
        ("totalsegmentator", 65, "iliac_artery_left", Label.VESSEL),
        ("totalsegmentator", 117, "costal_cartilages", None),
        ("maisi", 33, "vertebrae L5", Label.VERTEBRAE),
        ("maisi", 62, "colon", Label.BOWEL),
        ("maisi", 127, "vertebrae S1", Label.SACRUM),
        ("maisi", 200, "body", BODY),
        ("deepfluoro", 21, "table", Label.TABLE),
    ],
)
def test_literal_entries(maker, label, name, tissue):
    assert tissue_table(maker)[label] == (name, tissue)


@pytest.mark.parametrize(
    ("made", "understood"),
    [
        # TotalSegmentator: spleen, sacrum, S1, L5, C1, heart, femurs, hips.
        ([0, 1, 25, 26, 27, 50, 51, 75, 76, 77, 78], [0, 0, 4, 4, 3, 3, 51, 5, 6, 1, 2]),
        # MAISI: liver, L5, C1, trachea, femurs, hips, sacrum, S1, body.
        ([0, 1, 33, 56, 57, 93, 94, 95, 96, 97, 127, 200], [0, 0, 3, 3, 57, 5, 6, 1, 2, 4, 4, 200]),
        ([0, 1, 2, 3, 4, 5, 6, 7, 21], [0, 1, 2, 3, 4, 5, 6, 7, 21]),
    ],
    ids=["totalsegmentator", "maisi", "deepfluoro"],
)
def test_bones_get_the_ids_of_deepfluoro(made, understood):
    labels = np.array(made, np.uint8).reshape(1, 1, -1)
    renumbered = with_deepfluoro_ids(labels)
    assert renumbered.tolist() == [[understood]] and renumbered.dtype == labels.dtype


# Each id fills a box of its own about a place in the patient: left front low, say.
PLACES_RAS_MM = {
    1: (-15, -8, 12),
    2: (25, -8, 12),
    3: (5, 12, 12),
    4: (5, -28, 12),
    5: (5, -8, 32),
    6: (5, -8, -8),
}
TURN = rotation("z", 20.0) @ rotation("x", -15.0)
AXES = {
    "as in the patient": np.eye(4),
    "left-handed": np.diag([-1.0, 1, 1, 1]),
    "axes in another order": np.eye(4)[[2, 0, 1, 3]],
    "oblique": TURN,
    "oblique and left-handed": TURN @ np.eye(4)[[1, 0, 2, 3]],
}


@pytest.mark.parametrize("spacing_mm", [(1.3, 1.3, 1.3), (1.0, 2.0, 5.0), (4.0, 4.0, 4.0)])
@pytest.mark.parametrize("name", AXES)
def test_another_grid_keeps_places_and_sides(name, spacing_mm):
    size = np.ceil(130 / np.array(spacing_mm)).astype(int)
    matrix = AXES[name] @ np.diag([*spacing_mm, 1.0])
    middle = matrix[:3, :3] @ ((size - 1) / 2)
    matrix[:3, 3] = GRID.center_ras_mm - middle
    k, j, i = np.indices(size[::-1])
    points = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ matrix.T
    labels = np.zeros(k.shape, np.uint8)
    for label, place in PLACES_RAS_MM.items():
        labels[(np.abs(points[..., :3] - place) < 8).all(axis=-1)] = label
    there = tissue_map(labels, matrix).on_grid(GRID)
    np.testing.assert_array_equal(there.ras_from_ijk, GRID.ras_from_ijk)
    places = np.array(list(PLACES_RAS_MM.values()), float)
    ijk = (places - GRID.ras_from_ijk[:3, 3]) / np.diag(GRID.ras_from_ijk)[:3]
    found = there.labels[tuple(np.rint(ijk).astype(int).T[::-1])]
    assert found.tolist() == list(PLACES_RAS_MM)
    for label, place in PLACES_RAS_MM.items():
        index = np.argwhere(there.labels == label)[:, ::-1].mean(axis=0)
        center = index * np.diag(GRID.ras_from_ijk)[:3] + GRID.ras_from_ijk[:3, 3]
        np.testing.assert_allclose(center, place, atol=0.5 * max(spacing_mm))
        volume_mm3 = (there.labels == label).sum() * GRID.spacing_mm**3
        given_mm3 = (labels == label).sum() * np.prod(spacing_mm)
        assert volume_mm3 == pytest.approx(given_mm3, rel=0.35)  # edges round off


def test_the_same_grid_changes_nothing():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, GRID.shape).astype(np.uint8)
    there = tissue_map(labels, GRID.ras_from_ijk).on_grid(GRID)
    soft = ~np.isin(labels, (1, 2)) & ~np.isin(there.labels, (1, 2))
    np.testing.assert_array_equal(there.labels[soft], labels[soft])


def test_a_thin_plate_of_hip_bone_stays_closed():
    """Two thirds of a voxel thick, one third in one voxel amid it."""
    plate = np.zeros((60, 60, 60), bool)
    plate[6:54, 18:20, 6:54] = True
    plate[30:33, 19, 30:33] = False
    matrix = np.diag([-0.6, -0.6, 0.6, 1.0])
    grid = Grid((20, 20, 20), 1.8, np.array([-17.7, -17.7, 17.7]))
    hip, muscle = (
        tissue_map(np.where(plate, label, 77 * (np.indices(plate.shape)[1] == 59)), matrix)
        .on_grid(grid)
        .labels[:, 6]
        == tissue
        for label, tissue in ((77, Label.LEFT_HEMIPELVIS), (80, Label.MUSCLE))
    )
    assert hip[2:18, 2:18].all()
    assert muscle.sum() == 16 * 16 - 1 and not muscle[10, 10]


def test_what_lies_beyond_the_map_is_known():
    labels = np.full((10, 10, 10), 77, np.uint8)
    matrix = GRID.ras_from_ijk
    there = tissue_map(labels, matrix).on_grid(GRID).labels
    assert (there[:10, :10, :10] == 1).all() and (there == OUTSIDE).sum() == 24**3 - 1000


def test_structures_without_a_tissue_count_where_they_are():
    labels = np.zeros(GRID.shape, np.int32)
    labels[:4] = 77
    labels[-3:] = 103  # a rib
    given = tissue_map(labels, GRID.ras_from_ijk)
    assert given.strangers == ("rib_left_12",)
    assert given.on_grid(GRID).strangers_there() == ["rib_left_12"]
    below = Grid((16, 24, 24), 3.0, GRID.center_ras_mm - [0, 0, 12])
    assert given.on_grid(below).strangers_there() == []


@pytest.mark.parametrize(
    ("values", "words"),
    [((), "is empty"), ((25,), "no hip bone"), ((77, 118, 119), "118, 119, which are none")],
)
def test_maps_that_are_refused(values, words):
    labels = np.zeros((6, 6, 6), np.int32)
    for n, value in enumerate(values):
        labels[n] = value
    with pytest.raises(ValueError, match=words):
        tissue_map(labels, np.eye(4))


@pytest.mark.parametrize(
    ("ids", "maker"),
    [
        ([0, 1, 2, 4, 5], "xraysynth or deepfluoro"),
        ([0, 1, 2, 7], "xraysynth or deepfluoro"),
        ([0, 1, 2, 11], "xraysynth"),
        ([0, 1, 2, 77, 78], "totalsegmentator"),
    ],
)
def test_whose_ids_they_are(ids, maker):
    assert tissue_map(np.array(ids, np.uint8).reshape(1, 1, -1), np.eye(4)).maker == maker


def test_ids_that_are_nobodys():
    labels = np.array([1, 2, 8, 9, 11], np.uint8).reshape(1, 1, -1)
    with pytest.raises(ValueError, match="ids of xraysynth, but also 8, 9, which are none"):
        tissue_map(labels, np.eye(4))
