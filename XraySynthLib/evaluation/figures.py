"""Draws the tables of `curves`; each figure is a PNG with its data as CSV beside it."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from XraySynthLib.data.formats import atomic_path
from XraySynthLib.evaluation.comparison import Plane
from XraySynthLib.evaluation.curves import BOX_PERCENTILES, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOR, BAND_ALPHA = "#4477aa", 0.22
EVENTS = {"in_image": "the landmark is in the image", "found": "it is within 2.5% of the point"}
WIDTH, HEIGHT, DPI = 7.0, 4.4, 110


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]], path: Path) -> None:
    """Write a table; six digits, nothing where a number is NaN."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), "utf-8")


def _cell(value: object) -> object:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.6g}"
    return value


def draw_histogram(table: Table, plane: Plane, path: Path) -> None:
    """How often which error occurs."""
    figure, axes = new_figure()
    *within, beyond = table.rows
    edges = [row[0] for row in within] + [within[-1][1]]
    axes.stairs([row[2] for row in within], edges, fill=True, color=COLOR)
    axes.set_xlim(0, edges[-1])
    axes.set_xlabel(f"error, {plane.unit} ({beyond[2]} more lie beyond)")
    axes.set_ylabel("landmarks detected")
    axes.set_title("Errors")
    save_figure(figure, path)


def draw_kept(table: Table, plane: Plane, detected: tuple[float, float], path: Path) -> None:
    """Error versus detected; a ring where the detector's own threshold is."""
    figure, axes = new_figure()
    share = 100 * table.column("kept_share")
    axes.plot(share, table.column("mean_error"), color=COLOR, label="most confident kept")
    axes.fill_between(
        share, table.column("low"), table.column("high"), color=COLOR, alpha=BAND_ALPHA, lw=0,
        label="95% interval over subjects",
    )  # fmt: skip
    axes.plot(100 * detected[0], detected[1], "o", mfc="none", mec="#cc3311", label="as detected")
    axes.set_xlim(0, 101)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("% of the landmarks in the image that are kept")
    axes.set_ylabel(f"mean error, {plane.unit}")
    axes.set_title("Error versus detected")
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def draw_success(table: Table, plane: Plane, path: Path) -> None:
    """Share found within a radius."""
    figure, axes = new_figure()
    radius = table.column("radius")
    axes.plot(radius, 100 * table.column("success"), color=COLOR)
    axes.fill_between(
        radius, 100 * table.column("low"), 100 * table.column("high"), color=COLOR,
        alpha=BAND_ALPHA, lw=0, label="95% interval over subjects",
    )  # fmt: skip
    axes.set_xlim(0, radius[-1])
    axes.set_ylim(0, 101)
    relative = plane is Plane.PIXELS
    axes.set_xlabel("radius, share of the longer side" if relative else f"radius, {plane.unit}")
    axes.set_ylabel("% of the landmarks in the image")
    axes.set_title("PCK" if relative else "Detected within a radius")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    save_figure(figure, path)


def draw_boxes(table: Table, plane: Plane, path: Path) -> None:
    """A box a landmark: quartiles, 5th and 95th percentile, mean."""
    figure, axes = new_figure(height=max(2.2, 0.9 + 0.3 * len(table.rows)))
    low, q1, middle, q3, high = (f"p{p}" for p in BOX_PERCENTILES)
    names = ("whislo", "q1", "med", "q3", "whishi")
    columns = [table.column(name) for name in (low, q1, middle, q3, high)]
    boxes = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    for box, name, mean in zip(boxes, table.column("landmark"), table.column("mean"), strict=True):
        box |= {"label": name, "mean": mean, "fliers": []}
    if boxes:
        axes.bxp(
            boxes, orientation="horizontal", showmeans=True, showfliers=False, widths=0.6,
            patch_artist=True, boxprops={"facecolor": "#bbccdd", "edgecolor": COLOR},
            medianprops={"color": "#222222"},
            meanprops={"marker": "d", "markersize": 4, "mfc": "#cc3311", "mec": "#cc3311"},
        )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(f"error, {plane.unit}")
    axes.set_title("Landmarks: quartiles, 5th to 95th percentile, mean (red)", fontsize=10)
    save_figure(figure, path)


def draw_calibration(table: Table, path: Path) -> None:
    """Reliability diagrams, above how many landmarks have which confidence."""
    figure = _empty_figure(WIDTH + 1.5, HEIGHT)
    panels = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1), squeeze=False)
    for column, (event, what) in enumerate(EVENTS.items()):
        upper, lower, part = panels[0, column], panels[1, column], table.where("event", event)
        upper.plot([0, 1], [0, 1], ls="--", lw=1, color="#999999")
        upper.plot(part.column("mean_confidence"), part.column("frequency"), "o-", color=COLOR)
        upper.set_xlim(0, 1)
        upper.set_ylim(-0.02, 1.02)
        upper.set_title(f"How often {what}", fontsize=10)
        edges = [*part.column("from"), 1.0]
        lower.stairs(part.column("landmarks"), edges, fill=True, color="#bbccdd")
        lower.set_xlabel("confidence")
    panels[0, 0].set_ylabel("frequency")
    panels[1, 0].set_ylabel("landmarks")
    save_figure(figure, path)


def _empty_figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_figure(height: float = HEIGHT) -> tuple["Figure", "Axes"]:
    """An empty figure of one panel."""
    figure = _empty_figure(WIDTH, height)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a PNG."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": "XraySynth"})
