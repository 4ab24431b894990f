"""Pictures of samples: landmarks drawn, patient sides lettered, many images on one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, Xray
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.geometry import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANDMARK_COLOR = "#ffb000"
FOUND_COLOR = "#ff3b6b"
LETTER_COLOR = "#7fd4ff"
EDGE_COLORS = "cool"
DOUBTFUL = 0.5


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a sheet: a DISPLAY image, its landmarks and what to write above it.

    Names of landmarks that are more likely wrong than right end with a question mark.

    With `found`, what a detector found is drawn too, each pair joined by a
    line, and only landmarks that it missed are named.

    `named`: whether landmarks are named at all; on small panels their names hide the image.

    `edges`: (r, c) bool, drawn over the whole image, whatever their size.
    """

    xray: Xray
    landmarks: ImageLandmarkSet
    title: str
    found: ImageLandmarkSet | None = None
    named: bool = True
    edges: NDArray | None = None


def side_letters(view: View) -> tuple[str, str, str, str]:
    """Patient directions (R L A P S I) at the image's left, right, top and bottom.

    Two letters where a side is oblique, the stronger first.
    """
    x, y = view.ras_from_camera[:3, 0], view.ras_from_camera[:3, 1]
    along_columns = -x if view.intrinsics.mirrored else x
    return (
        _letters(-along_columns),
        _letters(along_columns),
        _letters(-y),
        _letters(y),
    )


def _letters(direction_ras: np.ndarray) -> str:
    letters = np.where(direction_ras > 0, list("RAS"), list("LPI"))
    order = np.argsort(-np.abs(direction_ras))
    return "".join(letters[axis] for axis in order if abs(direction_ras[axis]) > 0.35)


def draw_panel(axes: "Axes", panel: Panel) -> None:
    """Draw one picture into matplotlib axes."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=1.5, foreground="black")]
    rows, columns = panel.xray.values.shape
    axes.imshow(panel.xray.values, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    if panel.edges is not None:
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        shown = np.ma.masked_equal(panel.edges, False)
        axes.imshow(shown, cmap=EDGE_COLORS, alpha=0.6, interpolation="nearest", extent=extent)
    seen = panel.landmarks.visible
    points = panel.landmarks.points_px[seen]
    axes.plot(*points.T, "o", mfc="none", mec=LANDMARK_COLOR, ms=5, mew=1)
    if panel.found is not None:
        seen = seen & _draw_found(axes, panel.landmarks, panel.found, max(rows, columns))
    middle = points[:, 0].mean() if len(points) else 0
    for number in np.flatnonzero(seen) if panel.named else ():
        name, (column, row) = panel.landmarks.names[number], panel.landmarks.points_px[number]
        doubt = " ?" if panel.landmarks.confidence[number] < DOUBTFUL else ""
        # Away from the others, but in the image.
        to_the_left = column > 0.8 * columns or 0.2 * columns < column < middle
        axes.annotate(
            name + doubt,
            (column, row),
            xytext=(-5 if to_the_left else 5, 0),
            textcoords="offset points",
            ha="right" if to_the_left else "left",
            color=LANDMARK_COLOR,
            fontsize=6,
            va="center",
            annotation_clip=True,
            path_effects=outline,
        )
    if panel.xray.view is not None:
        places = (
            (0.01, 0.5, "left"),
            (0.99, 0.5, "right"),
            (0.12, 0.97, "center"),
            (0.12, 0.03, "center"),
        )
        for letters, (x, y, along) in zip(side_letters(panel.xray.view), places, strict=True):
            axes.text(
                x,
                y,
                letters,
                transform=axes.transAxes,
                color=LETTER_COLOR,
                fontsize=8,
                weight="bold",
                ha=along,
                va="center",
                path_effects=outline,
                snap=False,  # snapped to pixels, an L can lose its foot
            )
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_title(panel.title, fontsize=8, color="white", pad=3)
    axes.set_axis_off()


def _draw_found(
    axes: "Axes", landmarks: ImageLandmarkSet, found: ImageLandmarkSet, side_px: int
) -> NDArray:
    """Draw crosses where landmarks were found, and lines from where they are.

    Returns:
        (N,) bool, landmarks worth naming: not found, or more than a fiftieth of the image off.
    """
    axes.plot(*found.points_px[found.visible].T, "x", color=FOUND_COLOR, ms=5, mew=1)
    odd = np.ones(len(landmarks.names), bool)
    for number, name in enumerate(landmarks.names):
        other = found.names.index(name) if name in found.names else -1
        if other >= 0 and landmarks.visible[number] and found.visible[other]:
            ends = np.stack([landmarks.points_px[number], found.points_px[other]])
            axes.plot(*ends.T, "-", color=FOUND_COLOR, lw=0.8)
            odd[number] = np.hypot(*(ends[1] - ends[0])) > 0.02 * side_px
    return odd


def write_sheet(panels: Sequence[Panel], n_columns: int, path: Path, dpi: int = 130) -> None:
    """Write a contact sheet as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(3.2 * n_columns, 3.4 * n_rows), facecolor="black")
    FigureCanvasAgg(figure)
    for index, panel in enumerate(panels, 1):
        draw_panel(figure.add_subplot(n_rows, n_columns, index), panel)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=0.97, wspace=0.02, hspace=0.1)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, facecolor="black", metadata={"Software": "XraySynth"})
