"""X-rays in TIFF, PNG and NIfTI: ours come back whole, others become DISPLAY."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, PngImagePlugin

from XraySynthLib.data import Quantity, Xray
from XraySynthLib.data.formats import read_xray, read_xrays, write_xray
from XraySynthLib.geometry import View

GREY = np.array([[0, 51, 255], [102, 153, 204]], np.uint8)


@pytest.mark.parametrize("suffix", [".tiff", ".tif", ".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("quantity", list(Quantity))
def test_an_image_comes_back_with_its_quantity_and_view(tmp_path, line_integral, quantity, suffix):
    xray = Xray(line_integral.values, quantity, None, line_integral.view)
    write_xray(xray, tmp_path / f"x{suffix}")
    back = read_xray(tmp_path / f"x{suffix}")
    assert np.array_equal(back.values, xray.values)
    assert back.quantity is quantity
    assert back.view.to_dict() == View.from_dict(xray.view.to_dict()).to_dict()
    assert back.pixel_spacing_mm.tolist() == [0.31, 0.29]


@pytest.mark.parametrize("suffix", [".tiff", ".png", ".nii.gz"])
@pytest.mark.parametrize("spacing", [None, (0.2, 0.3)])
def test_without_a_view_there_is_none(tmp_path, spacing, suffix):
    write_xray(Xray(GREY / 255, Quantity.DISPLAY, spacing), tmp_path / f"x{suffix}")
    back = read_xray(tmp_path / f"x{suffix}")
    assert back.view is None
    assert (back.pixel_spacing_mm is None) == (spacing is None)
    assert back.values == pytest.approx(GREY / 255, abs=1e-7)


def test_a_png_holds_display_and_its_view(tmp_path, general_view, line_integral):
    values = np.linspace(0, 1, 1200).reshape(30, 40)
    write_xray(Xray(values, Quantity.DISPLAY, None, general_view), tmp_path / "x.png")
    back = read_xray(tmp_path / "x.png")
    assert back.values == pytest.approx(values, abs=0.5 / 255 + 1e-6)
    assert back.view.to_dict() == View.from_dict(general_view.to_dict()).to_dict()
    with pytest.raises(ValueError, match="window it"):
        write_xray(line_integral, tmp_path / "y.png")
    with pytest.raises(ValueError, match=r"\.tiff"):
        write_xray(line_integral, tmp_path / "y.jpg")
    assert not list(tmp_path.glob("*y*"))


def test_the_json_in_a_tiff_is_what_is_documented(tmp_path, line_integral):
    write_xray(line_integral, tmp_path / "x.tiff")
    fields = json.loads(Image.open(tmp_path / "x.tiff").tag_v2[270])
    assert fields["xraysynth"] == 1
    assert fields["quantity"] == "line-integral"
    assert fields["pixel_spacing_mm"] == [0.31, 0.29]
    assert fields["view"]["shape_px"] == [30, 40]


def test_the_json_of_a_nifti_lies_beside_it_and_goes_stale_never(tmp_path, line_integral):
    write_xray(line_integral, tmp_path / "x.nii.gz")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.nii.gz", "x.xraysynth.json"]
    image = sitk.ReadImage(str(tmp_path / "x.nii.gz"))
    assert image.GetSize() == (40, 30, 1)
    assert image.GetSpacing() == pytest.approx((0.31, 0.29, 1))
    write_xray(Xray(GREY, Quantity.DISPLAY), tmp_path / "x.nii.gz")
    assert read_xray(tmp_path / "x.nii.gz").view is None


def test_a_foreign_niftis_spacing_is_column_then_row_and_1_mm_is_none(tmp_path):
    image = sitk.GetImageFromArray(GREY)
    sitk.WriteImage(image, str(tmp_path / "x.nii"))
    assert read_xray(tmp_path / "x.nii").pixel_spacing_mm is None
    image.SetSpacing([0.25, 0.5])
    sitk.WriteImage(image, str(tmp_path / "x.nii"))
    assert read_xray(tmp_path / "x.nii").pixel_spacing_mm.tolist() == [0.25, 0.5]


def test_foreign_integers_are_divided_by_their_largest(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "8.png")
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "16.tif")
    sitk.WriteImage(sitk.GetImageFromArray(GREY), str(tmp_path / "8.nii"))
    for path in tmp_path.iterdir():
        xray = read_xray(path)
        assert xray.quantity is Quantity.DISPLAY
        assert xray.values == pytest.approx(GREY / 255, abs=1e-6), path.name


def test_equal_channels_are_grey_and_others_colour(tmp_path, refused):
    Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(tmp_path / "rgb.png")
    assert read_xray(tmp_path / "rgb.png").values == pytest.approx(GREY / 255)
    Image.fromarray(np.stack([GREY, GREY, GREY + 1], axis=-1)).save(tmp_path / "c.png")
    with refused("colour"):
        read_xray(tmp_path / "c.png")
    Image.fromarray(np.stack([GREY] * 4, axis=-1)).save(tmp_path / "a.png")
    with refused("transparent"):
        read_xray(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.25, 0.5], [0.75, 1]], [[0.25, 0.5], [0.75, 1]]),
        ([[-1, 0], [1, 3]], [[0, 0.25], [0.5, 1]]),
        ([[1000, 2000], [3000, 5000]], [[0, 0.25], [0.5, 1]]),
    ],
)
def test_foreign_floats_are_kept_in_0_to_1_else_stretched(tmp_path, values, expected):
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "x.tif")
    assert read_xray(tmp_path / "x.tif").values == pytest.approx(np.array(expected))


def test_white_is_zero_is_turned_round(tmp_path):
    """TIFF photometric 0: Pillow turns 8 bits round itself, 16 bits it does not."""
    for name, values in (("8", GREY), ("16", GREY.astype(np.uint16) * 257)):
        image = Image.fromarray(values)
        image.save(tmp_path / f"{name}.tif", tiffinfo={262: 0})
        data = (tmp_path / f"{name}.tif").read_bytes()
        assert Image.open(tmp_path / f"{name}.tif").tag_v2[262] == 0, data[:4]
    stored = GREY if np.asarray(Image.open(tmp_path / "8.tif"))[0, 0] == 0 else 255 - GREY
    assert read_xray(tmp_path / "8.tif").values == pytest.approx(stored / 255)
    assert read_xray(tmp_path / "16.tif").values == pytest.approx(1 - GREY / 255)


def test_every_page_and_slice_is_a_frame(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([GREY, 255 - GREY])), str(tmp_path / "x.nii"))
    for path in (tmp_path / "x.tif", tmp_path / "x.nii"):
        frames = read_xrays(path)
        assert len(frames) == 2
        assert frames[1].values == pytest.approx(1 - GREY / 255)


def test_a_cropped_and_a_newer_file_of_ours_are_refused(tmp_path, refused, general_view):
    write_xray(Xray(np.zeros((30, 40)), Quantity.DISPLAY, None, general_view), tmp_path / "x.png")
    image = Image.open(tmp_path / "x.png")
    text = PngImagePlugin.PngInfo()
    text.add_text("xraysynth", image.info["xraysynth"])
    image.crop((0, 0, 20, 20)).save(tmp_path / "cropped.png", pnginfo=text)
    with refused("The view is for (30, 40)"):
        read_xray(tmp_path / "cropped.png")
    text = PngImagePlugin.PngInfo()
    text.add_text("xraysynth", '{"xraysynth": 2}')
    image.save(tmp_path / "newer.png", pnginfo=text)
    with refused("format 2 is not known here; update"):
        read_xray(tmp_path / "newer.png")


def test_what_is_no_image_is_refused(tmp_path, refused, line_integral):
    bad = np.array(line_integral.values)
    bad[3, 4] = np.nan
    Image.fromarray(bad).save(tmp_path / "nan.tif")
    with refused("NaN"):
        read_xray(tmp_path / "nan.tif")
    Image.fromarray(np.full((3, 3), 7, np.float32)).save(tmp_path / "flat.tif")
    with refused("every pixel is 7"):
        read_xray(tmp_path / "flat.tif")
    ct = sitk.GetImageFromArray(np.arange(60.0).reshape(3, 4, 5) * 20 - 1000)
    sitk.WriteImage(ct, str(tmp_path / "ct.nii"))
    with refused("looks like a CT"):
        read_xray(tmp_path / "ct.nii")
    (tmp_path / "x.png").write_text("hello")
    with refused("damaged or not an image"):
        read_xray(tmp_path / "x.png")
    (tmp_path / "x.jpg").write_text("hello")
    with refused("an X-ray is a DICOM"):
        read_xray(tmp_path / "x.jpg")
    with refused("a folder"):
        read_xray(tmp_path)
    with refused("no such file"):
        read_xray(tmp_path / "nothing.tiff")


@pytest.mark.parametrize("suffix", [".tiff", ".png", ".nii.gz"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8, 0.97])
def test_truncated_images_are_refused(tmp_path, refused, suffix, kept, random):
    path = tmp_path / f"x{suffix}"
    write_xray(Xray(random.random((60, 70)), Quantity.DISPLAY), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with refused(path.name):
        read_xray(path)
