"""The pelvis: shape model, hips, landmarks, and fitting them to given bones.

VTK is imported here and nowhere else in the library, and only by `voxels` and `targets`; torch
never.
"""

from XraySynthLib.anatomy.hips import HipPose
from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.parts import LABEL_IDS, Bone, recognise_label_ids
from XraySynthLib.anatomy.shape_model import PelvisShape, ShapeModel, load_shape_model

__all__ = [
    "LABEL_IDS",
    "Bone",
    "HipPose",
    "PelvisShape",
    "ShapeModel",
    "landmarks_of",
    "load_shape_model",
    "recognise_label_ids",
]
