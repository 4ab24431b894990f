"""Lumbar vertebrae, discs and coccyx, which the shape model lacks, as implicit bodies.

Sizes: vertebral bodies after Panjabi et al. 1992 (Spine 17(3)), discs after Zhou et al. 2000
(European Spine Journal 9). The vertebrae stand on the sacrum's endplate along a lordotic curve,
each a little different; with age discs narrow, unevenly, and spurs grow at their rims.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.anatomy.bone_frames import BoneFrames
from XraySynthLib.anatomy.parameters import SubjectParameters
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.primitives import Axes, capsule, ellipsoid, smooth_max, smooth_min

ENDPLATE_CENTER = (0.0, -23.0, 99.0)
"""Middle of the sacrum's endplate on the mean, mm."""
ENDPLATE_NORMAL = (0.0, 0.62, 0.785)
# From here on one entry a vertebra: L5, L4, ... L1, T12, T11, T10.
SPINE_TURNS = (0.30, 0.28, 0.20, 0.14, 0.08, 0.0, -0.04, -0.04)
"""Share of the lordosis that each vertebra turns back against the one below, L5 first."""
HALF_HEIGHTS_MM = (13.6, 13.7, 13.5, 13.3, 13.0, 12.6, 12.0, 11.7)
HALF_WIDTHS_MM = (26.0, 25.0, 24.0, 22.8, 22.0, 21.5, 20.5, 20.0)
HALF_DEPTHS_MM = (17.0, 17.2, 17.2, 17.0, 16.6, 16.0, 15.5, 15.0)
DISCS_MM = (11.0, 11.5, 11.0, 10.0, 9.0, 7.5, 6.0, 5.5)


@dataclass(frozen=True, eq=False)
class Vertebra:
    """One vertebra.

    Attributes:
        center_ras_mm: (3,) middle of its body.
        rows: (3, 3) unit vectors to the right, forward and up of the vertebra.
        half_mm: (3,) half width, depth and height of the body.
        disc_mm: Height of the disc below.
        spurs_mm: (2, 2) how far the rim stands out: left, right; below, above.
        wedge: How much lower the body is behind than in front, as a part of its height.
        arch: (6,) factors near 1 of the pedicle's radius, the lengths of the transverse process,
            the spinous process (length, radius), its turn to the side (mm) and the facets.
    """

    center_ras_mm: NDArray
    rows: NDArray
    half_mm: NDArray
    disc_mm: float
    spurs_mm: NDArray
    wedge: float
    arch: NDArray

    def local(self, axes: Axes) -> Axes:
        """Coordinates to the right, forward and up of the vertebra, mm."""
        offsets = [a - np.float32(c) for a, c in zip(axes, self.center_ras_mm, strict=True)]
        return tuple(sum(np.float32(row[n]) * offsets[n] for n in range(3)) for row in self.rows)

    def distance(self, axes: Axes) -> NDArray:
        """Signed distance to its bone, mm."""
        local = self.local(axes)
        x, y, z = local
        mirrored = (np.abs(x), y, z)
        width, depth = (float(h) for h in self.half_mm[:2])
        pedicle, across, long, thick, aside, facet = (float(f) for f in self.arch)
        tip = (0.9 * width + 20 * across, -31.0, 6.0)
        arch = capsule(
            mirrored, (0.58 * width, -0.7 * depth, 4.0), (15.5, -27.0, 5.0), (5.2 * pedicle, 4.8)
        )
        for part in (
            capsule(mirrored, (15.5, -28.0, 1.0), (3.0, -41.0, -7.0), (5.0, 4.0)),  # lamina
            capsule(mirrored, (16.0, -27.0, 3.0), tip, (5.0, 2.8)),
            capsule(mirrored, (17.0, -30.0, 2.0), (18.5, -33.0, 17.0), (5.5 * facet, 4.5 * facet)),
            capsule(
                mirrored, (14.0, -37.0, -6.0), (15.0, -40.0, -20.0), (5.5 * facet, 4.5 * facet)
            ),
            ellipsoid(local, (0.5 * aside, -50.0, -11.0), (3.4 * thick, 16.0 * long, 9.5)),
            ellipsoid(local, (aside, -58.0, -14.0), (4.8 * thick, 7.0 * long, 6.5)),
        ):
            arch = smooth_min(arch, part, 4.0)
        return smooth_min(self._body(x, y, z), arch, 4.0)

    def _body(self, x: NDArray, y: NDArray, z: NDArray) -> NDArray:
        width, depth, height = (np.float32(h) for h in self.half_mm)
        height = height * (1 + np.float32(self.wedge) * np.clip(y / depth, -1, 1))
        up = np.clip(np.abs(z) / height, 0, 1)
        waist = np.float32(0.85) + np.float32(0.15) * up**2.5
        hollow = np.float32(2.5) * np.maximum(1 - (x / (0.5 * width)) ** 2, 0) * (y < 0)
        a, b = width * waist, depth * waist
        radius = ((np.abs(x) / a) ** 2.4 + (np.abs(y) / b) ** 2.4) ** np.float32(1 / 2.4)
        side = (radius - 1) * np.minimum(a, b) + hollow * np.clip(-y / depth, 0, 1) ** 4
        spurs = np.where(
            z < 0,
            np.where(x < 0, *(np.float32(s) for s in self.spurs_mm[:, 0])),
            np.where(x < 0, *(np.float32(s) for s in self.spurs_mm[:, 1])),
        )
        lateral = np.clip(np.abs(x) / width, 0, 1) ** 2 + np.clip(y / depth, 0, 1)
        side = side - spurs * np.exp(-(((np.abs(z) - height) / 2.5) ** 2)) * np.minimum(lateral, 1)
        dish = np.float32(1.6) * np.maximum(1 - radius * radius, 0)
        return smooth_max(side, np.abs(z) - height + dish, 3.0)

    def disc_distance(self, axes: Axes) -> NDArray:
        """Signed distance to the disc below it, mm."""
        x, y, z = self.local(axes)
        width, depth, height = (np.float32(h) for h in self.half_mm)
        radius = np.sqrt((x / (width + 1)) ** 2 + (y / (depth + 1)) ** 2)
        middle = np.abs(z + height + np.float32(self.disc_mm / 2))
        return np.maximum((radius - 1) * depth, middle - np.float32(self.disc_mm / 2 + 2.5))

    def reach(self) -> NDArray:
        """(N, 3) points, RAS, mm, whose box holds the vertebra and its disc."""
        corners = np.array([[x, y, z] for x in (-50, 50) for y in (-75, 26) for z in (-38, 26)])
        return self.center_ras_mm + corners @ self.rows


def lumbar_spine(
    frames: BoneFrames, parameters: SubjectParameters, top_mm: float
) -> Iterator[Vertebra]:
    """Stack vertebrae on the sacrum until they reach `top_mm` (RAS z).

    Args:
        frames: The subject's bones.
        parameters: Lordosis, age, and the seed of how each vertebra differs.
        top_mm: Where the picture ends, with a margin.

    Yields:
        L5, L4, ... T10 at most.
    """
    rng = np.random.default_rng((parameters.texture_seed, 7))
    worn = np.clip((parameters.age_years - 35) / 50, 0, 1)
    up = frames.direction(Bone.SACRUM, ENDPLATE_NORMAL)
    right = frames.direction(Bone.SACRUM, (1.0, 0.0, 0.0))
    place = frames.place(Bone.SACRUM, ENDPLATE_CENTER)
    ends = frames.place(Bone.SACRUM, [(-24.0, -25.0, 98.0), (24.0, -25.0, 98.0)])
    scale = float(np.linalg.norm(ends[1] - ends[0])) / 48.0 * rng.uniform(0.94, 1.04)
    tilt = np.arctan2(up[1], up[2])
    lean = float(np.arcsin(np.clip(up[0], -0.2, 0.2)))
    curve, phase = np.deg2rad(rng.normal(0, 1.5 + 1.5 * worn)), rng.uniform(0, 2 * np.pi)
    for index in range(len(SPINE_TURNS)):
        turn = np.deg2rad(parameters.lordosis_deg) * SPINE_TURNS[index]
        half = np.array([HALF_WIDTHS_MM[index], HALF_DEPTHS_MM[index], HALF_HEIGHTS_MM[index]])
        half = scale * half * rng.normal(1, (0.025, 0.025, 0.03))
        narrowing = worn * rng.beta(0.8, 1.4)
        disc_mm = scale * DISCS_MM[index] * rng.normal(1, 0.06) * (1 - 0.6 * narrowing)
        place = place + disc_mm * _up(tilt - 0.6 * turn, lean)
        tilt, lean = tilt - turn, 0.6 * lean + curve * np.cos(0.9 * index + phase)
        up = _up(tilt, lean)
        right = right - up * (right @ up)
        right /= np.linalg.norm(right)
        center = place + half[2] * up
        yield Vertebra(
            center,
            np.stack([right, np.cross(up, right), up]),
            half,
            disc_mm,
            spurs_mm=(0.5 + 6 * worn * narrowing) * rng.uniform(0.1, 1.2, (2, 2)),
            wedge=float(rng.normal(0.06 if index == 0 else -0.01, 0.02)),
            arch=rng.normal((1, 1, 1, 1, 0, 1), (0.08, 0.16, 0.12, 0.14, 1.3, 0.1)),
        )
        place = center + half[2] * up
        if place[2] > top_mm:
            return


def _up(tilt: float, lean: float) -> NDArray:
    return np.array([np.sin(lean), np.cos(lean) * np.sin(tilt), np.cos(lean) * np.cos(tilt)])


COCCYX = (
    ((0.0, -85.0, 4.0), (11.5, 5.0, 6.0)),
    ((0.0, -82.0, -6.0), (8.0, 4.5, 5.5)),
    ((0.0, -76.0, -14.5), (6.0, 4.0, 4.8)),
    ((0.0, -69.0, -20.5), (4.5, 3.5, 4.0)),
)
"""Middles and semi-axes of its segments on the mean, mm."""


def coccyx_distance(frames: BoneFrames, axes: Axes) -> NDArray:
    """Signed distance to the coccyx, mm; its segments have grown together."""
    distance = None
    for center, radii in COCCYX:
        segment = ellipsoid(axes, frames.place(Bone.SACRUM, center), radii)
        distance = segment if distance is None else smooth_min(distance, segment, 5.0)
    return distance


def coccyx_points(frames: BoneFrames) -> NDArray:
    """(N, 3) the middles of its segments, RAS, mm."""
    return frames.place(Bone.SACRUM, [center for center, _ in COCCYX])
