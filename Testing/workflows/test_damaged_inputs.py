"""Damaged inputs to `xraysynth project`: one sentence and no sample, or a right image.

As a script it runs a larger campaign and prints a table: `python test_damaged_inputs.py 3000`.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

import XraySynthLib
from XraySynthLib.data import Volume
from XraySynthLib.data.formats import read_sample, read_volume, write_labels
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.geometry import CArmPose, Intrinsics, view_from_carm
from XraySynthLib.geometry.converters.slicer import write_ras_from_carm

TIME_LIMIT_S = 10.0
MAX_SENTENCE = 350
N_CASES = 560
POSE = CArmPose(20.0, 10.0, 5.0, (10, -20, 30), 530.0)
SHAPE_PX, SPACING_MM = (24, 24), (8.0, 8.0)


class Hang(BaseException):
    """A case took too long; no `except Exception` stops it."""


@dataclass
class Case:
    """One call of the command line.

    Attributes:
        folder: Where its files are; the good ones lie one folder up.
        options: Options by name, in place of and beside those of `good_options`.
        about: The sentence must hold one of these.
    """

    folder: Path
    random: np.random.Generator
    options: dict[str, object] = field(default_factory=dict)
    about: tuple[str, ...] = ()

    def file(self, option: str, name: str, content: bytes | str) -> Path:
        """Write a file and give it to an option."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.give(option, path)
        return path

    def give(self, option: str, value: object) -> None:
        self.options[option] = value
        self.about += (option, value.name if isinstance(value, Path) else option)

    def good(self, name: str) -> Path:
        return self.folder.parent / name

    def pick(self, *choices: object) -> object:
        return choices[self.random.integers(len(choices))]


def write_good_files(folder: Path, write_patient: Callable[[Path], None]) -> None:
    """The patient in several formats, and a view of it as JSON and as a transform."""
    write_patient(folder)
    image = sitk.ReadImage(str(folder / "ct.nii.gz"))
    for name, packed in [("ct.nrrd", True), ("ct.mha", True), ("raw.nrrd", False)]:
        sitk.WriteImage(image, str(folder / name), useCompression=packed)
    sitk.WriteImage(image, str(folder / "raw.mha"), useCompression=False)
    for name in ("carm.h5", "carm.tfm"):
        write_ras_from_carm(POSE, folder / name)
    view = view_from_carm(POSE, Intrinsics(1020.0, SPACING_MM, SHAPE_PX))
    (folder / "view.json").write_text(view.to_json())
    points = "name,x_ras_mm,y_ras_mm,z_ras_mm\na,10,-20,30\nb,20,-10,40\n"
    (folder / "points.csv").write_text(points)


# Kinds of damage


def cut(data: bytes, random: np.random.Generator) -> bytes:
    return data[: random.integers(len(data))]


def flip(data: bytes, random: np.random.Generator, first: int, stop: int) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    places = random.integers(first, max(first + 1, min(stop, len(data))), random.integers(1, 6))
    changed[places] ^= random.integers(1, 256, len(places)).astype(np.uint8)
    return changed.tobytes()


CT_FILES = ("ct.nii.gz", "ct.nrrd", "ct.mha", "raw.nrrd", "raw.mha")


def ct_truncated(case: Case) -> None:
    name = case.pick(*CT_FILES)
    case.file("ct", name, cut(case.good(name).read_bytes(), case.random))


def ct_header_flipped(case: Case) -> None:
    name = case.pick(*CT_FILES)
    case.file("ct", name, flip(case.good(name).read_bytes(), case.random, 0, 400))


def ct_body_flipped(case: Case) -> None:
    name = case.pick(*CT_FILES)
    data = case.good(name).read_bytes()
    case.file("ct", name, flip(data, case.random, min(600, len(data) // 2), len(data)))


def an_image(case: Case, values: np.ndarray, name: str | None = None, **changes: object) -> None:
    image = sitk.GetImageFromArray(values, isVector=bool(changes.pop("vector", False)))
    for setter, value in changes.items():
        getattr(image, f"Set{setter}")(value)
    path = case.folder / (name or str(case.pick("a.nii.gz", "a.nrrd", "a.mha")))
    sitk.WriteImage(image, str(path))
    case.give("ct", path)


def a_ct(case: Case) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(case.good("ct.nii.gz")))).astype(np.float32)


def ct_header_lies(case: Case) -> None:
    """A header of packed data that states another size or kind: ITK would leave memory unset."""
    name, old, new = LIES[case.random.integers(len(LIES))]
    data = case.good(name).read_bytes()
    assert old in data
    case.file("ct", name, data.replace(old, new, 1))


LIES = (
    ("ct.mha", b"DimSize = 24 22 20", b"DimSize = 24 22 29"),
    ("ct.mha", b"DimSize = 24 22 20", b"DimSize = 24 22 10"),
    ("ct.mha", b"MET_SHORT", b"MET_INT"),
    ("ct.mha", b"CompressedDataSize = ", b"CompressedDataSize = 1"),
    ("ct.mha", b"CompressedDataSize = ", b"CompressedDataSize = -"),
    ("ct.mha", b"CompressedDataSize", b"CompressedDataSixe"),
    ("ct.nrrd", b"sizes: 24 22 20", b"sizes: 24 22 29"),
    ("ct.nrrd", b"sizes: 24 22 20", b"sizes: 24 22 10"),
    ("ct.nrrd", b"type: short", b"type: int8"),
    ("ct.nrrd", b"encoding: gzip", b"encoding: ascii"),
    ("raw.nrrd", b"encoding: raw", b"encoding: hex"),
    ("raw.nrrd", b"encoding: raw", b"encoding: gzip"),
    ("raw.nrrd", b"sizes: 24 22 20", b"sizes: 24 22 29"),
    ("raw.mha", b"DimSize = 24 22 20", b"DimSize = 24 22 29"),
)


def ct_not_finite(case: Case) -> None:
    values = a_ct(case)
    places = case.random.integers(values.size, size=case.random.integers(1, 50))
    values.flat[places] = case.pick(np.nan, np.inf, -np.inf, 1e30)
    an_image(case, values)


def ct_wrong_shape(case: Case) -> None:
    values = a_ct(case)
    which = case.random.integers(5)
    if which == 0:
        slices = [sitk.GetImageFromArray(values)] * 3
        path = case.folder / str(case.pick("a.nii.gz", "a.nrrd", "a.mha"))
        sitk.WriteImage(sitk.JoinSeries(slices), str(path))
        case.give("ct", path)
    elif which == 1:
        an_image(case, values[9])
    elif which == 2:
        an_image(case, np.stack([values] * 3, axis=-1).astype(np.int16), vector=True)
    elif which == 3:
        an_image(case, values[:1])
    else:
        an_image(case, values + 1j * values, "a.nrrd")


def ct_empty(case: Case) -> None:
    header = case.pick(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 0 4 4\nencoding: raw\nendian: little\n\n",
        "ObjectType = Image\nNDims = 3\nDimSize = 4 0 4\nElementType = MET_SHORT\n"
        "ElementDataFile = LOCAL\n",
        "",
    )
    name = {"N": "a.nrrd", "O": "a.mha", "": "a.nii.gz"}[str(header)[:1]]
    case.file("ct", name, str(header))


def ct_wrong_type(case: Case) -> None:
    suffix = str(case.pick(".nii.gz", ".nrrd", ".mha", ".nii", ".dcm", ".txt", "", ".nhdr", ".mhd"))
    png = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(png, "PNG")
    content = case.pick(
        b"This is text, not a CT.\n", png.getvalue(), b"{}", b"\0" * 5000, b"DICM" * 99, b"\xff"
    )
    which = case.random.integers(8)
    if which < 4:
        case.file("ct", f"a{suffix}", content)
    elif which == 4:
        case.give("ct", case.good("labels.nii.gz"))
    elif which == 5:
        (case.folder / "series").mkdir()
        if case.random.random() < 0.7:
            (case.folder / "series" / "a.dcm").write_bytes(content)
        case.give("ct", case.folder / "series")
    elif which == 6:
        case.give("ct", case.folder / f"missing{suffix}")
    else:
        (case.folder / "a.nrrd").mkdir()
        case.give("ct", case.folder / "a.nrrd")


def ct_not_hu(case: Case) -> None:
    shape = (8, 9, 10)
    values = case.pick(
        np.full(shape, -1000.0),
        np.full(shape, 40.0),
        np.full(shape, -1000.0) + case.random.random(shape) * 60,  # air and its noise
        case.random.random(shape),
        case.random.random(shape) * 4000,
        case.random.random(shape) * 1e9 - 1000,
        case.random.integers(0, 5, shape),
    )
    an_image(case, np.asarray(values).astype(case.pick(np.float32, np.float64)))


def ct_absurd_grid(case: Case) -> None:
    spacing = 10.0 ** case.random.choice([-12, -6, -3, 0, 2.1, 6, 12], 3)
    case.about += ("volume",)
    if case.random.random() < 0.5:
        an_image(case, a_ct(case), Spacing=spacing.tolist())
        return
    header, _, data = case.good("raw.nrrd").read_bytes().partition(b"\n\n")
    lines = header.split(b"\n")
    (place,) = [n for n, line in enumerate(lines) if line.startswith(b"space directions")]
    matrix = np.diag([4.0, 4.0, 4.0])
    matrix[tuple(case.random.integers(3, size=2))] = case.pick(0, np.nan, 3, -1e9, 1e-30, 4e-7)
    columns = " ".join("({:g},{:g},{:g})".format(*column) for column in matrix)
    lines[place] = b"space directions: " + columns.encode()
    case.file("ct", "a.nrrd", b"\n".join(lines) + b"\n\n" + data)


def transform_values(case: Case) -> None:
    matrix = POSE.ras_from_carm[:3].copy()
    which = case.random.integers(7)
    if which == 0:
        matrix[:, :3] *= case.pick(1.01, 0, -1, 1e9, 1e-9)
    elif which == 1:
        matrix[tuple(case.random.integers(3, size=2))] += case.pick(0.01, -5, np.nan, 1e300)
    elif which == 2:
        matrix[:, 3] = case.pick(np.nan, np.inf, 1e9, 1e300, -4000)
    elif which == 3:
        matrix[:, 1] = matrix[:, 0]
    elif which == 4:
        matrix[:, :3] = 0
    numbers = " ".join(map(repr, [*matrix[:, :3].ravel().tolist(), *matrix[:, 3].tolist()]))
    if which == 5:
        numbers = numbers.rpartition(" ")[0]
    kind = "BSplineTransform_double_3_3" if which == 6 else "AffineTransform_double_3_3"
    text = (
        f"#Insight Transform File V1.0\n#Transform 0\nTransform: {kind}\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )
    case.file("transform", "carm.tfm", text)
    case.about += ("isocentre",)


def transform_bytes(case: Case) -> None:
    name = str(case.pick("carm.h5", "carm.tfm"))
    data = case.good(name).read_bytes()
    damaged = cut(data, case.random) if case.random.random() < 0.5 else None
    case.file("transform", name, damaged or flip(data, case.random, 0, len(data)))
    case.about += ("isocentre",)


BAD_VALUES = (
    None, True, "", "24", "nan", [], {}, [[]], [1], -1, 0, 1e-9, 1e300, -1e300, 10**400, np.nan,
    np.inf, [0, 0], [-24, 24], [1e6, 1e6], [10**400, 2], [24.5, 24], ["24", "24"], [None, 1],
    [[1, 2], [3, 4]], np.eye(4).tolist(), np.zeros((4, 4)).tolist(), list(range(10000)), "x" * 5000,
)  # fmt: skip


def view_fields(case: Case) -> None:
    fields = json.loads(case.good("view.json").read_text())
    name = str(case.pick(*fields))
    which = case.random.integers(6)
    if which == 0:
        del fields[name]
    elif which == 1:
        fields[str(case.pick("comment", "View", "shape", "x" * 3000))] = 1
    elif which == 2:
        matrix = np.array(fields["ras_from_camera"])
        matrix[tuple(case.random.integers(4, size=2))] = case.pick(9.0, np.nan, 0, 1e300, -1e7)
        fields["ras_from_camera"] = matrix.tolist()
    else:
        fields[name] = BAD_VALUES[case.random.integers(len(BAD_VALUES))]
    document = case.pick(fields, fields, fields, {"xray": {"view": fields}}, [fields], fields)
    case.file("view", "view.json", json.dumps(document))
    case.about += ("view", "source")


def view_bytes(case: Case) -> None:
    data = case.good("view.json").read_bytes()
    damaged = case.pick(
        cut(data, case.random),
        flip(data, case.random, 0, len(data)),
        data.replace(b"1020.0", str(case.pick("1e999", "1e99", "-5", "9" * 5000)).encode()),
        b"[" * 100_000,
        b'{"xray": null}',
        b'{"xray": {"view": null}}',
        b'{"xray": []}',
        b"",
        "\ufeff".encode() + data,
    )
    case.file("view", "view.json", damaged)
    case.about += ("view", "source")


def landmarks(case: Case) -> None:
    name = str(case.pick("points.mrk.json", "points.csv"))
    data = case.good(name).read_bytes()
    which = case.random.integers(5)
    if which == 0:
        data = cut(data, case.random)
    elif which == 1:
        data = flip(data, case.random, 0, len(data))
    elif which == 2:
        data = data.replace(b"20", str(case.pick("nan", "1e999", "x", "1e300", "[]")).encode())
    elif which == 3:
        data = bytes(case.pick(b"", b"\0\0\0", b"[" * 99_999, b"{}", b"null", b"name,x\n"))
    else:
        name = str(case.pick("points.txt", "points", "points.fcsv"))
    case.file("landmarks", name, data)


def labels(case: Case) -> None:
    values = np.zeros((20, 22, 24), np.uint8)
    values[5:9, 5:9, 5:9] = 1
    matrix = read_volume(case.good("ct.nii.gz")).ras_from_ijk.copy()
    which = case.random.integers(7)
    path = case.folder / str(case.pick("labels.nii.gz", "labels.nrrd", "labels.mha"))
    if which == 0:
        matrix[:3, 3] += case.pick(1.0, -300.0)
    elif which == 1:
        values = values[:, :-1]
    elif which == 2:
        matrix[:3, 0] *= -1
    if which < 3:
        write_labels(values, matrix, path)
        case.give("labels", path)
    elif which == 3:
        case.give("labels", case.good(str(case.pick("ct.nii.gz", "points.csv", "view.json"))))
    elif which == 4:
        data = case.good("labels.nii.gz").read_bytes()
        damaged = case.pick(cut(data, case.random), flip(data, case.random, 0, len(data)))
        case.file("labels", "labels.nii.gz", damaged)
    elif which == 5:
        case.give("labels", case.good("labels.nii.gz"))
        case.give("label_values", case.pick([99], [0], [-1], ["x"], [3, 8], [2**70]))
    else:
        values = np.arange(values.size).reshape(values.shape) % case.pick(18, 300)
        write_labels(values, matrix, path)
        case.give("labels", path)


NUMBERS = ("nan", "inf", "-inf", "1e300", "-1", "0", "1e-300", "x", "", "1e-9", "1e9", "10000000")
OPTIONS = {
    "kvp": ("0", "65", "-90", "90.5", "x", "nan", "9" * 30),
    "preset": ("", "x", "AP2", "lateral left", "-"),
    "quantity": ("", "x", "LINE_INTEGRAL"),
    "physics": ("none", "2"),
    "engine": ("numpy", "cuda", "deepdrr"),
    "seed": ("-1", "1.5", "x", "9" * 400),
    "primary_deg": NUMBERS,
    "roll_deg": NUMBERS,
    "source_to_isocenter_mm": (*NUMBERS, "1020", "1500"),
    "source_to_detector_mm": (*NUMBERS, "530", "100"),
    "scatter": NUMBERS,
    "photons_per_mm2": NUMBERS,
    "blur_mm": NUMBERS,
    "detail": NUMBERS,
    "shape_px": (["0", "0"], ["24"], ["1000000"] * 2, ["-5", "5"], ["a", "b"], ["1.5", "2"], []),
    "pixel_spacing_mm": (*([n, n] for n in NUMBERS), ["8"], ["8", "-8"]),
    "isocenter_ras_mm": (*([n, n, n] for n in NUMBERS), ["1", "2"], ["1", "2", "3", "4"]),
    "window": (*([n, "5"] for n in NUMBERS), *(["0", n] for n in NUMBERS), ["5", "5"], ["6", "5"]),
    "mirrored": ("perhaps",),
    "colour": ("x",),
    "progress": ("yes",),
}


def option(case: Case) -> None:
    name = str(case.pick(*OPTIONS))
    choices = OPTIONS[name]
    case.give(name, choices[case.random.integers(len(choices))])
    if case.random.random() < 0.4:
        case.options["physics"] = case.options.get("physics", "full")
    case.about += ("perhaps",)  # what the parser calls unrecognised after --mirrored
    if name in ("isocenter_ras_mm", "source_to_isocenter_mm", "source_to_detector_mm"):
        case.about += ("isocentre", "source")  # the volume is out of sight, or the source in it


def two_views(case: Case) -> None:
    case.give("view", case.good("view.json"))
    case.give(*[("preset", "ap"), ("roll_deg", "3"), ("transform", case.good("carm.h5"))][
        case.random.integers(3)
    ])  # fmt: skip


def out_of_sight(case: Case) -> None:
    """The source in the patient, the isocentre far away, the detector before the isocentre."""
    which = case.random.integers(3)
    if which == 0:
        case.give("isocenter_ras_mm", [10, -20 + 530 + case.random.uniform(-20, 20), 30])
    elif which == 1:
        far_mm = case.pick(3000, -99999, 1e6)
        case.give("isocenter_ras_mm", [far_mm, 0, 0])
    else:
        case.give("source_to_isocenter_mm", case.random.uniform(1020, 2000))
    case.about += ("isocentre", "source")


def config_file(case: Case) -> None:
    good = {"verb": "project", "kvp": 90, "shape_px": [24, 24]}
    content = case.pick(
        "", "[]", "null", "[" * 99_999, "{", json.dumps({**good, "kvp": "x"}), "\0",
        json.dumps({**good, "colour": 1}), json.dumps({**good, "verb": "demo"}),
        json.dumps({**good, "shape_px": [24]}), json.dumps({**good, "shape_px": {"a": 1}}),
        json.dumps({**good, "mirrored": "yes"}), json.dumps({**good, "kvp": True}),
        json.dumps({**good, "kvp": [[1]]}), json.dumps({**good, "isocenter_ras_mm": [1, None, 2]}),
    )  # fmt: skip
    case.file("config", "config.json", str(content))
    case.about += ("kvp", "colour", "shape-px", "yes", "isocenter-ras-mm")


KINDS = {
    ct_truncated: 60, ct_header_lies: 24, ct_header_flipped: 60, ct_body_flipped: 50,
    ct_not_finite: 12, ct_wrong_shape: 20, ct_empty: 6, ct_wrong_type: 32, ct_not_hu: 14,
    ct_absurd_grid: 24, transform_values: 28, transform_bytes: 28, view_fields: 70,
    view_bytes: 24, landmarks: 30, labels: 28, option: 80, two_views: 4, out_of_sight: 10,
    config_file: 14,
}  # fmt: skip
"""Kind of damage -> its share of the cases."""
ALWAYS_REFUSED = (
    ct_truncated, ct_header_lies, ct_not_finite, ct_wrong_shape, ct_empty, ct_wrong_type, ct_not_hu,
    two_views, out_of_sight, config_file,
)  # fmt: skip


# Running and judging


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Hang` where signals allow it; a call that never comes back to Python stays."""

    def stop(*_: object) -> None:
        raise Hang(f"Still running after {seconds} s.")

    if not hasattr(signal, "setitimer"):
        yield
        return
    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def words_of(case: Case, output: Path) -> list[str]:
    options = {
        "ct": case.good("ct.nii.gz"),
        "output": output,
        "shape_px": SHAPE_PX,
        "pixel_spacing_mm": SPACING_MM,
        **case.options,
    }
    words = ["project"]
    for name, value in options.items():
        words.append(f"--{name.replace('_', '-')}")
        words += map(str, value) if isinstance(value, list | tuple) else [str(value)]
    return words


def verdict(case: Case, run: Callable) -> tuple[str, str]:
    """Run a case. ("refused" or "done", "") where it ended well, else ("wrong", why)."""
    output = case.folder / "output"
    start = perf_counter()
    try:
        with time_limit(TIME_LIMIT_S):
            outcome = run(*words_of(case, output))
    except (Hang, Exception) as error:
        return "wrong", f"{type(error).__name__}: {error}"
    if perf_counter() - start > TIME_LIMIT_S:
        return "wrong", f"It took {perf_counter() - start:.1f} s."
    if outcome.code == 0:
        return ("done", "") if not outcome.err else ("wrong", f"Done, yet said {outcome.err!r}.")
    sentence, plain = outcome.err, outcome.err.replace("-", "_").lower()
    if outcome.code not in (1, 2):
        return "wrong", f"The code is {outcome.code}."
    if (output / "sample.json").exists():
        return "wrong", "It failed and left a sample.json."
    if sentence.count("\n") != 1 or not sentence.startswith("xraysynth: "):
        return "wrong", f"Not one line: {sentence!r}"
    if len(sentence) > MAX_SENTENCE or "Traceback" in sentence:
        return "wrong", f"Too long: {sentence!r}"
    if not any(word.replace("-", "_").lower() in plain for word in case.about):
        return "wrong", f"Names none of {case.about}: {sentence!r}"
    return "refused", ""


def wrong_image(case: Case, good: "Volume", reference: np.ndarray) -> str:
    """What is wrong with the sample of a case that was done; "" if nothing is."""
    sample = read_sample(case.folder / "output")
    values = sample.xray.values
    shown = np.asarray(Image.open(case.folder / "output" / "xray.png"))
    if not np.isfinite(values).all() or np.ptp(values) == 0 or np.ptp(shown) == 0:
        return "The image is black."
    if set(case.options) != {"ct"}:
        return ""
    volume = read_volume(case.options["ct"])
    same = np.array_equal(volume.values_hu, good.values_hu) and np.array_equal(
        volume.ras_from_ijk, good.ras_from_ijk
    )
    if same and not np.array_equal(values, reference):
        return "The CT is the good one, the image is another."
    return ""


def cases(kind: Callable[[Case], None], n_cases: int, folder: Path) -> Iterator[Case]:
    """Cases of a kind, each made from its own seed in a folder that is emptied for it."""
    for number in range(n_cases):
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        seed = [number, *kind.__name__.encode()]
        case = Case(place, np.random.default_rng(seed))
        kind(case)
        yield case


def examine(kind: Callable, n_cases: int, folder: Path, run: Callable) -> tuple[Counter, list[str]]:
    """How many cases were refused, done and wrong, and what was wrong."""
    good, reference = read_volume(folder / "ct.nii.gz"), read_sample(folder / "good").xray.values
    counts: Counter[str] = Counter()
    problems = []
    for number, case in enumerate(cases(kind, n_cases, folder)):
        end, why = verdict(case, run)
        if end == "done":
            try:
                why = wrong_image(case, good, reference)
            except UnreadableFileError as error:
                why = f"The sample cannot be read: {error}"
            if kind in ALWAYS_REFUSED:
                why = "It was not refused."
            end = "wrong" if why else "done"
        counts[end] += 1
        if why:
            problems.append(f"{kind.__name__} {number} {case.options}: {why}")
    return counts, problems


def make_good_folder(folder: Path, write_patient: Callable, run: Callable) -> None:
    write_good_files(folder, write_patient)
    assert run(*words_of(Case(folder / "case", None), folder / "good")).code == 0


@pytest.fixture(scope="module")
def good_folder(tmp_path_factory, in_process):
    folder = tmp_path_factory.mktemp("damage")
    run, write_patient = in_process
    make_good_folder(folder, write_patient, run)
    return folder


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damage_ends_in_one_sentence_or_a_right_image(kind, good_folder, in_process):
    counts, problems = examine(kind, KINDS[kind], good_folder, in_process[0])
    assert not problems, "\n".join(problems)
    assert counts["refused"] > 0
    print(f"{kind.__name__}: {counts['refused']} refused, {counts['done']} done")


def test_a_damaged_transform_is_one_sentence_when_the_process_has_ended(good_folder):
    """HDF5 speaks once more from its own exit handler."""
    data = (good_folder / "carm.h5").read_bytes()
    damaged = good_folder / "damaged.h5"
    damaged.write_bytes(data[: len(data) * 2 // 3])
    case = Case(good_folder / "case", np.random.default_rng(0), {"transform": damaged})
    done = subprocess.run(
        [sys.executable, "-m", "XraySynthLib", *words_of(case, good_folder / "output")],
        env={**os.environ, "PYTHONPATH": str(Path(XraySynthLib.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "damaged.h5" in done.stderr and len(done.stderr) < MAX_SENTENCE


if __name__ == "__main__":
    import tempfile

    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import run_in_process, write_patient

    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else N_CASES
    with tempfile.TemporaryDirectory() as temporary:
        make_good_folder(Path(temporary), write_patient, run_in_process)
        everything = []
        print(f"{'kind':20} {'cases':>6} {'refused':>8} {'done':>6} {'wrong':>6} {'s':>6}")
        for one, share in KINDS.items():
            began = perf_counter()
            n = -(-share * wanted // sum(KINDS.values()))
            counted, wrongs = examine(one, n, Path(temporary), run_in_process)
            numbers = f"{n:6} {counted['refused']:8} {counted['done']:6} {counted['wrong']:6}"
            print(f"{one.__name__:20} {numbers} {perf_counter() - began:6.1f}", flush=True)
            everything += wrongs
    print("\n".join(everything))
    sys.exit(bool(everything))
