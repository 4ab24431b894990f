"""Picture each landmark on the mean: `Resources/landmarks-on-mean.jpg`, and one by one for Slicer.

python Testing/benchmark/landmark_pictures.py [SHEET [FOLDER]]
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import vtk
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from vtk.util.numpy_support import vtk_to_numpy

from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model
from XraySynthLib.anatomy.voxels import polydata
from XraySynthLib.data.pelvis import LANDMARK_NAMES

COLOURS = {
    Bone.LEFT_HEMIPELVIS: (0.55, 0.72, 0.92),
    Bone.RIGHT_HEMIPELVIS: (0.93, 0.68, 0.58),
    Bone.SACRUM: (0.72, 0.90, 0.66),
    Bone.LEFT_FEMUR: (0.90, 0.85, 0.58),
    Bone.RIGHT_FEMUR: (0.85, 0.70, 0.88),
}
# Where the observer of a left landmark stands (RAS), and whether femurs are in the way.
VIEWS = {
    "FH": ((0.0, 1.0, 0.0), True),
    "GSN": ((-1.0, -0.35, -0.1), False),
    "IOF": ((0.0, 1.0, 0.15), False),
    "MOF": ((0.0, 1.0, 0.0), False),
    "SPS": ((0.3, 1.0, 0.5), False),
    "IPS": ((0.2, 1.0, -0.5), False),
    "ASIS": ((-0.5, 1.0, 0.3), False),
}


def render(
    shape: PelvisShape,
    points: NDArray,
    toward: NDArray,
    femurs: bool,
    focus: NDArray,
    half_mm: float,
) -> NDArray:
    """Render the bones and some points; returns (rows, columns, 3)."""
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(1, 1, 1)
    for bone, colour in COLOURS.items():
        if not femurs and bone in (Bone.LEFT_FEMUR, Bone.RIGHT_FEMUR):
            continue
        normals = vtk.vtkPolyDataNormals()
        normals.SplittingOff()
        normals.SetInputData(polydata(*shape.surface(bone)))
        mapper = vtk.vtkPolyDataMapper()
        mapper.SetInputConnection(normals.GetOutputPort())
        actor = vtk.vtkActor()
        actor.SetMapper(mapper)
        actor.GetProperty().SetColor(*colour)
        actor.GetProperty().SetOpacity(0.55 if femurs else 1.0)
        renderer.AddActor(actor)
    for point in points:
        ball = vtk.vtkSphereSource()
        ball.SetCenter(*point)
        ball.SetRadius(half_mm / 50)
        mapper = vtk.vtkPolyDataMapper()
        mapper.SetInputConnection(ball.GetOutputPort())
        actor = vtk.vtkActor()
        actor.SetMapper(mapper)
        actor.GetProperty().SetColor(0.85, 0.0, 0.1)
        renderer.AddActor(actor)
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(420, 420)
    window.AddRenderer(renderer)
    camera = renderer.GetActiveCamera()
    camera.ParallelProjectionOn()
    camera.SetFocalPoint(*focus)
    camera.SetPosition(*(focus + 900 * toward / np.linalg.norm(toward)))
    camera.SetViewUp(0, 0, 1)
    camera.SetParallelScale(half_mm)
    renderer.ResetCameraClippingRange()
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    columns, rows, _ = grab.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    return pixels.reshape(rows, columns, 3)[::-1]


def picture(shape: PelvisShape, name: str, point: NDArray, half_mm: float) -> NDArray:
    """Render one landmark, in the middle, from where it shows best."""
    place, side = name.split("-")
    toward, femurs = VIEWS[place]
    turned = np.array(toward) * ([1, 1, 1] if side == "l" else [-1, 1, 1])
    return render(shape, point[None], turned, femurs, point, half_mm)


def write_small(image: NDArray, path: Path) -> None:
    """Write a picture of some kB, a ring about its middle."""
    small = Image.fromarray(image).resize((190, 190), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(small)
    for radius, colour in ((9, "white"), (7, "red"), (4, "white"), (2, "red")):
        draw.ellipse([95 - radius, 95 - radius, 95 + radius, 95 + radius], fill=colour)
    small.quantize(40, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path)


def main(sheet: Path, folder: Path) -> None:
    """Draw the sheet, all from the front, then each from where it shows best; and each alone."""
    shape = load_shape_model().mean
    landmarks = landmarks_of(shape)
    points = dict(zip(landmarks.names, landmarks.points_ras_mm, strict=True))
    everything = landmarks.points_ras_mm
    front, left = np.array([0.0, 1.0, 0.0]), np.array([-1.0, 0.0, 0.0])
    panels = [
        ("all 14, from the front", render(shape, everything, front, True, np.zeros(3), 150)),
        ("all, from the left", render(shape, everything, left, True, np.zeros(3), 150)),
    ]
    for name in LANDMARK_NAMES:
        panels.append((name, picture(shape, name, points[name], 65)))
        near = picture(shape, name, points[name], 90)
        write_small(near, folder / f"XraySynthLandmark-{name}.png")
    figure, axes = plt.subplots(4, 4, figsize=(12, 12.6))
    for axis, (title, image) in zip(axes.ravel(), panels, strict=True):
        axis.imshow(image)
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(sheet, dpi=85, pil_kwargs={"quality": 80})


if __name__ == "__main__":
    defaults = ("Resources/landmarks-on-mean.jpg", "XraySynth/Resources/Landmarks")
    given = sys.argv[1:]
    main(*map(Path, [*given, *defaults[len(given) :]]))
