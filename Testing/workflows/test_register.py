"""From an X-ray and a CT to the C-arm's pose, by the command line."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from XraySynthLib.data import LandmarkSet, Volume
from XraySynthLib.data.formats import (
    Prediction,
    read_sample,
    write_landmarks,
    write_prediction,
    write_volume,
    write_xray,
)
from XraySynthLib.geometry import View

POINTS_RAS_MM = np.array(
    [[-40, 0, 10], [35, -20, 5], [0, 30, -40], [10, -35, 45], [-30, 30, 40], [40, 35, -20.0]]
)
DETECTOR = ("--shape-px", 96, 112, "--pixel-spacing-mm", 3, 3)


@pytest.fixture(scope="module")
def case(tmp_path_factory, in_process) -> Path:
    """ct.nii.gz, points.mrk.json, an X-ray in film/ and found.json, landmarks about 2 mm off."""
    folder = tmp_path_factory.mktemp("case")
    rng = np.random.default_rng(2)
    k, j, i = np.indices((32, 32, 32), dtype=np.float32)
    values_hu = np.full(k.shape, -1000.0, np.float32)
    values_hu[(i - 15.5) ** 2 + (j - 15.5) ** 2 + (k - 15.5) ** 2 < 15**2] = 40
    for _ in range(10):
        center, radii = rng.uniform(8, 23, 3), rng.uniform(2, 5, 3)
        inside = sum(((x - c) / r) ** 2 for x, c, r in zip((i, j, k), center, radii, strict=True))
        values_hu[inside < 1] = 700
    ras_from_ijk = np.diag([5.0, 5.0, 5.0, 1.0])
    ras_from_ijk[:3, 3] = -5 * 15.5
    write_volume(Volume(values_hu, ras_from_ijk), folder / "ct.nii.gz")
    write_landmarks(LandmarkSet(tuple("abcdef"), POINTS_RAS_MM), folder / "points.mrk.json")
    outcome = in_process[0](
        "project", "--ct", folder / "ct.nii.gz", "--landmarks", folder / "points.mrk.json",
        "--output", folder / "film", "--primary-deg", 20, "--secondary-deg", -15, "--roll-deg", 5,
        "--isocenter-ras-mm", 10, -5, 5, *DETECTOR, "--quantity", "display",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    film = read_sample(folder / "film")
    off_px = rng.normal(0, 0.7, (6, 2))
    found = replace(film.landmarks, points_px=film.landmarks.points_px + off_px)
    prediction = Prediction("xray.png", 0, film.xray.values.shape, found)
    prediction = replace(prediction, model_name="finder", model_sha256="ab" * 32)
    write_prediction(prediction, folder / "found.json")
    write_prediction(replace(prediction, shape_px=(50, 50)), folder / "other.json")
    write_prediction(replace(prediction, image="pa.png"), folder / "pa.json")
    write_prediction(replace(prediction, frame=3), folder / "frame.json")
    return folder


@pytest.fixture
def register(case, xraysynth):
    def run(*words, **changed):
        """`register` of the case; `image=None` and the like leave an option out."""
        options = {
            "image": case / "film/xray.png",
            "ct": case / "ct.nii.gz",
            "landmarks": case / "points.mrk.json",
            "predictions": case / "found.json",
            **changed,
        }
        given = [(f"--{name}", value) for name, value in options.items() if value is not None]
        return xraysynth("register", *(word for pair in given for word in pair), *words)

    return run


def test_registering(case, register, xraysynth, tmp_path):
    folder, truth = tmp_path / "found", case / "film/sample.json"
    outcome = register("--output", folder, "--truth", truth)
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in folder.iterdir()) == [
        "c-arm.tfm", "overlay.png", "registration.json", "view.json",
    ]  # fmt: skip
    result = json.loads((folder / "registration.json").read_text())
    errors = result["error_against_truth"]
    assert errors["registered"]["target_mm"] < 1 < errors["landmarks"]["target_mm"]
    assert result["refinement"]["similarity"] > result["refinement"]["similarity_before"]
    assert result["doubtful"] == []
    assert result["landmarks_from"] == {
        "predictions": "found.json", "model_name": "finder", "model_sha256": "ab" * 32,
    }  # fmt: skip
    (said,) = outcome.err.splitlines()
    assert re.fullmatch(
        r"xraysynth: Landmarks miss by \d\.\d mm on the detector; similarity 0\.\d+ "
        r"\(0\.\d+ before\); mTRE 0\.\d+ mm\.",
        said,
    )
    assert 0 < result["reprojection_error"]["mm_on_detector"] < 5
    assert [point["name"] for point in result["landmarks"]] == list("abcdef")
    view = View.from_dict(result["view"])
    np.testing.assert_array_equal(
        View.from_json((folder / "view.json").read_text()).ras_from_camera, view.ras_from_camera
    )

    # what Slicer's C-arm node holds makes the same View
    outcome = xraysynth(
        "project", "--ct", case / "ct.nii.gz", "--transform", folder / "c-arm.tfm", *DETECTOR,
        "--output", tmp_path / "again",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    again = read_sample(tmp_path / "again").xray.view
    np.testing.assert_allclose(again.ras_from_camera, view.ras_from_camera, atol=1e-6)


def test_landmarks_alone_again_and_without_a_view(case, register, tmp_path):
    film = read_sample(case / "film").xray
    (tmp_path / "bare").mkdir()
    bare = tmp_path / "bare" / "xray.png"  # as its predictions call it
    write_xray(replace(film, view=None), bare)
    folder = tmp_path / "found"
    words = ("--no-refine", "--output", folder)
    assert register(*words, image=bare).code == 2
    twice = register(*words, "--pixel-spacing-mm", 3, 3, image=bare)
    assert twice.code == 2 and "holds its pixels' size, 3 x 3 mm" in twice.err
    outcome = register(*words, "--source-to-detector-mm", 1020, image=bare)
    assert outcome.code == 0, outcome.err
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert json.loads(first["registration.json"])["refinement"] is None
    assert outcome.err.endswith("mm on the detector.\n")
    assert register(*words, "--source-to-detector-mm", 1020, image=bare).code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


@pytest.mark.parametrize(
    ("words", "changed", "code", "said"),
    [
        (("--model", "x"), {}, 2, "give one of them"),
        (("--source-to-detector-mm", 1000), {}, 2, "holds its geometry"),
        (("--no-mirrored",), {}, 2, "leave --no-mirrored out"),
        (("--source-to-isocenter-mm", 2000), {}, 2, "must be greater than"),
        (("--seed", -1), {}, 2, "--seed"),
        ((), {"ct": "missing.nii.gz"}, 1, "missing.nii.gz does not exist"),
        ((), {"predictions": "other.json"}, 2, "name this image's predictions"),
        ((), {"predictions": "pa.json"}, 2, "is of the image pa.png, not of xray.png"),
        ((), {"predictions": "frame.json"}, 2, "is of frame 3"),
        ((), {"landmarks": "few.csv"}, 1, "needs 4 landmarks"),
    ],
)
def test_refusals(case, register, failed, tmp_path, words, changed, code, said):
    few = LandmarkSet(tuple("abc"), POINTS_RAS_MM[:3])
    write_landmarks(few, case / "few.csv")
    changed = {name: case / file for name, file in changed.items()}
    failed(register("--output", tmp_path / "found", *words, **changed), code, said)
    assert not (tmp_path / "found").exists()


def test_a_folder_with_something_else_is_left_alone(register, failed, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    failed(register("--output", tmp_path), 2, "holds no registration")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_image_without_geometry_is_refused(case, register, failed, tmp_path):
    film = read_sample(case / "film").xray
    write_xray(replace(film, view=None, pixel_spacing_mm=None), tmp_path / "xray.png")
    outcome = register("--output", tmp_path / "found", image=tmp_path / "xray.png")
    failed(outcome, 2, "give --pixel-spacing-mm")
