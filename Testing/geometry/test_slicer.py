"""Slicer's transform files."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.geometry import CArmPose
from XraySynthLib.geometry.converters.slicer import read_ras_from_carm, write_ras_from_carm
from XraySynthLib.geometry.transforms import inverse_rigid, transform_points

# By hand, isocentre (10, 20, 30): the inverse of ras_from_carm, then the signs of LPS.
FILES = [
    # primary 90: R to A and A to -R
    (CArmPose(90, 0, 0, np.array([10, 20, 30])), "0 1 0 -1 0 0 0 0 1 20 -10 -30"),
    # secondary 90: A to S and S to -A
    (CArmPose(0, 90, 0, np.array([10, 20, 30])), "1 0 0 0 0 -1 0 1 0 10 30 20"),
    # roll 90: S to R and R to -S
    (CArmPose(0, 0, 90, np.array([10, 20, 30])), "0 0 1 0 1 0 -1 0 0 -30 20 -10"),
]


def tfm(parameters: str, fixed: str = "0 0 0", name: str = "AffineTransform_double_3_3") -> str:
    return (
        "#Insight Transform File V1.0\n#Transform 0\n"
        f"Transform: {name}\nParameters: {parameters}\nFixedParameters: {fixed}\n"
    )


@pytest.mark.parametrize(("pose", "parameters"), FILES)
def test_golden_read(tmp_path, pose, parameters):
    path = tmp_path / "carm.tfm"
    path.write_text(tfm(parameters))
    np.testing.assert_allclose(read_ras_from_carm(path), pose.ras_from_carm, atol=1e-9)


@pytest.mark.parametrize(("pose", "parameters"), FILES)
def test_golden_write(tmp_path, pose, parameters):
    path = tmp_path / "carm.tfm"
    write_ras_from_carm(pose, path)
    lines = path.read_text().splitlines()
    assert lines[2] == "Transform: AffineTransform_double_3_3"
    found = [float(number) for number in lines[3].split()[1:]]
    np.testing.assert_allclose(found, [float(n) for n in parameters.split()], atol=1e-9)
    assert lines[4] == "FixedParameters: 0 0 0"
    assert [file.name for file in tmp_path.iterdir()] == ["carm.tfm"]


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt", ".H5"])
def test_round_trip(tmp_path, suffix):
    pose = CArmPose(31.5, -22.25, 147, np.array([1.5, -800, 12.75]), 600)
    path = tmp_path / f"carm{suffix}"
    write_ras_from_carm(pose, str(path))
    again = CArmPose.from_matrix(read_ras_from_carm(str(path)), 600)
    np.testing.assert_allclose(again.ras_from_carm, pose.ras_from_carm, atol=1e-9)
    assert again.primary_deg == pytest.approx(31.5)
    assert again.secondary_deg == pytest.approx(-22.25)
    assert again.roll_deg == pytest.approx(147)


def test_the_matrix_read_cannot_be_written_to(tmp_path):
    write_ras_from_carm(CArmPose(), tmp_path / "carm.tfm")
    with pytest.raises(ValueError, match="read-only"):
        read_ras_from_carm(tmp_path / "carm.tfm")[0] = 1


def test_itk_takes_world_points_to_the_carm(tmp_path):
    pose = CArmPose(31.5, -22.25, 147, np.array([1.5, -80, 12.75]))
    path = tmp_path / "carm.h5"
    write_ras_from_carm(pose, path)
    transform = SimpleITK.ReadTransform(str(path))
    point_ras = np.array([[10.0, 20.0, 30.0]])
    point_carm = np.array(transform.TransformPoint((-10.0, -20.0, 30.0))) * [-1, -1, 1]
    expected = transform_points(inverse_rigid(pose.ras_from_carm), point_ras)
    np.testing.assert_allclose(point_carm, expected[0], atol=1e-9)


def test_a_centre_of_rotation_counts(tmp_path):
    # Half a turn about z through LPS (1, 2, 0), then (10, 0, 0): its own inverse but for the shift.
    path = tmp_path / "carm.tfm"
    path.write_text(tfm("-1 0 0 0 -1 0 0 0 1 10 0 0", fixed="1 2 0"))
    expected = [[-1, 0, 0, -12], [0, -1, 0, -4], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(read_ras_from_carm(path), expected, atol=1e-9)


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_linear_transforms_of_other_kinds_and_chains_are_read(tmp_path, suffix):
    euler = SimpleITK.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6))
    versor = SimpleITK.VersorRigid3DTransform((0, 0, 1), 0.5, (7, 8, 9))
    chain = SimpleITK.CompositeTransform([euler, versor])
    path = tmp_path / f"carm{suffix}"
    SimpleITK.WriteTransform(chain, str(path))
    ras_from_carm = read_ras_from_carm(path)
    point_lps = (11.0, -12.0, 13.0)
    point_carm = np.array(euler.TransformPoint(versor.TransformPoint(point_lps))) * [-1, -1, 1]
    again_ras = transform_points(ras_from_carm, point_carm[None])
    np.testing.assert_allclose(again_ras[0] * [-1, -1, 1], point_lps, atol=1e-9)


def bspline() -> SimpleITK.Transform:
    image = SimpleITK.Image(10, 10, 10, SimpleITK.sitkFloat32)
    return SimpleITK.BSplineTransformInitializer(image, [2, 2, 2])


def displacement() -> SimpleITK.Transform:
    image = SimpleITK.Image([4, 4, 4], SimpleITK.sitkVectorFloat64, 3)
    return SimpleITK.DisplacementFieldTransform(image)


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (bspline(), "BSplineTransform, but a C-arm's pose must be a linear 3D transform."),
        (displacement(), "DisplacementFieldTransform, but a C-arm's pose must be a linear 3D"),
        (
            SimpleITK.CompositeTransform([SimpleITK.AffineTransform(3), bspline()]),
            "CompositeTransform, but a C-arm's pose must be a linear 3D transform.",
        ),
        (SimpleITK.AffineTransform(2), "holds a 2D"),
    ],
)
def test_what_is_not_linear_is_refused(tmp_path, transform, words):
    path = tmp_path / "carm.h5"
    SimpleITK.WriteTransform(transform, str(path))
    with pytest.raises(UnreadableFileError) as error:
        read_ras_from_carm(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("2 0 0 0 2 0 0 0 2 0 0 0", "is not a C-arm's pose: its matrix must be a rotation"),
        ("1 0.1 0 0 1 0 0 0 1 0 0 0", "scales or shears"),
        ("1 0 0 0 1 0 0 0 -1 0 0 0", "mirrors"),
        ("1 0 0 0 1 0 0 0 0 0 0 0", "singular"),
        ("1 0 0 0 1 0 0 0 1 nan 0 0", "carm"),
    ],
)
def test_what_is_not_rigid_is_refused(tmp_path, parameters, words):
    path = tmp_path / "carm.tfm"
    path.write_text(tfm(parameters))
    with pytest.raises(UnreadableFileError) as error:
        read_ras_from_carm(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        tfm("1 0 0 0 1 0 0 0 1 0 0 0")[:70].encode(),
        tfm("1 0 0 0 1 0 0 0 1 0 0 0", name="WarpTransform_double_3_3").encode(),
        tfm("1 0 0 0 1 0 0").encode(),
    ],
)
@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".nii"])
def test_a_damaged_file_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"carm{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as error:
        read_ras_from_carm(path)
    assert str(error.value).startswith(f"{path} is damaged or not a transform file; ")
    assert "\n" not in str(error.value)


def test_a_truncated_h5_is_refused(tmp_path):
    path = tmp_path / "carm.h5"
    write_ras_from_carm(CArmPose(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UnreadableFileError, match="is damaged"):
        read_ras_from_carm(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"There is no transform file .*carm\.h5\."):
        read_ras_from_carm(tmp_path / "carm.h5")
    with pytest.raises(UnreadableFileError, match="There is no transform file"):
        read_ras_from_carm(tmp_path)


def test_a_file_that_cannot_be_written_is_not_begun(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"must end in \.h5, \.tfm, \.txt, got 'carm\.json'"):
        write_ras_from_carm(CArmPose(), tmp_path / "carm.json")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        write_ras_from_carm(CArmPose(), tmp_path / "none" / "carm.h5")
    assert list(tmp_path.iterdir()) == []

    def fail(transform, name):
        Path(name).write_text("half")
        raise RuntimeError("disk full")

    path = tmp_path / "carm.tfm"
    path.write_text("old")
    monkeypatch.setattr(SimpleITK, "WriteTransform", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_ras_from_carm(CArmPose(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
