"""The picture of a CT lies as radiologists look at it."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from XraySynthLib.data import LandmarkSet, Quantity, Volume, Xray
from XraySynthLib.workflows import ct_picture

RIGHT_FRONT_UP_MM = np.array([30.0, 20.0, 40.0])
"""Where something is dense, RAS."""


@pytest.mark.parametrize(
    "ras_from_ijk",
    [
        np.diag([-10.0, -10, 10, 1]),
        np.diag([10.0, 10, -10, 1]),
        np.array([[0, 0, -10.0, 0], [0, 10, 0, 0], [10, 0, 0, 0], [0, 0, 0, 1]]),
    ],
)
def test_right_is_left_front_is_up_and_the_head_is_up(tmp_path, monkeypatch, ras_from_ijk):
    values = np.full((11, 11, 11), -1000.0)
    ras_from_ijk = ras_from_ijk.copy()
    ras_from_ijk[:3, 3] = -ras_from_ijk[:3, :3] @ [5, 5, 5]  # its middle is RAS 0
    i, j, k = np.round(np.linalg.solve(ras_from_ijk, [*RIGHT_FRONT_UP_MM, 1])[:3]).astype(int)
    values[k, j, i] = 1000
    shown = []
    monkeypatch.setattr(Axes, "imshow", lambda axes, image, **_: shown.append(np.array(image)))
    monkeypatch.setattr(
        ct_picture, "ap_xray", lambda *_: Xray(np.zeros((4, 4)), Quantity.DISPLAY, (1, 1))
    )
    points = LandmarkSet(("there",), [RIGHT_FRONT_UP_MM])
    ct_picture.write_ct_picture(Volume(values, ras_from_ijk), points, tmp_path / "picture.png")
    places = [np.unravel_index(image.argmax(), image.shape) for image in shown[:3]]
    assert all(image.max() == 1000 for image in shown[:3])
    # Row and column: of 11, the middle is 5.
    assert places == [(5 - 2, 5 - 3), (5 - 4, 5 - 3), (5 - 4, 5 - 2)]
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
