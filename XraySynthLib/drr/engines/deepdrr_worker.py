"""DeepDRR's end of the pipe: run as a script by the Python that has DeepDRR, never imported by us.

DeepDRR is GPLv3, so it lives in an environment and a process of its own. This file imports numpy
and DeepDRR's public API, nothing of XraySynthLib; what passes between the two processes is one
line of JSON a request and a reply, and `.npy` files. It has not been run on a GPU; see
`deepdrr_process`.

Requests, each answered by `{"done": true}` or `{"error": "one sentence"}`:
    {"load": {"density": path, "world_from_ijk": 4x4, "step_mm": s}}
        (M, K, J, I) float32, g/cm3; replaces what was loaded before
    {"project": {"index_from_camera2d": 3x3, "camera3d_from_world": 4x4,
                 "shape_px": [rows, columns], "output": path}}
        writes (M, rows, columns) float32, keV for each photon sent, each material by itself
Before the first request it says `{"ready": "DeepDRR's version"}`.
"""

import json
import os
import sys
import traceback
from importlib import metadata

import numpy as np

MATERIAL = "soft tissue"
"""Every map is drawn as this one: its name only picks the attenuation that turns mass into keV."""
SPECTRUM = np.array([[100e3, 1.0]])
"""eV and share: one energy, so the logarithm of the image is proportional to the area density."""
LARGEST_DISTANCE_MM = 1e5
"""Must be positive; all it does without meshes is to end rays at four times its length."""
START_PX = 16
"""A small detector to start with: meshes, which we have none of, reserve memory for each pixel."""


class Worker:
    """The volumes that are loaded, one a material, and the projector that holds them."""

    def __init__(self, deepdrr) -> None:
        self.deepdrr = deepdrr
        self.volumes = []
        self.projector = None

    def load(self, density: str, world_from_ijk: list, step_mm: float) -> None:
        """Hand densities to the GPU."""
        geo = self.deepdrr.geo
        if self.projector is not None:
            self.projector.free()
        self.volumes = [
            self.deepdrr.Volume(
                data=one.transpose(2, 1, 0),
                materials=({MATERIAL: 0}, np.zeros(one.shape[::-1], np.uint16)),
                anatomical_from_IJK=geo.FrameTransform(np.array(world_from_ijk)),
            )
            for one in np.load(density)
        ]
        middle = START_PX / 2
        small = geo.CameraIntrinsicTransform(
            np.array([[1000.0, 0, middle], [0, 1000.0, middle], [0, 0, 1]]),
            sensor_height=START_PX,
            sensor_width=START_PX,
        )
        self.projector = self.deepdrr.Projector(
            self.volumes,
            camera_intrinsics=small,
            source_to_detector_distance=LARGEST_DISTANCE_MM,
            step=step_mm,
            spectrum=SPECTRUM,
            scatter_num=0,
            add_noise=False,
            neglog=False,
        )
        self.projector.initialize()

    def project(
        self, index_from_camera2d: list, camera3d_from_world: list, shape_px: list, output: str
    ) -> None:
        """Project each volume with the others switched off."""
        geo = self.deepdrr.geo
        rows, columns = shape_px
        projection = geo.CameraProjection(
            geo.CameraIntrinsicTransform(
                np.array(index_from_camera2d), sensor_height=rows, sensor_width=columns
            ),
            geo.FrameTransform(np.array(camera3d_from_world)),
        )
        images = np.empty((len(self.volumes), rows, columns), np.float32)
        for image, shown in zip(images, self.volumes):  # noqa: B905 (any Python that DeepDRR has)
            for volume in self.volumes:
                volume.set_enabled(volume is shown)
            image[:] = self.projector.project(projection)
        np.save(output, images)


def one_sentence(error: BaseException) -> str:
    """An exception's kind and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return "{}: {}".format(type(error).__name__, lines[0] if lines else "no message")


def main() -> None:
    """Serve requests until stdin ends."""
    # Whatever DeepDRR, CUDA or a compiler prints goes to stderr and cannot pass for a reply.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(**fields) -> None:
        replies.write(json.dumps(fields) + "\n")
        replies.flush()

    try:
        import deepdrr

        try:
            version = metadata.version("deepdrr")
        except metadata.PackageNotFoundError:
            version = "of unknown version"
        worker = Worker(deepdrr)
        reply(ready=version)
        for line in sys.stdin:
            ((name, arguments),) = json.loads(line).items()
            {"load": worker.load, "project": worker.project}[name](**arguments)
            reply(done=True)
    except Exception as error:
        traceback.print_exc()
        reply(error=one_sentence(error))


if __name__ == "__main__":
    main()
