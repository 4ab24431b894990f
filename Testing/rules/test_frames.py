"""A product of transforms reads as a chain: `a_from_b @ b_from_c`."""

import ast
import re

import pytest

NAME = re.compile(r"(?P<target>[a-z0-9_]+?)_from_(?P<source>[a-z0-9_]+)$")
FRAMES = ("ras", "lps", "ijk", "carm", "camera", "px")
FORBIDDEN = re.compile(r"(^|_)(affine|extrinsic|extrinsics|inv)(_|$)|^T$")


def name_of(node: ast.AST) -> str:
    """Name of a factor: a variable, an attribute, a call's function; `A[:3, :3]` and `A.T` too."""
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.T" if node.attr == "T" else node.attr
    if isinstance(node, ast.Name):
        return node.id.lstrip("_")
    return ""


def frames_of(node: ast.AST) -> tuple[str, str] | None:
    """(target, source) of a factor, None where its name says none."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        left, right = frames_of(node.left), frames_of(node.right)
        return (left[0], right[1]) if left and right else None
    name = name_of(node).lower()
    transposed = name.endswith(".t")
    found = NAME.match(name.removesuffix(".t"))
    if not found:
        return None
    target, source = found["target"], found["source"]
    return (source, target) if transposed else (target, source)


def same(one: str, other: str) -> bool:
    """Frames are one where their names are, but for a qualifier: `camera_axes`, `ras_lps`."""
    return one == other or one.startswith(f"{other}_") or other.startswith(f"{one}_")


def breaks(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and text of every product `a_from_b @ c_from_d` where b is not c."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            left, right = frames_of(node.left), frames_of(node.right)
            if left and right and not same(left[1], right[0]):
                found.append((node.lineno, ast.unparse(node)))
    return found


def test_products_are_chains(sources):
    wrong = [f"{s.path}:{line}: {text}" for s in sources for line, text in breaks(s.tree)]
    assert not wrong, "\n".join(wrong)


def test_there_are_products_to_look_at(sources):
    chains = [
        node
        for source in sources
        for node in source.nodes(ast.BinOp)
        if isinstance(node.op, ast.MatMult) and frames_of(node.left) and frames_of(node.right)
    ]
    assert len(chains) >= 8


@pytest.mark.parametrize(
    ("text", "n_breaks"),
    [
        ("ijk_from_ras @ ras_from_camera", 0),
        ("view.camera_from_ras @ self.ras_from_ijk @ points", 0),
        ("RAS_FROM_LPS @ lps_from_ijk", 0),
        ("ras_from_ijk @ ras_from_camera", 1),
        ("camera_from_ras @ view.ras_from_camera @ ras_from_ijk", 1),
        ("a_from_b[:3, :3] @ c_from_b[:3, :3].T", 0),
        ("a_from_b[:3, :3] @ c_from_b[:3, :3].T @ b_from_d", 1),
        ("a_from_b @ c_from_b", 1),
        ("a_from_b @ b_from_c.T", 1),
        ("a_from_b.T @ a_from_c", 0),
    ],
)
def test_a_broken_chain_is_seen(text, n_breaks):
    assert len(breaks(ast.parse(text))) == n_breaks


def test_matrices_are_assigned_what_their_names_say(sources):
    wrong = []
    for source in sources:
        for node in source.nodes(ast.Assign):
            made, target = frames_of(node.value), frames_of(node.targets[0])
            chain = isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.MatMult)
            if chain and made and target:
                ends = zip(target, made, strict=True)
                if not all(same(named, is_made) for named, is_made in ends):
                    wrong.append(f"{source.path}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def test_no_matrix_is_called_affine_or_inv(sources):
    """But in the converters, which speak their neighbours' languages."""
    wrong = [
        f"{source.path}:{node.lineno} {node.arg}"
        for source in sources
        for node in source.nodes(ast.arg)
        if FORBIDDEN.search(node.arg) and ".converters." not in source.name
    ]
    assert not wrong, "\n".join(wrong)
