"""`xraysynth evaluate`, from sets of ours and DeepFluoro's files to the report."""

import csv
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet
from XraySynthLib.data.formats import read_landmarks, write_landmarks
from XraySynthLib.data.formats.prediction_files import Prediction, write_prediction
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.data.sets import SET_NAME, open_set
from XraySynthLib.data.sets.parts import sha256_of

SHIFT_PX = (3, -4)
FIGURES = ("error-versus-detected", "histogram", "success", "pck", "landmarks", "calibration")


def predict(truth, folder, shift_px=SHIFT_PX, sha256="") -> Path:
    """Predictions off by a known shift, what is in the image detected."""
    folder.mkdir()
    for sample in open_set(truth):
        marks = sample.landmarks
        confidence = np.where(marks.visible, 0.9, 0.1)
        points = np.nan_to_num(marks.points_px, nan=0) + shift_px
        found = ImageLandmarkSet(marks.names, points, marks.visible, confidence)
        shape = sample.xray.values.shape
        prediction = Prediction(f"{sample.key}.png", 0, shape, found, None, None, "net", sha256)
        write_prediction(prediction, folder / f"{sample.key}.json")
    return folder


def measures(folder) -> dict[tuple[str, str, str], float]:
    rows = csv.DictReader((folder / "measures.csv").open())
    return {
        (row["name"], row["measure"], row["plane"]): float(row["value"] or "nan") for row in rows
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory, in_process) -> Path:
    """12 X-rays of three subjects, 40 x 48 px of 5 mm."""
    folder = tmp_path_factory.mktemp("evaluate")
    for name in ("anna", "ben", "carl"):
        (folder / "subjects" / name).mkdir(parents=True)
        in_process[1](folder / "subjects" / name)
        path = folder / "subjects" / name / "points.mrk.json"
        points = read_landmarks(path)
        moved = points.points_ras_mm[[0, 0]] + [[0, 0, 0], [-30, 5, 20]]
        write_landmarks(LandmarkSet(points.names, moved), path)
    outcome = in_process[0](
        "export", "--subjects", folder / "subjects", "--output", folder / "set", "--views", 4,
        "--format", "coco", "--shape-px", 40, 48, "--pixel-spacing-mm", 5, 5, "--workers", 1,
        "--no-masks",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    predict(folder / "set", folder / "predictions")
    return folder


@pytest.fixture
def evaluate(whole, xraysynth, tmp_path):
    def run(*words, predictions=None, truth=None, output=None):
        return xraysynth(
            "evaluate", "--predictions", predictions or whole / "predictions",
            "--truth", truth or whole / "set", "--output", output or tmp_path / "out",
            "--resamples", 20, *words,
        )  # fmt: skip

    return run


class TestReport:
    def test_a_known_shift(self, evaluate, whole, tmp_path):
        outcome = evaluate()
        assert outcome.code == 0, outcome.err
        found = measures(tmp_path / "out")
        assert found["all", "mean_error", "px"] == pytest.approx(5)
        assert found["all", "mean_error", "detector"] == pytest.approx(25)
        ratios = [
            s.provenance.config["acquisition"]["pose"]["source_to_isocenter_mm"] / 1020
            for s in open_set(whole / "set")
            for visible in s.landmarks.visible
            if visible
        ]
        expected = pytest.approx(25 * np.mean(ratios), rel=1e-5)
        assert found["all", "mean_error", "isocenter"] == expected
        assert found["all", "detection_rate", ""] == 1
        assert {"anna", "ben", "carl", "bright", "far"} <= {name for name, *_ in found}
        errors = [*csv.DictReader((tmp_path / "out/errors.csv").open())]
        assert len(errors) == 24 and {row["error_px"] for row in errors} <= {"5", ""}

    def test_what_it_writes(self, evaluate, tmp_path):
        assert evaluate().code == 0
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {
            "report.html", "measures.csv", "errors.csv", "worst.png",
            *(f"{figure}{suffix}" for figure in FIGURES for suffix in (".png", ".csv")),
        }  # fmt: skip
        page = (tmp_path / "out/report.html").read_text()
        assert set(re.findall(r'src="([^"]+)"', page)) == {n for n in names if n.endswith(".png")}
        assert "mm, detector plane" in page and "mm, isocentre plane" in page
        assert "3 subjects; of so few" in page and "Not checked" in page

    def test_every_table_says_its_plane(self, evaluate, tmp_path):
        assert evaluate().code == 0
        page = (tmp_path / "out/report.html").read_text()
        headers = re.findall(r"<table>\n<tr>(.*?)</tr>", page)
        assert len(headers) == 5 and all("plane" in header for header in headers)

    def test_the_same_bytes_again(self, evaluate, tmp_path):
        assert evaluate().code == 0 and evaluate(output=tmp_path / "again").code == 0
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        assert evaluate().code == 0  # over itself
        for folder in ("out", "again"):
            after = {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
            assert after == before

    @pytest.mark.parametrize("plane", ["px", "isocenter"])
    def test_planes(self, evaluate, tmp_path, plane):
        assert evaluate("--plane", plane, "--resamples", 0, "--worst", 0).code == 0
        assert (tmp_path / "out/success.png").exists() == (plane != "px")
        assert not (tmp_path / "out/worst.png").exists()

    def test_a_split_alone(self, evaluate, whole, tmp_path):
        some = tmp_path / "some"
        some.mkdir()
        for sample in open_set(whole / "set", "test"):
            shutil.copy(whole / f"predictions/{sample.key}.json", some)
        assert evaluate("--split", "test", predictions=some).code == 0
        errors = [*csv.DictReader((tmp_path / "out/errors.csv").open())]
        assert len(errors) == 8 and len({row["subject"] for row in errors}) == 1
        assert "One subject" in (tmp_path / "out/report.html").read_text()

    def test_nothing_detected(self, evaluate, whole, tmp_path):
        blind = tmp_path / "blind"
        shutil.copytree(whole / "predictions", blind)
        for path in blind.iterdir():
            document = json.loads(path.read_text())
            for point in document["landmarks"]:
                point |= {"visible": False, "px": None, "confidence": 0}
            path.write_text(json.dumps(document))
        outcome = evaluate(predictions=blind)
        assert outcome.code == 0, outcome.err
        found = measures(tmp_path / "out")
        assert found["all", "detection_rate", ""] == 0
        assert np.isnan(found["all", "mean_error", "px"])

    def test_dry_run_writes_nothing(self, evaluate, tmp_path):
        outcome = evaluate("--dry-run", "--progress", "none")
        assert outcome.code == 0 and json.loads(outcome.out)["verb"] == "evaluate"
        assert not (tmp_path / "out").exists()


class TestRefusals:
    @pytest.fixture
    def changed(self, whole, tmp_path):
        """A copy of the predictions, and the first of its files."""
        shutil.copytree(whole / "predictions", tmp_path / "changed")
        return tmp_path / "changed", min((tmp_path / "changed").iterdir())

    def test_a_missing_prediction(self, evaluate, changed, failed):
        changed[1].unlink()
        failed(evaluate(predictions=changed[0]), 1, "1 of 12 images have no prediction")

    def test_a_damaged_one(self, evaluate, changed, failed):
        changed[1].write_bytes(changed[1].read_bytes()[:200])
        failed(evaluate(predictions=changed[0]), 1, changed[1].name)

    def test_another_kind_of_json(self, evaluate, changed, failed):
        (changed[0] / "config.json").write_text("{}")
        failed(evaluate(predictions=changed[0]), 1, "config.json")

    def test_other_landmarks(self, evaluate, changed, failed, tmp_path):
        for path in changed[0].iterdir():
            path.write_text(path.read_text().replace('"far"', '"near"'))
        failed(evaluate(predictions=changed[0]), 1, "lacks far; choose with --landmarks")
        failed(evaluate("--landmarks", "none", predictions=changed[0]), 1, "lacks none")
        assert not (tmp_path / "out").exists()
        assert evaluate("--landmarks", "bright", predictions=changed[0]).code == 0

    def test_no_image_in_common(self, evaluate, whole, tmp_path, failed):
        (tmp_path / "one").mkdir()
        path = min((whole / "predictions").iterdir())
        shutil.copy(path, tmp_path / "one/else.json")
        failed(evaluate(predictions=tmp_path / "one"), 1, "No prediction is for an image")

    def test_folders(self, evaluate, whole, tmp_path, failed):
        failed(evaluate(predictions=tmp_path / "none"), 1, "no folder")
        failed(evaluate(truth=tmp_path / "none"), 1, "no such file")
        (tmp_path / "thesis.txt").write_text("precious")
        failed(evaluate(output=tmp_path), 2, "not empty")
        failed(evaluate(output=tmp_path / "thesis.txt"), 2, "is a file")

    def test_a_split_without_images(self, evaluate, whole, tmp_path, failed):
        shutil.copytree(whole / "set", tmp_path / "set")
        (tmp_path / "set/annotations/test.json").unlink()
        (tmp_path / "set" / SET_NAME).unlink()  # as in a set of somebody else
        outcome = evaluate("--split", "test", truth=tmp_path / "set")
        failed(outcome, 1, "set has no images in its test split")

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--resamples", -1), "--resamples"),
            (("--landmarks", "far", "far"), "twice"),
            (("--plane", "moon"), "--plane"),
        ],
    )
    def test_options(self, evaluate, words, says, failed):
        failed(evaluate(*words), 2, says)

    def test_people_seen_in_training(self, evaluate, whole, tmp_path, failed):
        model = tmp_path / "model"
        model.mkdir()
        (model / "model.safetensors").write_bytes(b"weights")
        digest = sha256_of(model / "model.safetensors")
        found = predict(whole / "set", tmp_path / "by-model", sha256=digest)
        (model / "config.json").write_text('{"people": ["ben", "dora"]}')
        failed(evaluate("--model", model, predictions=found), 1, "ben")
        (model / "config.json").write_text('{"people": ["dora"]}')
        outcome = evaluate("--model", model, predictions=found)
        assert outcome.code == 0, outcome.err
        assert "Nobody tested on" in (tmp_path / "out/report.html").read_text()
        failed(evaluate("--model", model), 1, "none of those")


class TestDeepFluoro:
    """Files with the real names, in both layouts."""

    @pytest.fixture
    def preprocessed(self, tmp_path):
        """Three specimens, two images each, 8 times smaller: pixels of 1.552 mm."""
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "ipcai_2020_ds_8x.h5"
        rng = np.random.default_rng(0)
        with h5py.File(path, "w") as file:
            file["land-names/num-lands"] = np.uint64(14)
            for number, name in enumerate(LANDMARK_NAMES):
                file[f"land-names/land-{number:02d}"] = np.bytes_(name)
            for group in ("01", "02", "03"):
                file[f"{group}/projs"] = rng.random((2, 180, 180), np.float32)
                file[f"{group}/segs"] = np.zeros((2, 180, 180), np.uint8)
                points = rng.uniform(10, 170, (2, 2, 14)).astype(np.float32)
                points[:, :, 3] = np.inf
                points[:, :, 5] = -40  # a place beyond the image's edge
                file[f"{group}/lands"] = points
        return path

    def test_preprocessed(self, preprocessed, evaluate, tmp_path):
        found = predict(preprocessed, tmp_path / "found")
        outcome = evaluate(predictions=found, truth=preprocessed)
        assert outcome.code == 0, outcome.err
        values = measures(tmp_path / "out")
        assert values["mean of subjects", "mean_error", "detector"] == pytest.approx(5 * 0.194 * 8)
        assert {"17-1882", "18-1109", "18-0725"} <= {name for name, *_ in values}
        assert ("all", "mean_error", "isocenter") not in values
        rows = [*csv.DictReader((tmp_path / "out/errors.csv").open())]
        assert {r["known"] for r in rows if r["landmark"] == LANDMARK_NAMES[3]} == {"0"}
        beyond = [r for r in rows if r["landmark"] == LANDMARK_NAMES[5]]
        assert {(r["known"], r["in_image"]) for r in beyond} == {("1", "0")}
        page = (tmp_path / "out/report.html").read_text()
        assert "6 of 6 images have no known distance of the isocentre" in page
        assert "6.44" in page and "6 not, 6 not known" in page

    def test_infinite_may_mean_absent(self, preprocessed, evaluate, tmp_path):
        found = predict(preprocessed, tmp_path / "found")
        outcome = evaluate("--nowhere", "absent", predictions=found, truth=preprocessed)
        assert outcome.code == 0, outcome.err
        assert "12 not, 0 not known" in (tmp_path / "out/report.html").read_text()

    def test_full_resolution(self, evaluate, tmp_path):
        pytest.importorskip("h5py")
        file = Path(__file__).parents[1] / "data/sets/test_deepfluoro_full.py"
        spec = importlib.util.spec_from_file_location("deepfluoro_full_writer", file)
        writer = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(writer)
        path = tmp_path / "ipcai_2020_full_res_data.h5"
        writer.write_full(path)
        found = predict(path, tmp_path / "found", shift_px=(2, 0))
        outcome = evaluate(predictions=found, truth=path)
        assert outcome.code == 0, outcome.err
        values = measures(tmp_path / "out")
        assert values["all", "mean_error", "px"] == pytest.approx(2)
        spacing_mm = writer.SPACING_MM["col"]
        assert values["18-1109", "mean_error", "detector"] == pytest.approx(2 * spacing_mm)
        assert {name for name, *_ in values} >= {"17-1882", "18-1109", "mean of subjects"}

    def test_truncated(self, preprocessed, evaluate, tmp_path, failed):
        found = predict(preprocessed, tmp_path / "found")
        preprocessed.write_bytes(preprocessed.read_bytes()[:3000])
        failed(evaluate(predictions=found, truth=preprocessed), 1, preprocessed.name)
