"""What is doubtful of a view that was found and not refused."""

from collections.abc import Iterator

from XraySynthLib.registration.landmark_pose import LandmarkFit
from XraySynthLib.registration.refinement import Refinement

DOUBTFUL_SIMILARITY = 0.6
"""Another patient's CT may come so near; so may the right one's, behind shutters and noise."""
MAYBE_MIRRORED_SIMILARITY = 0.8
"""A pelvis is nearly its own mirror image: a film without noise came to 0.98, mirrored to 0.63."""
DOUBTFUL_ERROR_MM, DOUBTFUL_GROWTH = 4.0, 2.0
"""On the detector, and times what it was: worse after refinement, film and landmarks disagree."""


def doubts_of(
    fit: LandmarkFit, refinement: Refinement, maybe_mirrored: bool = False
) -> Iterator[str]:
    """Say in sentences why a pose may be wrong; nothing where there is no sign of it.

    Args:
        fit: The landmarks' view.
        refinement: The view it was refined to.
        maybe_mirrored: Whether nothing says that the film is not mirrored: a detector finds the
            landmarks of a mirrored one, too, sides exchanged.
    """
    least = MAYBE_MIRRORED_SIMILARITY if maybe_mirrored else DOUBTFUL_SIMILARITY
    if refinement.similarity < least:
        mirror = (
            ", and that the film is not mirrored (its side letter tells; if it is, flip it first)"
        )
        yield (
            f"Film and DRR are not very alike (similarity {refinement.similarity:.2f}, doubtful "
            f"below {least:g}); check that they show one patient"
            f"{mirror if maybe_mirrored else ''}."
        )
    before_mm, after_mm = (
        float(fit.errors_mm(view)[fit.inliers].mean()) for view in (fit.view, refinement.view)
    )
    if after_mm > max(DOUBTFUL_ERROR_MM, DOUBTFUL_GROWTH * before_mm):
        yield (
            f"Refining by the film made the landmarks miss by {after_mm:.1f} mm on the detector "
            f"instead of {before_mm:.1f}; check that film and CT show one patient, and the "
            "landmarks in both."
        )
