"""Quick images of a moving C-arm, from a pyramid of the volume."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import Xray
from XraySynthLib.drr.exposure import PLAIN, Exposure, expose, to_display, to_line_integral
from XraySynthLib.drr.materials import Materials
from XraySynthLib.drr.projection import prepare, project
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthLib.geometry.transforms import transform_points, translation

N_LEVELS = 3
PIXELS_PER_VOXEL = 1.5
"""A level is fine enough when its voxels, seen on the detector, are at most this many pixels."""


class Preview:
    """Materials at three resolutions; each view takes the coarsest that does it justice.

    Args:
        materials: The densities.
        exposure: What is shown; noise needs a generator and is left out here.
    """

    def __init__(self, materials: Materials, exposure: Exposure = PLAIN) -> None:
        self.exposure = replace(exposure, photons_per_mm2=0.0, electronic_noise_photons=0.0)
        self.levels = [materials.cropped()]
        while len(self.levels) < N_LEVELS and min(self.levels[-1].density_g_per_cm3.shape[1:]) > 8:
            self.levels.append(halved(self.levels[-1]))

    def warm(self) -> None:
        """Compile the kernels and make every level ready, before the first view is asked for."""
        for level in self.levels:
            prepare(level)
        pose = CArmPose(isocenter_ras_mm=self._center_ras_mm, source_to_isocenter_mm=5000.0)
        self.render(view_from_carm(pose, Intrinsics(6000.0, (20.0, 20.0), (32, 32))))  # type: ignore[arg-type]

    @property
    def _center_ras_mm(self) -> NDArray:
        """(3,) the middle of the volume, RAS, mm."""
        center_ijk = (np.array(self.levels[0].density_g_per_cm3.shape[:0:-1]) - 1) / 2
        return transform_points(self.levels[0].ras_from_ijk, center_ijk[None])[0]

    def render(self, view: View) -> Xray:
        """The DISPLAY image of a view.

        Raises:
            ValueError: If the source stands inside the patient, or no ray meets the volume.
        """
        return to_display(self.line_integral(view))

    def line_integral(self, view: View) -> Xray:
        """The LINE_INTEGRAL image of a view.

        Raises:
            ValueError: If the source stands inside the patient, or no ray meets the volume.
        """
        materials = self.levels[self.level_for(view)]
        area_density = project(materials, view)
        return to_line_integral(expose(area_density, materials.names, view, self.exposure))

    def level_for(self, view: View) -> int:
        """Index of the coarsest level that is fine enough for the view in the volume's middle."""
        center_camera = transform_points(view.camera_from_ras, self._center_ras_mm[None])[0]
        magnification = view.intrinsics.source_to_detector_mm / max(center_camera[2], 1.0)
        pixel_mm = view.intrinsics.pixel_spacing_mm.min() / magnification
        for index in range(len(self.levels) - 1, 0, -1):
            voxel_mm = np.linalg.norm(self.levels[index].ras_from_ijk[:3, :3], axis=0).max()
            if voxel_mm <= PIXELS_PER_VOXEL * pixel_mm:
                return index
        return 0


def halved(materials: Materials) -> Materials:
    """The same densities on voxels twice as large, each the mean of eight."""
    density = materials.density_g_per_cm3
    pad = [(0, 0)] + [(0, size % 2) for size in density.shape[1:]]
    padded: NDArray = np.pad(density, pad)
    n, k, j, i = padded.shape
    blocks = padded.reshape(n, k // 2, 2, j // 2, 2, i // 2, 2)
    means = blocks.mean(axis=(2, 4, 6), dtype=np.float32)
    ras_from_half = materials.ras_from_ijk @ translation([0.5] * 3) @ np.diag([2.0, 2.0, 2.0, 1.0])
    return Materials(materials.names, means, ras_from_half)
