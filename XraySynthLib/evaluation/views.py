"""From where an image was taken, in words."""

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.geometry import VIEW_PRESETS

UNKNOWN = "unknown"


def beam_angles_deg(directions_ras: NDArray) -> NDArray:
    """C-arm angles of beams.

    The detector is towards Rz(primary) Rx(secondary) (0, 1, 0) = (-sin p cos s, cos p cos s, sin s)
    (see `CArmPose.ras_from_carm`).

    Args:
        directions_ras: (N, 3) unit vectors from the source to the detector, RAS.

    Returns:
        (N, 2) primary and secondary angle, degrees.
    """
    x, y, z = directions_ras.T
    angles = np.stack([np.arctan2(-x, y), np.arcsin(np.clip(z, -1, 1))], axis=1)
    return np.asarray(np.rad2deg(angles) + 0.0)  # no -0


def beam_directions_ras(angles_deg: NDArray) -> NDArray:
    """Undo `beam_angles_deg`: (N, 2) degrees to (N, 3) unit vectors, RAS."""
    primary, secondary = np.deg2rad(angles_deg).T
    level = np.cos(secondary)
    return np.stack([-np.sin(primary) * level, np.cos(primary) * level, np.sin(secondary)], axis=1)


def nearest_presets(directions_ras: NDArray) -> NDArray:
    """(N,) name of the preset whose beam makes the smallest angle; "unknown" where NaN."""
    names = np.array([*VIEW_PRESETS])
    cosines = directions_ras @ beam_directions_ras(np.array([*VIEW_PRESETS.values()])).T
    known = np.isfinite(cosines).all(axis=1)
    nearest = names[np.argmax(np.nan_to_num(cosines), axis=1)]
    return np.where(known, nearest, UNKNOWN)
