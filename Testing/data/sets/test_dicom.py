import json
import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from XraySynthLib.data import Quantity
from XraySynthLib.data.sets import SetDescription, layout_module, open_set
from XraySynthLib.errors import UnreadableFileError

STORED = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("quantity", list(Quantity))
def test_round_trip(write_set, assert_same_sample, quantity):
    folder, samples = write_set("dicom", quantity)
    for sample, wanted in zip(open_set(folder), samples, strict=True):
        assert_same_sample(sample, wanted, atol=2e-4)


def test_a_study_a_subject_and_numbers_as_in_the_run(write_set):
    folder, _ = write_set("dicom")
    datasets = [pydicom.dcmread(path) for path in sorted(folder.glob("*/*.dcm"))]
    assert [dataset.InstanceNumber for dataset in datasets] == [0, 1, 2, 3, 4, 5]
    assert [dataset.PatientID for dataset in datasets] == ["subject-a"] * 3 + ["subject-b"] * 3
    assert [len({d.StudyInstanceUID for d in datasets[n:]}) for n in (0, 3)] == [2, 1]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 6


def test_same_bytes_again_and_another_set_has_other_uids(write_set, tmp_path):
    one, _ = write_set("dicom", folder=tmp_path / "one")
    two, _ = write_set("dicom", folder=tmp_path / "two")
    other, _ = write_set("dicom", folder=tmp_path / "other", options={"kvp": 70})
    files = list(one.glob("subject-*/*"))
    assert len(files) == 18
    for path in files:
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    name = "subject-a/subject-a-000000.dcm"
    one_uid, other_uid = (pydicom.dcmread(f / name).SOPInstanceUID for f in (one, other))
    assert one_uid != other_uid


def test_a_part_made_again_in_a_whole_set_has_the_same_bytes(write_set):
    folder, samples = write_set("dicom")
    path = folder / "subject-a/subject-a-000002.dcm"
    before = path.read_bytes()
    path.unlink()
    part = SetDescription.read(folder / "set.json").parts[1]
    files = layout_module("dicom").write_part(folder, part, [samples[2]])
    assert "subject-a/subject-a-000002.dcm" in files
    assert path.read_bytes() == before


def test_splits(write_set):
    folder, _ = write_set("dicom")
    assert {s.provenance.subject for s in open_set(folder, "test")} == {"subject-b"}


def test_a_file_with_what_lies_beside_it_can_be_moved(write_set, tmp_path):
    folder, samples = write_set("dicom")
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in folder.glob("subject-a/subject-a-000001.*"):
        shutil.copy(path, alone)
    for opened in (open_set(alone), open_set(alone / "subject-a-000001.dcm")):
        assert [sample.key for sample in opened] == [samples[1].key]
        assert len(opened[0].landmarks.names) == 14


def test_our_image_without_its_record_is_not_taken_for_real(write_set):
    folder, samples = write_set("dicom")
    for path in folder.glob("*/*.sample.json"):
        path.unlink()
    sample = open_set(folder / "subject-a")[0]
    assert (sample.provenance.kind, sample.provenance.subject) == ("simulated", "subject-a")
    assert sample.key == "subject-a-000000" and sample.masks is None
    assert sample.xray.view.to_dict() == samples[0].xray.view.to_dict()


def test_images_of_a_hospital(xray_dicom, tmp_path):
    folder = tmp_path / "hospital" / "cine"
    folder.mkdir(parents=True)
    xray_dicom(STORED, PatientID="P7").rename(folder / "IM0001")  # no suffix, two frames
    xray_dicom(STORED[0]).rename(folder / "b.dcm")
    report = pydicom.dcmread(folder / "b.dcm")
    del report.Rows, report.Columns, report.PixelData
    report.Modality = "SR"
    report.save_as(folder / "report.dcm")
    read = open_set(folder.parent)
    assert [sample.key for sample in read] == [
        "cine-IM0001-0000", "cine-IM0001-0001", "cine-b"
    ]  # fmt: skip
    assert [sample.provenance.subject for sample in read] == ["P7", "P7", "cine"]
    assert {sample.provenance.kind for sample in read} == {"real"}
    assert read[0].landmarks.names == () and read[0].masks is None
    assert not np.array_equal(read[0].xray.values, read[1].xray.values)
    assert len(open_set(folder.parent, "train")) == 3 and len(open_set(folder.parent, "test")) == 0


def test_a_folder_without_suffixes(xray_dicom, tmp_path):
    folder = tmp_path / "DICOM" / "S1"
    folder.mkdir(parents=True)
    file = xray_dicom(STORED, PatientID="P7").rename(folder / "IM0001")
    (folder / "DICOMDIR.txt").write_text("cat")
    for path in (folder.parent, file):
        assert [sample.provenance.subject for sample in open_set(path)] == ["P7", "P7"]


def test_standard_attributes_hold_the_acquisition(make_sample, make_description, tmp_path):
    sample = make_sample(0)
    acquisition = {"exposure": {"kvp": 80}, "pose": {"source_to_isocenter_mm": 600.0}}
    provenance = replace(sample.provenance, config={"acquisition": acquisition})
    description = make_description("dicom", n_images=1, subjects=["subject-a"])
    description.write(tmp_path / "unfinished.json")
    part = description.parts[0]
    layout_module("dicom").write_part(tmp_path, part, [replace(sample, provenance=provenance)])
    dataset = pydicom.dcmread(tmp_path / "subject-a/subject-a-000000.dcm")
    assert dataset.KVP == 80
    assert dataset.DistanceSourceToPatient == 600
    assert dataset.DistanceSourceToDetector == sample.xray.view.intrinsics.source_to_detector_mm


def test_a_ct_is_refused(xray_dicom):
    path = xray_dicom(STORED[0], "CT")
    with pytest.raises(UnreadableFileError, match="modality is CT"):
        [*open_set(path)]


@pytest.mark.parametrize("suffix", [".dcm", ".sample.json", ".masks.png"])
def test_damaged_files(write_set, suffix):
    folder, _ = write_set("dicom")
    path = folder / f"subject-a/subject-a-000000{suffix}"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnreadableFileError, match="subject-a-000000"):
        [*open_set(folder)]


def test_a_record_of_another_image(write_set):
    """As after an anonymiser that drops private elements, and the View with them."""
    folder, _ = write_set("dicom")
    path = folder / "subject-a/subject-a-000000.sample.json"
    record = json.loads(path.read_text())
    record["xray"]["quantity"] = "transmission"
    path.write_text(json.dumps(record))
    with pytest.raises(UnreadableFileError, match="is not the image that it describes"):
        open_set(folder)[0]


def test_no_dicom_in_the_folder(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"cat")
    with pytest.raises(UnreadableFileError, match="no DICOM file"):
        open_set(tmp_path)
