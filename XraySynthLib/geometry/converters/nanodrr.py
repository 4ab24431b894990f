"""nanodrr 0.1.7: the arguments of `nanodrr.drr.render`.

Ray ends are sdd * k_inv (u, v, 1) with u = column + 0.5 and v = row + 0.5 (`renderer._make_tgt`):
an index of n + 0.5 is the centre of pixel n, as in DeepDRR. `rt_inv` is world from camera, whatever
the docstring of `render` says, z to the detector, x along columns, y along rows; world is that of
the volume's affine as TorchIO reads it: RAS, mm, not moved to the isocentre. A mirrored view has a
negative k_inv[0, 0], which `render` accepts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.geometry.converters.deepdrr import deepdrr_from_view, view_from_deepdrr
from XraySynthLib.geometry.transforms import checked_rigid, inverse_rigid
from XraySynthLib.geometry.view import View


class NanodrrCamera(NamedTuple):
    """What follows the subject in `nanodrr.drr.render`, a batch of one; arrays become tensors.

    Attributes:
        k_inv: (1, 3, 3) inverse intrinsics.
        rt_inv: (1, 4, 4) world from camera, world = RAS, mm.
        sdd: (1,) source to detector, mm.
        height: Rows.
        width: Columns.
    """

    k_inv: NDArray
    rt_inv: NDArray
    sdd: NDArray
    height: int
    width: int


def nanodrr_from_view(view: View) -> NanodrrCamera:
    """Describe a view as nanodrr's camera."""
    rows, columns = view.intrinsics.shape_px
    return NanodrrCamera(
        np.linalg.inv(deepdrr_from_view(view).index_from_camera2d)[None],
        view.ras_from_camera[None].copy(),
        np.array([view.intrinsics.source_to_detector_mm]),
        rows,
        columns,
    )


def view_from_nanodrr(camera: tuple[ArrayLike, ArrayLike, ArrayLike, int, int]) -> View:
    """Make a view of nanodrr's camera, a batch of one.

    Args:
        camera: k_inv, rt_inv, sdd, height and width, as in `NanodrrCamera`.

    Raises:
        ValueError: If the batch is larger, k_inv has a skew or rt_inv is not rigid.
    """
    k_inv, rt_inv, sdd, height, width = camera
    if np.size(k_inv) != 9 or np.size(rt_inv) != 16 or np.size(sdd) != 1:
        raise ValueError(
            "nanodrr's camera must be a batch of one: k_inv (1, 3, 3), rt_inv (1, 4, 4), sdd (1,), "
            f"got {np.shape(k_inv)}, {np.shape(rt_inv)}, {np.shape(sdd)}."
        )
    ras_from_camera = checked_rigid(np.reshape(rt_inv, (4, 4)), "rt_inv")
    return view_from_deepdrr(
        (np.linalg.inv(np.reshape(k_inv, (3, 3))), inverse_rigid(ras_from_camera)),
        float(np.ravel(sdd)[0]),
        (height, width),
    )
