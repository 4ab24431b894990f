"""Logic of the module X-ray Sampler: X-rays made by a network in a child process, to be browsed.

`parameters` is the module's parameter node; its fields are listed in `XraySynthSampler.py`.
"""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from XraySynthLib.data import Sample
from XraySynthLib.data.sets import open_set
from XraySynthLib.geometry import CArmPose, Intrinsics, View
from XraySynthLib.geometry.transforms import translation
from XraySynthLib.workflows.sample import SHIPPED
from XraySynthSlicer.carm import angle_limits
from XraySynthSlicer.jobs import Job, empty_folder
from XraySynthSlicer.nodes import samples_to_sequence


class SamplerLogic:
    """What the module does to the scene.

    Args:
        scene: The scene.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._folder = TemporaryDirectory(prefix="XraySynth-sampler-")
        self._pose: CArmPose | None = None

    def close(self) -> None:
        """Remove what was written for child processes."""
        self._folder.cleanup()
        self.__init__(self.scene)  # type: ignore[misc]

    def job(self, parameters: Any, pose: CArmPose | None, detector: Intrinsics) -> Job:
        """Start making X-rays, where no other job of this runs.

        Args:
            parameters: The parameters.
            pose: The C-arm from which all of them look, its isocentre at the pelvis' middle; None
                for the range of angles.
            detector: Of the C-arm; the network decides the number of pixels, and how wide the
                detector can be.

        Raises:
            ValueError: If the C-arm looks from where an image cannot be, or angles are wrong.
        """
        self._pose = pose
        count, folder = parameters.count, empty_folder(self._output.parent)
        one_person = parameters.onePerson and parameters.condition.value == "anatomy"
        options: dict[str, object] = {
            "output": folder / self._output.name,
            "condition": parameters.condition.value,
            "count": count,
            "views": count if one_person else 1,
            "seed": parameters.seed,
            "steps": parameters.steps,
            "format": "scene",
        }
        limits: dict[str, tuple[float, float]] = {}
        if pose is None:
            limits = {
                name.replace("_", "-"): values for name, values in angle_limits(parameters).items()
            }
        else:
            limits = {
                "primary-deg": (pose.primary_deg,) * 2,
                "secondary-deg": (pose.secondary_deg,) * 2,
                "roll-deg": (pose.roll_deg,) * 2,
                "isocenter-offset-mm": (0.0, 0.0),
                "source-to-isocenter-mm": (pose.source_to_isocenter_mm,) * 2,
            }
            options["source-to-detector-mm"] = detector.source_to_detector_mm
        if parameters.guidance:
            options["guidance"] = parameters.guidance
        if parameters.model:
            options["model"] = parameters.model
        side_px, widths_mm = _images_of(
            Path(parameters.model or SHIPPED / parameters.condition.value),
            detector.source_to_detector_mm,
        )
        if pose is not None and side_px:
            width_mm = float(np.clip(detector.size_mm.max(), *widths_mm))
            limits["pixel-spacing-mm"] = (width_mm / side_px,) * 2
        words = [f"--{name}={value}" for name, value in options.items()]
        for name, values in limits.items():
            words += [f"--{name}", *map(str, values)]
        return Job([["sample", *words]], {"--model": "Model"})

    def show_results(self) -> Any:
        """Add the X-rays that a job has made as a sequence, with their landmarks; its browser."""
        samples = [self._placed(sample) for sample in open_set(self._output)]
        named = {str(number): sample for number, sample in enumerate(samples)}
        return samples_to_sequence(named, self.scene, "Sampled X-ray", ("image", ""))

    def image_of(self, browser: Any) -> Any:
        """The volume node that shows a browser's images, or None."""
        if browser is None or browser.GetMasterSequenceNode() is None:
            return None
        return browser.GetProxyNode(browser.GetMasterSequenceNode())

    @property
    def _output(self) -> Path:
        return Path(self._folder.name) / "job" / "set"

    def _placed(self, sample: Sample) -> Sample:
        """Where the C-arm is: nobody is anywhere, so the pelvis comes to its isocentre."""
        view, pose = sample.xray.view, self._pose
        if pose is None or view is None:
            return sample
        isocenter = view.source_ras_mm + pose.source_to_isocenter_mm * view.ras_from_camera[:3, 2]
        shift = translation(np.asarray(pose.isocenter_ras_mm - isocenter))
        moved = View(shift @ view.ras_from_camera, view.intrinsics)
        return replace(sample, xray=replace(sample.xray, view=moved))


def _images_of(folder: Path, source_to_detector_mm: float) -> tuple[int, tuple[float, float]]:
    """Pixels along a side of a network's images, and the least and greatest width of a detector.

    The pixels are 0 where they cannot be read: the child process says why.
    """
    try:
        document = json.loads((folder / "config.json").read_text("utf-8"))
        fields_deg = np.array(document.get("fields_deg") or (0.0, 180.0), float)
        least, greatest = 2 * source_to_detector_mm * np.tan(np.deg2rad(fields_deg) / 2)
        return int(document["network"]["side_px"]), (float(least), float(greatest))
    except (OSError, ValueError, KeyError, TypeError):
        return 0, (0.0, np.inf)
