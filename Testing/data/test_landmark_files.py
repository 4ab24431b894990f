"""Landmarks: Slicer's markups, .fcsv and CSV, with the signs of LPS written by hand."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from XraySynthLib.data import LandmarkSet
from XraySynthLib.data.formats import read_landmarks, write_landmarks

LANDMARKS = LandmarkSet(("FH-l", "ASIS, right"), [[10.5, -20.25, 30], [np.nan] * 3])


def markups(points, **fields):
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points, **fields}
    return json.dumps({"@schema": "any", "markups": [markup]})


def point(label="a", position=(1, 2, 3), **fields):
    return {"id": "7", "label": label, "position": list(position), **fields}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [-1, -2, 3]),
        ({"coordinateSystem": "LPS"}, [-1, -2, 3]),
        ({"coordinateSystem": "RAS"}, [1, 2, 3]),
        ({"coordinateUnits": "mm"}, [-1, -2, 3]),
        ({"coordinateUnits": ["mm", "UCUM", "millimeter"]}, [-1, -2, 3]),
    ],
)
def test_a_markups_file_written_by_hand(tmp_path, fields, expected):
    (tmp_path / "l.mrk.json").write_text(markups([point()], **fields))
    landmarks = read_landmarks(tmp_path / "l.mrk.json")
    assert landmarks.names == ("a",)
    assert landmarks.points_ras_mm.tolist() == [expected]


def test_undefined_points_are_nan_and_an_empty_label_gives_way_to_the_id(tmp_path):
    points = [
        point("a", positionStatus="defined"),
        point("b", positionStatus="undefined"),
        {"id": "3", "label": "c", "position": "", "positionStatus": "undefined"},
        {"id": "4", "label": "d"},
        point(""),
    ]
    (tmp_path / "l.mrk.json").write_text(markups(points))
    landmarks = read_landmarks(tmp_path / "l.mrk.json")
    assert landmarks.names == ("a", "b", "c", "d", "7")
    assert np.isnan(landmarks.points_ras_mm).any(axis=1).tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_what_slicer_gets(tmp_path):
    write_landmarks(LANDMARKS, tmp_path / "hip.mrk.json")
    document = json.loads((tmp_path / "hip.mrk.json").read_text())
    assert document["@schema"].endswith("Schema/markups-schema-v1.0.3.json#")
    (markup,) = document["markups"]
    assert (markup["type"], markup["coordinateSystem"], markup["name"]) == (
        "Fiducial",
        "LPS",
        "hip",
    )
    first, second = markup["controlPoints"]
    assert (first["label"], first["position"]) == ("FH-l", [-10.5, 20.25, 30])
    assert (second["position"], second["positionStatus"]) == ("", "undefined")


@pytest.mark.parametrize("system", ["LPS", "1", "RAS", "0"])
def test_an_fcsv_file_written_by_hand(tmp_path, system):
    (tmp_path / "l.fcsv").write_text(
        "# Markups fiducial file version = 4.10\n"
        f"# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        'vtkMRMLMarkupsFiducialNode_0,1,2,3,0,0,0,1,1,1,0,"a, b",,\n'
        "8,0,0,0,0,0,0,1,1,1,0,c,,,0,0\n"
    )
    landmarks = read_landmarks(tmp_path / "l.fcsv")
    assert landmarks.names == ("a, b", "c")
    expected = [-1, -2, 3] if system in ("LPS", "1") else [1, 2, 3]
    assert landmarks.points_ras_mm[0].tolist() == expected
    assert np.isnan(landmarks.points_ras_mm[1]).all()


def test_a_csv_file_written_by_hand(tmp_path):
    text = 'name,x_ras_mm,y_ras_mm,z_ras_mm\nFH-l,10.5,-20.25,30\n"ASIS, right",,,\n'
    (tmp_path / "l.csv").write_text("\ufeff" + text, "utf-8")  # as Excel writes it
    landmarks = read_landmarks(tmp_path / "l.csv")
    assert landmarks.names == LANDMARKS.names
    assert landmarks.points_ras_mm[0].tolist() == [10.5, -20.25, 30]
    write_landmarks(LANDMARKS, tmp_path / "m.csv")
    assert read_landmarks(tmp_path / "m.csv").names == LANDMARKS.names
    assert (tmp_path / "m.csv").read_text().splitlines()[1] == "FH-l,10.5,-20.25,30.0"


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    points=st.dictionaries(
        NAMES.filter(lambda name: not name.startswith("#")),
        st.none() | st.tuples(*[st.floats(-1e4, 1e4)] * 3),
        max_size=5,
    ),
    suffix=st.sampled_from([".mrk.json", ".csv", ".fcsv"]),
)
def test_landmarks_come_back(tmp_path, points, suffix):
    if suffix == ".fcsv":
        points = {name: xyz or (0.0, 0.0, 0.0) for name, xyz in points.items()}
    rows = [xyz or (np.nan,) * 3 for xyz in points.values()]
    landmarks = LandmarkSet(tuple(points), np.array(rows).reshape(-1, 3))
    write_landmarks(landmarks, tmp_path / f"l{suffix}")
    back = read_landmarks(tmp_path / f"l{suffix}")
    assert back.names == landmarks.names
    assert np.array_equal(back.points_ras_mm, landmarks.points_ras_mm, equal_nan=True)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"write \.mrk\.json"):
        write_landmarks(LANDMARKS, tmp_path / "l.fcsv")
    with pytest.raises(ValueError, match=r"\.mrk\.json"):
        write_landmarks(LANDMARKS, tmp_path / "l.txt")
    assert not list(tmp_path.iterdir())


FCSV = "# Markups fiducial file version = 4.10\n# CoordinateSystem = LPS\n"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("l.mrk.json", "{", "not a JSON file"),
        ("l.mrk.json", "[" * 100000, "not a JSON file"),
        ("l.mrk.json", "[1]", "no Slicer markups"),
        ("l.mrk.json", '{"markups": []}', "it holds nothing"),
        ("l.mrk.json", '{"markups": [{"type": "Curve"}]}', "it holds Curve"),
        (
            "l.mrk.json",
            '{"markups": [{"type": "Fiducial"}, {"type": "Fiducial"}]}',
            "it holds Fiducial, Fiducial",
        ),
        ("l.mrk.json", markups([point()], coordinateUnits="cm"), "units are 'cm'"),
        ("l.mrk.json", markups([point()], coordinateSystem="IJK"), "'IJK' is not LPS or RAS"),
        ("l.mrk.json", markups([point(), point()]), "2 points are called 'a'"),
        ("l.mrk.json", markups([{"position": [1, 2, 3]}]), "neither label nor id"),
        ("l.mrk.json", markups([point(position=(1, 2))]), "no three numbers"),
        ("l.mrk.json", markups([point(position=(1, 2, "x"))]), "no three numbers"),
        ("l.mrk.json", markups([point(position=(1, 2, 1e999))]), "no three numbers"),
        ("l.mrk.json", markups([point(position=(1, 2, 10**400))]), "no three numbers"),
        ("l.mrk.json", markups("abc"), "no list of points"),
        ("l.fcsv", "1,2,3\n", "must be RAS or LPS, it says None"),
        ("l.fcsv", FCSV + "1,2,3\n", "line 3 has 3 columns"),
        ("l.fcsv", FCSV + "1,x,2,3,0,0,0,1,1,1,0,a,,\n", "line 3 has no three numbers"),
        ("l.fcsv", FCSV + "# columns = a,b\n1,2\n", "names no x, y, z"),
        ("l.csv", "name,x,y,z\n", "first line must be name,x_ras_mm"),
        ("l.csv", "name,x_ras_mm,y_ras_mm,z_ras_mm\na,1,2\n", "line 2 has 3 columns"),
        ("l.csv", "name,x_ras_mm,y_ras_mm,z_ras_mm\na,1,,3\n", "line 2 has no three"),
        ("l.csv", "name,x_ras_mm,y_ras_mm,z_ras_mm\na,1,nan,3\n", "no three finite"),
        ("l.csv", "", "empty"),
        ("l.txt", "a", "landmarks are .mrk.json"),
    ],
)
def test_a_file_is_refused(tmp_path, refused, name, text, found):
    (tmp_path / name).write_text(text)
    with refused(found):
        read_landmarks(tmp_path / name)


def test_bytes_that_are_no_text_are_refused(tmp_path, refused):
    (tmp_path / "l.csv").write_bytes(b"\xff\xfe\x00abc")
    with refused("UTF-8"):
        read_landmarks(tmp_path / "l.csv")
