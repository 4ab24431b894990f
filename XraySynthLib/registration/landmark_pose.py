"""A view from landmarks known in the patient and found in the image (perspective-n-point)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from XraySynthLib.data import ImageLandmarkSet, LandmarkSet
from XraySynthLib.geometry import Intrinsics, View
from XraySynthLib.geometry.transforms import inverse_rigid, transform_points
from XraySynthLib.registration.motion import moved
from XraySynthLib.registration.problems import RegistrationError

MIN_LANDMARKS = 4
"""Three leave up to four poses."""
MIN_FOR_CONSENSUS = 6
SOFT_ERROR_MM = 5.0
"""On the detector: where a residual begins to count less than its square (Cauchy's loss)."""
LEAST_INLIERS = 0.6
"""Share of the landmarks; a few of many fit nearly anywhere."""
OUTLIER_MM = 20.0
"""On the detector: farther off a landmark was found elsewhere."""
MAX_ERROR_MM = 15.0
"""On the detector: a worse mean reprojection error of the inliers is no fit."""
LEAST_WEIGHT = 1e-3
"""Of a landmark found with no confidence at all."""
LEAST_WIDTH = 0.05
"""Of the landmarks' cloud against its length: narrower is a line."""
TYPICAL_NOISE_MM, TYPICAL_COUNT = 3.0, 6
"""On the detector: how well landmarks are found as a rule, which counts as so many residuals more:
those of a few landmarks say little."""


@dataclass(frozen=True, eq=False)
class LandmarkFit:
    """A view fitted to landmarks.

    Attributes:
        view: The view.
        names: The landmarks known on both sides, which it was fitted to.
        points_ras_mm: (N, 3) where they are in the patient, RAS, mm.
        points_px: (N, 2) where they were found, px.
        confidence: (N,) as their finder gave it; their weights.
        covariance: (6, 6) of the motion (see `registration.motion`) about `pivot_ras_mm`, deg and
            mm: how well the landmarks fix the pose. Depth is fixed worst.
    """

    view: View
    names: tuple[str, ...]
    points_ras_mm: NDArray
    points_px: NDArray
    confidence: NDArray
    covariance: NDArray

    @property
    def inliers(self) -> NDArray:
        """(N,) bool, the landmarks that fall near where they were found."""
        return self.errors_mm(self.view) <= OUTLIER_MM

    @property
    def pivot_ras_mm(self) -> NDArray:
        """(3,) the landmarks' centre, RAS, mm."""
        return self.points_ras_mm.mean(axis=0)

    def errors_px(self, view: View) -> NDArray:
        """(N,) distance of each landmark from where a view puts it, px."""
        return np.linalg.norm(view.project(self.points_ras_mm) - self.points_px, axis=1)

    def errors_mm(self, view: View) -> NDArray:
        """(N,) the same on the detector, mm."""
        offsets_px = view.project(self.points_ras_mm) - self.points_px
        return np.linalg.norm(offsets_px * view.intrinsics.pixel_spacing_mm, axis=1)


def view_from_landmarks(
    landmarks: LandmarkSet, found: ImageLandmarkSet, intrinsics: Intrinsics
) -> LandmarkFit:
    """Find the view under which landmarks fall where they were found.

    SQPnP (Terzakis and Lourakis 2020) from all landmarks and from the largest consensus of few
    (RANSAC) give first poses, to which the flipped pose of a nearly flat set of points is added;
    least squares, weighted by confidence and robust, decides between them.

    Args:
        landmarks: Points in the patient.
        found: Points in the image; those visible count.
        intrinsics: The detector.

    Raises:
        RegistrationError: If landmarks are too few or in line, no pose puts them between source
            and detector, or the best does not fit.
    """
    points_ras_mm, points_px, weights, names = _in_common(landmarks, found)
    spread_mm = np.linalg.svd(points_ras_mm - points_ras_mm.mean(axis=0))[1]
    if spread_mm[1] < LEAST_WIDTH * spread_mm[0]:
        raise RegistrationError(
            "The landmarks found lie on a line, about which the pose could turn; find others."
        )
    starts = _first_views(points_ras_mm, points_px, intrinsics)
    fits = [_adjusted(start, points_ras_mm, points_px, weights) for start in starts]
    fits = [fit for fit in fits if np.isfinite(fit[0].project(points_ras_mm)).all()]
    if not fits:
        raise RegistrationError(
            "No pose puts the landmarks between source and detector where they were found; check "
            "their names, the pixel spacing and the distance from source to detector."
        )
    view, covariance, _ = min(fits, key=lambda fit: fit[2])
    fit = LandmarkFit(view, names, points_ras_mm, points_px, weights, covariance)
    if fit.inliers.sum() < max(MIN_LANDMARKS, LEAST_INLIERS * len(names)):
        raise RegistrationError(
            f"Only {fit.inliers.sum()} of {len(names)} landmarks fall within {OUTLIER_MM:g} mm of "
            "where they were found, so no pose fits; check that image and CT show one patient, "
            "and the distances."
        )
    error_mm = fit.errors_mm(view)[fit.inliers].mean()
    if error_mm > MAX_ERROR_MM:
        raise RegistrationError(
            f"The landmarks miss where they were found by {error_mm:.1f} mm on the detector "
            f"(at most {MAX_ERROR_MM:g}); check that image and CT show one patient, and the "
            "distances."
        )
    return fit


def _in_common(
    landmarks: LandmarkSet, found: ImageLandmarkSet
) -> tuple[NDArray, NDArray, NDArray, tuple[str, ...]]:
    """Points in the patient, points in the image, confidences and names of what both sides know."""
    places = dict(zip(landmarks.names, landmarks.points_ras_mm, strict=True))
    seen = [
        index
        for index, name in enumerate(found.names)
        if found.visible[index] and name in places and np.isfinite(places[name]).all()
    ]
    if len(seen) < MIN_LANDMARKS:
        raise RegistrationError(
            f"A pose needs {MIN_LANDMARKS} landmarks that are known in the CT and found in the "
            f"image, but there are {len(seen)}; check their names, or take another image."
        )
    names = tuple(found.names[index] for index in seen)
    points_ras_mm = np.stack([places[name] for name in names])
    return points_ras_mm, found.points_px[seen], found.confidence[seen], names


def _first_views(
    points_ras_mm: NDArray, points_px: NDArray, intrinsics: Intrinsics
) -> Iterator[View]:
    """Poses to begin with, all with every point between source and detector."""
    import cv2

    homogeneous = np.column_stack([points_px, np.ones(len(points_px))])
    slopes = (homogeneous @ np.linalg.inv(intrinsics.px_from_camera).T)[:, :2].copy()  # unmirrored
    camera = (np.eye(3), None)
    solved = [cv2.solvePnP(points_ras_mm, slopes, *camera, flags=cv2.SOLVEPNP_SQPNP)]
    if len(points_px) >= MIN_FOR_CONSENSUS:
        solved.append(
            cv2.solvePnPRansac(
                points_ras_mm,
                slopes,
                *camera,
                iterationsCount=500,
                reprojectionError=OUTLIER_MM / intrinsics.source_to_detector_mm,
                confidence=0.9999,
                flags=cv2.SOLVEPNP_SQPNP,
            )
        )
    for success, rotation_vector, translation_mm, *_ in solved:
        if not success or not np.isfinite([rotation_vector, translation_mm]).all():
            continue
        camera_from_ras = np.eye(4)
        camera_from_ras[:3, :3] = cv2.Rodrigues(rotation_vector)[0]
        camera_from_ras[:3, 3] = translation_mm[:, 0]
        for matrix in (camera_from_ras, _flipped(camera_from_ras, points_ras_mm)):
            view = View(inverse_rigid(matrix), intrinsics)
            if np.isfinite(view.project(points_ras_mm)).all():
                yield view


def _flipped(camera_from_ras: NDArray, points_ras_mm: NDArray) -> NDArray:
    """The other pose under which points in a plane look the same from afar.

    The plane is mirrored in depth, H_v R H_n: H mirrors along the direction of sight v and along
    the plane's normal n (Schweighofer and Pinz 2006).
    """
    center_ras_mm = points_ras_mm.mean(axis=0)
    normal_ras = np.linalg.svd(points_ras_mm - center_ras_mm)[2][2]
    center_mm = transform_points(camera_from_ras, center_ras_mm[None])[0]
    sight = center_mm / np.linalg.norm(center_mm)
    mirrors = [np.eye(3) - 2 * np.outer(along, along) for along in (sight, normal_ras)]
    flipped = np.eye(4)
    flipped[:3, :3] = mirrors[0] @ camera_from_ras[:3, :3] @ mirrors[1]
    flipped[:3, 3] = center_mm - flipped[:3, :3] @ center_ras_mm
    return flipped


def _adjusted(
    start: View, points_ras_mm: NDArray, points_px: NDArray, weights: NDArray
) -> tuple[View, NDArray, float]:
    """Least squares from a first view: the view, the motion's covariance and the cost."""
    pivot_ras_mm = points_ras_mm.mean(axis=0)
    pivot_mm, *points_mm = transform_points(
        start.camera_from_ras, np.vstack([pivot_ras_mm, points_ras_mm])
    )
    px_from_camera = start.intrinsics.px_from_camera
    scales = np.sqrt(np.maximum(weights, LEAST_WEIGHT))[:, None] * start.intrinsics.pixel_spacing_mm

    def residuals(motion: NDArray) -> NDArray:
        turn = Rotation.from_rotvec(motion[:3], degrees=True)
        there_mm = turn.apply(points_mm - pivot_mm) + pivot_mm + motion[3:]  # as `moved` does
        homogeneous = there_mm @ px_from_camera.T
        depth = np.maximum(homogeneous[:, 2:], 1.0)  # behind the source nothing fits
        return ((homogeneous[:, :2] / depth - points_px) * scales).ravel()

    found = least_squares(
        residuals, np.zeros(6), loss="cauchy", f_scale=SOFT_ERROR_MM, x_scale=(1, 1, 1, 1, 1, 5),
        xtol=1e-11, ftol=1e-11, gtol=1e-11, max_nfev=100,
    )  # fmt: skip
    freedom = 2 * len(weights) - 6 + TYPICAL_COUNT
    variance = (2 * found.cost + TYPICAL_COUNT * TYPICAL_NOISE_MM**2) / freedom
    covariance = variance * np.linalg.pinv(found.jac.T @ found.jac)
    return moved(start, found.x, pivot_ras_mm), covariance, float(found.cost)
