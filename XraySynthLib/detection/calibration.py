"""From what maps say to a confidence that means what it says.

Confidence is the probability that a landmark is in the image and lies within `TOLERANCE` of the
point given: a logistic regression on presence and peak, fitted to images that were not trained on
(Platt scaling; with one feature it would be a temperature).
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from XraySynthLib.training.model_folder import check_numbers

TOLERANCE = 0.025
"""A share of the image's longer side: 7.5 mm on a detector of 300 mm."""
KEPT_SHARE = 0.95
"""Of the landmarks in the images fitted to, that the threshold keeps."""
LEAST_CONFIDENCE = 0.2
"""Below it the threshold is never set: more likely wrong by four to one."""
RIDGE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """Weights of the regression, and from where on a landmark counts as detected.

    Attributes:
        presence: Weight of the log-odds of being in the image.
        peak: Weight of the log of the map's share about the point.
        constant: The constant term.
        threshold: Least confidence of a detected landmark.

    Raises:
        ValueError: If one is no finite number, or the threshold not in 0..1.
    """

    presence: float = 1.0
    peak: float = 0.0
    constant: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check_numbers(name, (value,), 1)
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"The threshold must lie in 0..1, got {self.threshold}.")

    def confidence(self, presence: NDArray, peak: NDArray) -> NDArray:
        """Confidences 0..1."""
        logit = self.presence * presence + self.peak * peak + self.constant
        return 1 / (1 + np.exp(-np.clip(logit, -60, 60)))


def fit_calibration(
    presence: NDArray, peak: NDArray, right: NDArray, visible: NDArray
) -> Calibration:
    """Fit the weights, then set the threshold.

    Args:
        presence: (N,) log-odds of being in the image.
        peak: (N,) log of the map's share about the point.
        right: (N,) bool, whether the landmark is in the image, within `TOLERANCE` of the point.
        visible: (N,) bool, whether it is in the image.

    Returns:
        The calibration; its threshold keeps `KEPT_SHARE` of the visible landmarks, but lets no
        landmark through below `LEAST_CONFIDENCE`.
    """
    features = np.stack([presence, peak, np.ones(len(peak))], axis=1)
    signs = np.where(right, 1.0, -1.0)

    def cost(weights: NDArray) -> tuple[float, NDArray]:
        margins = signs * (features @ weights)
        slope = -signs / (1 + np.exp(np.clip(margins, -60, 60)))
        gradient = features.T @ slope / len(signs) + 2 * RIDGE * (weights - start)
        ridge = RIDGE * ((weights - start) ** 2).sum()
        return float(np.logaddexp(0, -margins).mean() + ridge), gradient

    start = np.array([1.0, 0.0, 0.0])
    weights = minimize(cost, start, jac=True, method="L-BFGS-B").x.tolist()
    calibration = Calibration(*weights)
    confidence = calibration.confidence(presence, peak)
    threshold = 0.5
    if visible.any():
        threshold = float(np.quantile(confidence[visible], 1 - KEPT_SHARE, method="lower"))
    return Calibration(*weights, threshold=float(np.clip(threshold, LEAST_CONFIDENCE, 0.9)))
