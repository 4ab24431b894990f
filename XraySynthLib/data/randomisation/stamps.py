"""Small pictures put somewhere on a large one, turned, to a part of a pixel."""

import numpy as np
from numpy.typing import NDArray


def add_stamp(image: NDArray, stamp: NDArray, image_from_stamp: NDArray) -> None:
    """Add a stamp to an image, which is changed.

    Args:
        image: (rows, columns) float32.
        stamp: (rows, columns) float32, 0 at its rim if its edge is to be smooth.
        image_from_stamp: (2, 3) to (column, row) of the image from (column, row, 1) of the stamp.
    """
    import cv2

    rows, columns = stamp.shape
    corners = np.array([[-1, -1, 1], [columns, -1, 1], [-1, rows, 1], [columns, rows, 1]])
    corners_px = corners @ image_from_stamp.T
    low = np.maximum(np.floor(corners_px.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners_px.max(axis=0)).astype(int) + 1, image.shape[::-1])
    if (low >= high).any():
        return
    part_from_stamp = image_from_stamp.copy()
    part_from_stamp[:, 2] -= low
    width, height = (high - low).tolist()
    part = cv2.warpAffine(stamp, part_from_stamp, (width, height))
    image[low[1] : high[1], low[0] : high[0]] += part


def placement(
    angle_deg: float, stamp_px: tuple[float, float], image_px: tuple[float, float]
) -> NDArray:
    """(2, 3) the turn, from columns toward rows, that puts one point of a stamp on one of an image.

    Args:
        angle_deg: The turn.
        stamp_px: Column, row in the stamp.
        image_px: Column, row in the image.
    """
    angle = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, np.asarray(image_px) - turn @ np.asarray(stamp_px)])
