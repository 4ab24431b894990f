"""A DICOM series: order, grid, rescaling, padding, and series that are refused."""

import numpy as np
import pydicom
import pytest

from XraySynthLib.data.formats import check_subject_files, read_volume
from XraySynthLib.errors import UnreadableFileError


def test_slices_are_sorted_by_position_and_spacing_is_row_then_column(ct_slices):
    """By hand: LPS (-10, -20, -100) is RAS (10, 20, -100); columns 0.5 mm, rows 0.7 mm apart."""
    volume = read_volume(ct_slices())
    expected = [[-0.5, 0, 0, 10], [0, -0.7, 0, 20], [0, 0, 2, -100], [0, 0, 0, 1]]
    assert volume.ras_from_ijk == pytest.approx(np.array(expected))
    assert volume.values_hu[:, 1, 2].tolist() == [600 + k - 1024 for k in range(5)]
    assert volume.values_hu[0].tolist() == (np.arange(12).reshape(3, 4) * 100 - 1024).tolist()


def test_how_far_landmarks_lie_from_it_needs_no_pixels(ct_slices):
    folder = ct_slices()
    check_subject_files(folder, None, np.array([[109, 20, -100], [np.nan] * 3]))
    with pytest.raises(UnreadableFileError, match=r"102 mm away"):
        check_subject_files(folder, None, np.array([[112, 20, -100]]))


def test_one_file_stands_for_its_series(ct_slices):
    folder = ct_slices()

    def other(index, dataset):
        dataset.SeriesInstanceUID = "1.2.3.99"

    ct_slices(change=other, count=2)
    volume = read_volume(next(folder.glob("*-1.2.3.4.dcm")))
    assert volume.values_hu.shape == (5, 3, 4)


def test_an_oblique_series(ct_slices):
    """Rows along L tilted to S: direction (0.8, 0, 0.6), columns to P; normal (-0.6, 0, 0.8)."""

    def tilt(index, dataset):
        dataset.ImageOrientationPatient = [0.8, 0, 0.6, 0, 1, 0]
        dataset.ImagePositionPatient = [-0.6 * 3 * index, 5, 0.8 * 3 * index]

    matrix = read_volume(ct_slices(change=tilt)).ras_from_ijk
    assert matrix @ [2, 0, 0, 1] == pytest.approx([-0.8, -5, 0.6, 1])
    assert matrix @ [0, 0, 1, 1] == pytest.approx([1.8, -5, 2.4, 1])


def test_slopes_may_differ_between_slices_and_padding_is_air(ct_slices):
    def change(index, dataset):
        dataset.RescaleSlope = 2 if index == 3 else 1
        dataset.PixelPaddingValue = 700
        dataset["PixelPaddingValue"].VR = "US"

    values = read_volume(ct_slices(change=change)).values_hu
    assert values[3, 1, 2] == 2 * 603 - 1024
    assert values[0, 1, 3] == -1024  # stored 700
    assert values[1, 1, 3] == 701 - 1024


def test_several_series_are_listed_and_one_can_be_chosen(ct_slices, refused):
    def second(index, dataset):
        dataset.SeriesInstanceUID = "1.2.3.5"
        dataset.SeriesDescription = "Bone"

    folder = ct_slices()
    ct_slices(change=second, count=3)
    with refused("2 series: '' (5 slices, ...1.2.3.4), 'Bone' (3 slices, ...1.2.3.5); choose"):
        read_volume(folder)
    assert read_volume(folder, series_uid="3.5").values_hu.shape == (3, 3, 4)
    with refused("ends in '7'"):
        read_volume(folder, series_uid="7")


def test_other_modalities_in_the_folder_do_not_disturb(ct_slices):
    def report(index, dataset):
        dataset.Modality, dataset.SeriesInstanceUID = "SR", "1.2.3.6"

    folder = ct_slices()
    ct_slices(change=report, count=1)
    (folder / "DICOMDIR.txt").write_text("no DICOM")
    assert read_volume(folder).values_hu.shape == (5, 3, 4)


def set_all(**attributes):
    def change(index, dataset):
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    return change


def set_position(index_of_change, z):
    def change(index, dataset):
        if index == index_of_change:
            dataset.ImagePositionPatient = [-10, -20, z]

    return change


def tilt_gantry(index, dataset):
    dataset.ImagePositionPatient = [-10, -20 + 0.5 * index, -100 + 2 * index]


def turn_one(index, dataset):
    if index == 2:
        dataset.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def drop_position(index, dataset):
    del dataset.ImagePositionPatient


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (set_all(Modality="MR"), "DICOM modality is MR, not CT"),
        (set_all(Modality="CR"), "DICOM modality is CR, not CT"),
        (set_position(4, -90), "unevenly spaced: the steps are 2 to 4 mm"),
        (set_position(2, -95.5), "unevenly spaced"),
        (set_position(2, -98), "two slices lie at one position"),
        (tilt_gantry, "sheared by 14.0 degrees"),
        (turn_one, "another size, spacing or direction"),
        (drop_position, "does not say its position"),
        (set_all(PixelSpacing=[0, 0]), "cannot be meant"),
        (set_all(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "perpendicular"),
        (set_all(NumberOfFrames=4), "multi-frame"),
        (set_all(RescaleIntercept=0), "rescale intercept"),
    ],
)
def test_a_series_is_refused(ct_slices, refused, change, text):
    with refused(text):
        read_volume(ct_slices(change=change))


def test_a_single_slice_and_a_truncated_one_are_refused(ct_slices, refused, capfd):
    with refused("one slice"):
        read_volume(ct_slices("single", count=1))
    folder = ct_slices()
    damaged = sorted(folder.iterdir())[2]
    damaged.write_bytes(damaged.read_bytes()[:-10])
    with refused(damaged.name):
        read_volume(folder)
    damaged.write_bytes(damaged.read_bytes()[:300])
    with refused(damaged.name):
        read_volume(folder)
    assert capfd.readouterr().err == ""


def test_a_slice_without_pixels_is_refused(ct_slices, refused):
    folder = ct_slices()
    path = next(folder.iterdir())
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    with refused(path.name):
        read_volume(folder)
