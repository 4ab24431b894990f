"""Grey values to grey values, every pixel alike: contrast, inversion, and the window before them.

All but `Window` take and return 0..1, dense bright until inverted. The contrast curves are those of
scikit-image's `exposure` and of MONAI's `RandHistogramShift`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.randomisation.operations import Drawn, Operation
from XraySynthLib.data.xray import Quantity

MIN_TRANSMISSION = 1e-7
CLOSED = 13.0
"""Line integrals above are where nothing was detected: they say nothing of the patient."""
SAMPLED_PIXELS = 1 << 14
"""So many of the pixels tell percentiles; taking all would cost more than all the rest."""
CURVE_STEPS = 4096


@dataclass(frozen=True)
class Window(Drawn):
    """Which line integrals are black and which white, as shares of the image's own.

    Attributes:
        low_percentile: Of the values; what is there is black.
        high_percentile: What is there is white.
        low_margin: Lowers the lower end by this share of the window.
        high_margin: Raises the upper end.
        linear_span: 0 shows line integrals; above 0 shows transmission, as consoles without a
            logarithm do, still dense bright, and the window is at most as many line integrals wide.

    Raises:
        ValueError: If the window is empty.
    """

    low_percentile: float = 0.5
    high_percentile: float = 99.5
    low_margin: float = 0.0
    high_margin: float = 0.0
    linear_span: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise ValueError("A window's percentiles must rise, from 0 to 100.")
        if self.low_margin + self.high_margin <= -1 or self.linear_span < 0:
            raise ValueError("A window must be wider than nothing.")

    def ends(self, line_integrals: NDArray) -> tuple[float, float]:
        """The line integrals shown as 0 and as 1; the upper is greater."""
        step = int(np.sqrt(line_integrals.size / SAMPLED_PIXELS)) or 1
        sample = line_integrals[::step, ::step]
        sample = sample[sample < CLOSED]
        if sample.size == 0:
            return 0.0, 1.0
        ends = np.percentile(sample, [self.low_percentile, self.high_percentile])
        low, high = float(ends[0]), float(ends[1])
        width = high - low
        low, high = low - self.low_margin * width, high + self.high_margin * width
        if self.linear_span > 0:
            low = max(low, high - self.linear_span)
        return (low, high) if high - low > 1e-6 else (low, low + 1.0)

    def show(self, line_integrals: NDArray, ends: tuple[float, float]) -> NDArray:
        """Grey 0..1 of line integrals, dense bright."""
        low, high = ends
        if self.linear_span == 0:
            return np.clip((line_integrals - np.float32(low)) / np.float32(high - low), 0, 1)
        black = np.float32(np.exp(low - high))
        transmission = np.exp(np.float32(low) - np.clip(line_integrals, low, high))
        return (1 - transmission) / (1 - black)


def line_integrals(values: NDArray, quantity: Quantity, display_span: float) -> NDArray:
    """(rows, columns) float32 line integrals of an image of any quantity.

    Args:
        values: (rows, columns) float32.
        quantity: What they are.
        display_span: Line integrals from black to white of a DISPLAY image, which does not say.
    """
    if quantity is Quantity.TRANSMISSION:
        return -np.log(np.maximum(values, np.float32(MIN_TRANSMISSION)))
    if quantity is Quantity.DISPLAY:
        return values * np.float32(display_span)
    return values


@dataclass(frozen=True)
class LinearContrast(Operation):
    """Stretch about the middle grey."""

    factor: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        return (values - np.float32(0.5)) * np.float32(self.factor) + np.float32(0.5)


@dataclass(frozen=True)
class Gamma(Operation):
    """v^gamma."""

    gamma: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        return np.power(values, np.float32(self.gamma))


@dataclass(frozen=True)
class LogContrast(Operation):
    """gain log2(1 + v)."""

    gain: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        return np.log2(1 + values) * np.float32(self.gain)


@dataclass(frozen=True)
class SigmoidContrast(Operation):
    """1 / (1 + exp(gain (cutoff - v)))."""

    gain: float
    cutoff: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        return 1 / (1 + np.exp(np.float32(self.gain) * (np.float32(self.cutoff) - values)))


@dataclass(frozen=True)
class HistogramShift(Operation):
    """A random rising curve, straight between points.

    Attributes:
        greys: Grey values after, rising from 0 to 1, of evenly spaced grey values before.

    Raises:
        ValueError: If there are fewer than two or they fall.
    """

    greys: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.greys) < 2 or (np.diff(self.greys) < 0).any():
            raise ValueError("A histogram shift needs greys that rise.")

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it, by a table with steps finer than a screen's."""
        before = np.linspace(0, 1, len(self.greys))
        table = np.interp(np.linspace(0, 1, CURVE_STEPS), before, self.greys).astype(np.float32)
        return table.take(
            (values * np.float32(CURVE_STEPS - 1) + np.float32(0.5)).astype(np.uint16)
        )


@dataclass(frozen=True)
class Multiply(Operation):
    """Brighter or darker throughout."""

    factor: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        return values * np.float32(self.factor)


@dataclass(frozen=True)
class Invert(Operation):
    """Dense dark, as fluoroscopy is shown."""

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        return 1 - values


@dataclass(frozen=True)
class Quantise(Operation):
    """As few greys as a file or a frame grabber keeps.

    Attributes:
        levels: Greys from black to white, 2 or more.
    """

    levels: int

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        steps = np.float32(max(self.levels - 1, 1))
        return np.rint(values * steps) / steps


@dataclass(frozen=True)
class Shading(Operation):
    """A smooth gradient added to line integrals: heel effect, vignetting, uneven thickness.

    Attributes:
        tilt: Line integrals gained across the image, along columns and along rows.
        bowl: Line integrals gained from the middle to the corners.
    """

    tilt: tuple[float, float]
    bowl: float

    def __call__(self, values: NDArray, rng: np.random.Generator) -> NDArray:
        """Apply it."""
        rows, columns = values.shape
        x = np.linspace(-0.5, 0.5, columns, dtype=np.float32)
        y = np.linspace(-0.5, 0.5, rows, dtype=np.float32)[:, None]
        bowl = np.float32(2 * self.bowl)
        across = np.float32(self.tilt[0]) * x + bowl * x**2
        down = np.float32(self.tilt[1]) * y + bowl * y**2
        return values + across + down
