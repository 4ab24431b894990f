"""A report as a PDF: sentences and tables on its first pages, then a page a figure."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from XraySynthLib.data.formats import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.table import Table

Cells = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A table's header and rows."""

PAGE_INCHES, MARGIN_INCHES = (11.7, 8.3), 0.5
FONT_PT, TITLE_PT = 7.0, 12.0
LINE, LINE_SPACING = 1.35, 1.1
"""From line to line at most, in sizes of type; the same to matplotlib, in heights of a line."""
PADDING_PT, GAP_PT = 6.0, 14.0
SENTENCE_CHARACTERS, CELL_CHARACTERS, HEADER_CHARACTERS = 180, 30, 18
"""A line at most, longer ones are broken between words."""


def write_pdf(
    path: Path,
    title: str,
    said: Sequence[str],
    tables: Sequence[Cells],
    figures: Sequence["Figure"],
) -> None:
    """Write the pages; the same bytes for the same numbers."""
    from matplotlib.backends.backend_pdf import PdfPages

    undated = {"Title": title, "CreationDate": None}
    with atomic_path(path) as temporary, PdfPages(temporary, metadata=undated) as pdf:
        for figure in (*pages_of(title, said, tables), *figures):
            pdf.savefig(figure)


def pages_of(title: str, said: Sequence[str], tables: Sequence[Cells]) -> list["Figure"]:
    """Draw title, sentences and tables, one below the other; what finds no room begins a page."""
    first = _Page()
    first.write([title], TITLE_PT)
    first.write([line for text in said for line in wrap(text, SENTENCE_CHARACTERS)], FONT_PT)
    pages = [first]
    for header, rows in tables:
        if rows:
            cells = [
                [_broken(name, HEADER_CHARACTERS) for name in header],
                *([_broken(cell, CELL_CHARACTERS) for cell in row] for row in rows),
            ]
            if not pages[-1].has_room_for(cells):
                pages.append(_Page())
            pages[-1].draw_table(cells)
    return [page.figure for page in pages]


def _broken(text: str, characters: int) -> str:
    return "\n".join(wrap(text, characters))


class _Page:
    """A page that fills from the top; a point is a point of type."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=PAGE_INCHES)
        FigureCanvasAgg(self.figure)
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._width_pt, self._height_pt = (72 * inches for inches in PAGE_INCHES)
        self._margin_pt = 72 * MARGIN_INCHES
        self._y_pt = self._height_pt - self._margin_pt

    def write(self, lines: Sequence[str], size_pt: float) -> None:
        """Write lines that are known to be short enough."""
        self._axes.text(
            self._margin_pt / self._width_pt, self._y_pt / self._height_pt, "\n".join(lines),
            va="top", fontsize=size_pt, linespacing=LINE_SPACING, parse_math=False,
        )  # fmt: skip
        self._y_pt -= len(lines) * LINE * size_pt + GAP_PT / 2

    def has_room_for(self, cells: Sequence[Sequence[str]]) -> bool:
        """Whether a table fits below what is there."""
        return self._y_pt - sum(map(_height_pt, cells)) >= self._margin_pt

    def draw_table(self, cells: Sequence[Sequence[str]]) -> "Table":
        """Draw a table, its header first; its type is smaller where the page is too narrow."""
        heights_pt = list(map(_height_pt, cells))
        widths_pt = [max(map(_line_width_pt, column)) for column in zip(*cells, strict=True)]
        paddings_pt = 2 * PADDING_PT * len(widths_pt)
        room_pt = self._width_pt - 2 * self._margin_pt - paddings_pt
        shrunk = min(1.0, room_pt / sum(widths_pt))
        widths_pt = [shrunk * width + 2 * PADDING_PT for width in widths_pt]
        top_pt, height_pt = self._y_pt, sum(heights_pt)
        table = self._axes.table(
            cells,
            cellLoc="left",
            colWidths=widths_pt,
            bbox=(
                self._margin_pt / self._width_pt,
                (top_pt - height_pt) / self._height_pt,
                sum(widths_pt) / self._width_pt,
                height_pt / self._height_pt,
            ),
        )
        table.auto_set_font_size(False)
        table.set_fontsize(shrunk * FONT_PT)
        for (row, column), cell in table.get_celld().items():
            cell.set_height(heights_pt[row])
            cell.PAD = PADDING_PT / widths_pt[column]
            cell.visible_edges = "B"
            cell.set_linewidth(0.8 if row == 0 else 0.3)
            cell.get_text().set(parse_math=False, linespacing=LINE_SPACING)
            if row == 0:
                cell.get_text().set_weight("bold")
        self._y_pt -= height_pt + GAP_PT
        return table


def _height_pt(row: Sequence[str]) -> float:
    lines = max(cell.count("\n") + 1 for cell in row)
    return lines * LINE * FONT_PT + PADDING_PT


def _line_width_pt(cell: str) -> float:
    """Width of the longest line, as wide as if it were bold."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    bold = FontProperties(weight="bold", size=FONT_PT)
    measure = TextToPath().get_text_width_height_descent
    return max((measure(line, bold, ismath=False)[0] for line in cell.split("\n")), default=0.0)
