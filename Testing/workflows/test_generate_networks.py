"""`xraysynth generate` with networks: of a user's label map, and by MAISI; tiny ones."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from XraySynthLib.anatomy.label_maps import tissue_table
from XraySynthLib.anatomy.parts import LABEL_IDS, Bone
from XraySynthLib.anatomy.render import render_ct
from XraySynthLib.anatomy.subject import sample_subject
from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.data.formats import read_labels, read_landmarks, read_volume, write_labels
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.geometry.transforms import rotation, translation
from XraySynthLib.workflows import generate

TINY = ((32, 32, 32), 10.0)
TS = LABEL_IDS["totalsegmentator"]
OFFSET_RAS_MM = np.array([12.0, -310.0, 1450.0])
RIB = 103


@pytest.fixture(autouse=True)
def a_tiny_preset(monkeypatch):
    monkeypatch.setitem(generate.PRESETS, "compact", TINY)
    monkeypatch.setattr("XraySynthLib.ct.quality.MAX_STRAY_ML", np.inf)


@pytest.fixture(scope="module")
def a_label_map(tmp_path_factory):
    """TotalSegmentator's bones and bladder of a subject on an oblique, left-handed grid.

    Returns:
        The file, and the subject's landmarks in the file's patient.
    """
    subject = sample_subject((3, 1), implants=(), table=False)
    volume = render_ct(subject, (80, 64, 88), 4.0)
    ids = np.zeros(max(Label) + 1, np.uint8)
    for bone in Bone:
        ids[bone] = TS[bone]
    ids[Label.BLADDER] = 21
    turn = rotation("z", 6.0)
    moved = translation(OFFSET_RAS_MM) @ turn @ volume.ras_from_ijk
    labels = ids[volume.labels][:, ::-1]
    flip = np.diag([1.0, -1, 1, 1])
    flip[1, 3] = labels.shape[1] - 1
    path = tmp_path_factory.mktemp("labels") / "segmentation.nrrd"
    write_labels(labels, moved @ flip, path)
    truth = subject.landmarks.points_ras_mm @ turn[:3, :3].T + OFFSET_RAS_MM
    return path, truth


def test_a_label_map_becomes_a_ct_with_its_landmarks(xraysynth, a_generator, a_label_map, tmp_path):
    path, truth = a_label_map
    output = tmp_path / "subjects"
    words = ("generate", "--output", output, "--backend", "diffusion", "--model", a_generator)
    outcome = xraysynth(*words, "--labels", path, "--count", 2)
    assert (outcome.code, outcome.err) == (0, "")
    landmarks = read_landmarks(output / "subject-0000" / "landmarks.mrk.json")
    assert np.linalg.norm(landmarks.points_ras_mm - truth, axis=1).max() < 8

    labels, ras_from_ijk = read_labels(output / "subject-0000" / "labels.nii.gz")
    given, given_ras_from_ijk = read_labels(path)
    assert {*map(int, Bone), Label.VERTEBRAE, Label.MUSCLE, Label.BOWEL} < set(np.unique(labels))
    for bone in Bone:  # each lies where the user's lies: sides, axes, origin
        middles = []
        for mask, matrix in (
            (labels == bone, ras_from_ijk),
            (given == TS[bone], given_ras_from_ijk),
        ):
            middles.append(matrix[:3, :3] @ np.argwhere(mask)[:, ::-1].mean(0) + matrix[:3, 3])
        assert np.linalg.norm(middles[0] - middles[1]) < 12  # femurs end with the volume

    found = [
        json.loads((output / f"subject-000{n}" / "provenance.json").read_text("utf-8"))
        for n in (0, 1)
    ]
    condition = found[0]["config"]["condition"]
    assert condition["ids"] == "totalsegmentator" and condition["file"] == "segmentation.nrrd"
    assert max(condition["residual_mm"].values()) < 2 and len(condition["landmarks_seen"]) > 10
    assert "muscle" in condition["filled_in_ml"] and "bladder" not in condition["filled_in_ml"]
    assert "shape_scores" not in found[0]["config"]["parameters"]
    # All of one map are one person.
    assert found[0]["subject"] in found[1]["config"]["derived_from"]
    assert found[0]["config"]["derived_from"] == ["somebody"]

    again = xraysynth(*words, "--labels", path, "--seed", 1)
    assert again.code == 2 and "other options" in again.err
    assert xraysynth(*words, "--labels", path, "--count", 2).code == 0
    other = shutil.copytree(a_generator, tmp_path / "other-model")
    weights = load_file(other / "refiner.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, other / "refiner.safetensors")
    another = xraysynth(*words[:-1], other, "--labels", path, "--count", 2)
    assert another.code == 2 and "other options" in another.err


def changed(path, folder, change):
    labels, ras_from_ijk = read_labels(path)
    labels = labels.copy()
    ras_from_ijk = ras_from_ijk.copy()
    change(labels, ras_from_ijk)
    write_labels(labels, ras_from_ijk, folder / "changed.nii.gz")
    return folder / "changed.nii.gz"


def empty(labels, _):
    labels[:] = 0


def no_bones(labels, _):
    labels[labels != 21] = 0


def unknown_ids(labels, _):
    labels[0, :3] = 118


def tiny_voxels(_, ras_from_ijk):
    ras_from_ijk[:3, :3] *= 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (empty, "is empty"),
        (no_bones, "no hip bone"),
        (unknown_ids, "118, which are none of them"),
        (tiny_voxels, "absurd"),
    ],
)
def test_maps_that_cannot_be(xraysynth, failed, a_generator, a_label_map, tmp_path, change, words):
    path = changed(a_label_map[0], tmp_path, change)
    start = ("generate", "--output", tmp_path / "x", "--backend", "diffusion")
    failed(xraysynth(*start, "--model", a_generator, "--labels", path), 1, words)
    assert list((tmp_path / "x").iterdir()) == []


def test_options_that_labels_exclude(xraysynth, failed, a_label_map, a_generator, tmp_path):
    path, _ = a_label_map
    start = ("generate", "--output", tmp_path / "x", "--labels")
    failed(xraysynth(*start, path), 2, "--labels needs --backend diffusion")
    words = ("--backend", "diffusion", "--model", a_generator)
    failed(xraysynth(*start, tmp_path / "none.nii.gz", *words), 1, "no such file")
    failed(xraysynth(*start, path, *words, "--people", "held-out"), 2, "held-out")
    knobs = tmp_path / "knobs.json"
    knobs.write_text('{"left_hip": {"flexion_deg": 5}}', "utf-8")
    failed(xraysynth(*start, path, *words, "--parameters", knobs), 2, "left_hip")


def test_structures_without_a_tissue_near_the_pelvis(
    xraysynth, failed, a_label_map, a_generator, tmp_path, monkeypatch
):
    """The fit is the other tests'; here a rib lies in the volume that is made."""
    from XraySynthLib.workflows import conditions

    path, _ = a_label_map
    _, known = conditions._fitted_map(path, sha256_of(path))  # kept since the first test

    def with_a_rib(labels, _):
        labels[36:46, 28:38, 38:48] = RIB

    monkeypatch.setattr(conditions, "fit_labels", lambda *_: known)
    assert tissue_table("totalsegmentator")[RIB][0] == "rib_left_12"
    start = ("generate", "--output", tmp_path / "x", "--backend", "diffusion")
    rib = changed(path, tmp_path, with_a_rib)
    failed(xraysynth(*start, "--model", a_generator, "--labels", rib), 1, "rib_left_12")


@pytest.fixture
def a_maisi(tmp_path, monkeypatch):
    """A folder with MAISI's files, tiny; and its sizes made as tiny."""
    from XraySynthLib.ct import maisi, maisi_files

    config = {
        "autoencoder_def": {
            **maisi_files.PUBLISHED["autoencoder_def"],
            "num_channels": [8, 8, 8],
            "num_res_blocks": [1, 1, 1],
            "norm_num_groups": 8,
        },
        "noise_scheduler": dict(maisi_files.PUBLISHED["noise_scheduler"]),
    }
    small = {
        "num_channels": [32, 32],
        "attention_levels": [False, True],
        "num_head_channels": [0, 32],
        "num_res_blocks": 1,
    }
    for name in ("diffusion_unet_def", "controlnet_def"):
        config[name] = {**maisi_files.PUBLISHED[name], **small}
    config["controlnet_def"]["conditioning_embedding_num_channels"] = [8, 8, 8]
    folder = tmp_path / "maisi"
    folder.mkdir()
    (folder / maisi_files.CONFIG_NAME).write_text(json.dumps(config), "utf-8")
    for name, key in zip(
        maisi_files.FILES, maisi_files.WEIGHT_KEYS[2:] + maisi_files.WEIGHT_KEYS[:2], strict=True
    ):
        weights = maisi_files.build_network(name, config[name], cuda=False).state_dict()
        document = {key: weights, "scale_factor": torch.tensor(1.0)}
        torch.save(document, folder / maisi_files.FILES[name])
    monkeypatch.setattr(maisi, "SIZES_XY", (32,))
    monkeypatch.setattr(maisi, "SIZES_Z", (32,))
    monkeypatch.setattr(maisi, "SPACING_XY_MM", (0.5, 20.0))
    monkeypatch.setattr(maisi, "SPACING_Z_MM", (0.5, 20.0))
    monkeypatch.setitem(generate.PRESETS, "maisi", ((32, 32, 32), 12.0))
    return folder


def test_maisi_makes_a_ct_of_a_drawn_subject(xraysynth, a_maisi, tmp_path):
    output = tmp_path / "subjects"
    words = ("generate", "--output", output, "--backend", "maisi", "--preset", "maisi")
    outcome = xraysynth(*words, "--model", a_maisi)
    assert (outcome.code, outcome.err) == (0, "")
    volume = read_volume(output / "subject-0000" / "ct.nii.gz")
    labels, _ = read_labels(output / "subject-0000" / "labels.nii.gz")
    assert (volume.values_hu[labels == Label.AIR] == -1000).all()
    assert set(Bone) < set(np.unique(labels)) and not np.isin(labels, (20, 21)).any()
    provenance = json.loads((output / "subject-0000" / "provenance.json").read_text("utf-8"))
    assert 0 <= provenance["config"]["quality"]["bone_dice"] <= 1
    assert "unused_weights" not in provenance["config"]


def test_maisis_weights_without_a_place(xraysynth, a_maisi, tmp_path):
    file = a_maisi / "diff_unet_3d_rflow-ct.pt"
    document = torch.load(file)
    document["unet_state_dict"]["old"] = torch.zeros(1)
    torch.save(document, file)
    words = ("generate", "--output", tmp_path / "x", "--backend", "maisi", "--preset", "maisi")
    outcome = xraysynth(*words, "--model", a_maisi, "--count", 2, "--progress", "json")
    assert outcome.code == 0 and outcome.out.count(", 1 have no place in the networks") == 1
    for number in (0, 1):
        path = tmp_path / "x" / f"subject-000{number}" / "provenance.json"
        unused = json.loads(path.read_text("utf-8"))["config"]["unused_weights"]
        assert unused == [f"{file.name}: old"]


def test_what_maisi_does_not_make(xraysynth, failed, a_maisi, tmp_path):
    start = ("generate", "--output", tmp_path / "x", "--backend", "maisi")
    failed(xraysynth(*start), 2, "--model, the folder with MAISI's files")
    words = (*start, "--model", a_maisi)
    failed(xraysynth(*words, "--preset", "full"), 2, "use --preset maisi")
    knobs = tmp_path / "knobs.json"
    knobs.write_text('{"implants": ["si-screws"]}', "utf-8")
    failed(xraysynth(*words, "--preset", "maisi", "--parameters", knobs), 2, "neither implants")
    failed(xraysynth(*start, "--model", tmp_path, "--preset", "maisi"), 1, "holds no MAISI")
