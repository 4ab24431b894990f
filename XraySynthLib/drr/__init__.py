"""Digitally reconstructed radiographs: materials, projection, and the physics behind the image.

`project` integrates materials along a view's rays; its engines (numba, torch, deepdrr) differ in
nothing else. `expose` turns the result into an image. Importing this package loads neither numba
nor torch: an engine loads what it needs when it is first asked for.
"""

from XraySynthLib.drr.acquisition import (
    ACQUISITION_PRESETS,
    Acquisition,
    AcquisitionRanges,
    acquire,
    draw_acquisition,
)
from XraySynthLib.drr.collimation import Collimation
from XraySynthLib.drr.exposure import (
    FULL,
    PLAIN,
    Exposure,
    expose,
    expose_line_integral,
    to_display,
    to_line_integral,
)
from XraySynthLib.drr.instruments import CappedCylinder, k_wire, screw, with_instruments
from XraySynthLib.drr.materials import Materials, materials_from_hu, materials_from_labels
from XraySynthLib.drr.preview import Preview
from XraySynthLib.drr.projection import (
    ENGINES,
    LabelProjector,
    prepare,
    project,
)

__all__ = [
    "ACQUISITION_PRESETS",
    "ENGINES",
    "FULL",
    "PLAIN",
    "Acquisition",
    "AcquisitionRanges",
    "CappedCylinder",
    "Collimation",
    "Exposure",
    "LabelProjector",
    "Materials",
    "Preview",
    "acquire",
    "draw_acquisition",
    "expose",
    "expose_line_integral",
    "k_wire",
    "materials_from_hu",
    "materials_from_labels",
    "prepare",
    "project",
    "screw",
    "to_display",
    "to_line_integral",
    "with_instruments",
]
