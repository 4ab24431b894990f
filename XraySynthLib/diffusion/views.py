"""Views as a network sees them: square images, the pelvis' frame, mirrored patients, numbers.

The pelvis frame is RAS moved to the middle between the hip centres, as `anatomy.Subject` has it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, Xray
from XraySynthLib.geometry import Intrinsics, View

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
"""The patient's left for right; in the camera's frame it undoes the change of handedness."""
N_OCTAVES = 4
CENTER_MM, UNIT_MM = np.array([0.0, 0.0, 700.0]), np.array([100.0, 100.0, 200.0])
"""Of the pelvis' place in the camera's frame: usual values are about -1..1."""
UNIT_SLOPE = 0.2
"""Of half a side over the distance from the source."""
CENTER_KVP, UNIT_KVP = 90.0, 30.0
N_SCALARS = 14
N_FEATURES = N_SCALARS * (1 + 2 * N_OCTAVES) + 2
"""Numbers of `view_features`."""


def squared(
    xray: Xray, landmarks: ImageLandmarkSet, side_px: int
) -> tuple[Xray, ImageLandmarkSet, View]:
    """The middle square of an image, resampled, as a console shows it (`mirrored`).

    Args:
        xray: An image with its view.
        landmarks: Points in it.
        side_px: Rows and columns of the result.

    Returns:
        The image, its landmarks and its view, all exact to each other.

    Raises:
        ValueError: If the image has no view.
    """
    import cv2

    if xray.view is None:
        raise ValueError("an image has no view")
    values, view, points_px = xray.values, xray.view, landmarks.points_px
    rows, columns = values.shape
    if not view.intrinsics.mirrored:
        values, view = values[:, ::-1], view.columns_reversed()
        points_px = points_px * [-1, 1] + [columns - 1, 0]
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    cut = slice(top, top + side), slice(left, left + side)
    mode = cv2.INTER_AREA if side > side_px else cv2.INTER_LINEAR
    values = cv2.resize(np.ascontiguousarray(values[cut]), (side_px, side_px), interpolation=mode)
    points_px = (points_px - [left, top] + 0.5) * (side_px / side) - 0.5
    with np.errstate(invalid="ignore"):
        inside = ((points_px >= -0.5) & (points_px < side_px - 0.5)).all(axis=1)
    small = view.cropped(*cut).resized(side_px, side_px)
    marked = replace(landmarks, points_px=points_px, visible=landmarks.visible & inside)
    return Xray(np.asarray(values), xray.quantity, view=small), marked, small


def mirrored_view(view: View, center_ras_mm: NDArray) -> View:
    """The view in which a patient, mirrored about a sagittal plane, gives the mirrored image.

    With M the patient's mirror and F = diag(-1, 1, 1) the camera's, M C F is a proper camera for a
    camera C: a mirrored point has the x of its camera coordinates negated, so its column lies as
    far to the other side of the principal point, whose own column is mirrored too.

    Args:
        view: The view.
        center_ras_mm: (3,) a point of the plane, RAS, mm.
    """
    about = np.eye(4)
    about[0, 3] = 2 * center_ras_mm[0]
    old = view.intrinsics
    column, row = old.principal_point_px
    point = np.array([old.shape_px[1] - 1 - column, row])
    ras_from_camera = about @ MIRROR @ view.ras_from_camera @ MIRROR
    return View(ras_from_camera, replace(old, principal_point_px=point))


def view_features(view: View, center_ras_mm: NDArray, kvp: float | None) -> NDArray:
    """A view, and the tube's voltage, as numbers for a network.

    Fourier features (Tancik et al. 2020, arXiv 2006.10739) of the camera's first two axes in the
    pelvis frame (6D rotation, Zhou et al. 2019, arXiv 1812.07035), of the pelvis' place in the
    camera's frame, of the field of view and of the principal point.

    Args:
        view: Of an image with the `mirrored` display.
        center_ras_mm: (3,) origin of the pelvis frame, RAS, mm.
        kvp: The voltage, or None where it is not known.

    Returns:
        (N_FEATURES,) float32; all 0 is what a network takes for "not known".
    """
    intrinsics: Intrinsics = view.intrinsics
    camera_from_ras = view.camera_from_ras
    place_mm = camera_from_ras[:3, :3] @ center_ras_mm + camera_from_ras[:3, 3]
    slope = intrinsics.size_mm / 2 / intrinsics.source_to_detector_mm
    half_px = np.array(intrinsics.shape_px[::-1]) / 2
    offset = (intrinsics.principal_point_px + 0.5 - half_px) / half_px
    scalars = np.concatenate(
        [
            view.ras_from_camera[:3, :2].T.ravel(),
            (place_mm - CENTER_MM) / UNIT_MM,
            (slope / UNIT_SLOPE - 1),
            offset,
            [((kvp or CENTER_KVP) - CENTER_KVP) / UNIT_KVP],
        ]
    )
    waves = fourier(scalars)
    if kvp is None:
        waves[-1] = 0
    return np.concatenate([waves.ravel(), [1.0, kvp is not None]]).astype(np.float32)


def fourier(scalars: NDArray) -> NDArray:
    """(N, 1 + 2 octaves) of (N,): the numbers, and sines and cosines of half-turns and faster."""
    angles = np.pi / 2 * scalars[:, None] * 2.0 ** np.arange(N_OCTAVES)
    return np.concatenate([scalars[:, None], np.sin(angles), np.cos(angles)], axis=1)
