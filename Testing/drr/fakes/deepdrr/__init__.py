"""A stand-in for DeepDRR 1.2.2: the calls our worker makes, its conventions, no line of its code.

It draws with our own numba projector, after turning DeepDRR's camera and volume into ours, and then
repeats DeepDRR's habits: a shift of the voxels, the cut at the volume's edge, keV for each photon.
The file that FAKE_DEEPDRR names (JSON, read anew for each projector) makes it behave otherwise.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

print("chatter on stdout, as libraries print at import", flush=True)

HABITS = {
    "shift_ijk": [1.0, 1.0, 1.0],
    "mirror": False,  # columns run the other way
    "zoom": 1.0,  # of the focal length
    "density": 1.0,  # weighs this much too much
    "offset_kev": 0.0,  # something like scatter
    "die": "",  # last words on projecting
}
KNOWN_MATERIALS = ("air", "bone", "soft tissue", "titanium")


class _Geo:
    class FrameTransform:
        def __init__(self, data):
            self.data = np.array(data).astype(np.float32)
            assert self.data.shape == (4, 4)

    class CameraIntrinsicTransform:
        def __init__(self, data, sensor_height=None, sensor_width=None):
            self.data = np.array(data).astype(np.float32)
            assert self.data.shape == (3, 3)
            self.sensor_height, self.sensor_width = sensor_height, sensor_width

    class CameraProjection:
        def __init__(self, intrinsic, extrinsic):
            self.intrinsic, self.extrinsic = intrinsic, extrinsic


geo = _Geo


class Volume:
    def __init__(
        self,
        data,
        materials,
        anatomical_from_IJK=None,
        world_from_anatomical=None,
        enabled=True,
    ):
        assert data.ndim == 3
        assert world_from_anatomical is None
        names, labels = materials
        assert set(names) <= set(KNOWN_MATERIALS)
        assert labels.shape == data.shape
        assert not labels.any()
        self.data = np.array(data).astype(np.float32)
        self.world_from_ijk = anatomical_from_IJK.data
        self.enabled = enabled

    def set_enabled(self, enabled):
        self.enabled = enabled


class Projector:
    def __init__(
        self,
        volume,
        camera_intrinsics=None,
        step=0.1,
        spectrum="90KV_AL40",
        scatter_num=0,
        add_noise=False,
        neglog=True,
        source_to_detector_distance=-1,
    ):
        assert scatter_num == 0
        assert not add_noise
        assert not neglog
        assert camera_intrinsics is not None
        assert isinstance(spectrum, np.ndarray)
        assert step == 2.0 ** round(np.log2(step))
        self.volumes, self.spectrum, self.initialized = volume, spectrum, False
        self.source_to_detector_distance = source_to_detector_distance

    def initialize(self):
        if self.initialized:
            raise RuntimeError("Close projector before initializing again.")
        if self.source_to_detector_distance < 0:
            raise ValueError("z-near must be >= 0.0")
        habits = os.environ.get("FAKE_DEEPDRR")
        self.habits = HABITS | (json.loads(Path(habits).read_text()) if habits else {})
        self.initialized = True

    def free(self):
        self.initialized = False

    def project(self, *camera_projections):
        if not self.initialized:
            raise RuntimeError("Projector has not been initialized.")
        if self.habits["die"]:
            print(self.habits["die"] + "\n", file=sys.stderr, flush=True)
            os._exit(3)
        (projection,) = camera_projections
        area_density = sum(_draw(v, projection, self.habits) for v in self.volumes if v.enabled)
        energies_kev = self.spectrum[:, 0] / 1000
        share = self.spectrum[:, 1] / self.spectrum[:, 1].sum()
        image = np.full(area_density.shape, self.habits["offset_kev"])
        for energy, weight in zip(energies_kev, share, strict=True):
            image += energy * weight * np.exp(-_mass_attenuation(energy) * area_density)
        return image.astype(np.float32)


def _mass_attenuation(energy_kev):
    from XraySynthLib.drr.attenuation import mass_attenuation

    return mass_attenuation("soft tissue", np.array([energy_kev]))[0]


def _draw(volume, projection, habits):
    from XraySynthLib.drr import Materials, prepare
    from XraySynthLib.geometry import Intrinsics, View

    shift_ijk = np.array(habits["shift_ijk"])
    data = volume.data * habits["density"]
    for axis, size in enumerate(data.shape):
        # It samples from -0.5 to size - 0.5 and draws voxel i at i + shift.
        place = np.arange(size) + shift_ijk[axis]
        seen = (place - 1 >= -0.5) & (place + 1 <= size - 0.5)
        data[tuple(~seen if a == axis else slice(None) for a in range(3))] = 0
    world_from_ijk = volume.world_from_ijk.astype(float)
    world_from_ijk[:3, 3] += world_from_ijk[:3, :3] @ shift_ijk
    k = projection.intrinsic.data.astype(float)
    intrinsics = Intrinsics(
        1000.0,
        1000 / (k[[0, 1], [0, 1]] * habits["zoom"]),
        (projection.intrinsic.sensor_height, projection.intrinsic.sensor_width),
        k[:2, 2] - 0.5,  # its index counts from the first pixel's corner
        mirrored=False,
    )
    view = View(np.linalg.inv(projection.extrinsic.data.astype(float)), intrinsics)
    materials = Materials(("soft tissue",), data.transpose(2, 1, 0)[None], world_from_ijk)
    image = prepare(materials).project(view)[0].astype(float)
    return image[:, ::-1] if habits["mirror"] else image
