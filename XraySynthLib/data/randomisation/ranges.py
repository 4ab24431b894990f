"""From where randomisations are drawn, and the presets.

MILD and STRONG follow the SyntheX recipe (Gao et al., Nature Machine Intelligence 5, 294-308,
2023; its repository arcadelab/SyntheX has the numbers). What it gives in pixels of 360 is here a
share of the shorter side. STRONG also has what that recipe lacks and real images show: histogram
shifts, linear display, fields, tools, letters, half turns. And it differs:
- The elastic deformation is smooth and moves landmarks; SyntheX's shifts single pixels.
- No shear: no C-arm does it, and the view stays exact without.
- Beyond the edges nothing is mirrored: a second femoral head would have no label.
- Inversion is as likely as not: images come in either polarity.
- Grey values are clipped to 0..1 after every step, as screens do, so linear contrast ends sooner.
- Sharpening and relief are weaker, since they act on images that have noise already; added noise
  goes further, to that of low dose.
"""

from dataclasses import dataclass, field, fields
from types import MappingProxyType

import numpy as np

from XraySynthLib.data.randomisation.tools import TOOL_KINDS

Range = tuple[float, float]
CONTRASTS = ("linear", "gamma", "log", "sigmoid", "histogram")
CORRUPTIONS = ("blur", "dropout", "convolution", "pooling", "multiply")
_KINDS = {"contrasts": CONTRASTS, "corruptions": CORRUPTIONS, "tool_kinds": TOOL_KINDS}


class _Ranges:
    """Checks: a field `..._share` is a probability, a pair of numbers runs from low to high."""

    def __post_init__(self) -> None:
        for entry in fields(self):  # type: ignore[arg-type]
            name, value = entry.name, getattr(self, entry.name)
            if name in _KINDS:
                if not value or not set(value) <= set(_KINDS[name]):
                    raise ValueError(f"{name} must be some of {_KINDS[name]}, got {value}.")
            elif isinstance(value, tuple):
                if len(value) != 2 or not (np.isfinite(value).all() and value[0] <= value[1]):
                    raise ValueError(f"{name} must be a range from low to high, got {value}.")
            elif not isinstance(value, _Ranges) and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {value}.")


@dataclass(frozen=True)
class PlaneRanges(_Ranges):
    """Motions in the image plane. Lengths are shares of the shorter side.

    Attributes:
        similarity_share: Share of images turned, scaled and shifted.
        angle_deg: Turn.
        scale: Scale.
        shift: Length of the shift, in any direction.
        crop_share: Share of images of which a part fills the image.
        crop_scale: Scale of such, in place of the other.
        turn_share: Share of images turned by 180 degrees.
        elastic_share: Share of images deformed; these have no view.
        elastic: Greatest displacement.
        elastic_cells: Control cells along each side, whole.

    Raises:
        ValueError: If a range runs backward, a scale is not positive or an image could fold.
    """

    similarity_share: float = 0.0
    angle_deg: Range = (-5.0, 5.0)
    scale: Range = (0.9, 1.1)
    shift: Range = (0.0, 20 / 360)
    crop_share: float = 0.0
    crop_scale: Range = (1.1, 1.5)
    turn_share: float = 0.0
    elastic_share: float = 0.0
    elastic: Range = (0.003, 0.012)
    elastic_cells: tuple[int, int] = (3, 6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale[0] <= 0 or self.crop_scale[0] <= 0:
            raise ValueError("A scale must be positive.")
        if self.elastic[0] <= 0 or self.elastic_cells[0] < 1:
            raise ValueError("elastic and elastic_cells must be positive.")
        if self.elastic[1] * (self.elastic_cells[1] + 1) > 1 / 8:
            raise ValueError("elastic is so large that an image could fold.")


@dataclass(frozen=True)
class GreyRanges(_Ranges):
    """Grey values. Lengths are shares of the shorter side.

    Attributes:
        window_share: Share of images with a drawn window; the rest has the standard one.
        low_percentile: What is black, in percent of the image's line integrals.
        high_percentile: What is white.
        window_margin: Both ends are moved outward by such shares of the window.
        linear_share: Share of drawn windows that show transmission.
        linear_span: Line integrals that such a window is wide at most.
        display_span: Line integrals taken from black to white of a DISPLAY image.
        shading_share: Share of images with a gradient.
        shading: Line integrals it gains across the image.
        contrast_share: Share of images with one of `contrasts`.
        contrasts: Kinds, each as likely.
        linear_contrast: Factor.
        gamma: Exponent, drawn on a log scale.
        log_gain: Gain.
        sigmoid_gain: Gain.
        sigmoid_cutoff: Cutoff.
        histogram_points: Points of a histogram shift, whole.
        noise_share: Share of images with Gaussian noise.
        noise_sigma: Its standard deviation.
        noise_grain_px: Its grain, whole.
        salt_share: Share of images with salt and pepper, half of them in cells.
        salt: Share of pixels; of cells half as many.
        n_corruptions: How many of `corruptions` an image has, whole.
        corruptions: Kinds.
        blur: Standard deviation of a blur.
        dropout: Share of pixels or cells dropped.
        cell: Side of the cells of dropout, salt and pepper.
        sharpen_alpha: Share of the sharpened image.
        sharpen_lightness: Lightness of sharpening.
        emboss_alpha: Share of the relief.
        emboss_strength: Depth of the relief.
        pool: Side of a pooled block.
        multiply: Factor, of the image or of each pixel.
        quantise_share: Share of images with few greys.
        quantise_bits: Bits of such, whole.
        inversion_share: Share of images shown dense dark.
    """

    window_share: float = 0.0
    low_percentile: Range = (0.0, 5.0)
    high_percentile: Range = (97.0, 100.0)
    window_margin: Range = (-0.05, 0.2)
    linear_share: float = 0.2
    linear_span: Range = (2.5, 5.0)
    display_span: Range = (3.0, 6.0)
    shading_share: float = 0.0
    shading: Range = (-0.8, 0.8)
    contrast_share: float = 0.0
    contrasts: tuple[str, ...] = CONTRASTS
    linear_contrast: Range = (0.5, 1.6)
    gamma: Range = (0.5, 2.0)
    log_gain: Range = (0.6, 1.4)
    sigmoid_gain: Range = (3.0, 10.0)
    sigmoid_cutoff: Range = (0.4, 0.6)
    histogram_points: tuple[int, int] = (5, 10)
    noise_share: float = 0.0
    noise_sigma: Range = (0.005, 0.01)
    noise_grain_px: tuple[int, int] = (1, 1)
    salt_share: float = 0.0
    salt: Range = (0.01, 0.1)
    n_corruptions: tuple[int, int] = (0, 0)
    corruptions: tuple[str, ...] = CORRUPTIONS
    blur: Range = (0.0, 3 / 360)
    dropout: Range = (0.05, 0.15)
    cell: Range = (0.01, 0.05)
    sharpen_alpha: Range = (0.1, 0.35)
    sharpen_lightness: Range = (1.0, 1.3)
    emboss_alpha: Range = (0.3, 0.7)
    emboss_strength: Range = (0.5, 1.5)
    pool: Range = (2 / 360, 4 / 360)
    multiply: Range = (0.5, 1.5)
    quantise_share: float = 0.0
    quantise_bits: tuple[int, int] = (5, 8)
    inversion_share: float = 0.0


@dataclass(frozen=True)
class OverlayRanges(_Ranges):
    """What lies over the image. Lengths are shares of the shorter side.

    Attributes:
        tool_share: Share of images with tools.
        n_tools: How many of them, whole.
        tool_kinds: Kinds, each as likely.
        cable_share: Share of images with a cable.
        bead_share: Share of images with a grid of beads.
        metal_line_integral: What the middle of a tool adds.
        marker_share: Share of images with a letter of lead.
        annotation_share: Share of images with text of a console.
        n_annotations: How many, whole.
        letter_height: Font size.
        field_share: Share of images with a field.
        field_size: Width and height of its opening.
        field_shift: Its middle from the image's, along each axis.
        field_angle_deg: Turn of half of the fields; the others are straight.
    """

    tool_share: float = 0.0
    n_tools: tuple[int, int] = (1, 4)
    tool_kinds: tuple[str, ...] = TOOL_KINDS
    cable_share: float = 0.0
    bead_share: float = 0.0
    metal_line_integral: Range = (0.8, 4.0)
    marker_share: float = 0.0
    annotation_share: float = 0.0
    n_annotations: tuple[int, int] = (1, 3)
    letter_height: Range = (0.025, 0.07)
    field_share: float = 0.0
    field_size: Range = (0.7, 1.05)
    field_shift: Range = (-0.08, 0.08)
    field_angle_deg: Range = (-20.0, 20.0)


@dataclass(frozen=True)
class RandomisationRanges(_Ranges):
    """From where randomisations are drawn; the defaults draw none.

    Attributes:
        plane: Motions in the image plane.
        grey: Grey values.
        overlay: Tools, letters and fields.
    """

    plane: PlaneRanges = field(default_factory=PlaneRanges)
    grey: GreyRanges = field(default_factory=GreyRanges)
    overlay: OverlayRanges = field(default_factory=OverlayRanges)


NONE = RandomisationRanges()
MILD = RandomisationRanges(
    grey=GreyRanges(contrast_share=0.5, contrasts=("gamma",), gamma=(0.7, 1.3), noise_share=0.5)
)
STRONG = RandomisationRanges(
    plane=PlaneRanges(similarity_share=0.6, crop_share=0.15, turn_share=0.25, elastic_share=0.15),
    grey=GreyRanges(
        window_share=0.7,
        shading_share=0.3,
        contrast_share=0.6,
        noise_share=0.5,
        noise_sigma=(0.005, 0.04),
        noise_grain_px=(1, 3),
        salt_share=0.15,
        n_corruptions=(0, 2),
        quantise_share=0.1,
        inversion_share=0.5,
    ),
    overlay=OverlayRanges(
        tool_share=0.35,
        cable_share=0.1,
        bead_share=0.05,
        marker_share=0.2,
        annotation_share=0.25,
        field_share=0.4,
    ),
)
PRESETS = MappingProxyType({"none": NONE, "mild": MILD, "strong": STRONG})
