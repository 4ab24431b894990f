import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet, Quantity
from XraySynthLib.data.pelvis import LANDMARK_NAMES
from XraySynthLib.data.sets import SetDescription, SetSubject, coco, open_set
from XraySynthLib.errors import UnreadableFileError


@pytest.fixture
def coco_set(write_set):
    return write_set("coco")


@pytest.fixture
def sample(coco_set):
    return coco_set[1][0]


def document_of(folder, split="train"):
    return json.loads((folder / "annotations" / f"{split}.json").read_text("utf-8"))


def edit(folder, change, split="train"):
    document = document_of(folder, split)
    change(document)
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(document), "utf-8")


def pelvis_of(document, image):
    return next(
        a for a in document["annotations"] if a["image_id"] == image["id"] and "keypoints" in a
    )


def write_sample(folder, sample):
    """Write a set of one sample; returns what COCO says of it."""
    subject = SetSubject(sample.provenance.subject, "train")
    masks = tuple(sample.masks or ())
    description = SetDescription("coco", (subject,), 1, 1, sample.landmarks.names, masks)
    (folder / "parts").mkdir(parents=True)
    coco.write_part(folder, description.parts[0], [sample])
    coco.assemble(folder, description)
    return document_of(folder)


def test_round_trip(coco_set, assert_same_sample):
    folder, samples = coco_set
    for sample, wanted in zip(open_set(folder), samples, strict=True):
        assert_same_sample(sample, wanted, atol=0.5 / 255 + 1e-6)


def test_the_keypoints_alone(coco_set):
    """What a reader that does not know `landmarks` finds."""
    folder, samples = coco_set
    edit(folder, lambda d: [a.pop("landmarks", None) for a in d["annotations"]])
    for sample, wanted in zip(open_set(folder, "train"), samples[:3], strict=True):
        shown = wanted.landmarks.visible
        assert 4 < shown.sum() < 14
        np.testing.assert_array_equal(sample.landmarks.visible, shown)
        points = wanted.landmarks.points_px.copy()
        points[~shown] = np.nan
        np.testing.assert_array_equal(sample.landmarks.points_px, points)


def test_splits_are_annotation_files(coco_set):
    folder, _ = coco_set
    assert sorted(p.name for p in (folder / "annotations").iterdir()) == ["test.json", "train.json"]
    assert {s.provenance.subject for s in open_set(folder, "test")} == {"subject-b"}
    assert len(open_set(folder, "val")) == 0
    assert len(open_set(folder / "annotations" / "test.json")) == 3


def test_same_bytes_again(write_set, tmp_path):
    one, _ = write_set("coco", folder=tmp_path / "one")
    two, _ = write_set("coco", folder=tmp_path / "two")
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(files) == 6 + 2 + 2 * 4 + 1  # images, annotations, parts and fragments, set.json
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)


def test_keypoints_by_hand(tmp_path, sample):
    points = np.array([[10, 20], [30.25, 7.5], [-3, 5], [np.nan, np.nan], [-0.4, 47.2]])
    visible = [True, False, False, False, True]
    names = ("FH-l", "GSN-l", "IOF-l", "MOF-l", "tip")
    landmarks = ImageLandmarkSet(names, points, visible, np.ones(5))
    document = write_sample(tmp_path / "one", replace(sample, landmarks=landmarks, masks=None))

    pelvis = document["categories"][0]
    assert (pelvis["id"], pelvis["name"], pelvis["keypoints"]) == (9, "pelvis", [*names])
    assert pelvis["skeleton"] == [[2, 1], [1, 3], [3, 4]]
    (annotation,) = document["annotations"]
    assert annotation["keypoints"] == [10, 20, 2, 30.25, 7.5, 1, 0, 0, 0, 0, 0, 0, -0.4, 47.2, 2]
    assert annotation["num_keypoints"] == 3
    # From the corner of the image: the pixels 0 to 30 across and 8 to 47 down.
    assert annotation["bbox"] == [0, 8, 31, 40]
    assert annotation["area"] == 31 * 40
    assert annotation["segmentation"] == [[0, 8, 31, 8, 31, 48, 0, 48]]
    (read,) = open_set(tmp_path / "one")
    np.testing.assert_array_equal(read.landmarks.points_px, points)
    assert read.masks is None


def test_masks_by_hand(tmp_path, sample):
    masks = {name: np.zeros((48, 64), bool) for name in ("sacrum", "screw", "empty", "pelvis")}
    masks["sacrum"][40:47, 3:5] = True
    masks["screw"][0, 0] = masks["screw"][47, 63] = True
    masks["pelvis"][10:12, 10] = True
    nowhere = LandmarkSet(LANDMARK_NAMES, np.full((14, 3), np.nan)).seen_from(sample.xray.view)
    document = write_sample(tmp_path / "one", replace(sample, masks=masks, landmarks=nowhere))

    ids = [category["id"] for category in document["categories"]]
    assert ids == [9, 7, 19, 20, 21]
    union, sacrum, screw, _ = document["annotations"]
    assert union["bbox"] == screw["bbox"] == [0, 0, 64, 48]
    assert sacrum["bbox"] == [3, 40, 2, 7]
    assert [a["area"] for a in document["annotations"]] == [18, 14, 2, 2]
    assert [a["category_id"] for a in document["annotations"]] == [9, 7, 19, 21]
    assert len({a["id"] for a in document["annotations"]}) == 4
    (read,) = open_set(tmp_path / "one")
    assert list(read.masks) == list(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(read.masks[name], mask)


def test_nothing_in_the_image(tmp_path, sample):
    nowhere = LandmarkSet(LANDMARK_NAMES, np.full((14, 3), np.nan)).seen_from(sample.xray.view)
    (annotation,) = write_sample(tmp_path / "one", replace(sample, masks={}, landmarks=nowhere))[
        "annotations"
    ]
    assert annotation["bbox"] == [0, 0, 64, 48]
    assert annotation["num_keypoints"] == 0
    assert open_set(tmp_path / "one")[0].masks == {}


def test_pycocotools_loads_the_set(coco_set, capsys):
    coco_module = pytest.importorskip("pycocotools.coco")
    folder, samples = coco_set
    loaded = coco_module.COCO(str(folder / "annotations" / "train.json"))
    names = {category["id"]: category["name"] for category in loaded.loadCats(loaded.getCatIds())}
    assert sorted(loaded.getImgIds()) == [1, 2, 3]
    for image in loaded.loadImgs(loaded.getImgIds()):
        assert (folder / "images" / image["file_name"]).is_file()
        wanted = next(s for s in samples if f"{s.key}.png" == image["file_name"])
        annotations = loaded.loadAnns(loaded.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == 7
        for annotation in annotations:
            name = names[annotation["category_id"]]
            union = np.any([*wanted.masks.values()], axis=0)
            mask = union if name == "pelvis" else wanted.masks[name]
            np.testing.assert_array_equal(loaded.annToMask(annotation), mask)


def test_pycocotools_evaluates_the_set(coco_set, capsys):
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    folder, _ = coco_set
    loaded = coco_module.COCO(str(folder / "annotations" / "train.json"))
    kept = ("image_id", "category_id", "keypoints")
    found = [
        {key: annotation[key] for key in kept} | {"score": 0.9}
        for annotation in loaded.loadAnns(loaded.getAnnIds(catIds=[9]))
    ]

    def precision_of(detections):
        evaluation = COCOeval(loaded, loaded.loadRes(detections), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.full(14, 0.05)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats[0]

    assert precision_of(found) == pytest.approx(1.0)
    moved = [
        detection | {"keypoints": (np.array(detection["keypoints"]) + 40).tolist()}
        for detection in found
    ]
    assert precision_of(moved) < 0.1


def test_perphix_finds_its_fields(coco_set):
    """What arcadelab/perphix's PerphixDataset and PerphixImageDataset read, and how.

    The package on PyPI has no code, so that it cannot be called here.
    """
    folder, samples = coco_set
    document = document_of(folder)
    assert document["info"] and document["licenses"]
    assert document["sequences"] == document["seq_categories"] == []
    categories = {category["id"]: category for category in document["categories"]}
    assert len(categories) == 7
    assert all(category["supercategory"] for category in categories.values())
    (pelvis,) = (c for c in categories.values() if c["name"] == "pelvis")
    assert pelvis["id"] == 9
    assert pelvis["keypoints"] == [*LANDMARK_NAMES]
    perphix_names = {3: "left hemipelvis", 4: "right hemipelvis", 5: "left femur"}
    perphix_names |= {6: "right femur", 7: "sacrum", 8: "vertebrae"}
    assert {i: c["name"] for i, c in categories.items() if i != 9} == perphix_names
    for image in document["images"]:
        assert (folder / "images" / image["file_name"]).is_file()
        assert int(image["id"]) == image["first_frame_id"]
        annotations = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        assert all(a["bbox"][2] >= 2 and a["bbox"][3] >= 2 for a in annotations)
        (keypoints,) = (a["keypoints"] for a in annotations if a["category_id"] == 9)
        points = [(x, y) for x, y, _ in np.array(keypoints).reshape(-1, 3)]
        wanted = next(s for s in samples if f"{s.key}.png" == image["file_name"]).landmarks
        for point, exact, visible in zip(points, wanted.points_px, wanted.visible, strict=True):
            assert not visible or point == pytest.approx(exact)


@pytest.fixture
def foreign(tmp_path):
    """A COCO keypoint set that knows nothing of XraySynth: `foreign(where, **changes)`."""

    def write(image_folder="images", json_name="annotations/person_keypoints_val2017.json"):
        grey = (np.arange(20 * 30) % 251).astype(np.uint8).reshape(20, 30)
        (tmp_path / image_folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).save(tmp_path / image_folder / "a.png")
        images = [{"id": "x", "file_name": "a.png", "width": 30, "height": 20}]
        categories = [
            {"id": 1, "name": "hip", "keypoints": ["one", "two", "three", "four"]},
            {"id": 2, "name": "femur"},
        ]
        annotations = [
            {
                "id": 5,
                "image_id": "x",
                "category_id": 1,
                "keypoints": [3, 4.5, 2, 29, 19, 1, 0, 0, 0, 31, 2, 2],
                "segmentation": [[2, 3, 8, 3, 8, 7, 2, 7]],
            },
            {
                "id": 6,
                "image_id": "x",
                "category_id": 2,
                "segmentation": {"size": [20, 30], "counts": [20, 5, 575]},
            },
        ]
        path = tmp_path / json_name
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"images": images, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(document), "utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("image_folder", "json_name"),
    [
        ("images", "annotations/person_keypoints_val2017.json"),
        ("val2017", "annotations/person_keypoints_val2017.json"),
        ("images/val", "annotations/val.json"),
        (".", "val.json"),
        ("images", "val.json"),
        ("val", "val.json"),
    ],
)
def test_a_set_of_somebody_else(foreign, image_folder, json_name):
    path = foreign(image_folder, json_name)
    (sample,) = open_set(path)
    assert sample.key == "a"
    assert sample.xray.view is None
    assert sample.xray.quantity is Quantity.DISPLAY
    assert (sample.provenance.kind, sample.provenance.subject) == ("real", path.stem)
    assert sample.landmarks.names == ("one", "two", "three", "four")
    np.testing.assert_array_equal(
        sample.landmarks.points_px, [[3, 4.5], [29, 19], [np.nan] * 2, [31, 2]]
    )
    assert sample.landmarks.visible.tolist() == [True, False, False, False]
    hip, femur = sample.masks["hip"], sample.masks["femur"]
    assert hip.sum() == 24
    assert hip[3:7, 2:8].all()
    assert femur.sum() == 5
    assert femur[:5, 1].all()
    assert len(open_set(path, "val")) == 1
    assert len(open_set(path, "train")) == 0


def change(path, edit):
    document = json.loads(path.read_text("utf-8"))
    edit(document)
    path.write_text(json.dumps(document), "utf-8")


@pytest.mark.parametrize("suffix", ["jpg", "jp2", "bmp", "webp"])
def test_images_that_are_no_png(foreign, suffix):
    path = foreign()
    png = next(path.parent.parent.rglob("a.png"))
    grey = np.tile(np.arange(40, 100, 2, np.uint8), (20, 1))
    Image.fromarray(grey).save(png.with_suffix(f".{suffix}"))
    png.unlink()
    path.write_text(path.read_text().replace("a.png", f"a.{suffix}"))
    (sample,) = open_set(path)
    np.testing.assert_allclose(sample.xray.values, grey / 255, atol=0.03)


def test_perphix_names_the_case(foreign):
    path = foreign()
    change(path, lambda d: d["images"][0].update(case_name="case-100114"))
    assert open_set(path)[0].provenance.subject == "case-100114"


def test_the_category_with_most_keypoints_counts(foreign):
    path = foreign()
    change(path, lambda d: d["categories"][1].update(keypoints=["one", "two"]))
    assert len(open_set(path)[0].landmarks.names) == 4


def test_an_image_without_annotations(foreign):
    path = foreign()
    change(path, lambda d: d["annotations"].clear())
    (sample,) = open_set(path)
    assert np.isnan(sample.landmarks.points_px).all()
    assert sample.masks is None


def two_patients(document):
    document["annotations"].append(document["annotations"][0] | {"id": 7})


def test_another_tool_moved_a_keypoint(coco_set):
    folder, _ = coco_set

    def move(document):
        pelvis = pelvis_of(document, document["images"][0])
        labelled = next(n for n in range(14) if pelvis["keypoints"][3 * n + 2])
        pelvis["keypoints"][3 * labelled] += 0.5

    edit(folder, move)
    with pytest.raises(UnreadableFileError, match="delete `landmarks`"):
        open_set(folder, "train")[0]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (two_patients, "keypoints of 2 patients"),
        (lambda d: d["annotations"][0]["keypoints"].pop(), "3.66667 keypoints"),
        (lambda d: d["annotations"][0]["keypoints"].extend([1, 1, 2]), "5 keypoints"),
        (lambda d: d["annotations"][0].update(keypoints=["a"] * 12), "float"),
        (lambda d: d["annotations"][0].update(category_id=3, keypoints=None), "COCO file"),
        (lambda d: d["annotations"][1].update(category_id=3), "COCO file"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2]]), "polygon"),
        (lambda d: d["annotations"][0].update(segmentation=[["a"] * 6]), "float"),
        (lambda d: d["annotations"][1]["segmentation"].update(size=[30, 20]), "rows and columns"),
        (lambda d: d["annotations"][1]["segmentation"].update(counts=[1, 2]), "do not fill"),
        (lambda d: d["annotations"][1]["segmentation"].update(counts=[601, -1]), "runs"),
        (lambda d: d["annotations"][1]["segmentation"].update(counts="oo"), "damaged"),
        (lambda d: d["images"][0].update(height=21), "not of the size"),
        (lambda d: d["images"][0].update(file_name="b.png"), "no such file"),
        (lambda d: d["images"][0].update(file_name=3), "COCO file"),
        (lambda d: d["images"].append(d["images"][0]), "more than once"),
        (lambda d: d["categories"][0].pop("keypoints"), "no category has keypoints"),
        (lambda d: d["categories"][0].update(keypoints=["one"] * 4), "must differ"),
        (lambda d: d.pop("images"), "COCO file"),
    ],
)
def test_damage_ends_in_a_sentence(foreign, damage, sentence):
    path = foreign()
    change(path, damage)
    with pytest.raises(UnreadableFileError, match=sentence) as caught:
        [*open_set(path)]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"images": {}}'])
def test_no_coco_at_all(tmp_path, text):
    path = tmp_path / "train.json"
    path.write_text(text, "utf-8")
    with pytest.raises(UnreadableFileError):
        open_set(path)


@pytest.mark.parametrize("field", ["camera", "provenance", "quantity"])
def test_damaged_extras(coco_set, field):
    folder, _ = coco_set
    edit(folder, lambda document: document["images"][0].update({field: "?"}))
    with pytest.raises(UnreadableFileError):
        open_set(folder, "train")[0]


def test_a_lost_image(coco_set):
    folder, samples = coco_set
    (folder / "images" / f"{samples[1].key}.png").unlink()
    read = open_set(folder, "train")
    assert read[0].key == samples[0].key
    with pytest.raises(UnreadableFileError, match="no such file"):
        read[1]


def test_a_lost_fragment(coco_set):
    folder, _ = coco_set
    (folder / "parts" / "000001.coco.json").write_text("{", "utf-8")
    before = (folder / "annotations" / "train.json").read_bytes()
    with pytest.raises(UnreadableFileError, match="fragment"):
        coco.assemble(folder, SetDescription.read(folder / "set.json"))
    assert (folder / "annotations" / "train.json").read_bytes() == before
    assert not [*(folder / "annotations").glob(".tmp*")]
