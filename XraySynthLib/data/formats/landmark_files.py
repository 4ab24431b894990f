"""Landmarks of a patient from and to Slicer's markups, its older .fcsv, and a plain CSV."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.markups_json import markups_points, markups_text
from XraySynthLib.data.formats.problems import check_file, meaning, reading, unreadable
from XraySynthLib.data.landmarks import LandmarkSet
from XraySynthLib.geometry.transforms import LPS_FROM_RAS, RAS_FROM_LPS, transform_points

CSV_HEADER = ["name", "x_ras_mm", "y_ras_mm", "z_ras_mm"]
FCSV_COLUMNS = [
    "id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc",
    "associatedNodeID",
]  # fmt: skip
FCSV_SYSTEMS = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}
FCSV_DEFINED = "2"
"""vtkMRMLMarkupsNode::PositionDefined, in the unnamed column after the named ones."""
MAX_BYTES = 50_000_000

Points = list[tuple[str, list[float]]]
"""Name and x, y, z (NaN where undefined) of each point, in the file's own system."""


def read_landmarks(path: str | Path) -> LandmarkSet:
    """Read a patient's landmarks by the suffix of the file.

    `.mrk.json` and `.json`: one Slicer point list, LPS or RAS, mm; other markups are refused.
    `.fcsv`: must say its coordinate system. `.csv`: columns name, x_ras_mm, y_ras_mm, z_ras_mm.
    A point's name is its label, or its id where the label is empty. Undefined points come as NaN.

    Raises:
        UnreadableFileError: If the file is missing, damaged, not in mm, or two points share a name.
    """
    file = Path(path)
    check_file(file)
    parsers: dict[str, Callable[[str, Path], tuple[Points, str]]] = {
        ".json": markups_points,
        ".fcsv": _fcsv_points,
        ".csv": _csv_points,
    }
    parser = parsers.get(file.suffix.lower())
    if parser is None:
        raise unreadable(file, "landmarks are .mrk.json, .fcsv or .csv files.")
    if file.stat().st_size > MAX_BYTES:
        raise unreadable(file, "it is far too large for a list of landmarks.")
    with reading(file, "a list of landmarks in UTF-8"):
        text = file.read_text("utf-8-sig")
    points, system = parser(text, file)
    _check_names([name for name, _ in points], file)
    positions = np.array([xyz for _, xyz in points], dtype=np.float64).reshape(-1, 3)
    if system == "LPS":
        positions = transform_points(RAS_FROM_LPS, positions)
    with meaning(file):
        return LandmarkSet(tuple(name for name, _ in points), positions)


def write_landmarks(landmarks: LandmarkSet, path: str | Path) -> None:
    """Write a patient's landmarks as `.mrk.json` (LPS, for Slicer), `.fcsv` or `.csv`.

    Raises:
        ValueError: If the suffix is another, or an undefined point is to go into `.fcsv`, which
            older Slicers would place at the origin.
        OSError: If the file cannot be written.
    """
    file = Path(path)
    name = file.name.lower()
    if name.endswith(".mrk.json"):
        lps_mm = transform_points(LPS_FROM_RAS, landmarks.points_ras_mm)
        text = markups_text(landmarks.names, lps_mm, file.name[: -len(".mrk.json")])
    elif name.endswith(".fcsv"):
        text = _fcsv_text(landmarks)
    elif name.endswith(".csv"):
        text = _csv_text(landmarks)
    else:
        raise ValueError(f"Landmarks are written as .mrk.json, .fcsv or .csv, got {file.name}.")
    with atomic_path(file) as temporary:
        temporary.write_text(text, "utf-8", newline="")


def _check_names(names: list[str], path: Path) -> None:
    if not all(names):
        raise unreadable(path, "a point has neither label nor id; name it in Slicer.")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise unreadable(
            path, f"{names.count(doubled[0])} points are called {doubled[0]!r}; names must differ."
        )


def _numbers(fields: list[str], path: Path, line: int) -> list[float]:
    """Three coordinates; all empty means undefined."""
    if [field.strip() for field in fields] == ["", "", ""]:
        return [math.nan] * 3
    try:
        numbers = [float(field) for field in fields]
    except ValueError as error:
        raise unreadable(path, f"line {line} has no three numbers: {fields}.") from error
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise unreadable(path, f"line {line} has no three finite numbers: {fields}.")
    return numbers


def _rows(text: str, path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise unreadable(path, "it is not a table of comma-separated values.") from error


def _csv_points(text: str, path: Path) -> tuple[Points, str]:
    rows = _rows(text, path)
    if not rows or [field.strip() for field in rows[0]] != CSV_HEADER:
        raise unreadable(path, f"its first line must be {','.join(CSV_HEADER)}.")
    points: Points = []
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(CSV_HEADER):
            raise unreadable(path, f"line {line} has {len(row)} columns, not {len(CSV_HEADER)}.")
        points.append((row[0].strip(), _numbers(row[1:], path, line)))
    return points, "RAS"


def _csv_text(landmarks: LandmarkSet) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for name, xyz in zip(landmarks.names, landmarks.points_ras_mm.tolist(), strict=True):
        writer.writerow([name, *("" if math.isnan(x) else repr(x) for x in xyz)])
    return stream.getvalue()


def _fcsv_points(text: str, path: Path) -> tuple[Points, str]:
    system, columns = None, FCSV_COLUMNS
    for line in text.splitlines():
        key, _, value = line.lstrip("# ").partition("=")
        if line.startswith("#") and key.strip() == "CoordinateSystem":
            system = FCSV_SYSTEMS.get(value.strip(), value.strip())
        if line.startswith("#") and key.strip() == "columns":
            columns = [column.strip() for column in value.split(",")]
    if system not in ("RAS", "LPS"):
        raise unreadable(path, f"its coordinate system must be RAS or LPS, it says {system}.")
    if not {"x", "y", "z", "label"} <= set(columns):
        raise unreadable(path, "its columns line names no x, y, z and label.")
    points: Points = []
    for line_number, row in enumerate(_rows(text, path), start=1):
        if not row or row[0].startswith("#") or not any(row):
            continue
        if len(row) < columns.index("label") + 1:
            raise unreadable(path, f"line {line_number} has {len(row)} columns, too few.")
        xyz = _numbers([row[columns.index(axis)] for axis in "xyz"], path, line_number)
        if len(row) > len(columns) and row[len(columns)].strip() not in ("", FCSV_DEFINED):
            xyz = [math.nan] * 3
        named_id = row[columns.index("id")] if "id" in columns else ""
        points.append((row[columns.index("label")].strip() or named_id.strip(), xyz))
    return points, str(system)


def _fcsv_text(landmarks: LandmarkSet) -> str:
    if np.isnan(landmarks.points_ras_mm).any():
        raise ValueError("A .fcsv file cannot hold an undefined point; write .mrk.json instead.")
    stream = io.StringIO(newline="")
    stream.write("# Markups fiducial file version = 5.12\n# CoordinateSystem = LPS\n")
    stream.write(f"# columns = {','.join(FCSV_COLUMNS)}\n")
    writer = csv.writer(stream, lineterminator="\n")
    points_lps_mm = transform_points(LPS_FROM_RAS, landmarks.points_ras_mm).tolist()
    for number, (name, xyz) in enumerate(zip(landmarks.names, points_lps_mm, strict=True), 1):
        writer.writerow([number, *map(repr, xyz), 0, 0, 0, 1, 1, 1, 0, name, "", ""])
    return stream.getvalue()
