"""Contact sheets and reports; the letters are literal goldens."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from XraySynthLib.data import ImageLandmarkSet, Quantity, Xray
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.workflows.figures import (
    Panel,
    draw_panel,
    side_letters,
    write_sheet,
)
from XraySynthLib.workflows.report import paragraph, picture, table, write_page


def letters_at(primary_deg, secondary_deg=0.0, roll_deg=0.0, mirrored=True):
    pose = CArmPose(primary_deg, secondary_deg, roll_deg)
    return side_letters(view_from_carm(pose, Intrinsics(mirrored=mirrored)))


@pytest.mark.parametrize(
    ("angles", "letters"),
    [
        # left, right, top, bottom of the displayed image
        ((0, 0), ("R", "L", "S", "I")),
        ((180, 0), ("L", "R", "S", "I")),
        ((90, 0), ("A", "P", "S", "I")),  # detector at the patient's left
        ((-90, 0), ("P", "A", "S", "I")),
        ((45, 0), ("AR", "PL", "S", "I")),
        ((30, 0), ("RA", "LP", "S", "I")),
        ((-30, 0), ("RP", "LA", "S", "I")),
        ((0, 30), ("R", "L", "SP", "IA")),  # detector toward the head, which looks up its face
        ((0, -30), ("R", "L", "SA", "IP")),
        ((0, 10), ("R", "L", "S", "I")),
    ],
)
def test_side_letters(angles, letters):
    found = letters_at(*angles)
    assert tuple("".join(sorted(side)) for side in found) == tuple(
        "".join(sorted(side)) for side in letters
    )
    if 45 not in angles:  # else both are as strong
        assert found == letters


def test_an_image_that_is_not_mirrored_has_its_sides_swapped():
    assert letters_at(0, mirrored=False) == ("L", "R", "S", "I")


def test_a_rolled_image_turns_its_letters():
    assert letters_at(0, 0, 90) in ((("S", "I", "L", "R")), (("I", "S", "R", "L")))
    assert letters_at(0, 0, 180) == ("L", "R", "I", "S")


def a_panel(title="a"):
    view = view_from_carm(CArmPose(), Intrinsics(shape_px=(30, 40), pixel_spacing_mm=(5.0, 5.0)))
    values = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    landmarks = ImageLandmarkSet(("in", "out"), [[10, 20], [90, 5]], [True, False], [1, 1])
    return Panel(Xray(values, Quantity.DISPLAY, view=view), landmarks, title)


def drawn(panel):
    """A panel's axes after drawing, and the bounds of its landmarks' names, screen pixels."""
    figure = Figure(figsize=(3, 3))
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.add_subplot()
    draw_panel(axes, panel)
    figure.canvas.draw()
    names = [text for text in axes.texts if text.get_text() in panel.landmarks.names]
    return axes.get_window_extent(renderer), [name.get_window_extent(renderer) for name in names]


def test_names_stay_in_the_image():
    edges = [[0, 20], [39, 20], [12, 5]]
    landmarks = ImageLandmarkSet(("left-edge", "right-edge", "middle"), edges, [True] * 3, [1] * 3)
    image, names = drawn(replace(a_panel(), landmarks=landmarks))
    assert len(names) == 3
    assert all(image.x0 <= name.x0 and name.x1 <= image.x1 for name in names)


def test_a_small_panel_has_no_names():
    assert len(drawn(a_panel())[1]) == 1
    assert drawn(replace(a_panel(), named=False))[1] == []


def test_a_sheet_is_written_whole(tmp_path):
    write_sheet([a_panel(), a_panel(), a_panel("c < d")], 2, tmp_path / "sheet.png", dpi=60)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (384, 408)
        assert np.asarray(sheet.convert("L")).std() > 10
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_the_letter_of_the_left_keeps_its_foot(tmp_path):
    """Where it once fell between two pixels, an L looked like an I."""
    view = view_from_carm(CArmPose(), Intrinsics(shape_px=(64, 64), pixel_spacing_mm=(5.0, 5.0)))
    black = Xray(np.zeros((64, 64), np.float32), Quantity.DISPLAY, view=view)
    nothing = ImageLandmarkSet((), np.zeros((0, 2)), np.zeros(0, bool), np.zeros(0))
    write_sheet([Panel(black, nothing, "a")], 1, tmp_path / "s.png", dpi=90)
    lit = np.asarray(Image.open(tmp_path / "s.png").convert("L")) > 60
    rows, columns = lit.shape
    letter = lit[rows // 2 - 15 : rows // 2 + 25, round(0.9 * columns) :]
    widths = letter.sum(axis=1)
    assert widths.max() >= widths[widths > 0].min() + 2


def test_a_page_escapes_what_it_is_given(tmp_path):
    parts = [
        paragraph("a < b & c"),
        picture("x.png", 'the "ap" view'),
        table(["n"], [["<b>"], [2]]),
    ]
    write_page("T & <i>", parts, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "a &lt; b &amp; c" in page and "the &quot;ap&quot; view" in page
    assert "<td>&lt;b&gt;</td>" in page and "<td>2</td>" in page
    assert "<h1>T &amp; &lt;i&gt;</h1>" in page and "<b>" not in page
