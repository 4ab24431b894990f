"""What a set looks like: a contact sheet, its statistics, and a page with both."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import Quantity, Sample, Xray
from XraySynthLib.data.formats import atomic_path
from XraySynthLib.data.sets import SetDescription, layout_module
from XraySynthLib.data.sets.parts import read_part_record
from XraySynthLib.drr import Acquisition, to_display, to_line_integral
from XraySynthLib.workflows.figures import Panel, write_sheet
from XraySynthLib.workflows.report import heading, paragraph, picture, table, write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE_NAME, SHEET_NAME, STATISTICS_NAME = "index.html", "contact-sheet.png", "statistics.png"
N_SHOWN, N_COLUMNS = 24, 6
N_MEASURED = 120
"""Images whose grey values are counted; everything else is counted of all."""
EVERY_VALUE = 17
"""So many steps apart are the values counted of an image."""
N_BINS = 51
"""Each as many of 255 greys."""
MAX_DOTS = 20_000
SPLIT_COLORS = {"train": "#4477aa", "val": "#ccbb44", "test": "#ee6677"}


@dataclass
class Statistics:
    """What is counted over the records of a set."""

    directions: dict[str, list[NDArray]] = field(default_factory=dict)
    visible: Counter[str] = field(default_factory=Counter)
    n_visible: Counter[int] = field(default_factory=Counter)
    kvp: Counter[int] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    made_again: int = 0
    implausible: int = 0

    @property
    def refusals(self) -> str:
        """What a sampler made whose landmarks were nobody's, in sentences."""
        if not self.made_again and not self.implausible:
            return "No landmarks of what was made were refused."
        n_made = self.made_again + self.images.total()
        share = (self.made_again + self.implausible) / max(n_made, 1)
        text = (
            f"The landmarks of {100 * share:.1f}% of what was made could not be anybody's and were "
            "refused; each time the image was made again."
        )
        if self.implausible:
            text += (
                f" {self.implausible} images have such landmarks still, as their records' "
                "'complaint' says: do not train on them."
            )
        return text


def write_set_report(folder: Path, description: SetDescription) -> None:
    """Write contact-sheet.png, statistics.png and, last, index.html into a whole set."""
    samples = layout_module(description.layout).read(folder)
    shown = [samples[int(n)] for n in _spread(len(samples), N_SHOWN)]
    write_sheet([_panel(sample) for sample in shown], N_COLUMNS, folder / SHEET_NAME, dpi=90)
    statistics = count(folder, description)
    refused = []
    if statistics.made_again or statistics.implausible:
        refused = [paragraph(statistics.refusals)]
    histograms = grey_values(samples, description)
    _draw(statistics, histograms, description, folder / STATISTICS_NAME)
    splits = Counter(subject.split for subject in description.subjects)
    rows = [
        (split, splits[split], statistics.images[split], ", ".join(_names(description, split)))
        for split in SPLIT_COLORS
    ]
    quantity = description.options.get("quantity", "")
    parts = [
        paragraph(
            f"{description.n_images} images of {len(description.subjects)} subjects, "
            f"{description.images_per_subject} each; layout {description.layout}; {quantity}; "
            f"XraySynth {description.code_version}. Synthetic, not for clinical use."
        ),
        *refused,
        table(("split", "subjects", "images", "names"), rows),
        picture(SHEET_NAME, "Images of the set with their landmarks"),
        picture(STATISTICS_NAME, "Views, landmark visibility, grey values"),
        heading("How the images were made"),
        table(("option", "value"), _option_rows(description.options)),
    ]
    write_page("Training set", parts, folder / PAGE_NAME)


def count(folder: Path, description: SetDescription) -> Statistics:
    """Count over the part records, one part in memory at a time."""
    statistics = Statistics()
    keep_every = -(-description.n_images // MAX_DOTS)
    for part in description.parts:
        document = read_part_record(folder, part)
        assert document is not None
        statistics.images[part.split] += part.count
        for number, record in enumerate(document["samples"], part.first):
            seen = [point["name"] for point in record["landmarks"] if point["visible"]]
            statistics.visible.update(seen)
            statistics.n_visible[len(seen)] += 1
            config = record["provenance"]["config"]
            exposure = config.get("acquisition", {}).get("exposure", {})
            statistics.kvp[exposure.get("kvp", 0)] += 1
            made_by = config.get("sampler", {})
            statistics.made_again += made_by.get("refused", 0)
            statistics.implausible += made_by.get("complaint") is not None
            view = record["xray"]["view"]
            if view is not None and number % keep_every == 0:
                direction = np.array(view["ras_from_camera"])[:3, 2]
                statistics.directions.setdefault(part.split, []).append(direction)
    return statistics


def refusals(folder: Path, description: SetDescription) -> str:
    """What a sampler made for a set whose landmarks were nobody's, in sentences."""
    return count(folder, description).refusals


def grey_values(
    samples: Sequence[Sample], description: SetDescription
) -> dict[str, tuple[NDArray, NDArray]]:
    """Histogram of some images' values in the open field, of each split: edges and shares."""
    values: dict[str, list[NDArray]] = {}
    splits = description.splits
    for number in _spread(len(samples), N_MEASURED):
        sample = samples[int(number)]
        split = splits[sample.provenance.subject]
        field = _open_field(sample)
        image = sample.xray.values if field is None else sample.xray.values[field]
        if image.size:
            values.setdefault(split, []).append(image.ravel()[::EVERY_VALUE])
    if not values:
        return {}
    everything = np.concatenate([image for images in values.values() for image in images])
    low, high = np.percentile(everything, [0.1, 99.9])
    edges = np.linspace(low, max(high, low + 1e-6), N_BINS + 1)
    histograms = {}
    for split, images in values.items():
        counts = np.histogram(np.concatenate(images), edges)[0]
        histograms[split] = edges, counts / sum(map(len, images))
    return histograms


def _spread(n_all: int, n_wanted: int) -> NDArray:
    """Numbers of items spread evenly over all."""
    return np.unique(np.linspace(0, n_all - 1, min(n_all, n_wanted)).round().astype(int))


def _panel(sample: Sample) -> Panel:
    return Panel(as_display(sample), sample.landmarks, sample.key, named=False)


def as_display(sample: Sample) -> Xray:
    """The image of a sample as it is shown."""
    xray = sample.xray
    if xray.quantity is Quantity.DISPLAY:
        return xray
    if xray.quantity is Quantity.TRANSMISSION:
        xray = to_line_integral(xray)
    return to_display(xray, detail=0.5, open_field=_open_field(sample))


def _open_field(sample: Sample) -> NDArray | None:
    record = sample.provenance.config.get("acquisition", {})
    return None if "exposure" not in record else Acquisition.from_dict(record).open_field


def _option_rows(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, those of ranges and of the detector one by one."""
    rows = []
    for name, value in options.items():
        rows += _option_rows(value) if isinstance(value, Mapping) else [(name, _text(value))]
    return rows


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        pairs = any(isinstance(one, list | tuple) for one in value)
        return ", ".join(f"({_text(one)})" if pairs else _text(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _names(description: SetDescription, split: str, at_most: int = 12) -> list[str]:
    names = [subject.name for subject in description.subjects if subject.split == split]
    return names[:at_most] + ["..."] * (len(names) > at_most)


def _draw(
    statistics: Statistics,
    histograms: dict[str, tuple[NDArray, NDArray]],
    description: SetDescription,
    path: Path,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    spheres = figure.add_subplot(2, 3, 1), figure.add_subplot(2, 3, 2)
    _draw_hemisphere(spheres[0], statistics, +1)
    _draw_hemisphere(spheres[1], statistics, -1)
    _draw_counts(figure.add_subplot(2, 3, 3), statistics)
    _draw_visibility(figure.add_subplot(2, 3, 4), statistics, description)
    _draw_grey_values(figure.add_subplot(2, 3, 5), histograms, description)
    _draw_voltages(figure.add_subplot(2, 3, 6), statistics)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": "XraySynth"})


def _draw_hemisphere(axes: "Axes", statistics: Statistics, side: int) -> None:
    """Where the detector stands, seen from the front (+1) or from behind (-1) the patient.

    Lambert's azimuthal equal-area projection: as many dots a square millimetre as views a
    steradian. Seen from the front the patient's right is on the left.
    """
    for split, directions in statistics.directions.items():
        x, y, z = np.array(directions).T
        shown = y * side >= 0
        scale = np.sqrt(2 / (1 + np.abs(y[shown])))
        right = -x[shown] * side  # RAS: +x is the patient's right
        axes.plot(
            right * scale,
            z[shown] * scale,
            ".",
            ms=3,
            alpha=0.6,
            color=SPLIT_COLORS[split],
            label=split,
        )
    for degrees in (30, 60, 90):
        radius = 2 * np.sin(np.deg2rad(degrees) / 2)
        turn = np.linspace(0, 2 * np.pi, 200)
        axes.plot(radius * np.cos(turn), radius * np.sin(turn), color="#999999", lw=0.7)
        axes.text(0, -radius, f"{degrees}°", fontsize=7, color="#666666", ha="center", va="bottom")
    reach = 1.5
    left, other = ("R", "L") if side > 0 else ("L", "R")
    for letter, place in ((left, (-reach, 0)), (other, (reach, 0)), ("S", (0, reach)),
                          ("I", (0, -reach - 0.08))):  # fmt: skip
        axes.text(*place, letter, ha="center", va="center", fontsize=10)
    axes.set_title(f"Detector {'in front of' if side > 0 else 'behind'} the patient", fontsize=10)
    axes.set_xlim(-1.65, 1.65)
    axes.set_ylim(-1.65, 1.65)
    axes.set_aspect("equal")
    axes.set_axis_off()
    if side > 0 and statistics.directions:
        axes.legend(loc="lower left", fontsize=7, frameon=False)


def _draw_counts(axes: "Axes", statistics: Statistics) -> None:
    numbers = range(max(statistics.n_visible, default=0) + 1)
    axes.bar(numbers, [statistics.n_visible[number] for number in numbers], color="#4477aa")
    axes.set_title("Visible landmarks of an image", fontsize=10)
    axes.set_xlabel("landmarks")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("images")


def _draw_visibility(axes: "Axes", statistics: Statistics, description: SetDescription) -> None:
    names = description.landmark_names[:40]
    shares = [100 * statistics.visible[name] / description.n_images for name in names]
    axes.barh(names, shares, color="#4477aa")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of images")
    axes.set_title("Where a landmark is visible", fontsize=10)


def _draw_grey_values(
    axes: "Axes",
    histograms: dict[str, tuple[NDArray, NDArray]],
    description: SetDescription,
) -> None:
    for split, (edges, shares) in histograms.items():
        axes.stairs(shares, edges, color=SPLIT_COLORS[split], label=split)
    axes.set_title("Values", fontsize=10)
    axes.set_xlabel(str(description.options.get("quantity", "value")))
    axes.set_yticks([])
    if histograms:
        axes.legend(fontsize=7, frameon=False)


def _draw_voltages(axes: "Axes", statistics: Statistics) -> None:
    voltages = sorted(statistics.kvp)
    axes.bar(range(len(voltages)), [statistics.kvp[kvp] for kvp in voltages], color="#4477aa")
    axes.set_xticks(range(len(voltages)), [f"{kvp}" if kvp else "?" for kvp in voltages])
    axes.set_title("Tube voltages", fontsize=10)
    axes.set_xlabel("kVp")
    axes.set_ylabel("images")
