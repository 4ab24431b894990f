"""What a network is shown in training: image i of a run depends on (seed, i) alone.

An image is mirrored or not (the landmarks change sides), randomised, and made ready as any image is
that the detector meets. A share shows no pelvis, or none that stands upright, so that the network
learns to say so; nothing real is used for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from XraySynthLib.data import ImageLandmarkSet, Quantity, Xray
from XraySynthLib.data.pelvis import partners_of
from XraySynthLib.detection.inputs import network_input
from XraySynthLib.detection.store import ImageStore

Marked = tuple[Xray, ImageLandmarkSet]
Randomise = Callable[[Xray, ImageLandmarkSet, np.random.Generator], Marked]
"""Changes an image and its landmarks; draws from the generator."""

TILES = (2, 4)
"""A patchwork's tiles along a side."""
LEAST_WINDOW_PX = 8


@dataclass(frozen=True)
class Shares:
    """How many of the images are changed beyond randomisation.

    Attributes:
        mirrored: The image of a mirrored patient.
        plain: Not randomised, but half of them inverted.
        zoomed: A small part of an image fills it.
        turned: By 90, 180 or 270 degrees, where nothing is to be found: the detector tries both
            ways up, and the right one must be the surer.
        patchwork: Tiles of one image, shuffled: tissue and bone, but no anatomy.
        clouds: Blobs, bars and noise.

    Raises:
        ValueError: If they cannot be shares.
    """

    mirrored: float = 0.5
    plain: float = 0.25
    zoomed: float = 0.08
    turned: float = 0.06
    patchwork: float = 0.03
    clouds: float = 0.03

    def __post_init__(self) -> None:
        changes = (self.zoomed, self.turned, self.patchwork, self.clouds)
        alone = (self.mirrored, self.plain)
        if min(*changes, *alone) < 0 or max(*alone, sum(changes)) > 1:
            raise ValueError(f"Shares must be 0 or more, and 1 together at most; got {self}.")


NO_CHANGES = Shares(0, 0, 0, 0, 0, 0)


class Examples:
    """Examples by number.

    Args:
        stores: The images, a store a source.
        weights: How often each source is drawn from.
        side_px: Side of the network's grid.
        randomise: The randomisation, or None.
        shares: Of the other changes.
        seed: The run's.
    """

    def __init__(
        self,
        stores: Sequence[ImageStore],
        weights: Sequence[float],
        side_px: int,
        randomise: Randomise | None,
        shares: Shares,
        seed: int,
    ) -> None:
        self.stores, self.side_px, self.randomise = stores, side_px, randomise
        self.shares, self.seed = shares, seed
        self.weights = np.asarray(weights, float) / np.sum(weights)
        self.partners = partners_of(stores[0].names)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Make image `index` of the run."""
        rng = np.random.default_rng((self.seed, index))
        store = self.stores[int(rng.choice(len(self.stores), p=self.weights))]
        xray, landmarks = store.image(int(rng.integers(len(store))))
        if rng.random() < self.shares.mirrored:
            xray, landmarks = mirrored(xray, landmarks, self.partners)
        xray, landmarks = self._changed(xray, landmarks, rng)
        if self.randomise is not None:
            if rng.random() < self.shares.plain:
                xray = either_polarity(xray, rng)
            else:
                xray, landmarks = self.randomise(xray, landmarks, rng)
        return example(xray, landmarks, self.side_px)

    def _changed(self, xray: Xray, landmarks: ImageLandmarkSet, rng: np.random.Generator) -> Marked:
        shares = self.shares
        kind = rng.random() - np.cumsum(
            [shares.zoomed, shares.turned, shares.patchwork, shares.clouds]
        )
        if kind[0] < 0:
            return zoomed(xray, landmarks, rng)
        if kind[1] < 0:
            values = np.rot90(xray.values, int(rng.integers(1, 4)))
            return Xray(values, xray.quantity), nothing(landmarks)
        if kind[2] < 0:
            return Xray(patchwork(xray.values, rng), xray.quantity), nothing(landmarks)
        if kind[3] < 0:
            return Xray(clouds(xray.values.shape, rng), Quantity.LINE_INTEGRAL), nothing(landmarks)
        return xray, landmarks


def example(xray: Xray, landmarks: ImageLandmarkSet, side_px: int) -> dict[str, torch.Tensor]:
    """What the network is given for an image: "image", "points_px" on the grid and "visible"."""
    image, placement = network_input(xray, side_px)
    points_px = placement.to_grid(landmarks.points_px)
    return {
        "image": torch.from_numpy(image),
        "points_px": torch.from_numpy(points_px.astype(np.float32)),
        "visible": torch.from_numpy(landmarks.visible.copy()),
    }


def either_polarity(xray: Xray, rng: np.random.Generator) -> Xray:
    """The image or, as likely, the same with dense small."""
    if rng.random() < 0.5:
        return xray
    return Xray(xray.values.max() - xray.values, xray.quantity)


def mirrored(xray: Xray, landmarks: ImageLandmarkSet, partners: Sequence[int]) -> Marked:
    """The image of a mirrored patient: what was left is right."""
    points = landmarks.points_px[partners] * [-1, 1] + [xray.values.shape[1] - 1, 0]
    visible = landmarks.visible[partners]
    return (
        Xray(xray.values[:, ::-1], xray.quantity),
        replace(landmarks, points_px=points, visible=visible, confidence=visible.astype(float)),
    )


def zoomed(xray: Xray, landmarks: ImageLandmarkSet, rng: np.random.Generator) -> Marked:
    """A window of a quarter to six tenths of the image's sides, anywhere in it."""
    shape = np.array(xray.values.shape)
    window = np.maximum((shape * rng.uniform(0.25, 0.6)).astype(int), LEAST_WINDOW_PX)
    rows, columns = np.minimum(window, shape)
    top, left = (rng.integers(0, shape - [rows, columns] + 1)).tolist()
    values = xray.values[top : top + rows, left : left + columns]
    points = landmarks.points_px - [left, top]
    with np.errstate(invalid="ignore"):
        inside = ((points >= -0.5) & (points < [columns - 0.5, rows - 0.5])).all(axis=1)
    visible = landmarks.visible & inside
    return Xray(values, xray.quantity), replace(landmarks, points_px=points, visible=visible)


def nothing(landmarks: ImageLandmarkSet) -> ImageLandmarkSet:
    """The same names, of which none is in the image."""
    none = np.zeros(len(landmarks.names))
    return ImageLandmarkSet(
        landmarks.names, np.full((len(none), 2), np.nan), none.astype(bool), none
    )


def patchwork(values: NDArray, rng: np.random.Generator) -> NDArray:
    """Tiles of an image, shuffled and turned, the seams faded."""
    import cv2

    n = int(rng.integers(TILES[0], TILES[1] + 1))
    side = max(min(values.shape) // n, 2)
    tiles = [
        values[side * row : side * (row + 1), side * column : side * (column + 1)]
        for row in range(n)
        for column in range(n)
    ]
    order = rng.permutation(len(tiles))
    placed = [np.rot90(tiles[k], int(rng.integers(4))) for k in order]
    rows = [np.concatenate(placed[n * row : n * (row + 1)], axis=1) for row in range(n)]
    whole = np.ascontiguousarray(np.concatenate(rows))
    return np.asarray(cv2.GaussianBlur(whole, (0, 0), rng.uniform(0.3, 1.5)))


def clouds(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    """(rows, columns) line integrals of soft blobs and up to six bars with dense walls."""
    import cv2

    rows, columns = shape
    cells = int(rng.integers(2, 12))
    coarse = rng.random((cells, cells)).astype(np.float32)
    values = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    values = np.clip(values, 0, 1.2) * np.float32(rng.uniform(0, 4))
    for _ in range(int(rng.integers(0, 7))):
        ends = rng.uniform(-0.2, 1.2, (2, 2)) * [columns, rows]
        width = rng.uniform(0.02, 0.2) * min(shape)
        bar = np.zeros((rows, columns), np.float32)
        for share, grey in ((1.0, 1.0), (rng.uniform(0.5, 0.9), rng.uniform(0.2, 0.8))):
            pen = max(round(width * share), 1)
            cv2.line(bar, *np.rint(ends).astype(int).tolist(), grey, pen, cv2.LINE_AA)
        values += cv2.GaussianBlur(bar, (0, 0), 1.0) * np.float32(rng.uniform(0.2, 1.5))
    return values + rng.normal(0, rng.uniform(0.005, 0.3), (rows, columns)).astype(np.float32)
