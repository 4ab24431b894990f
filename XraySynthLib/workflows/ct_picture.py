"""A CT at a glance: three slices and an AP X-ray."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import LandmarkSet, Volume, Xray, left_back_up
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.geometry import Intrinsics
from XraySynthLib.geometry.transforms import transform_points

WINDOW_HU = (-160.0, 560.0)
PIXEL_MM = 0.6
PHOTONS_PER_MM2 = 4e5


def write_ct_picture(volume: Volume, landmarks: LandmarkSet, path: Path) -> None:
    """Draw axial, coronal and sagittal slices through the landmarks' middle, and an AP X-ray.

    As radiologists look at them: the patient's right on the left, the head up, the front up in the
    axial slice and to the left in the sagittal one.

    Args:
        volume: The CT.
        landmarks: Points, RAS, mm.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = landmarks.points_ras_mm[np.isfinite(landmarks.points_ras_mm).all(axis=1)]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2 if len(points) else volume.center_ras_mm
    turned = left_back_up(volume)
    values, sizes = turned.values_hu, turned.values_hu.shape[::-1]
    index = np.round(transform_points(turned.ijk_from_ras, middle[None])[0])
    i, j, k = np.clip(index, 0, np.array(sizes) - 1).astype(int)
    i_mm, j_mm, k_mm = turned.spacing_mm
    slices = (
        ("axial", values[k], j_mm / i_mm),
        ("coronal", values[::-1, j], k_mm / i_mm),
        ("sagittal", values[::-1, :, i], k_mm / j_mm),
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
