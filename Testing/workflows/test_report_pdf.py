"""Pages of a report's PDF: nothing is cut off."""

import pytest

from XraySynthLib.workflows.report_pdf import pages_of, write_pdf

HEADER = (
    "arm", "images from", "detected", "mean error, mm on the detector", "SD of trainings",
    "median", "95th percentile", "95% kept", "within 5 mm",
)  # fmt: skip
WIDE = ("98.1% [97.1, 99.1]", "12.34 [10.11, 14.56]", "0.21", *["123.45 [100.11, 145.67]"] * 3)
MAIN = (HEADER, [[arm, "2D diffusion, told 3D anatomy", *WIDE, "98.1% [97.1, 99.1]"]
                 for arm in ("a", "b", "c", "d1", "d2", "e1", "e2")])  # fmt: skip
BESIDE = (
    ("arm", "measure", "less b", "p"),
    [[arm, f"measure {number}, mm on the detector", "-12.34 [-14.56, +10.11]", "0.001"]
     for arm in ("a", "c", "d1", "d2", "e1", "e2") for number in range(5)],
)  # fmt: skip
SENTENCES = ["A sentence that tells at some length what was tested on what. " * 6] * 5


def drawn_outside(figure):
    """Texts and cells of a page that reach beyond its edge or their column."""
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    outside = []
    for table in figure.axes[0].tables:
        for cell in table.get_celld().values():
            box, text = cell.get_window_extent(renderer), cell.get_text()
            inner = text.get_window_extent(renderer)
            if inner.width and not (
                box.x0 <= inner.x0 and inner.x1 <= box.x1
                and box.y0 <= inner.y0 and inner.y1 <= box.y1
            ):  # fmt: skip
                outside.append(text.get_text())
    artists = [*figure.axes[0].tables, *figure.axes[0].texts]
    for artist in artists:
        box = artist.get_window_extent(renderer)
        if not (figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1):
            outside.append("beside the page")
        if not (figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1):
            outside.append("above or below the page")
    return outside


def test_wide_tables_lie_inside_their_pages(tmp_path):
    pages = pages_of("A title", SENTENCES, (MAIN, BESIDE))
    assert [len(page.axes[0].tables) for page in pages] == [1, 1]
    assert [drawn_outside(page) for page in pages] == [[], []]
    first = pages[0].axes[0].tables[0].get_celld()
    assert {first[row, 0].get_text().get_text() for row in range(8)} == {
        "arm", "a", "b", "c", "d1", "d2", "e1", "e2",
    }  # fmt: skip
    write_pdf(tmp_path / "report.pdf", "A title", SENTENCES, (MAIN, BESIDE), [])
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("rows", [[], [["b", "$5 [1, 2]"]]])
def test_small_tables_share_the_first_page(rows):
    small = (("arm", "costs"), rows)
    (page,) = pages_of("A title", ["A sentence."], (small, small))
    assert drawn_outside(page) == []
