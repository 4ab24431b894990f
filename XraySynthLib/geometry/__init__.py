"""Frames, the C-arm's pose, the detector's intrinsics and the view they make together.

Frames: `ras` (mm, the patient, Slicer's world), `lps` (mm, in files only), `ijk` (voxel index),
`carm` (mm, origin at the isocentre), `camera` (mm, origin at the source, +z to the detector) and
`px` (column, row; an integer is a pixel's centre). A transform is named `target_from_source`.
Neighbours' conventions live in `geometry.converters`.
"""

from XraySynthLib.geometry.carm import CArmPose
from XraySynthLib.geometry.intrinsics import Intrinsics
from XraySynthLib.geometry.presets import VIEW_PRESETS, view_preset
from XraySynthLib.geometry.triangulation import triangulate
from XraySynthLib.geometry.view import View, carm_from_view, view_from_carm

__all__ = [
    "VIEW_PRESETS",
    "CArmPose",
    "Intrinsics",
    "View",
    "carm_from_view",
    "triangulate",
    "view_from_carm",
    "view_preset",
]
