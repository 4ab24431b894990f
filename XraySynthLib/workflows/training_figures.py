"""Pictures of a training run, drawn while it goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.formats import atomic_path

N_PICTURES, N_COLUMNS = 12, 4
PLAIN_KEPT = "val_plain_kept_error_mm"
TRUE_COLOR, FOUND_COLOR = "#7fd4ff", "#ffb000"


def write_loss_picture(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the loss and the validation's errors against images seen, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [
        ("loss", ("loss", "val_loss", "place", "presence", "image", "heatmaps")),
        (
            "validation error, mm or px",
            ("val_error_mm", "val_kept_error_mm", "val_plain_kept_error_mm", "val_error_px"),
        ),
    ]
    panels = [one for one in panels if any(key in entry for entry in log for key in one[1])]
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, keys) in zip(columns, panels, strict=True):
        for key in keys:
            points = [(one["images"], one[key]) for one in log if one.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=key)
                axes.legend(fontsize=7)
        axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("images")
        axes.grid(alpha=0.3, which="both")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": "XraySynth"})


def write_prediction_picture(
    images: NDArray, points: tuple[tuple[str, ...], NDArray, NDArray, NDArray], path: Path
) -> None:
    """Draw found against true landmarks on the first images, as PNG.

    Args:
        images: (N, rows, columns) about 0.
        points: Names, (N, K, 2) found px, (N, K, 2) true px, (N, K) whether they are in the image.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _, found_px, true_px, visible = points
    chosen = np.unique(np.linspace(0, len(images) - 1, N_PICTURES).astype(int))
    n_rows = -(-len(chosen) // N_COLUMNS)
    figure = Figure(figsize=(2.6 * N_COLUMNS, 2.6 * n_rows), facecolor="black")
    FigureCanvasAgg(figure)
    for place, index in enumerate(chosen.tolist(), 1):
        axes = figure.add_subplot(n_rows, N_COLUMNS, place)
        axes.imshow(images[index], cmap="gray", vmin=-1, vmax=1)
        seen = visible[index]
        for found, true in zip(found_px[index][seen], true_px[index][seen], strict=True):
            axes.plot(*zip(true, found, strict=True), "-", color=TRUE_COLOR, lw=0.8)
        axes.plot(*true_px[index][seen].T, "o", mfc="none", mec=TRUE_COLOR, ms=5, mew=0.8)
        axes.plot(*found_px[index][seen].T, "+", color=FOUND_COLOR, ms=5, mew=0.8)
        axes.set_xlim(-0.5, images.shape[2] - 0.5)
        axes.set_ylim(images.shape[1] - 0.5, -0.5)
        axes.set_axis_off()
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.02, hspace=0.02)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, facecolor="black", metadata={"Software": "XraySynth"})


def write_crop_picture(true_hu: NDArray, made_hu: NDArray, path: Path) -> None:
    """Draw cubes of CT above what a network makes of them, as PNG.

    Args:
        true_hu: (N, K, J, I) of the data.
        made_hu: (N, K, J, I) made.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(true_hu)
    figure = Figure(figsize=(2.4 * 2 * count, 4.8), facecolor="black")
    FigureCanvasAgg(figure)
    for row, volumes in enumerate((true_hu, made_hu)):
        for index, values in enumerate(volumes):
            middle = np.array(values.shape) // 2
            for plane, image in enumerate((values[middle[0]], values[::-1, middle[1]])):
                place = row * 2 * count + 2 * index + plane + 1
                axes = figure.add_subplot(2, 2 * count, place)
                axes.imshow(image, cmap="gray", vmin=-300, vmax=900)
                axes.set_axis_off()
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.02, hspace=0.02)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80, facecolor="black", metadata={"Software": "XraySynth"})


def write_sample_picture(
    names: Sequence[str],
    real: tuple[NDArray, NDArray],
    made: tuple[NDArray, NDArray],
    path: Path,
) -> None:
    """Draw real images above those that a network made, each as it is and with its landmarks.

    Args:
        names: (K,) of the landmarks; the patient's left is drawn in another colour.
        real: (N, rows, columns) images, dense is large, and (N, K, 2) landmarks, px; NaN for none.
        made: The same, made.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(real[0])
    figure = Figure(figsize=(2.6 * count, 2.6 * 4), facecolor="black")
    FigureCanvasAgg(figure)
    colors = [FOUND_COLOR if name.endswith("-l") else TRUE_COLOR for name in names]
    for row, (images, points) in enumerate((real, real, made, made)):
        for index, image in enumerate(images):
            axes = figure.add_subplot(4, count, row * count + index + 1)
            low, high = np.percentile(image, (0.5, 99.5))
            axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
            if row % 2:
                axes.scatter(*points[index].T, s=22, marker="+", c=colors, linewidths=0.8)
            axes.set_xlim(-0.5, image.shape[1] - 0.5)
            axes.set_ylim(image.shape[0] - 0.5, -0.5)
            axes.set_axis_off()
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.02, hspace=0.02)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80, facecolor="black", metadata={"Software": "XraySynth"})
