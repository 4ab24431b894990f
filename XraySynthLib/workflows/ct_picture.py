"""A CT at a glance: three slices and an AP X-ray."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import LandmarkSet, Volume, Xray
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.geometry import Intrinsics

WINDOW_HU = (-160.0, 560.0)
PIXEL_MM = 0.6
PHOTONS_PER_MM2 = 4e5


def write_ct_picture(volume: Volume, landmarks: LandmarkSet, path: Path) -> None:
    """Draw axial, coronal and sagittal slices through the landmarks' middle, and an AP X-ray.

    As radiologists look at them: the patient's right on the left, the head up, the front up in the
    axial slice and to the left in the sagittal one. The CT's axes must run along the patient's.

    Args:
        volume: The CT.
        landmarks: Points, RAS, mm.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = landmarks.points_ras_mm[np.isfinite(landmarks.points_ras_mm).all(axis=1)]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2 if len(points) else volume.center_ras_mm
    values, steps_mm = _left_back_up(volume)
    k, j, i = _index(volume, middle)
    slices = (
        ("axial", values[k], steps_mm[1] / steps_mm[2]),
        ("coronal", values[::-1, j], steps_mm[0] / steps_mm[2]),
        ("sagittal", values[::-1, :, i], steps_mm[0] / steps_mm[1]),
    )
    figure = Figure(figsize=(12.8, 3.4), facecolor="black")
    FigureCanvasAgg(figure)
    for place, (title, image, aspect) in enumerate(slices, 1):
        axes = figure.add_subplot(1, 4, place)
        axes.imshow(image, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=aspect)
        axes.set_title(title, fontsize=8, color="white", pad=3)
        axes.set_axis_off()
    axes = figure.add_subplot(1, 4, 4)
    axes.imshow(ap_xray(volume, middle).values, cmap="gray", vmin=0, vmax=1)
    axes.set_title("AP X-ray", fontsize=8, color="white", pad=3)
    axes.set_axis_off()
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=0.92, wspace=0.02)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, facecolor="black", metadata={"Software": "XraySynth"})


def ap_xray(volume: Volume, isocenter_ras_mm: NDArray) -> Xray:
    """A DISPLAY image from the front, 512 x 512 of 0.6 mm, with a little noise."""
    from XraySynthLib.drr import (
        Acquisition,
        Exposure,
        acquire,
        materials_from_hu,
        to_display,
        to_line_integral,
    )
    from XraySynthLib.geometry import CArmPose

    acquisition = Acquisition(
        CArmPose(0.0, 0.0, 0.0, isocenter_ras_mm, 700.0),
        Intrinsics(1020.0, np.array([PIXEL_MM, PIXEL_MM]), (512, 512)),
        Exposure(photons_per_mm2=PHOTONS_PER_MM2),
    )
    return to_display(to_line_integral(acquire(materials_from_hu(volume), acquisition)))


def _left_back_up(volume: Volume) -> tuple[NDArray, NDArray]:
    """Values with k to the head, j to the back, i to the left; and the steps along them, mm."""
    axes_ras = volume.ras_from_ijk[:3, :3] / volume.spacing_mm
    order = [int(np.abs(axes_ras[axis]).argmax()) for axis in (2, 1, 0)]  # i, j, k numbers
    signs = [axes_ras[axis, ijk] for axis, ijk in zip((2, 1, 0), order, strict=True)]
    values = volume.values_hu.transpose([2 - ijk for ijk in order])
    flips = tuple(
        slice(None, None, 1 if sign * wanted > 0 else -1)
        for sign, wanted in zip(signs, (1, -1, -1), strict=True)
    )
    return values[flips], volume.spacing_mm[order]


def _index(volume: Volume, point_ras_mm: NDArray) -> tuple[int, int, int]:
    """k, j, i of a point in what `_left_back_up` returns."""
    values, steps_mm = _left_back_up(volume)
    offset_mm = (point_ras_mm - volume.center_ras_mm)[::-1] * [1, -1, -1]
    index = np.round(offset_mm / steps_mm + (np.array(values.shape) - 1) / 2).astype(int)
    k, j, i = np.clip(index, 0, np.array(values.shape) - 1).tolist()
    return k, j, i
