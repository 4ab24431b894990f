"""Predictions and truth brought together; people seen in training are named."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Provenance, Quantity, Sample, Xray
from XraySynthLib.data.formats.prediction_files import (
    Prediction,
    read_prediction,
    write_prediction,
)
from XraySynthLib.data.sets import SplitOverlapError
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.evaluation import (
    EvaluationError,
    Plane,
    compare,
    read_predictions,
    refuse_trained_on,
)
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm

NAMES = ("FH-l", "FH-r", "GSN-l")
ROWS, COLUMNS = 40, 60


def make_sample(key="p1-000", subject="p1", names=NAMES, known_pose=True) -> Sample:
    """FH-l and FH-r in the image, GSN-l not defined; the isocentre at 60%."""
    pose = CArmPose(10, -5, 2, source_to_isocenter_mm=600)
    intrinsics = Intrinsics(1000, [4.0, 5.0], (ROWS, COLUMNS))
    view = view_from_carm(pose, intrinsics)
    points = LandmarkSet(names, [[-20, 0, 5], [20, 0, 5], [np.nan] * 3][: len(names)])
    config = {"acquisition": {"pose": {"source_to_isocenter_mm": 600}}} if known_pose else {}
    return Sample(
        key,
        Xray(np.zeros((ROWS, COLUMNS)), Quantity.DISPLAY, view=view),
        points.seen_from(view),
        None,
        Provenance("simulated", subject, config=config),
    )


def prediction_for(sample, names=NAMES, shift_px=(0, 0), shape=(ROWS, COLUMNS), sha256=""):
    """In another order than the truth's."""
    truth = dict(zip(sample.landmarks.names, sample.landmarks.points_px, strict=True))
    names = names[::-1]
    points = np.nan_to_num([truth.get(name, [1.0, 1.0]) for name in names], nan=2.0) + shift_px
    landmarks = ImageLandmarkSet(
        names, points, np.ones(len(names), bool), np.linspace(0.5, 0.9, len(names))
    )
    return Prediction(f"{sample.key}.png", 0, shape, landmarks, None, None, "net", sha256)


class TestCompare:
    def test_columns(self):
        samples = [make_sample("p2-000", "p2"), make_sample("p1-000")]
        predictions = {s.key: prediction_for(s, shift_px=(3, 0)) for s in samples}
        found = compare(samples, predictions | {"other": predictions["p1-000"]})
        assert found.keys.tolist() == ["p1-000", "p2-000"]
        assert found.subjects.tolist() == ["p1", "p2"] and found.landmark_names == NAMES
        np.testing.assert_allclose(found.errors(Plane.PIXELS)[0], [3, 3, np.nan])
        np.testing.assert_allclose(found.errors(Plane.DETECTOR)[0], [12, 12, np.nan])
        np.testing.assert_allclose(found.errors(Plane.ISOCENTER)[0], [7.2, 7.2, np.nan])
        np.testing.assert_allclose(found.confidence[0], [0.9, 0.7, 0.5])
        assert found.known[0].tolist() == [True, True, False]
        assert found.shape_px.tolist() == [[ROWS, COLUMNS]] * 2

    def test_nowhere_may_mean_absent(self):
        sample = make_sample()
        found = compare([sample], {sample.key: prediction_for(sample)}, nowhere_is_absent=True)
        assert found.known.all() and found.visible[0].tolist() == [True, True, False]

    def test_without_a_pose_there_is_no_isocentre(self):
        sample = make_sample(known_pose=False)
        found = compare([sample], {sample.key: prediction_for(sample)})
        assert found.planes == (Plane.PIXELS, Plane.DETECTOR)

    def test_chosen_landmarks(self):
        sample = make_sample()
        more = prediction_for(sample, names=(*NAMES, "extra"))
        found = compare([sample], {sample.key: more}, ("FH-r", "FH-l"))
        assert found.landmark_names == ("FH-r", "FH-l")
        np.testing.assert_allclose(found.errors(Plane.PIXELS), 0, atol=1e-12)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"names": (*NAMES, "extra")}, "prediction for p1-000 also has extra"),
            ({"names": NAMES[:2]}, "prediction for p1-000 lacks GSN-l"),
            ({"names": ("A", "B")}, "lacks FH-l, FH-r, GSN-l"),
            ({"shape": (ROWS, 30)}, "(40, 30)"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change, says):
        sample = make_sample()
        with pytest.raises(EvaluationError, match=re.escape(says)):
            compare([sample], {sample.key: prediction_for(sample, **change)})

    @pytest.mark.parametrize(
        ("key", "image", "frame"),
        [
            ("p1-000", "p1-000.png", 0),
            ("p1-000", "p1-000", 0),  # a set without image files
            ("ap.1", "ap.1.tiff", 0),
            ("ben-ap", "ap.dcm", 0),  # a folder's name before it
            ("ben-ap", "ben/ap.dcm", 0),
            ("ben-run-0002", "run.dcm", 2),
            ("run-0000", "run.dcm", 0),
            ("ben-00000007", "00003.tiff", 0),  # SyntheX
        ],
    )
    def test_a_key_is_of_its_image(self, key, image, frame):
        sample = make_sample(key)
        found = replace(prediction_for(sample), image=image, frame=frame)
        assert compare([sample], {key: found}).keys.tolist() == [key]

    @pytest.mark.parametrize(
        ("key", "image", "frame", "says"),
        [
            ("p1-000", "p1-001.png", 0, "for p1-000 is of p1-001.png: call"),
            ("p1-000", "000.5.png", 0, "is of 000.5.png"),
            ("run-0001", "run.dcm", 2, "is of run.dcm, frame 2"),
            ("run", "run.dcm", 1, "is of run.dcm, frame 1"),
            ("0001", "0002.png", 0, "is of 0002.png"),
        ],
    )
    def test_another_image_is_refused(self, key, image, frame, says):
        sample = make_sample(key)
        found = replace(prediction_for(sample), image=image, frame=frame)
        with pytest.raises(EvaluationError, match=re.escape(says)):
            compare([sample], {key: found})

    def test_another_view_is_refused(self):
        sample = make_sample()
        found, view = prediction_for(sample), sample.xray.view
        rounded = replace(view, ras_from_camera=view.ras_from_camera.round(6))
        assert compare([sample], {sample.key: replace(found, view=rounded)})
        pose = CArmPose(11, -5, 2, source_to_isocenter_mm=600)
        turned = view_from_carm(pose, view.intrinsics)
        coarser = replace(view, intrinsics=replace(view.intrinsics, pixel_spacing_mm=(5, 5)))
        for other in (turned, coarser):
            with pytest.raises(EvaluationError, match="p1-000 is of another view"):
                compare([sample], {sample.key: replace(found, view=other)})

    def test_keys(self):
        one, other = make_sample(), make_sample("p1-001")
        with pytest.raises(EvaluationError, match="1 of 2 images have no prediction: p1-001"):
            compare([one, other], {one.key: prediction_for(one)})
        with pytest.raises(EvaluationError, match="called x, images p1-000"):
            compare([one], {"x": prediction_for(one)})
        with pytest.raises(EvaluationError, match="Two images"):
            compare([one, one], {one.key: prediction_for(one)})
        with pytest.raises(EvaluationError, match="no images"):
            compare([], {})


class TestFiles:
    def test_round_trip_and_literal(self, tmp_path):
        sample = make_sample()
        landmarks = ImageLandmarkSet(
            ("a", "b"), [[1.5, 2], [np.nan] * 2], np.array([True, False]), np.array([0.75, 0])
        )
        view = sample.xray.view
        wrote = Prediction("x.dcm", 3, (4, 5), landmarks, np.array([0.2, 0.3]), view, "n", "ab")
        write_prediction(wrote, tmp_path / "x.json")
        document = json.loads((tmp_path / "x.json").read_text())
        assert document.pop("view") == view.to_dict()
        assert document == {
            "format": "xraysynth-landmarks",
            "format_version": 1,
            "image": "x.dcm",
            "frame": 3,
            "shape_px": [4, 5],
            "pixel_spacing_mm": [0.2, 0.3],
            "landmarks": [
                {"name": "a", "px": [1.5, 2.0], "visible": True, "confidence": 0.75},
                {"name": "b", "px": None, "visible": False, "confidence": 0.0},
            ],
            "model": {"name": "n", "sha256": "ab"},
        }
        write_prediction(read_prediction(tmp_path / "x.json"), tmp_path / "y.json")
        assert (tmp_path / "x.json").read_bytes() == (tmp_path / "y.json").read_bytes()

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"format": "else"}, "format"),
            ({"format_version": 2}, "update"),
            ({"model": "net"}, "model"),
            ({"shape_px": [4]}, "shape_px"),
            ({"shape_px": [4, 0]}, "shape_px"),
            ({"frame": -1}, "frame"),
            ({"pixel_spacing_mm": [0, 1]}, "pixel_spacing_mm"),
            ({"view": {}}, "view"),
            ({"landmarks": [{"name": "a"}]}, "Landmarks"),
            ({"landmarks": None}, "Landmarks"),
            (
                {"landmarks": [{"name": "a", "px": None, "visible": True, "confidence": 1}]},
                "visible",
            ),
            (
                {"landmarks": [{"name": "a", "px": [1, 1], "visible": True, "confidence": 2}]},
                "confidence",
            ),
        ],
    )
    def test_damage_is_one_sentence(self, tmp_path, change, says):
        path = tmp_path / "x.json"
        write_prediction(prediction_for(make_sample()), path)
        document = json.loads(path.read_text()) | change
        path.write_text(json.dumps(document))
        with pytest.raises(UnreadableFileError, match=says):
            read_prediction(path)
        document.pop("landmarks")
        path.write_text(json.dumps(document)[:-5])
        with pytest.raises(UnreadableFileError, match="damaged"):
            read_prediction(path)

    def test_folder(self, tmp_path):
        with pytest.raises(UnreadableFileError, match="no predictions"):
            read_predictions(tmp_path)
        with pytest.raises(UnreadableFileError, match="no folder"):
            read_predictions(tmp_path / "none")
        write_prediction(prediction_for(make_sample()), tmp_path / "a.b.json")
        (tmp_path / "a.b.mrk.json").write_text("{}")
        assert [*read_predictions(tmp_path)] == ["a.b"]


class TestOverlap:
    @staticmethod
    def model(folder, people, weights):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"people": people}))
        (folder / "model.safetensors").write_bytes(weights)
        return sha256_of(folder / "model.safetensors")

    def test_leaving_one_out(self, tmp_path):
        """Each specimen is looked at by the model that was trained on the other."""
        without_p1 = self.model(tmp_path / "m1", ["p2"], b"1")
        without_p2 = self.model(tmp_path / "m2", ["p1"], b"2")
        samples = [make_sample(), make_sample("p2-000", "p2")]
        folders = [tmp_path / "m1", tmp_path / "m2"]
        by_model = {"p1-000": without_p1, "p2-000": without_p2}
        predictions = {s.key: prediction_for(s, sha256=by_model[s.key]) for s in samples}
        refuse_trained_on(compare(samples, predictions), predictions, folders)
        wrong = {s.key: prediction_for(s, sha256=without_p1) for s in samples}
        with pytest.raises(SplitOverlapError, match="p2"):
            refuse_trained_on(compare(samples, wrong), wrong, folders)
        with pytest.raises(EvaluationError, match="none of those"):
            refuse_trained_on(compare(samples, predictions), predictions, folders[:1])

    def test_a_folder_that_is_no_model(self, tmp_path):
        sample = make_sample()
        predictions = {sample.key: prediction_for(sample)}
        comparison = compare([sample], predictions)
        with pytest.raises(UnreadableFileError, match="no such file"):
            refuse_trained_on(comparison, predictions, [tmp_path])
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(UnreadableFileError, match="trained on"):
            refuse_trained_on(comparison, predictions, [tmp_path])
        (tmp_path / "config.json").write_text('{"people": ["p3"]}')
        with pytest.raises(UnreadableFileError, match="no model"):
            refuse_trained_on(comparison, predictions, [tmp_path])
