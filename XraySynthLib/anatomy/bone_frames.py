"""Places on a subject's bones, named by where they are on the mean.

Each bone of a subject is the mean's bone under an affine map (least squares over its vertices),
good to a few millimetres: enough for where muscles attach, tunnels run and trabeculae fan out.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model
from XraySynthLib.geometry.transforms import transform_points


@dataclass(frozen=True, eq=False)
class BoneFrames:
    """Affine maps between the mean's bones and a subject's."""

    shape: PelvisShape

    @cached_property
    def ras_from_mean(self) -> dict[Bone, NDArray]:
        """(4, 4) of each bone, from the mean's frame to the subject's RAS, mm."""
        model = load_shape_model()
        maps = {}
        for bone, part in model.parts.items():
            source = model.mean.vertices_ras_mm[part]
            if bone in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR):
                near = source[:, 2] > -170  # the far end is out of every picture
            else:
                near = np.ones(len(source), bool)
            columns = np.column_stack([source[near], np.ones(int(near.sum()))])
            target = self.shape.vertices_ras_mm[part][near]
            solution = np.linalg.lstsq(columns, target, rcond=None)[0]
            maps[bone] = np.vstack([solution.T, [0, 0, 0, 1]])
        return maps

    def place(self, bone: Bone, mean_points_mm: ArrayLike) -> NDArray:
        """Carry points, (3,) or (N, 3), mm, from the mean to the subject."""
        points = np.asarray(mean_points_mm, dtype=float)
        return transform_points(self.ras_from_mean[bone], np.atleast_2d(points)).reshape(
            points.shape
        )

    def direction(self, bone: Bone, mean_direction: ArrayLike) -> NDArray:
        """Carry a direction; (3,) unit vector."""
        turned = self.ras_from_mean[bone][:3, :3] @ np.asarray(mean_direction, dtype=float)
        return turned / np.linalg.norm(turned)

    def on_mean(self, bone: Bone, points_ras_mm: NDArray) -> NDArray:
        """(N, 3) where points of the subject are on the mean, mm."""
        return transform_points(np.linalg.inv(self.ras_from_mean[bone]), points_ras_mm)
