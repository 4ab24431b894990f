"""Masks as COCO writes them: runs down the columns, or polygons.

Written here and not by pycocotools, whose decoder ends the process on some damaged runs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.path import Path as Outline
from numpy.typing import ArrayLike, NDArray

BITS, MORE, SIGN = 5, 32, 16
"""A character holds 5 bits of a number, the low ones first; 32 says that more follow."""
MAX_CHARACTERS = 7
FIRST_CHARACTER = 48


def rle_of_mask(mask: NDArray) -> dict[str, Any]:
    """A mask as a compressed run-length encoding, the same text as pycocotools makes.

    Args:
        mask: (rows, columns) bool.

    Returns:
        "size" [rows, columns] and "counts": lengths of the runs of 0 and 1 in turn, as text.
    """
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]]))
    if flat[0]:
        counts = np.concatenate([[0], counts])  # the first run is of 0
    return {"size": list(np.shape(mask)), "counts": _text_of_counts(counts)}


def mask_of_segmentation(segmentation: object, shape: tuple[int, int]) -> NDArray:
    """The mask that an annotation's `segmentation` means.

    Args:
        segmentation: Polygons [x, y, x, y, ...] where (0, 0) is the corner of the image, or a
            run-length encoding, compressed or not.
        shape: Rows and columns of the image.

    Returns:
        (rows, columns) bool.

    Raises:
        ValueError: If it is neither, or not of an image of that shape.
    """
    if isinstance(segmentation, list):
        return _mask_of_polygons(segmentation, shape)
    if not isinstance(segmentation, dict) or list(segmentation.get("size", ())) != [*shape]:
        raise ValueError(f"A segmentation is no polygon and no mask of {shape} rows and columns.")
    counts = segmentation.get("counts")
    runs = _counts_of_text(counts) if isinstance(counts, str) else np.array(counts)
    rows, columns = shape
    if runs.ndim != 1 or runs.dtype.kind not in "iu" or (runs < 0).any():
        raise ValueError("A segmentation's counts are no lengths of runs.")
    if (runs > rows * columns).any() or runs.sum() != rows * columns:
        raise ValueError(f"A segmentation's counts do not fill {shape} rows and columns.")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(columns, rows).T


def box_of_mask(mask: NDArray) -> list[float] | None:
    """The box [left, top, width, height] around a mask (rows, columns), None around nothing."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return None
    left, top = int(columns[0]), int(rows[0])
    return [float(left), float(top), float(columns[-1] + 1 - left), float(rows[-1] + 1 - top)]


def _text_of_counts(counts: NDArray) -> str:
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]  # from the fourth on, the difference to the last run of its kind
    shifts = BITS * np.arange(MAX_CHARACTERS)
    digits = numbers[:, None] >> shifts & (MORE - 1)
    rest = numbers[:, None] >> shifts + BITS
    more = np.where(digits & SIGN, rest != -1, rest != 0)
    n_characters = 1 + np.argmin(more, axis=1)
    used = np.arange(MAX_CHARACTERS) < n_characters[:, None]
    characters = (digits | more * MORE)[used] + FIRST_CHARACTER
    return characters.astype(np.uint8).tobytes().decode("ascii")


def _counts_of_text(text: str) -> NDArray:
    characters = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - FIRST_CHARACTER
    last = np.flatnonzero((characters & MORE) == 0)
    if not ((characters >= 0) & (characters < 2 * MORE)).all() or len(last) == 0:
        raise ValueError("A segmentation's counts are damaged.")
    first = np.concatenate([[0], last[:-1] + 1])
    n_characters = last + 1 - first
    if last[-1] != len(characters) - 1 or n_characters.max() > MAX_CHARACTERS:
        raise ValueError("A segmentation's counts are damaged.")
    place = np.arange(len(characters)) - np.repeat(first, n_characters)
    numbers = np.add.reduceat((characters & (MORE - 1)) << BITS * place, first)
    negative = (characters[last] & SIGN) != 0
    numbers[negative] -= 1 << BITS * n_characters[negative]
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers


def _mask_of_polygons(polygons: Sequence[ArrayLike], shape: tuple[int, int]) -> NDArray:
    """A pixel is inside where its centre is."""
    rows, columns = np.indices(shape) + 0.5
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    inside = np.zeros(len(centres), dtype=bool)
    for polygon in polygons:
        corners = np.array(polygon, dtype=np.float64)
        if corners.ndim != 1 or len(corners) < 6 or len(corners) % 2 or np.isnan(corners).any():
            raise ValueError("A segmentation's polygon is not three or more pairs of numbers.")
        inside |= Outline(corners.reshape(-1, 2)).contains_points(centres)
    return inside.reshape(shape)
