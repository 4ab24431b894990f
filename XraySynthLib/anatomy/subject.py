"""A subject: bones posed, landmarks carried, everything else that its parameters say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from XraySynthLib.anatomy.bone_frames import BoneFrames
from XraySynthLib.anatomy.enclosure import enclosing
from XraySynthLib.anatomy.envelope import Envelope, envelope_of
from XraySynthLib.anatomy.grids import Grid
from XraySynthLib.anatomy.joints import opened
from XraySynthLib.anatomy.landmarks import landmarks_of
from XraySynthLib.anatomy.parameters import SubjectParameters, checked_seed, sample_parameters
from XraySynthLib.anatomy.parts import Bone
from XraySynthLib.anatomy.shape_model import PelvisShape, load_shape_model
from XraySynthLib.data import LandmarkSet
from XraySynthLib.geometry.transforms import rotation

COMPACT = ((128, 128, 128), 2.5)
"""Shape (K, J, I) and spacing, mm, of a CT unless another is asked for."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A person who never was.

    RAS, mm; origin midway between the hip centres; lying on the back.

    Attributes:
        parameters: Every knob.
        bones: The surfaces, posed.
        landmarks: DeepFluoro's 14.
        seed: Integers that it was drawn from; empty where the parameters were given.
    """

    parameters: SubjectParameters
    bones: PelvisShape
    landmarks: LandmarkSet
    seed: tuple[int, ...] = ()

    @cached_property
    def frames(self) -> BoneFrames:
        """Places on its bones."""
        return BoneFrames(self.bones)

    @cached_property
    def envelope(self) -> Envelope:
        """Its outline; it holds all bones."""
        outline = envelope_of(self.bones, self.parameters)
        return enclosing(outline, self.frames, self.parameters)

    def grid(
        self, shape: tuple[int, int, int] = COMPACT[0], spacing_mm: float = COMPACT[1]
    ) -> Grid:
        """A grid about the pelvis: its height's middle in the middle, the body centred."""
        hips = self.bones.vertices_ras_mm[: load_shape_model().parts[Bone.SACRUM].stop]
        middle = (hips[:, 2].min() + hips[:, 2].max()) / 2
        knots = self.envelope.knots_mm
        at_hip = knots[np.abs(knots[:, 0] - middle).argmin()]
        return Grid(shape, spacing_mm, np.array([0.0, 0.5 * (at_hip[2] + at_hip[3]), middle]))


def make_subject(
    parameters: SubjectParameters, seed: int | Sequence[int] = (), person: int | None = None
) -> Subject:
    """Apply parameters: shape, local variation, tilt of the pelvis, poses of the legs.

    Args:
        parameters: Every knob.
        seed: What they were drawn from; empty where nothing was.
        person: One of the shape model's people, whose own bones are taken instead of the
            parameters' shape and local variation.
    """
    if not isinstance(parameters, SubjectParameters):
        raise TypeError(f"A subject is made of SubjectParameters, got {parameters!r}.")
    seeds = () if isinstance(seed, list | tuple) and not seed else checked_seed(seed)
    model = load_shape_model()
    if person is None:
        rng = np.random.default_rng((parameters.texture_seed, 1))
        local = parameters.local_variation * rng.standard_normal((model.local_basis.shape[1], 3))
        shape = model.shape(parameters.shape_scores or (0.0,), local)
    else:
        shape = model.person(person)
    tilt_deg = parameters.anterior_tilt_deg
    # The legs lie as they lie: what the pelvis tilts forward, the hips flex.
    poses = [pose.tilted(tilt_deg) for pose in (parameters.left_hip, parameters.right_hip)]
    shape = replace(shape, vertices_ras_mm=opened(shape.vertices_ras_mm)).with_hips(*poses)
    turn = rotation("x", -tilt_deg)[:3, :3]
    bones = PelvisShape(shape.vertices_ras_mm @ turn.T, turn @ shape.femur_turns)
    return Subject(parameters, bones, landmarks_of(bones), seeds)


def sample_subject(
    seed: int | Sequence[int], person: int | None = None, **knobs: object
) -> Subject:
    """Draw a subject.

    A knob is set before the draw, so that what it causes follows it:

    - `sex`: shape, bone quality, fat, belly and muscle;
    - `age_years`: bone quality and calcification;
    - `fat_mm` or `belly_mm`: the other, by the habitus that it tells of;
    - `anterior_tilt_deg`: the lordosis;
    - tilt, lordosis or a hip: of tilt and hips what could not lie as drawn.

    All else stays as the seed draws it, and any other knob sets its own field alone.

    Args:
        seed: For item i of a run (run_seed, i); the same seed makes the same subject.
        person: One of the shape model's people, whose own bones it has; all else is drawn.
        **knobs: Fields of `SubjectParameters` to set instead of drawing them.

    Raises:
        TypeError: If a knob does not exist or takes another type, or the seed is no whole number.
        ValueError: If a value is out of its limits, or the seed negative.
    """
    seeds = checked_seed(seed)
    parameters = sample_parameters(np.random.default_rng(seeds), knobs=knobs)
    if person is not None:
        parameters = replace(parameters, shape_scores=(), local_variation=0.0)
    return make_subject(parameters, seeds, person)
