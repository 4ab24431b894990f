"""What is kept of samples, and where pelves are found to be."""

from dataclasses import replace

import numpy as np
import pytest

from Testing.diffusion.conftest import N_PEOPLE, NAMES, person_points, sample_of
from XraySynthLib.data import ImageLandmarkSet, Quantity, Xray
from XraySynthLib.diffusion.store import from_network, pelves_of, store_images, to_network


def test_what_is_kept(store, samples):
    assert store.names == NAMES and store.quantity is Quantity.LINE_INTEGRAL
    assert store.people == {"eve", *(f"person-{n}" for n in range(N_PEOPLE))}
    assert set(store.kvp) == {80, 90}
    back = from_network(store.images[3].astype(np.float32), (2.0, 8.0))
    assert np.abs(back - samples[3].xray.values).max() < 0.01
    assert store.points_px[3] == pytest.approx(samples[3].landmarks.points_px)


def test_the_scale_by_hand():
    for value, scaled in ((2.0, -0.25), (5.0, 0), (9.5, 0.375)):
        assert to_network(np.full((4, 8), value), (2, 8)) == pytest.approx(scaled, abs=1e-6)


def test_pelves_are_where_the_people_are(pelves):
    for number in range(N_PEOPLE):
        points = person_points(number)
        pelvis = pelves[f"person-{number}"]
        assert pelvis.center_ras_mm == pytest.approx(points[:2].mean(axis=0), abs=1e-6)
        assert pelvis.points_mm == pytest.approx(points - pelvis.center_ras_mm, abs=1e-6)


def test_one_image_does_not_say_where_a_pelvis_is(samples):
    with pytest.raises(ValueError, match="person-0's hip centres"):
        pelves_of([store_images(samples[:1], None, 32)])


def test_what_cannot_be_kept(samples):
    one = sample_of(0, 0, 0)
    bare = replace(one, xray=Xray(one.xray.values, Quantity.LINE_INTEGRAL))
    shown = replace(one, xray=replace(one.xray, quantity=Quantity.DISPLAY))
    other = replace(one, landmarks=ImageLandmarkSet(("A",), [[1, 1]], [True], [1]))
    with pytest.raises(ValueError, match="no images"):
        store_images([], None, 32)
    with pytest.raises(ValueError, match="no view"):
        store_images([bare], None, 32)
    with pytest.raises(ValueError, match="two quantities"):
        store_images([one, shown], None, 32)
    with pytest.raises(ValueError, match="lacks the landmark"):
        store_images([one, other], None, 32)
    with pytest.raises(ValueError, match="no landmarks FH-l"):
        pelves_of([store_images([other, other], None, 32)])
