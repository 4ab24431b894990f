"""Slicer's markups JSON, schema 1.0.3: one point list and its control points."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from XraySynthLib.data.formats.problems import reading, unreadable

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
POINT_LIST = "Fiducial"
UNITS_MM = ("mm", ["mm", "UCUM", "millimeter"])
SYSTEMS = {"LPS": "LPS", "RAS": "RAS", "1": "LPS", "0": "RAS"}


def markups_points(text: str, path: Path) -> tuple[list[tuple[str, list[float]]], str]:
    """Read the point list out of a markups file's text.

    Returns:
        Name and position of each point (NaN where undefined), and "LPS" or "RAS".

    Raises:
        UnreadableFileError: If it is not one point list in mm.
    """
    with reading(path, "a JSON file"):
        document = json.loads(text)
    markups = document.get("markups") if isinstance(document, dict) else None
    if not isinstance(markups, list) or not all(isinstance(one, dict) for one in markups):
        raise unreadable(path, "it is JSON but no Slicer markups file.")
    kinds = [str(markup.get("type")) for markup in markups]
    if kinds != [POINT_LIST]:
        found = ", ".join(kinds) or "nothing"
        raise unreadable(path, f"it holds {found}; one point list ({POINT_LIST}) was expected.")
    (markup,) = markups
    units = markup.get("coordinateUnits", "mm")
    if units not in UNITS_MM:
        raise unreadable(path, f"its units are {units!r}, mm was expected.")
    system = SYSTEMS.get(str(markup.get("coordinateSystem", "LPS")))
    if system is None:
        found = str(markup.get("coordinateSystem"))
        raise unreadable(path, f"its coordinate system {found!r} is not LPS or RAS.")
    points = markup.get("controlPoints", [])
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise unreadable(path, "its controlPoints are no list of points.")
    return [(_name(point), _position(point, path)) for point in points], system


def markups_text(
    names: Sequence[str],
    points_lps_mm: NDArray,
    list_name: str,
    descriptions: Sequence[str] | None = None,
) -> str:
    """Text of a markups file with one point list.

    Args:
        names: The points' labels.
        points_lps_mm: (N, 3) LPS, mm; NaN where undefined.
        list_name: Name of the list.
        descriptions: Of the points; by default none has one.
    """
    told = descriptions or [""] * len(names)
    points = zip(names, points_lps_mm.tolist(), told, strict=True)
    markup = {
        "type": POINT_LIST,
        "name": list_name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(names),
        "controlPoints": [_point(number, *point) for number, point in enumerate(points, 1)],
    }
    return json.dumps({"@schema": SCHEMA, "markups": [markup]}, indent=2, allow_nan=False) + "\n"


def confidence_text(confidence: float) -> str:
    """How a point's description tells its confidence."""
    return "" if confidence == 1 else f"confidence {confidence:.2f}"


def _point(number: int, name: str, xyz: list[float], description: str) -> dict[str, Any]:
    defined = not any(map(math.isnan, xyz))
    return {
        "id": str(number),
        "label": name,
        "description": description,
        "associatedNodeID": "",
        "position": xyz if defined else "",
        "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0],  # RAS axes, in LPS
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined" if defined else "undefined",
    }


def _name(point: dict[str, Any]) -> str:
    return str(point.get("label") or point.get("id") or "").strip()


def _position(point: dict[str, Any], path: Path) -> list[float]:
    position = point.get("position", "")
    if position in ("", None) or point.get("positionStatus", "defined") != "defined":
        return [math.nan] * 3
    if not isinstance(position, list) or len(position) != 3 or not all(map(_finite, position)):
        raise unreadable(
            path, f"the position of point {_name(point)!r} is no three numbers: {position!r}."
        )
    return [float(number) for number in position]


def _finite(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
