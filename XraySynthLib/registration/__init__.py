"""The C-arm's pose from an image and a CT: first from landmarks, then by matching DRRs.

What is found is a `View` in the CT's RAS. Detecting the landmarks is `detection`'s business.
"""

from XraySynthLib.registration.doubts import doubts_of
from XraySynthLib.registration.landmark_pose import LandmarkFit, view_from_landmarks
from XraySynthLib.registration.motion import PoseError, moved, pose_error
from XraySynthLib.registration.problems import RegistrationError
from XraySynthLib.registration.refinement import Refinement, refine

__all__ = [
    "LandmarkFit",
    "PoseError",
    "Refinement",
    "RegistrationError",
    "doubts_of",
    "moved",
    "pose_error",
    "refine",
    "view_from_landmarks",
]
