"""Apply a record: the image, its landmarks, masks and view go through it together."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.landmarks import ImageLandmarkSet
from XraySynthLib.data.randomisation.curves import Window, line_integrals
from XraySynthLib.data.randomisation.fields import Field
from XraySynthLib.data.randomisation.plane import Warp
from XraySynthLib.data.randomisation.record import Randomisation
from XraySynthLib.data.sample import Provenance, Sample
from XraySynthLib.data.xray import Quantity, Xray

STANDARD_WINDOW = Window()


def randomise(sample: Sample, record: Randomisation) -> Sample:
    """Randomise a sample.

    Args:
        sample: Its image of any quantity.
        record: What to do, drawn for the image's shape.

    Returns:
        The sample with a DISPLAY image, and the record in its provenance; the same bytes whenever
        the record and the versions of OpenCV and Pillow are the same.

    Raises:
        ValueError: If the record is for another shape.
    """
    xray, landmarks, masks = randomise_image(sample.xray, sample.landmarks, sample.masks, record)
    config = {**sample.provenance.config, "randomisation": record.to_dict()}
    origin = sample.provenance
    provenance = Provenance(origin.kind, origin.subject, origin.seed, config, origin.code_version)
    return Sample(sample.key, xray, landmarks, masks, provenance)


def randomise_image(
    xray: Xray,
    landmarks: ImageLandmarkSet,
    masks: Mapping[str, NDArray] | None,
    record: Randomisation,
) -> tuple[Xray, ImageLandmarkSet, dict[str, NDArray] | None]:
    """Randomise an image with what is marked on it.

    A landmark is visible after if it was before, and lies within the image and every field. Masks
    end at the fields. An elastic deformation leaves no view.

    Args:
        xray: An image of any quantity.
        landmarks: Points in it.
        masks: Name -> (rows, columns) bool.
        record: What to do.

    Returns:
        A DISPLAY image, values 0..1; the landmarks; the masks.

    Raises:
        ValueError: If the record is for another shape.
    """
    if xray.values.shape != record.shape_px:
        raise ValueError(f"The record is for {record.shape_px}, the image is {xray.values.shape}.")
    spacing_mm = np.ones(2) if xray.pixel_spacing_mm is None else xray.pixel_spacing_mm
    warp = Warp(record.plane, record.shape_px, spacing_mm)
    values = _greys(xray, warp, record)
    fields = record.fields
    moved_masks = None
    if masks is not None:
        seen = np.ones(record.shape_px, bool)
        for opening in fields:
            seen &= opening.openness(record.shape_px) >= 0.5
        moved_masks = {name: warp.mask(mask) & seen for name, mask in masks.items()}
    return (
        _moved(xray, values, warp),
        _moved_landmarks(landmarks, warp, fields),
        moved_masks,
    )


def _greys(xray: Xray, warp: Warp, record: Randomisation) -> NDArray:
    """(rows, columns) float32 grey 0..1 of the moved image."""
    display = xray.quantity is Quantity.DISPLAY
    if display and not record.beam and record.window is None:
        grey = np.clip(warp.image(xray.values), 0, 1)
    else:
        window = record.window or STANDARD_WINDOW
        clean = line_integrals(xray.values, xray.quantity, record.display_span)
        clean = warp.image(clean)
        if display and record.window is None:
            ends = (0.0, record.display_span)
        else:
            ends = window.ends(clean)  # of the patient, not of the metal
        for number, operation in enumerate(record.beam):
            clean = operation(clean, np.random.default_rng((record.seed, 1, number)))
        grey = window.show(clean, ends)
    for number, operation in enumerate(record.grey):
        grey = operation(grey, np.random.default_rng((record.seed, 2, number)))
        grey = np.clip(grey, 0, 1)
    return grey


def _moved(xray: Xray, values: NDArray, warp: Warp) -> Xray:
    """The image with its spacing, and its view where there still is one."""
    moved = Xray(values, Quantity.DISPLAY)
    if xray.view is not None and not warp.motion.elastic:
        if warp.motion.moves:
            return replace(moved, view=xray.view.image_similarity(warp.moved_px_from_px))
        return replace(moved, view=xray.view, pixel_spacing_mm=xray.pixel_spacing_mm)
    if xray.pixel_spacing_mm is None:
        return moved
    return replace(moved, pixel_spacing_mm=xray.pixel_spacing_mm / warp.motion.scale)


def _moved_landmarks(
    landmarks: ImageLandmarkSet, warp: Warp, fields: tuple[Field, ...]
) -> ImageLandmarkSet:
    points_px = warp.points(landmarks.points_px)
    rows, columns = warp.shape_px
    with np.errstate(invalid="ignore"):
        inside = (points_px >= -0.5) & (points_px < [columns - 0.5, rows - 0.5])
    visible = landmarks.visible & inside.all(axis=1)
    for opening in fields:
        visible = visible & opening.contains(points_px)
    return ImageLandmarkSet(landmarks.names, points_px, visible, landmarks.confidence)
