"""The shared physics: area density -> spectrum -> collimator -> scatter -> noise -> detector blur.

Quantities are kept apart: `expose` makes TRANSMISSION, `to_line_integral` and `to_display` go on
from there, and each refuses an image of another quantity.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from XraySynthLib.data import Quantity, Xray
from XraySynthLib.drr.coarse import at_pixels, block_means
from XraySynthLib.drr.collimation import Collimation
from XraySynthLib.drr.scatter import scattered
from XraySynthLib.drr.spectral import polychromatic_line_integral
from XraySynthLib.drr.spectrum import SHIPPED_KVP, load_spectrum
from XraySynthLib.geometry import Intrinsics, View

MIN_TRANSMISSION = 1e-7
DISPLAY_PERCENTILES = (0.5, 99.5)
DETAIL_MM = 10.0
COARSE_STEPS = 4
LIMITS = {
    "scatter": 10.0,
    "photons_per_mm2": 1e9,
    "electronic_noise_photons": 1e6,
    "blur_mm": 50.0,
}
"""Beyond them it is a mistake in units; each may be 0."""


@dataclass(frozen=True)
class Exposure:
    """How the image is taken. The defaults are the plain image: a spectrum and nothing else.

    Attributes:
        kvp: Tube voltage, one of 60, 70, ... 120.
        scatter: Strength of scatter as in `drr.scatter`; 0 for none.
        photons_per_mm2: Photons detected on a square millimetre of the open beam; 0 for no noise.
        electronic_noise_photons: Standard deviation of a pixel's readout, in photons.
        blur_mm: Standard deviation of the detector's point spread, on the detector.
        collimation: The open field, or None for the whole detector.

    Raises:
        ValueError: If there is no spectrum for the voltage or a number is negative.
    """

    kvp: int = 90
    scatter: float = 0.0
    photons_per_mm2: float = 0.0
    electronic_noise_photons: float = 0.0
    blur_mm: float = 0.0
    collimation: Collimation | None = None

    def __post_init__(self) -> None:
        if self.kvp not in SHIPPED_KVP:
            raise ValueError(f"There is no spectrum for {self.kvp} kVp; there are {SHIPPED_KVP}.")
        for name, limit in LIMITS.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(
                    f"{name} must be 0 or more, at most {limit:g}, got {getattr(self, name)}."
                )
        if 0 < self.photons_per_mm2 < 1:
            raise ValueError(
                f"photons_per_mm2 must be 0 or 1 and more, got {self.photons_per_mm2}."
            )


PLAIN = Exposure()
FULL = Exposure(scatter=0.08, photons_per_mm2=4e5, electronic_noise_photons=4.0, blur_mm=0.18)
"""All the physics, at doses and widths typical of a mobile C-arm with a grid."""


def expose(
    area_density: NDArray,
    names: tuple[str, ...],
    view: View,
    exposure: Exposure = PLAIN,
    rng: np.random.Generator | None = None,
) -> Xray:
    """Turn projected materials into an exposed detector.

    Args:
        area_density: (M, rows, columns), g/cm2.
        names: (M,) the materials.
        view: The view they were projected in.
        exposure: Voltage, scatter, noise, blur and collimation.
        rng: Where noise comes from; needed if there is any.

    Returns:
        A TRANSMISSION image, 1 in the open beam.

    Raises:
        ValueError: If shapes do not fit, or there is noise but no generator.
    """
    if area_density.shape != (len(names), *view.intrinsics.shape_px):
        raise ValueError(
            f"area_density must be {(len(names), *view.intrinsics.shape_px)}, "
            f"got {area_density.shape}."
        )
    line_integral = polychromatic_line_integral(area_density, names, load_spectrum(exposure.kvp))
    return expose_line_integral(line_integral, view, exposure, rng)


def expose_line_integral(
    line_integral: NDArray,
    view: View,
    exposure: Exposure = PLAIN,
    rng: np.random.Generator | None = None,
) -> Xray:
    """Turn line integrals of an exposure's spectrum into an exposed detector.

    Args:
        line_integral: (rows, columns), -ln of the primary beam's transmission.
        view: The view that they are seen in.
        exposure: Scatter, noise, blur and collimation; its voltage is in the line integrals.
        rng: Where noise comes from; needed if there is any.

    Returns:
        A TRANSMISSION image, 1 in the open beam.

    Raises:
        ValueError: If there is noise but no generator.
    """
    noisy = exposure.photons_per_mm2 > 0
    if noisy and rng is None:
        raise ValueError("An exposure with noise needs a random generator.")
    signal = np.exp(-line_integral)
    if exposure.collimation is not None:
        signal *= exposure.collimation.openness(view.intrinsics)
    if exposure.scatter > 0:
        signal += scattered(signal, exposure.scatter, view.intrinsics.pixel_spacing_mm)
    if noisy:
        assert rng is not None
        in_open_pixel = exposure.photons_per_mm2 * float(view.intrinsics.pixel_spacing_mm.prod())
        photons = rng.poisson(signal * in_open_pixel).astype(np.float32)
        if exposure.electronic_noise_photons > 0:
            readout = rng.standard_normal(photons.shape, dtype=np.float32)
            photons += readout * np.float32(exposure.electronic_noise_photons)
        signal = photons / np.float32(in_open_pixel)
    signal = detector_blurred(signal, exposure, view.intrinsics)
    return Xray(signal, Quantity.TRANSMISSION, view=view)


def detector_blurred(signal: NDArray, exposure: Exposure, intrinsics: Intrinsics) -> NDArray:
    """Spread the signal of each pixel of a (rows, columns) image as the detector does."""
    if exposure.blur_mm == 0:
        return signal
    sigma_px = exposure.blur_mm / intrinsics.pixel_spacing_mm[::-1]
    sigma_px = np.minimum(sigma_px, signal.shape)  # wider changes little and takes for ever
    return np.asarray(ndimage.gaussian_filter(signal, sigma_px, mode="nearest"))


def to_line_integral(xray: Xray) -> Xray:
    """-ln of a TRANSMISSION image; what fell to zero or below reads as a transmission of 1e-7.

    Raises:
        ValueError: If the image is of another quantity.
    """
    _require(xray, Quantity.TRANSMISSION)
    values = -np.log(np.maximum(xray.values, MIN_TRANSMISSION))
    return replace(xray, values=values, quantity=Quantity.LINE_INTEGRAL)


def to_display(
    xray: Xray,
    window: tuple[float, float] | None = None,
    detail: float = 0.0,
    open_field: NDArray | None = None,
) -> Xray:
    """Window a LINE_INTEGRAL image to 0..1, dense bright.

    Args:
        xray: The image.
        window: Values shown as 0 and as 1; None takes the 0.5th and 99.5th percentile of what the
            collimator left open.
        detail: How much of what is finer than `DETAIL_MM` is added (unsharp masking), as consoles
            do to show bone behind the heart and in the lung alike; 0 for none, 1 to double it.
        open_field: (rows, columns) bool, what the collimator left open: window and detail are
            fitted to it and the rest blacked out, as consoles do; None where nothing is known.

    Raises:
        ValueError: If the image is of another quantity or the window is empty.
    """
    _require(xray, Quantity.LINE_INTEGRAL)
    values = xray.values
    if detail != 0:
        spacing_mm = (0.4, 0.4) if xray.pixel_spacing_mm is None else xray.pixel_spacing_mm
        sigma_px = np.minimum(DETAIL_MM / np.asarray(spacing_mm)[::-1], values.shape)
        values = values + np.float32(detail) * (values - _smooth(values, sigma_px, open_field))
    if window is None:
        lit = values < -np.log(10 * MIN_TRANSMISSION)
        if open_field is not None:
            lit &= open_field
        low, high = np.percentile(values[lit] if lit.any() else values, DISPLAY_PERCENTILES)
        if high <= low:
            high = low + 1.0
    else:
        low, high = window
        if not high > low:
            raise ValueError(f"The window's upper end must be above its lower, got {window}.")
    shown = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    if open_field is not None:
        shown *= open_field
    return replace(xray, values=shown, quantity=Quantity.DISPLAY)


def _smooth(values: NDArray, sigma_px: NDArray, field: NDArray | None) -> NDArray:
    """Gaussian means of the pixels in a field, by normalised convolution (Knutsson, Westin 1993).

    They are taken on a grid `COARSE_STEPS` times as fine as they are smooth. Outside the field,
    where they mean nothing, they are finite.
    """
    factors = np.maximum(sigma_px // COARSE_STEPS, 1).astype(int)

    def smooth(image: NDArray) -> NDArray:
        coarse = block_means(image, factors)
        return ndimage.gaussian_filter(coarse, sigma_px / factors, mode="nearest", truncate=3)

    if field is None:
        means = smooth(values)
    else:
        means = smooth(values * field) / np.maximum(smooth(field.astype(np.float32)), 1e-6)
    return at_pixels(means, factors, values.shape).astype(np.float32)


def _require(xray: Xray, quantity: Quantity) -> None:
    if xray.quantity is not quantity:
        raise ValueError(f"This takes a {quantity.value} image, got a {xray.quantity.value} image.")
