"""`xraysynth project` from its options to its files, in process, on a tiny patient."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from XraySynthLib.data import Quantity
from XraySynthLib.data.formats import read_sample, read_xray, write_labels
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthLib.geometry.converters.slicer import write_ras_from_carm
from XraySynthLib.workflows import project as workflow
from XraySynthLib.workflows.project import subject_name

DETECTOR = ("--shape-px", 60, 64, "--pixel-spacing-mm", 4, 3)
"""240 x 192 mm: the patient fills it nearly."""


@pytest.fixture
def run(xraysynth, patient):
    """`run("--preset", "pa")` projects the patient into `patient / "out"`."""

    def run(*words, ct="ct.nii.gz", output="out"):
        given = ("--ct", patient / ct, "--output", patient / output)
        detector = () if "--view" in words else DETECTOR  # a View has its own
        return xraysynth("project", *given, *detector, *words)

    return run


@pytest.fixture
def image(run, patient):
    """`image("--preset", "pa")`: the values of the xray.tiff that comes of it."""

    def image(*words):
        outcome = run(*words, output="image")
        assert outcome.code == 0, outcome.err
        return read_sample(patient / "image").xray.values

    return image


class TestFiles:
    def test_all_of_them(self, run, patient):
        outcome = run(
            "--landmarks", patient / "points.mrk.json", "--labels", patient / "labels.nii.gz"
        )
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out == f"Wrote {patient / 'out'}\n"
        names = {path.name for path in (patient / "out").iterdir()}
        assert names == {"sample.json", "xray.tiff", "xray.png", "labels.png"}
        sample = read_sample(patient / "out")
        assert sample.key == sample.provenance.subject == patient.resolve().name  # a ct.nii.gz
        assert sample.provenance.kind == "simulated" and sample.provenance.seed == (0, 0)
        assert sample.provenance.config["ct"] == str(patient / "ct.nii.gz")
        assert sample.xray.quantity is Quantity.LINE_INTEGRAL
        assert sample.xray.values.shape == (60, 64)
        np.testing.assert_allclose(sample.xray.pixel_spacing_mm, [4, 3])
        assert set(sample.masks) == {"label 3", "label 7"}
        assert 0 < sample.masks["label 7"].sum() < sample.masks["label 3"].sum() < 60 * 64 / 4

    def test_the_picture_is_the_image_as_display_dense_bright(self, run, patient):
        assert run("--window", 0, 4, "--detail", 0).code == 0
        shown = read_xray(patient / "out" / "xray.png")
        line_integral = read_sample(patient / "out").xray.values
        assert shown.quantity is Quantity.DISPLAY
        np.testing.assert_allclose(
            shown.values, np.clip(line_integral / 4, 0, 1), atol=0.5 / 255 + 1e-6
        )

    def test_a_blob_in_air_is_imaged_at_its_landmark_to_a_tenth_of_a_pixel(
        self, xraysynth, patient, a_blob
    ):
        ct, landmarks = a_blob
        words = ("--secondary-deg", 20, "--primary-deg", -30, "--landmarks", landmarks)
        given = ("--ct", ct, "--output", patient / "blob", *DETECTOR)
        assert xraysynth("project", *given, *words).code == 0
        sample = read_sample(patient / "blob")
        values = sample.xray.values
        rows, columns = np.indices(values.shape)
        found = np.array([(values * columns).sum(), (values * rows).sum()]) / values.sum()
        np.testing.assert_allclose(found, sample.landmarks.points_px[0], atol=0.1)

    def test_quantities_are_one_image(self, run, patient):
        values = {}
        for quantity in Quantity:
            assert run("--quantity", quantity.value).code == 0
            xray = read_sample(patient / "out").xray
            assert xray.quantity is quantity
            values[quantity] = xray.values
        line_integral = values[Quantity.LINE_INTEGRAL]
        np.testing.assert_allclose(values[Quantity.TRANSMISSION], np.exp(-line_integral), rtol=1e-4)
        assert values[Quantity.DISPLAY].min() == 0 and values[Quantity.DISPLAY].max() == 1

    def test_only_the_labels_asked_for(self, run, patient):
        words = ("--labels", patient / "labels.nii.gz", "--label-values", 7)
        assert run(*words).code == 0
        assert set(read_sample(patient / "out").masks) == {"label 7"}

    def test_again_into_the_same_folder(self, run, patient):
        assert run("--labels", patient / "labels.nii.gz").code == 0
        (patient / "out" / "notes.txt").write_text("mine")
        assert run("--preset", "pa").code == 0
        names = {path.name for path in (patient / "out").iterdir()}
        assert names == {"sample.json", "xray.tiff", "xray.png", "notes.txt"}
        assert read_sample(patient / "out").provenance.config["preset"] == "pa"

    @pytest.mark.parametrize(
        ("name", "subject"),
        [
            ("a.nii.gz", "a"), ("a.b.nrrd", "a.b"), ("A.NII", "A"), ("a.seg.nrrd", "a"),
            ("c:d.mha", "c_d"), ("1.2.840.dcm", "1.2.840"), ("IM.0001", "IM.0001"),
            (".nrrd", ".nrrd"),
        ],
    )  # fmt: skip
    def test_subjects_are_named_for_files(self, tmp_path, name, subject):
        assert subject_name(tmp_path / name) == subject

    def test_subjects_are_named_for_folders(self, tmp_path, monkeypatch):
        folder = tmp_path / "patient.01.nrrd"
        folder.mkdir()
        assert subject_name(folder) == "patient.01.nrrd"
        monkeypatch.chdir(folder)
        assert subject_name(type(folder)(".")) == "patient.01.nrrd"


class TestView:
    POSE = CArmPose(-45.0, 0.0, 0.0, (10, -20, 30), 530.0)

    def test_every_way_of_giving_it_is_the_same_image(self, image, patient):
        view = view_from_carm(self.POSE, Intrinsics(1020.0, (4, 3), (60, 64)))
        (patient / "view.json").write_text(view.to_json())
        write_ras_from_carm(self.POSE, patient / "carm.h5")
        write_ras_from_carm(self.POSE, patient / "carm.tfm")
        by_angles = image("--primary-deg", -45)  # about the middle, which is (10, -20, 30)
        for words in (
            ("--preset", "judet-obturator-right"),
            ("--primary-deg", -45, "--isocenter-ras-mm", 10, -20, 30),
            ("--view", patient / "view.json"),
            ("--view", patient / "image" / "sample.json"),
            ("--transform", patient / "carm.h5"),
            ("--transform", patient / "carm.tfm"),
        ):
            np.testing.assert_allclose(image(*words), by_angles, atol=1e-5, err_msg=str(words))
        assert np.abs(image("--primary-deg", 45) - by_angles).max() > 0.5

    def test_the_view_written_is_the_view_asked_for(self, run, patient):
        words = ("--primary-deg", -30, "--secondary-deg", 20, "--roll-deg", -5)
        assert run(*words, "--source-to-isocenter-mm", 600, "--no-mirrored").code == 0
        view = read_sample(patient / "out").xray.view
        pose = CArmPose(-30, 20, -5, (10, -20, 30), 600)
        expected = view_from_carm(pose, Intrinsics(1020, (4, 3), (60, 64), mirrored=False))
        np.testing.assert_allclose(view.ras_from_camera, expected.ras_from_camera, atol=1e-9)
        assert view.intrinsics.mirrored is False

    def test_literal_sides_at_0_0(self, run, patient):
        """The bone is at the patient's left and front, the blob at the right, toward the head."""
        words = ("--labels", patient / "labels.nii.gz", "--landmarks", patient / "points.mrk.json")
        assert run(*words).code == 0
        sample = read_sample(patient / "out")
        bone, blob = (np.argwhere(mask).mean(axis=0) for mask in sample.masks.values())
        assert blob[1] < 31.5 < bone[1] and blob[0] < 29.5
        np.testing.assert_allclose(blob[::-1], sample.landmarks.points_px[0], atol=0.6)
        # By hand: i = 17 is 22 mm right of the isocentre, k = 14 is 18 mm above, j = 9 6 mm behind,
        # so 524 mm from the source: 31.5 - 22 * 1020 / 524 / 4 and 29.5 - 18 * 1020 / 524 / 3.
        np.testing.assert_allclose(sample.landmarks.points_px[0], [20.794, 17.821], atol=1e-3)
        assert sample.landmarks.visible.tolist() == [True, False]

    def test_more_than_one_way_is_refused(self, run, patient, failed):
        (patient / "view.json").write_text("{}")
        failed(run("--preset", "ap", "--primary-deg", 0), 2, "not by angles and --preset")
        failed(run("--view", patient / "view.json", "--preset", "ap"), 2, "--preset and --view")
        words = ("--view", patient / "view.json", "--shape-px", 9, 9)
        failed(run(*words), 2, "leave --shape-px out")
        words = ("--transform", patient / "view.json", "--isocenter-ras-mm", 0, 0, 0)
        failed(run(*words), 2, "leave --isocenter-ras-mm out")

    @pytest.mark.parametrize("angle", ["-1e-05", "-0.5", "1e1", "-3"])
    def test_negative_and_scientific_numbers(self, run, patient, angle):
        words = ("--primary-deg", angle, "--isocenter-ras-mm", "-1e-1", "-2e1", "-.5")
        assert run(*words).code == 0
        config = read_sample(patient / "out").provenance.config
        assert config["primary_deg"] == float(angle)
        assert config["isocenter_ras_mm"] == [-0.1, -20, -0.5]


class TestConfig:
    def a_config(self, patient, **options):
        path = patient / "config.json"
        path.write_text(json.dumps(options))
        return path

    def test_options_override_the_file_and_the_file_the_defaults(self, xraysynth, patient):
        options = {
            "verb": "project",
            "ct": str(patient / "ct.nii.gz"),
            "output": str(patient / "out"),
            "shape_px": [30, 32],
            "pixel_spacing_mm": [8, 6],
            "primary_deg": -30.5,
            "isocenter_ras_mm": [-1e-05, -20, 3.0],
            "mirrored": False,
            "labels": str(patient / "labels.nii.gz"),
            "label_values": [3, 7],
            "window": None,
            "kvp": 120,
        }
        config = self.a_config(patient, **options)
        words = ("--kvp", 60, "--label-values", 7)
        for given in (("--config", config, *words), (*words, f"--config={config}")):
            outcome = xraysynth("project", *given)
            assert outcome.code == 0, outcome.err
            used = read_sample(patient / "out").provenance.config
            assert used["kvp"] == 60 and used["label_values"] == [7]
            for name in ("shape_px", "pixel_spacing_mm", "primary_deg", "isocenter_ras_mm"):
                assert used[name] == options[name]
            assert used["mirrored"] is False and used["engine"] == "numba"

    def test_what_a_dry_run_prints_is_a_config_that_runs(self, run, xraysynth, patient):
        words = ("--roll-deg", "-3", "--no-mirrored", "--physics", "full", "--window", "-0.5", "6")
        outcome = run(*words, "--dry-run")
        assert outcome.code == 0 and outcome.err == ""
        assert not (patient / "out").exists()
        (patient / "printed.json").write_text(outcome.out)
        assert json.loads(outcome.out)["verb"] == "project"
        again = xraysynth("project", "--config", patient / "printed.json", "--dry-run")
        assert again.out == outcome.out
        assert xraysynth("project", "--config", patient / "printed.json").code == 0
        first = (patient / "out" / "xray.tiff").read_bytes()
        assert run(*words).code == 0
        assert (patient / "out" / "xray.tiff").read_bytes() == first

    def test_values_may_begin_with_a_dash(self, run, patient, monkeypatch):
        monkeypatch.chdir(patient)
        config = self.a_config(patient, landmarks="-points.csv")
        (patient / "-points.csv").write_text("name,x_ras_mm,y_ras_mm,z_ras_mm\na,10,-20,30\n")
        assert run("--config", config).code == 0
        assert read_sample(patient / "out").landmarks.names == ("a",)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"colour": 1}, "has the option 'colour'"),
            ({"verb": "demo"}, "for another verb"),
            ({"kvp": "x"}, "--kvp"),
            ({"shape_px": [24]}, "--shape-px"),
        ],
    )
    def test_a_wrong_file_is_named(self, run, patient, failed, options, words):
        failed(run("--config", self.a_config(patient, **options)), 2, words)

    def test_a_file_that_is_not_there(self, run, failed):
        failed(run("--config", "nothing.json"), 2, "nothing.json")
        failed(run("--config"), 2, "--config needs a file")


class TestSeeds:
    WORDS = ("--physics", "full", "--photons-per-mm2", 100)

    def test_the_same_seed_gives_the_same_bytes(self, run, patient):
        files = []
        for seed in (5, 5, 6):
            assert run(*self.WORDS, "--seed", seed).code == 0
            folder = patient / "out"
            files.append([(folder / name).read_bytes() for name in ("xray.tiff", "xray.png")])
        assert files[0] == files[1]
        assert files[0] != files[2]

    def test_the_seed_changes_the_noise_alone(self, image):
        one, other = image(*self.WORDS, "--seed", 5), image(*self.WORDS, "--seed", 6)
        assert 0.001 < np.abs(one - other).mean() < 0.5
        np.testing.assert_array_equal(image("--seed", 5), image("--seed", 6))

    def test_a_negative_seed_is_refused(self, run, failed):
        failed(run("--seed", -1), 2, "--seed")


class TestProgress:
    def test_json_lines(self, run, patient):
        lines = [json.loads(line) for line in run("--progress", "json").out.splitlines()]
        etas = [line.pop("eta_s") for line in lines[:-1]]
        assert lines[:-1] == [{"stage": "project", "done": n, "total": 4} for n in range(5)]
        assert etas[0] is None and min(etas[1:]) >= 0 and etas[-1] == 0
        assert lines[-1] == {"result": str(patient / "out")}

    def test_none(self, run, patient):
        assert run("--progress", "none").out == f"Wrote {patient / 'out'}\n"


class TestFailures:
    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("--kvp", "65"), 2, "65 kVp"),
            (("--kvp", "x"), 2, "--kvp"),
            (("--preset", "sideways"), 2, "no view preset 'sideways'"),
            (("--colour", "red"), 2, "--colour"),
            (("--quantity", "hu"), 2, "--quantity"),
            (("--shape-px", "9"), 2, "--shape-px"),
            (("--label-values", "3"), 2, "--label-values needs --labels"),
            (("--landmarks", "nowhere.csv"), 1, "nowhere.csv does not exist"),
            (("--window", "3", "3"), 2, "--window"),
            (("--window", "50", "60"), 1, "--window"),
            (("--detail", "nan"), 2, "--detail"),
            (("--shape-px", "1000000", "1000000"), 2, "shape_px"),
            (("--isocenter-ras-mm", "4000", "0", "0"), 1, "check the isocentre"),
            (("--source-to-isocenter-mm", "1020"), 2, "source_to_isocenter_mm"),
            (("--blur-mm", "1e9"), 2, "blur_mm"),
        ],
    )
    def test_options(self, run, patient, failed, words, code, said):
        failed(run(*words), code, said)
        assert not (patient / "out").exists()

    def test_the_command_line_overrules_the_view_of_a_config_file(self, run, patient):
        (patient / "config.json").write_text('{"primary_deg": 30, "kvp": 70}')
        assert run("--config", patient / "config.json", "--preset", "pa").code == 0
        config = read_sample(patient / "out").provenance.config
        assert (config["preset"], config["primary_deg"], config["kvp"]) == ("pa", None, 70)

    def test_a_subject_may_be_named(self, run, patient):
        assert run("--subject", "P:7").code == 0
        assert read_sample(patient / "out").provenance.subject == "P_7"

    def test_a_device_that_is_not_there(self, run, failed):
        failed(run("--device", "banana"), 2, "--device")
        failed(run("--device", "cuda:99", "--engine", "torch"), 1, "cuda:99")

    def test_required_options(self, xraysynth, failed):
        failed(xraysynth("project"), 2, "--ct")
        failed(xraysynth("project", "--ct", "a"), 2, "--output")

    def test_labels(self, run, patient, failed):
        labels = ("--labels", patient / "labels.nii.gz", "--label-values")
        failed(run(*labels, 3, 8), 2, "has no label 8")
        volume = np.arange(20 * 22 * 24).reshape(20, 22, 24) % 30
        from XraySynthLib.data.formats import read_volume

        ras_from_ijk = read_volume(patient / "ct.nii.gz").ras_from_ijk
        write_labels(volume, ras_from_ijk, patient / "many.nii.gz")
        failed(run("--labels", patient / "many.nii.gz"), 2, "name fewer with --label-values")
        assert run("--labels", patient / "many.nii.gz", "--label-values", 5, 29).code == 0

    def test_an_output_that_is_a_file(self, run, patient, failed):
        failed(run(output="points.mrk.json"), 2, "is a file; name a folder")
        failed(run(output="points.mrk.json/below"), 1, "points.mrk.json")

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
    def test_an_output_that_may_not_be_written(self, run, patient, failed):
        (patient / "closed").mkdir(mode=0o500)
        failed(run(output="closed/out"), 1, "closed/out")

    @pytest.mark.parametrize("name", ["write_xray", "write_sample"])
    def test_a_full_disk_leaves_no_sample(self, run, patient, failed, monkeypatch, name):
        from XraySynthLib.data import formats

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device", "xray")

        assert run().code == 0
        monkeypatch.setattr(formats, name, full)
        failed(run("--preset", "pa"), 1, "No space left")
        assert not (patient / "out" / "sample.json").exists()

    def test_a_disk_that_fills_while_a_file_is_written(self, run, patient, failed, monkeypatch):
        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        failed(run(), 1, "No space left")
        assert list((patient / "out").iterdir()) == []

    def test_interrupted(self, run, patient, failed, monkeypatch):
        from XraySynthLib import drr

        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(drr, "expose", interrupted)
        failed(run(), 1, "Interrupted; the same command starts over.")
        assert not (patient / "out" / "sample.json").exists()

    def test_no_memory(self, run, failed, monkeypatch):
        from XraySynthLib import drr

        def full(*_, **__):
            raise MemoryError

        monkeypatch.setattr(drr, "expose", full)
        failed(run(), 1, "MemoryError")

    def test_a_failure_before_writing_leaves_the_last_sample_whole(self, run, patient, failed):
        assert run().code == 0
        failed(run("--isocenter-ras-mm", 4000, 0, 0), 1, "isocentre")
        assert read_sample(patient / "out").provenance.config["kvp"] == 90

    def test_a_long_message_is_cut(self, run, patient, failed):
        view = View.from_json((self.a_view(patient)).read_text()).to_dict()
        view["principal_point_px"] = list(range(5000))
        (patient / "view.json").write_text(json.dumps(view))
        failed(run("--view", patient / "view.json"), 1, "view.json")

    def a_view(self, patient):
        view = view_from_carm(CArmPose(), Intrinsics(1020.0, (4, 3), (60, 64)))
        (patient / "good.json").write_text(view.to_json())
        return patient / "good.json"

    def test_programming_errors_are_not_hidden(self, run, monkeypatch):
        def broken(*_):
            raise TypeError("a bug")

        monkeypatch.setattr(workflow, "view_of", broken)
        with pytest.raises(TypeError, match="a bug"):
            run()
