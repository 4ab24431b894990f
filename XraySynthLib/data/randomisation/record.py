"""The record of one randomisation: with the sample it decides the result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from XraySynthLib.data.randomisation import curves, textures
from XraySynthLib.data.randomisation.curves import Shading, Window
from XraySynthLib.data.randomisation.fields import Field
from XraySynthLib.data.randomisation.markers import Annotation, LeadMarker
from XraySynthLib.data.randomisation.operations import Operation, operation_from_dict
from XraySynthLib.data.randomisation.plane import PlaneMotion
from XraySynthLib.data.randomisation.tools import Beads, Cable, Tool

BEAM_KINDS = {kind.__name__: kind for kind in (Beads, Cable, LeadMarker, Shading, Tool)}
"""Operations on line integrals."""
GREY_KINDS = {
    kind.__name__: kind
    for kind in (
        Annotation,
        Field,
        curves.Gamma,
        curves.HistogramShift,
        curves.Invert,
        curves.LinearContrast,
        curves.LogContrast,
        curves.Multiply,
        curves.Quantise,
        curves.SigmoidContrast,
        textures.AverageBlur,
        textures.Dropout,
        textures.Emboss,
        textures.GaussianBlur,
        textures.GaussianNoise,
        textures.Pool,
        textures.SaltAndPepper,
        textures.Sharpen,
        textures.Speckle,
    )
}
"""Operations on grey values 0..1."""


@dataclass(frozen=True)
class Randomisation:
    """Every parameter of one randomisation. The steps are applied in the order of the attributes.

    Attributes:
        shape_px: Rows, columns of the images that it is for.
        plane: The motion in the image plane.
        display_span: Line integrals taken from black to white of a DISPLAY image.
        beam: Operations on line integrals.
        window: How line integrals become grey; None is the standard window, and leaves a DISPLAY
            image as it is.
        grey: Operations on grey values.
        seed: Seeds what differs from pixel to pixel.

    Raises:
        ValueError: If an operation stands where it does not belong, or a number is negative.
    """

    shape_px: tuple[int, int]
    plane: PlaneMotion = field(default_factory=PlaneMotion)
    display_span: float = 4.0
    beam: tuple[Operation, ...] = ()
    window: Window | None = None
    grey: tuple[Operation, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        rows, columns = self.shape_px
        object.__setattr__(self, "shape_px", (int(rows), int(columns)))
        object.__setattr__(self, "beam", tuple(self.beam))
        object.__setattr__(self, "grey", tuple(self.grey))
        if not (self.display_span > 0 and self.seed >= 0 and min(self.shape_px) > 0):
            raise ValueError("shape_px and display_span must be positive, seed 0 or more.")
        for operations, kinds in ((self.beam, BEAM_KINDS), (self.grey, GREY_KINDS)):
            for operation in operations:
                if type(operation) not in kinds.values():
                    raise ValueError(f"{operation!r} must be one of {sorted(kinds)}.")

    @property
    def fields(self) -> tuple[Field, ...]:
        """What hides parts of the image."""
        return tuple(operation for operation in self.grey if isinstance(operation, Field))

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {
            "shape_px": list(self.shape_px),
            "plane": self.plane.to_dict(),
            "display_span": self.display_span,
            "beam": [operation.to_dict() for operation in self.beam],
            "window": self.window.to_dict() if self.window else None,
            "grey": [operation.to_dict() for operation in self.grey],
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Randomisation":
        """Make a record from what `to_dict` returned.

        Raises:
            ValueError: If a field is missing, unknown or wrong.
        """
        try:
            values = dict(document)
            window = values.pop("window")
            return cls(
                plane=PlaneMotion(**values.pop("plane")),
                beam=tuple(operation_from_dict(op, BEAM_KINDS) for op in values.pop("beam")),
                window=None if window is None else Window(**window),
                grey=tuple(operation_from_dict(op, GREY_KINDS) for op in values.pop("grey")),
                **values,
            )
        except (KeyError, OverflowError, TypeError) as error:
            raise ValueError(f"The randomisation's record is damaged: {error}.") from error
