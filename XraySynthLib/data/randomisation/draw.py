"""Draw a record from ranges. Nothing here sees an image, so nothing drawn can tell of it."""

import numpy as np

from XraySynthLib.data.randomisation import curves, textures
from XraySynthLib.data.randomisation.fields import Field
from XraySynthLib.data.randomisation.markers import Annotation, LeadMarker
from XraySynthLib.data.randomisation.operations import Operation, Point
from XraySynthLib.data.randomisation.plane import BORDERS, PlaneMotion
from XraySynthLib.data.randomisation.ranges import (
    GreyRanges,
    OverlayRanges,
    PlaneRanges,
    RandomisationRanges,
)
from XraySynthLib.data.randomisation.record import Randomisation
from XraySynthLib.data.randomisation.tools import Beads, Cable, Tool

TOOL_SIZES = {
    "wire": ((0.3, 1.2), (0.004, 0.011)),
    "screw": ((0.12, 0.4), (0.018, 0.036)),
    "drill": ((0.4, 0.9), (0.012, 0.022)),
    "tube": ((0.4, 1.0), (0.02, 0.045)),
    "impactor": ((0.4, 0.9), (0.015, 0.03)),
    "forceps": ((0.35, 0.8), (0.012, 0.025)),
    "retractor": ((0.4, 0.9), (0.015, 0.03)),
}
"""Lengths and widths, shares of the shorter side: a wire of 2 mm seen on a panel of 300 mm."""
FIELDS_DRAWN = ("rectangle", "rectangle", "circle", "octagon")
CABLE_WIDTH, BEAD_WIDTH = (0.004, 0.015), (0.006, 0.014)
MARKER_TEXTS = ("L", "R", "L", "R", "1", "2", "3", "A", "B", "K", "T", "LK", "RM")
"""L and R alike: see `markers`."""
ANNOTATION_TEXTS = (
    "L",
    "R",
    "AP",
    "LAT",
    "kV {0}",
    "{0} kV\n{1}.{2} mA",
    "IMG {1}",
    "{1}/{0}",
    "2{3:03d}-0{1}-1{2}",
    "{2}{1}:{0}",
    "ID {0}{3:03d}",
    "FLUORO {1}.{2} s",
    "DOSE {0}.{1}",
    "TEST",
)


def draw_randomisation(
    ranges: RandomisationRanges, shape_px: tuple[int, int], rng: np.random.Generator
) -> Randomisation:
    """Draw every parameter of one randomisation.

    Args:
        ranges: From where to draw.
        shape_px: Rows, columns of the image that it will be applied to.
        rng: The generator; one number is taken from it, whatever the ranges.

    Returns:
        The record. Motion, grey values and overlays have streams of their own: a change of the
        ranges of one leaves the others as they were.
    """
    seed = int(rng.integers(2**32))
    plane, grey, beam, screen = (np.random.default_rng((seed, stream)) for stream in range(4))
    shading = _shading(ranges.grey, grey)
    window = _window(ranges.grey, grey)
    display_span = _uniform(ranges.grey.display_span, grey)
    shown = _grey(ranges.grey, min(shape_px), grey)
    fields, texts = _screen(ranges.overlay, shape_px, screen)
    at = int(screen.integers(len(shown) + 1))  # shutters in the beam are blurred, a console's not
    inverted = [curves.Invert()] if grey.random() < ranges.grey.inversion_share else []
    return Randomisation(
        shape_px=shape_px,
        plane=_plane(ranges.plane, min(shape_px), plane),
        display_span=display_span,
        beam=(*shading, *_beam(ranges.overlay, shape_px, beam)),
        window=window,
        grey=(*shown[:at], *fields, *shown[at:], *inverted, *texts),
        seed=seed,
    )


def _uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return float(rng.uniform(*limits))


def _whole(limits: tuple[int, int], rng: np.random.Generator) -> int:
    return int(rng.integers(limits[0], limits[1] + 1))


def _one_of(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _place(shape_px: tuple[int, int], margin: float, rng: np.random.Generator) -> Point:
    """Column, row; the margin is a share of each side."""
    column, row = rng.uniform(margin, 1 - margin, 2) * (np.array(shape_px[::-1]) - 1)
    return float(column), float(row)


def _plane(ranges: PlaneRanges, side_px: int, rng: np.random.Generator) -> PlaneMotion:
    moved = rng.random() < ranges.similarity_share
    cropped = rng.random() < ranges.crop_share
    angle_deg = _uniform(ranges.angle_deg, rng)
    scale = _uniform(ranges.crop_scale if cropped else ranges.scale, rng)
    direction, length_px = rng.uniform(0, 2 * np.pi), _uniform(ranges.shift, rng) * side_px
    shift_px = (length_px * np.cos(direction), length_px * np.sin(direction))
    turned = bool(rng.random() < ranges.turn_share)
    border = _one_of(BORDERS, rng)
    elastic = rng.random() < ranges.elastic_share
    elastic_px, elastic_cells = _uniform(ranges.elastic, rng), _whole(ranges.elastic_cells, rng)
    elastic_seed = int(rng.integers(2**32))
    motion: dict = {"turned_180": turned}
    if moved or cropped:
        motion |= {"scale": scale, "angle_deg": angle_deg, "shift_px": shift_px, "border": border}
    if elastic:
        motion |= {"elastic_px": elastic_px * side_px, "elastic_cells": elastic_cells}
        motion |= {"elastic_seed": elastic_seed, "border": border}
    return PlaneMotion(**motion)


def _shading(ranges: GreyRanges, rng: np.random.Generator) -> list[Operation]:
    shaded = rng.random() < ranges.shading_share
    right, down, bowl = rng.uniform(*ranges.shading, 3).tolist()
    return [curves.Shading((right, down), bowl)] if shaded else []


def _window(ranges: GreyRanges, rng: np.random.Generator) -> curves.Window | None:
    drawn = rng.random() < ranges.window_share
    linear = rng.random() < ranges.linear_share
    span = _uniform(ranges.linear_span, rng)
    low, high = _uniform(ranges.low_percentile, rng), _uniform(ranges.high_percentile, rng)
    below, above = _uniform(ranges.window_margin, rng), _uniform(ranges.window_margin, rng)
    window = curves.Window(low, high, below, above, span if linear else 0.0)
    return window if drawn else None


def _grey(ranges: GreyRanges, side_px: int, rng: np.random.Generator) -> list[Operation]:
    """Contrast, corruptions, noise, salt and pepper, few greys."""
    operations: list[Operation] = []
    if rng.random() < ranges.contrast_share:
        operations.append(_contrast(ranges, rng))
    n_corruptions = min(_whole(ranges.n_corruptions, rng), len(ranges.corruptions))
    for kind in rng.permutation(len(ranges.corruptions))[:n_corruptions]:
        operations.append(_corruption(ranges.corruptions[kind], ranges, side_px, rng))
    if rng.random() < ranges.noise_share:
        sigma, grain_px = _uniform(ranges.noise_sigma, rng), _whole(ranges.noise_grain_px, rng)
        operations.append(textures.GaussianNoise(sigma, grain_px))
    if rng.random() < ranges.salt_share:
        share, cell_px = _uniform(ranges.salt, rng), _cell_px(ranges, side_px, rng)
        in_cells = rng.random() < 0.5
        operations.append(
            textures.SaltAndPepper(share / 2, cell_px)
            if in_cells
            else textures.SaltAndPepper(share)
        )
    if rng.random() < ranges.quantise_share:
        operations.append(curves.Quantise(2 ** _whole(ranges.quantise_bits, rng)))
    return operations


def _contrast(ranges: GreyRanges, rng: np.random.Generator) -> Operation:
    kind = _one_of(ranges.contrasts, rng)
    if kind == "linear":
        return curves.LinearContrast(_uniform(ranges.linear_contrast, rng))
    if kind == "gamma":
        return curves.Gamma(float(np.exp(rng.uniform(*np.log(ranges.gamma)))))
    if kind == "log":
        return curves.LogContrast(_uniform(ranges.log_gain, rng))
    if kind == "sigmoid":
        gain, cutoff = _uniform(ranges.sigmoid_gain, rng), _uniform(ranges.sigmoid_cutoff, rng)
        return curves.SigmoidContrast(gain, cutoff)
    steps = rng.uniform(0.2, 1.8, _whole(ranges.histogram_points, rng) - 1)  # never flat
    greys = np.minimum(np.cumsum(steps) / steps.sum(), 1)
    return curves.HistogramShift((0.0, *greys.tolist()))


def _corruption(kind: str, ranges: GreyRanges, side_px: int, rng: np.random.Generator) -> Operation:
    """One of the two variants of a kind."""
    other = rng.random() < 0.5
    if kind == "blur":
        sigma_px = _uniform(ranges.blur, rng) * side_px
        # A box as wide as to blur alike has a variance of size^2 / 12.
        return (
            textures.AverageBlur(round(sigma_px * 12**0.5))
            if other
            else textures.GaussianBlur(sigma_px)
        )
    if kind == "dropout":
        share, cell_px = _uniform(ranges.dropout, rng), _cell_px(ranges, side_px, rng)
        return textures.Dropout(share, cell_px if other else 1)
    if kind == "convolution":
        if other:
            alpha, strength = (
                _uniform(ranges.emboss_alpha, rng),
                _uniform(ranges.emboss_strength, rng),
            )
            return textures.Emboss(alpha, strength)
        alpha, light = _uniform(ranges.sharpen_alpha, rng), _uniform(ranges.sharpen_lightness, rng)
        return textures.Sharpen(alpha, light)
    if kind == "pooling":
        size_px = max(round(_uniform(ranges.pool, rng) * side_px), 1)
        return textures.Pool(_one_of(textures.POOLS, rng), size_px)
    return (
        textures.Speckle(*ranges.multiply)
        if other
        else curves.Multiply(_uniform(ranges.multiply, rng))
    )


def _cell_px(ranges: GreyRanges, side_px: int, rng: np.random.Generator) -> int:
    return max(round(_uniform(ranges.cell, rng) * side_px), 1)


def _beam(
    ranges: OverlayRanges, shape_px: tuple[int, int], rng: np.random.Generator
) -> list[Operation]:
    """Metal in the beam."""
    side_px = min(shape_px)
    operations: list[Operation] = []
    if rng.random() < ranges.tool_share:
        for _ in range(_whole(ranges.n_tools, rng)):
            kind = _one_of(ranges.tool_kinds, rng)
            length, width = (_uniform(limits, rng) for limits in TOOL_SIZES[kind])
            operations.append(
                Tool(
                    kind,
                    _place(shape_px, 0.1, rng),
                    _uniform((0.0, 360.0), rng),
                    length * side_px,
                    width * side_px,
                    _uniform(ranges.metal_line_integral, rng),
                )
            )
    if rng.random() < ranges.cable_share:
        points_px = tuple(_place(shape_px, -0.2, rng) for _ in range(5))
        width_px = _uniform(CABLE_WIDTH, rng) * side_px
        operations.append(
            Cable(points_px, width_px, 0.4 * _uniform(ranges.metal_line_integral, rng))
        )
    if rng.random() < ranges.bead_share:
        operations.append(_beads(ranges, shape_px, rng))
    if rng.random() < ranges.marker_share:
        operations.append(
            LeadMarker(
                _one_of(MARKER_TEXTS, rng),
                _place(shape_px, 0.04, rng),
                _uniform(ranges.letter_height, rng) * 1.5 * side_px,
                _uniform((-180.0, 180.0) if rng.random() < 0.3 else (-15.0, 15.0), rng),
                _uniform(ranges.metal_line_integral, rng),
                bool(rng.random() < 0.3),
            )
        )
    return operations


def _beads(ranges: OverlayRanges, shape_px: tuple[int, int], rng: np.random.Generator) -> Beads:
    """A grid, turned, of which some are missing."""
    side_px = min(shape_px)
    step_px, angle = rng.uniform(0.08, 0.2) * side_px, rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    steps = np.arange(-8, 9) * step_px
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) @ turn.T
    points_px = grid + _place(shape_px, 0.3, rng)
    inside = ((points_px >= 0) & (points_px <= np.array(shape_px[::-1]) - 1)).all(axis=1)
    kept = points_px[inside & (rng.random(len(points_px)) < 0.85)]
    width_px = _uniform(BEAD_WIDTH, rng) * side_px
    line_integral = _uniform(ranges.metal_line_integral, rng)
    return Beads(tuple(map(tuple, kept.tolist())), width_px, line_integral)


def _screen(
    ranges: OverlayRanges, shape_px: tuple[int, int], rng: np.random.Generator
) -> tuple[list[Operation], list[Operation]]:
    """Fields, and text over all."""
    fields: list[Operation] = []
    if rng.random() < ranges.field_share:
        fields.append(_field(ranges, shape_px, rng))
    texts: list[Operation] = []
    if rng.random() < ranges.annotation_share:
        bright = rng.random() < 0.8
        height_px = 0.7 * _uniform(ranges.letter_height, rng) * min(shape_px)
        for _ in range(_whole(ranges.n_annotations, rng)):
            numbers = (*rng.integers((40, 1, 0), (120, 10, 10)).tolist(), int(rng.integers(1000)))
            text = _one_of(ANNOTATION_TEXTS, rng).format(*numbers)
            grey = _uniform((0.8, 1.0) if bright else (0.0, 0.2), rng)
            column, row = rng.uniform(0.05, 0.2, 2)
            corner = rng.random(2) < 0.5
            share = np.where(corner, (column, row), (1 - column, 1 - row))
            center_px = share * (np.array(shape_px[::-1]) - 1)
            opacity = _uniform((0.6, 1.0), rng)
            texts.append(Annotation(text, tuple(center_px.tolist()), height_px, grey, opacity))
    return fields, texts


def _field(ranges: OverlayRanges, shape_px: tuple[int, int], rng: np.random.Generator) -> Field:
    """An opening about the middle."""
    rows, columns = shape_px
    shape = _one_of(FIELDS_DRAWN, rng)
    width, height = rng.uniform(*ranges.field_size, 2)
    size = np.array([width * columns, height * rows])
    if shape != "rectangle":
        size[:] = width * min(shape_px)
    turned = rng.random() < 0.5
    angle_deg = _uniform(ranges.field_angle_deg, rng)
    shift = rng.uniform(*ranges.field_shift, 2) * min(shape_px)
    center_px = (np.array([columns, rows]) - 1) / 2 + shift
    grey = (0.0, 1.0, rng.random())[int(rng.integers(3))]
    edge_px = rng.uniform(0, 0.012) * min(shape_px)
    return Field(
        shape,
        tuple(center_px.tolist()),
        tuple(np.maximum(size, 1e-3).tolist()),
        angle_deg if turned else 0.0,
        grey,
        edge_px,
    )
