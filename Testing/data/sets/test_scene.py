import json
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK as sitk

from XraySynthLib.data import Quantity
from XraySynthLib.data.formats.mrml import ras_from_ijk
from XraySynthLib.data.sets import open_set, scene
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm


def rewrite(path, change):
    """Write an .mrb again with `change(name, data)` of each file; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            changed = change(name, data)
            if changed is not None:
                archive.writestr(name, changed)


@pytest.mark.parametrize("quantity", list(Quantity))
def test_round_trip(write_set, tmp_path, quantity):
    folder, samples = write_set("scene", quantity)
    moved = (folder / "scene.mrb").rename(tmp_path / "moved.mrb")
    read = open_set(moved)
    assert [sample.key for sample in read] == [sample.key for sample in samples]
    for sample, wanted in zip(read, samples, strict=True):
        assert sample.xray.quantity is quantity
        np.testing.assert_array_equal(sample.xray.values, wanted.xray.values)
        assert sample.xray.view.to_dict() == wanted.xray.view.to_dict()
        assert sample.landmarks.names == wanted.landmarks.names
        points_px = sample.landmarks.points_px
        np.testing.assert_allclose(points_px, wanted.landmarks.points_px, atol=1e-8)
        np.testing.assert_array_equal(sample.landmarks.visible, wanted.landmarks.visible)
        assert sample.masks is None
        assert vars(sample.provenance) == vars(wanted.provenance)


def test_splits(write_set):
    folder, _ = write_set("scene")
    assert {s.provenance.subject for s in open_set(folder, "test")} == {"subject-b"}
    assert len(open_set(folder, "val")) == 0


def test_same_bytes_again(write_set, tmp_path):
    one, _ = write_set("scene", folder=tmp_path / "one")
    two, _ = write_set("scene", folder=tmp_path / "two")
    names = ["scene.mrb", "parts/000000.zip", "parts/000003.zip"]
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("mirrored", "golden"),
    [
        (True, [[-2, 0, 0, 10], [0, 0, -1, 490], [0, -3, 0, 6], [0, 0, 0, 1]]),
        (False, [[2, 0, 0, -10], [0, 0, 1, 490], [0, -3, 0, 6], [0, 0, 0, 1]]),
    ],
)
def test_where_a_volume_lies(mirrored, golden):
    """The detector is at A = 490; columns run to the patient's left if mirrored, rows down."""
    intrinsics = Intrinsics(1020, [2, 3], (5, 11), mirrored=mirrored)
    matrix = ras_from_ijk(view_from_carm(CArmPose(), intrinsics))
    np.testing.assert_allclose(matrix, golden, atol=1e-9)
    assert np.linalg.det(matrix) > 0  # Slicer turns round what is left-handed


def test_files_lie_where_the_view_has_them(write_set, tmp_path):
    folder, samples = write_set("scene")
    with zipfile.ZipFile(folder / "scene.mrb") as archive:
        archive.extractall(tmp_path / "out")
    for number, sample in enumerate(samples):
        stem = tmp_path / "out" / "scene" / "Data" / f"{number:06d}"
        image = sitk.ReadImage(f"{stem}.nrrd")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[0], sample.xray.values)
        column, row = 40, 7
        lps_mm = image.TransformIndexToPhysicalPoint([column, row, 0])
        (ras_mm,) = sample.xray.view.detector_points_ras_mm(np.array([[column, row]]))
        np.testing.assert_allclose(np.multiply(lps_mm, [-1, -1, 1]), ras_mm, atol=1e-9)
        (markup,) = json.loads(stem.with_suffix(".mrk.json").read_text())["markups"]
        points = markup["controlPoints"]
        assert markup["name"] == sample.key and len(points) == 14
        assert points[3]["positionStatus"] == "undefined" and points[3]["position"] == ""
        assert points[0]["label"] == "FH-l"
        (ras_mm,) = sample.xray.view.detector_points_ras_mm(sample.landmarks.points_px[:1])
        np.testing.assert_allclose(np.multiply(points[0]["position"], [-1, -1, 1]), ras_mm)


def test_the_scene_names_every_file_and_every_reference(write_set):
    folder, samples = write_set("scene")
    with zipfile.ZipFile(folder / "scene.mrb") as archive:
        scene = ElementTree.fromstring(archive.read("scene/scene.mrml"))
        names = set(archive.namelist())
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    ids = [node.get("id") for node in scene]
    assert len(set(ids)) == len(ids) == 7 * len(samples) + 2
    for node in scene:
        for reference in (node.get("references") or "").split(";")[:-1]:
            assert reference.partition(":")[2] in ids
        if node.get("fileName"):
            names.remove(f"scene/{node.get('fileName')}")
    assert names == {"scene/scene.mrml"}
    text = scene.find("LinearTransform").get("matrixTransformToParent")
    pose = CArmPose.from_matrix(np.array(text.split(), float).reshape(4, 4))
    view = samples[0].xray.view
    again = view_from_carm(pose, view.intrinsics)
    np.testing.assert_allclose(again.ras_from_camera, view.ras_from_camera, atol=1e-9)


def test_points_moved_in_slicer_come_back_moved(write_set):
    folder, samples = write_set("scene")
    view = samples[0].xray.view

    def move(name, data):
        if not name.endswith("000000.mrk.json"):
            return data
        document = json.loads(data)
        points = document["markups"][0]["controlPoints"]
        (ras_mm,) = view.detector_points_ras_mm(np.array([[12.25, 30.5]]))
        points[3] |= {
            "position": [-ras_mm[0], -ras_mm[1], ras_mm[2]], "positionStatus": "defined"
        }  # fmt: skip
        del points[13]
        return json.dumps(document)

    rewrite(folder / "scene.mrb", move)
    landmarks = open_set(folder)[0].landmarks
    np.testing.assert_allclose(landmarks.points_px[3], [12.25, 30.5])
    assert landmarks.visible[3] and len(landmarks.names) == 13


def test_what_the_collimator_hides_stays_hidden(make_sample, make_description, tmp_path):
    sample = make_sample(0)
    assert sample.landmarks.visible[:2].all()
    visible = sample.landmarks.visible.copy()
    visible[0] = False
    hidden = replace(sample, landmarks=replace(sample.landmarks, visible=visible))
    description = make_description("scene", n_images=1, subjects=["subject-a"])
    (tmp_path / "parts").mkdir()
    scene.write_part(tmp_path, description.parts[0], [hidden])
    scene.assemble(tmp_path, description)
    (read,) = open_set(tmp_path / "scene.mrb")
    np.testing.assert_array_equal(read.landmarks.visible, visible)


def test_damaged_scenes(write_set, tmp_path):
    folder, _ = write_set("scene")
    path = folder / "scene.mrb"
    whole = path.read_bytes()

    def refused(match):
        with pytest.raises(UnreadableFileError, match=match):
            [*open_set(path)]

    path.write_bytes(whole[:2000])
    refused("truncated, damaged")
    middle = whole.index(b".nrrd") + 300
    path.write_bytes(whole[:middle] + b"cat" + whole[middle + 3 :])
    refused("truncated, damaged")
    path.write_bytes(whole)
    rewrite(path, lambda name, data: None if name.endswith("000001.nrrd") else data)
    refused("truncated, damaged")
    path.write_bytes(whole)
    rewrite(path, lambda name, data: b"<MRML/>" if name.endswith(".mrml") else data)
    refused("no image in it is XraySynth's")
    path.write_bytes(b"")
    refused("empty")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat.txt", "cat")
    refused("not a Slicer scene")


def test_slicer_opens_it_and_saves_it_again(write_set, tmp_path):
    """Where slicer-core is installed, Slicer's own MRML classes."""
    pytest.importorskip("slicer_core")
    import slicer
    import vtk

    folder, samples = write_set("scene")
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    markups, remote = slicer.vtkSlicerMarkupsLogic(), slicer.vtkMRMLRemoteIOLogic()
    data = slicer.vtkDataIOManagerLogic()
    for logic in (markups, remote, data):
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(tmp_path))
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    assert scene.ReadFromMRB(str(folder / "scene.mrb"), True)
    for number, sample in enumerate(samples):
        volume = scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode")
        assert volume.GetName() == sample.key
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        points = volume.GetNodeReference("XraySynth.landmarks")
        assert points.GetNumberOfControlPoints() == 14
        assert points.GetNthControlPointPositionStatus(3) == points.PositionUndefined
        matrix.Invert()
        ijk = matrix.MultiplyPoint([*points.GetNthControlPointPositionWorld(0), 1])
        np.testing.assert_allclose(ijk[:2], sample.landmarks.points_px[0], atol=1e-6)
        assert ijk[2] == pytest.approx(0, abs=1e-6)
    red = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    assert red.GetBackgroundVolumeID() == "vtkMRMLScalarVolumeNode1"
    assert scene.WriteToMRB(str(tmp_path / "again.mrb"))
    for sample, wanted in zip(open_set(tmp_path / "again.mrb"), samples, strict=True):
        assert vars(sample.provenance) == vars(wanted.provenance)
        points_px = sample.landmarks.points_px
        np.testing.assert_allclose(points_px, wanted.landmarks.points_px, atol=1e-6)
        np.testing.assert_array_equal(sample.xray.values, wanted.xray.values)
