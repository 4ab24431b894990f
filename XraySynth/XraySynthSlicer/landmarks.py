"""Logic of the module Landmark Detector: detecting and registering by child processes.

`parameters` is the module's parameter node; its fields are listed in `XraySynthLandmarks.py`.
An image is a volume node; its frames are its slices, or the items of the sequence that it shows.
A pixel's (column, row) is the volume's IJK, so a landmark lies on its pixel wherever the node is.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Quantity, Xray
from XraySynthLib.data.formats import (
    Prediction,
    read_prediction,
    write_landmarks,
    write_prediction,
)
from XraySynthLib.data.formats.mrml import FOUND, LANDMARKS
from XraySynthLib.data.formats.xray_grid import HU_SEEN_BELOW, sidecar_path
from XraySynthLib.data.formats.xray_json import xray_text
from XraySynthLib.geometry import CArmPose, View
from XraySynthLib.geometry.transforms import transform_points, translation
from XraySynthSlicer.jobs import Job, empty_folder
from XraySynthSlicer.nodes import (
    confidence_of,
    confidence_text,
    image_landmarks_from_node,
    is_xray,
    landmarks_from_node,
    landmarks_to_node,
    new_node,
    put_under,
    ras_from_local,
    record_of,
    view_from_node,
    volume_ras_from_ijk,
    write_volume_node,
)

TRUE = LANDMARKS
ERRORS, CHART, SERIES = (f"XraySynth.{role}" for role in ("errors", "chart", "series"))
"""Roles, as `LANDMARKS` projected into an image and those `FOUND` in it: errors, their plot."""
SEEN_IN = "XraySynth.seen-in"
"""Attribute of a list of points found: the fingerprint of the image they were found in."""
MOST_OFF_PX = 5.0
"""Points of an image that are farther off its plane are none of it."""
SURE = 0.9
"""Points of less confidence are orange: look at them."""
SURE_COLOUR, UNSURE_COLOUR = (0.2, 0.85, 0.3), (1.0, 0.6, 0.1)
CORRECTED = "set by hand"


@dataclass(frozen=True, eq=False)
class Frame:
    """One of the images of a volume node or sequence.

    Attributes:
        xray: The image.
        ras_from_ijk: (4, 4) of its pixels, whose k is 0, mm.
    """

    xray: Xray
    ras_from_ijk: NDArray

    @property
    def fingerprint(self) -> str:
        """Another one where the pixels are others."""
        return f"{crc32(self.xray.values.tobytes()):08x}"


@dataclass(frozen=True)
class Comparison:
    """Points found in a frame against where they should be.

    Attributes:
        names: Landmarks that are found and in the image.
        errors_px: Distance of each, px.
        errors_mm: The same on the detector; None where a pixel's size is not known.
        missed: In the image but not found.
        spurious: Found but not in the image.
    """

    names: tuple[str, ...]
    errors_px: NDArray
    errors_mm: NDArray | None
    missed: tuple[str, ...]
    spurious: tuple[str, ...]


class LandmarksLogic:
    """What the module does to the scene.

    Args:
        scene: The scene.

    Attributes:
        image: What was last detected in.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._folder = TemporaryDirectory(prefix="XraySynth-landmarks-")
        self.image: Any = None
        self._fingerprints: list[str] = []

    def close(self) -> None:
        """Remove what was written for child processes."""
        self._folder.cleanup()
        self.__init__(self.scene)  # type: ignore[misc]

    def detect_job(self, parameters: Any) -> Job:
        """Start detecting in every frame, where no other job of this runs.

        Raises:
            ValueError: If the node holds no X-ray.
        """
        images = empty_folder(self._job) / "images"
        images.mkdir()
        self.image, self._fingerprints = parameters.image, []
        for number, frame in enumerate(self.frames(parameters.image, parameters.pixelMm)):
            _write_quickly(frame.xray, images / f"{number:04d}.nrrd")
            self._fingerprints.append(frame.fingerprint)
        options = {"image": images, "output": self._job / "found"}
        if parameters.model:
            options["model"] = parameters.model
        words = [f"--{name}={value}" for name, value in options.items()]
        ours = {f"{images}": self.image.GetName(), "--model ": "", "--model": "Detector"}
        return Job([["detect", *words, "--no-overlay"]], ours)

    def show_found(self) -> Any:
        """Show the landmarks that a job has found; of several frames as a sequence to browse.

        Returns:
            The list; the image refers to it as `FOUND`.

        Raises:
            ValueError: If the image has been removed or changed meanwhile.
        """
        image = self.image
        if image.GetScene() is not self.scene:
            raise ValueError(f"{image.GetName()} is no longer in the scene.")
        places = [(frame.fingerprint, frame.ras_from_ijk) for frame in self.frames(image)]
        if [fingerprint for fingerprint, _ in places] != self._fingerprints:
            raise ValueError(
                f"{image.GetName()} has changed since its landmarks were looked for; press "
                "Detect landmarks again."
            )
        node = image.GetNodeReference(FOUND)
        if node is None:
            title = f"{image.GetName()} detected"
            node = new_node(self.scene, "vtkMRMLMarkupsFiducialNode", title)
            node.GetDisplayNode().SetSelectedColor(*SURE_COLOUR)
            node.GetDisplayNode().SetColor(*UNSURE_COLOUR)
            image.SetNodeReferenceID(FOUND, node.GetID())
            put_under(image, node)
        lists = []
        for number, (fingerprint, ras_from_ijk) in enumerate(places):
            prediction = read_prediction(self._job / "found" / f"{number:04d}.json")
            lists.append(slicer.vtkMRMLMarkupsFiducialNode())
            lists[-1].SetName(node.GetName())
            lists[-1].SetAttribute(SEEN_IN, fingerprint)
            show_detected(prediction.landmarks, ras_from_ijk, lists[-1])
        if len(lists) > 1:
            self._keep_as_sequence(image, node, lists)
        else:
            node.CopyContent(lists[0])
        return node

    def frames(self, image: Any, pixel_mm: float = 0.0) -> Iterator[Frame]:
        """The images of a volume node, or of the sequence that it shows.

        Args:
            image: The volume node.
            pixel_mm: A pixel's size on the detector where the image does not know it; 0 for none.

        Raises:
            ValueError: If they are no X-rays.
        """
        world = ras_from_local(image)
        for item in self._items(image):
            if is_xray(item):
                view = view_from_node(item, world)
                quantity = Quantity(record_of(item)["xray"]["quantity"])
                xray = Xray(slicer.util.arrayFromVolume(item)[0], quantity, view=view)
                yield Frame(xray, world @ _local_from_ijk(item))
            else:
                yield from _frames_of_any(item, image.GetName(), world, pixel_mm)

    def n_frames(self, image: Any) -> int:
        """How many images there are to detect in."""
        return sum(item.GetImageData().GetDimensions()[2] for item in self._items(image))

    def browser(self, image: Any) -> Any:
        """What browses the frames: the image's sequence, else that of its landmarks, or None."""
        nodes = (image, image.GetNodeReference(FOUND))
        browsers = [self._browser_of(node) for node in nodes if node is not None]
        return next((one for one in browsers if one is not None), None)

    def current_frame(self, image: Any) -> int:
        """Number of the frame that is shown."""
        browser = self.browser(image)
        return 0 if browser is None else max(browser.GetSelectedItemNumber(), 0)

    def slice_of_frame(self, image: Any, frame: int) -> int:
        """Which slice of the volume node shows a frame."""
        return frame if self._browser_of(image) is None else 0

    def compare(self, parameters: Any) -> Comparison:
        """Hold the points of the frame that is shown against the reference; a table and a plot.

        Points in the patient are compared as they are seen, where the image's View is known.

        Raises:
            ValueError: If they have no landmark in common, or are not of the frame.
        """
        frame = self._shown_frame(parameters)
        found, truth = (
            points_in_frame(node, frame) for node in (parameters.points, parameters.reference)
        )
        compared = comparison_of(found, truth, frame.xray.pixel_spacing_mm)
        self._show_comparison(parameters.points, compared, found)
        return compared

    def register_job(self, parameters: Any, source_to_isocenter_mm: float) -> Job:
        """Start finding the C-arm that took the frame shown, where no other job of this runs.

        Raises:
            ValueError: If a node cannot be used.
        """
        folder, frame = empty_folder(self._job), self._shown_frame(parameters)
        found = points_in_frame(parameters.points, frame)
        _write_quickly(frame.xray, folder / "image.nrrd")
        rows, columns = frame.xray.values.shape
        prediction = Prediction("image.nrrd", 0, (rows, columns), found)
        write_prediction(prediction, folder / "found.json")
        write_volume_node(parameters.ct, folder / "ct.nrrd")
        write_landmarks(landmarks_from_node(parameters.ctLandmarks), folder / "ct.mrk.json")
        options: dict[str, object] = {
            "image": folder / "image.nrrd",
            "predictions": folder / "found.json",
            "ct": folder / "ct.nrrd",
            "landmarks": folder / "ct.mrk.json",
            "output": folder / "pose",
            "source-to-isocenter-mm": source_to_isocenter_mm,
        }
        if frame.xray.view is None:
            options["source-to-detector-mm"] = parameters.sourceToDetectorMm
        words = [f"--{name}={value}" for name, value in options.items()]
        ours = {
            str(options["image"]): parameters.image.GetName(),
            str(options["ct"]): parameters.ct.GetName(),
            str(options["landmarks"]): parameters.ctLandmarks.GetName(),
        }
        return Job([["register", *words, "--refine" if parameters.refine else "--no-refine"]], ours)

    def chart(self, points: Any) -> Any:
        """The plot that `compare` has made of a list's errors."""
        return points.GetNodeReference(CHART)

    def registered(self) -> tuple[CArmPose, View, float, list[str]]:
        """What a registration has found: pose, View, mean error on the detector (mm), doubts."""
        result = json.loads((self._job / "pose" / "registration.json").read_text("utf-8"))
        error_mm = result["reprojection_error"]["mm_on_detector"]
        pose, view = CArmPose(**result["c_arm"]), View.from_dict(result["view"])
        return pose, view, error_mm, result["doubtful"]

    @property
    def _job(self) -> Path:
        return Path(self._folder.name) / "job"

    def _items(self, image: Any) -> list[Any]:
        browser = self._browser_of(image)
        items = [image]
        if browser is not None:
            sequence = browser.GetSequenceNode(image)
            n_items = sequence.GetNumberOfDataNodes()
            items = [sequence.GetNthDataNode(index) for index in range(n_items)]
        if any(item.GetImageData() is None for item in items):
            raise ValueError(f"{image.GetName()} holds no pixels.")
        return items

    def _browser_of(self, node: Any) -> Any:
        nodes = self.scene.GetNodesByClass("vtkMRMLSequenceBrowserNode")
        browsers = [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]
        return next((one for one in browsers if one.GetSequenceNode(node) is not None), None)

    def _shown_frame(self, parameters: Any) -> Frame:
        frames = self.frames(parameters.image, parameters.pixelMm)
        return next(islice(frames, self.current_frame(parameters.image), None))

    def _keep_as_sequence(self, image: Any, node: Any, lists: list[Any]) -> None:
        """Browse the lists of all frames together with the image, corrections stay."""
        current = self.current_frame(image)
        images, browser = None, self._browser_of(image)
        if browser is not None:
            images = browser.GetSequenceNode(image)
        else:
            browser = self._browser_of(node)
        if browser is None:
            title = f"{image.GetName()} browser"
            browser = new_node(self.scene, "vtkMRMLSequenceBrowserNode", title)
        sequence = browser.GetSequenceNode(node)
        if sequence is None:
            title = f"{node.GetName()} of all frames"
            sequence = new_node(self.scene, "vtkMRMLSequenceNode", title)
            sequence.SetIndexName("frame" if images is None else images.GetIndexName())
            sequence.SetIndexUnit("" if images is None else images.GetIndexUnit())
            with slicer.util.NodeModify(browser):  # see `samples_to_sequence`
                browser.AddSynchronizedSequenceNodeID(sequence.GetID())
                browser.AddProxyNode(node, sequence, False)
        browser.SetSaveChanges(sequence, False)  # what is shown belongs to the old lists
        sequence.RemoveAllDataNodes()
        for number, one in enumerate(lists):
            index = str(number) if images is None else images.GetNthIndexValue(number)
            sequence.SetDataNodeAtValue(one, index)
        browser.SetSelectedItemNumber(current)
        node.CopyContent(lists[current])
        browser.SetSaveChanges(sequence, True)

    def _show_comparison(self, points: Any, compared: Comparison, found: ImageLandmarkSet) -> None:
        table = self._companion(points, ERRORS, "vtkMRMLTableNode", "errors")
        series = self._companion(points, SERIES, "vtkMRMLPlotSeriesNode", "error of a landmark")
        chart = self._companion(points, CHART, "vtkMRMLPlotChartNode", "error plot")
        confidence = dict(zip(found.names, found.confidence.tolist(), strict=True))
        columns: dict[str, Any] = {
            "landmark": list(compared.names),
            "confidence": [confidence[name] for name in compared.names],
            "error px": compared.errors_px.tolist(),
        }
        if compared.errors_mm is not None:
            columns["error mm on detector"] = compared.errors_mm.tolist()
        _fill_table(table, columns)
        shown = list(columns)[-1]
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetPlotType(series.PlotTypeBar)
        series.SetLabelColumnName("landmark")
        series.SetYColumnName(shown)
        series.SetColor(*UNSURE_COLOUR)
        chart.SetAndObservePlotSeriesNodeID(series.GetID())
        chart.SetTitle(table.GetName())
        chart.SetYAxisTitle(shown)
        chart.SetLegendVisibility(False)

    def _companion(self, points: Any, role: str, kind: str, title: str) -> Any:
        node = points.GetNodeReference(role)
        if node is None:
            node = new_node(self.scene, kind, f"{points.GetName()}: {title}")
            points.SetNodeReferenceID(role, node.GetID())
        return node


def show_detected(landmarks: ImageLandmarkSet, ras_from_ijk: NDArray, node: Any) -> None:
    """Put what was detected on its image; what was not detected is left undefined.

    Args:
        landmarks: What was detected.
        ras_from_ijk: (4, 4) of the image's pixels, whose k is 0, mm.
        node: Where to.
    """
    pixels = np.column_stack([landmarks.points_px, np.zeros(len(landmarks.names))])
    points = np.where(landmarks.visible[:, None], transform_points(ras_from_ijk, pixels), np.nan)
    with slicer.util.NodeModify(node):
        landmarks_to_node(LandmarkSet(landmarks.names, points), node)
        marks = zip(landmarks.visible.tolist(), landmarks.confidence.tolist(), strict=True)
        for index, (visible, confidence) in enumerate(marks):
            text = confidence_text(confidence) if visible else ""
            node.SetNthControlPointDescription(index, text)
            node.SetNthControlPointSelected(index, confidence >= SURE or not visible)


def mark_corrected(node: Any, index: int) -> None:
    """Say of a point that a person has put it where it is."""
    if 0 <= index < node.GetNumberOfControlPoints():
        node.SetNthControlPointDescription(index, CORRECTED)
        node.SetNthControlPointSelected(index, True)


def comparison_of(
    found: ImageLandmarkSet, truth: ImageLandmarkSet, spacing_mm: NDArray | None
) -> Comparison:
    """Hold points of one image against where they should be, by their names.

    Raises:
        ValueError: If they have no landmark in common.
    """
    common = [name for name in found.names if name in truth.names]
    if not common:
        raise ValueError(
            "The two lists have no landmark in common: points are compared that have the same name."
        )
    ours = [found.names.index(name) for name in common]
    theirs = [truth.names.index(name) for name in common]
    detected, there = found.visible[ours], truth.visible[theirs]
    both = detected & there
    offsets_px = (found.points_px[ours] - truth.points_px[theirs])[both]

    def chosen(which: NDArray) -> tuple[str, ...]:
        return tuple(name for name, one in zip(common, which.tolist(), strict=True) if one)

    return Comparison(
        names=chosen(both),
        errors_px=np.linalg.norm(offsets_px, axis=1),
        errors_mm=None if spacing_mm is None else np.linalg.norm(offsets_px * spacing_mm, axis=1),
        missed=chosen(there & ~detected),
        spurious=chosen(detected & ~there),
    )


def points_in_frame(node: Any, frame: Frame) -> ImageLandmarkSet:
    """Points of a list as points of an image: along the beam where that is known.

    Raises:
        ValueError: If they were found in another image, or lie off one whose View is not known.
    """
    if (node.GetAttribute(SEEN_IN) or frame.fingerprint) != frame.fingerprint:
        raise ValueError(
            f"The points of {node.GetName()} were found in another image than is shown now; "
            "press Detect landmarks again."
        )
    if frame.xray.view is not None:
        landmarks = image_landmarks_from_node(node, frame.xray.view)
    else:
        points = landmarks_from_node(node)
        points_ijk = transform_points(np.linalg.inv(frame.ras_from_ijk), points.points_ras_mm)
        column_mm, _, slice_mm = np.linalg.norm(frame.ras_from_ijk[:3, :3], axis=0)
        off = np.abs(points_ijk[:, 2]) * slice_mm > MOST_OFF_PX * column_mm
        if off.any():
            names = ", ".join(np.array(points.names)[off].tolist())
            raise ValueError(
                f"Points of {node.GetName()} lie off the image ({names}), and from where it was "
                "taken is not known: choose points that are placed on it."
            )
        rows, columns = frame.xray.values.shape
        landmarks = ImageLandmarkSet.placed(points.names, points_ijk[:, :2], (rows, columns))
    confidence = [confidence_of(node, index) for index in range(len(landmarks.names))]
    return replace(landmarks, confidence=np.array(confidence))


def _local_from_ijk(node: Any) -> NDArray:
    return np.linalg.inv(ras_from_local(node)) @ volume_ras_from_ijk(node)


def _frames_of_any(item: Any, name: str, world: NDArray, pixel_mm: float) -> Iterator[Frame]:
    """The slices of a volume of any greys, as DISPLAY; pixels of 1 x 1 mm are of unknown size."""
    values = slicer.util.arrayFromVolume(item)
    if values.ndim == 4:
        if np.ptp(values[..., :3], axis=-1).any():
            raise ValueError(f"{name} is a colour image, an X-ray is grey.")
        values = values[..., 0]
    low, high = float(values.min()), float(values.max())
    if len(values) > 1 and low < HU_SEEN_BELOW:
        raise ValueError(f"{name} looks like a CT in HU; choose an X-ray image.")
    if not high > low:
        raise ValueError(f"Every pixel of {name} is {low:g}; there is no image in it.")
    ras_from_ijk = world @ _local_from_ijk(item)
    spacing_mm = np.linalg.norm(ras_from_ijk[:3, :2], axis=0)
    known = None if np.allclose(spacing_mm, 1.0) else spacing_mm
    if known is None and pixel_mm > 0:
        known = np.full(2, pixel_mm)
    for number, grey in enumerate(values):
        xray = Xray((grey.astype(np.float32) - low) / (high - low), Quantity.DISPLAY, known)
        yield Frame(xray, ras_from_ijk @ translation([0, 0, number]))


def _write_quickly(xray: Xray, path: Path) -> None:
    """Write what `write_xray` does, but uncompressed: the interface waits for it."""
    sitk.WriteImage(sitk.GetImageFromArray(xray.values[None]), str(path))
    sidecar_path(path).write_text(xray_text(xray), "utf-8")


def _fill_table(node: Any, columns: dict[str, list[Any]]) -> None:
    table = vtk.vtkTable()
    for name, values in columns.items():
        is_text = all(isinstance(value, str) for value in values)
        column = vtk.vtkStringArray() if is_text else vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    node.SetAndObserveTable(table)
