"""Which labels of subjects' label maps become masks, and what their numbers mean.

1 to 6 are DeepFluoro's bones, also of maps that TotalSegmentator or MAISI made; other numbers are
the map's own.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data.pelvis import BONE_NAMES
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.workflows.config import Progress
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.subjects import SubjectFolder

ALL_BONES = tuple(BONE_NAMES)
BONE_LAYOUTS = ("deepfluoro", "synthex")
"""Their label maps have room for DeepFluoro's bones alone."""


def checked_label_values(values: tuple[int, ...] | None, layout: str) -> tuple[int, ...]:
    """The labels that become masks; DeepFluoro's six bones where none are asked for.

    Raises:
        UsageError: If they are no labels, or the layout cannot hold them.
    """
    if values is None:
        return ALL_BONES
    if any(value < 1 for value in values) or len(set(values)) < len(values):
        raise UsageError(
            f"--label-values are 1 or more and each once, got {_listed(values)}; 0 is background."
        )
    others = [value for value in values if value not in BONE_NAMES]
    if others and layout in BONE_LAYOUTS:
        raise UsageError(
            f"--format {layout} holds masks of labels 1 to 6 (DeepFluoro's bones) alone; leave "
            f"{_listed(others)} out of --label-values."
        )
    return values


def check_label_maps(
    subjects: Collection[SubjectFolder], wanted: tuple[int, ...], progress: Progress
) -> None:
    """Refuse label maps of which no masks can be made, before an image is made.

    Raises:
        UnreadableFileError: As `known_labels` says.
    """
    from XraySynthLib.data.formats import read_labels

    maps = [subject.labels for subject in subjects if wanted and subject.labels is not None]
    for path in tracked(maps, "labels", len(maps), progress) if maps else ():
        known_labels(read_labels(path)[0], wanted, path)


def known_labels(labels: NDArray, wanted: tuple[int, ...], path: Path | None) -> NDArray:
    """Number a subject's labels as `wanted` does.

    Args:
        labels: (K, J, I) integers of the label map.
        wanted: What `checked_label_values` returned. Where the user chose them, a map whose maker
            is not recognised is taken as it is.
        path: The map's file, for messages.

    Raises:
        UnreadableFileError: If whose ids the map has is unclear, or none of the labels is there.
    """
    from XraySynthLib.anatomy.label_maps import with_deepfluoro_ids

    try:
        labels = with_deepfluoro_ids(labels)
    except ValueError as error:
        if wanted == ALL_BONES:
            raise UnreadableFileError(
                f"{path} has the labels {_listed(np.unique(labels))}, which are not known as bones "
                "of XraySynth, DeepFluoro, TotalSegmentator or MAISI; choose with --label-values, "
                "or --no-masks."
            ) from error
    if not np.isin(wanted, labels).any():
        raise UnreadableFileError(
            f"{path} has none of the labels {_listed(wanted)}; it has {_listed(np.unique(labels))}."
        )
    return labels


def _listed(values: NDArray | tuple[int, ...] | list[int], at_most: int = 12) -> str:
    shown = [str(value) for value in values if value != 0][:at_most]
    return ", ".join(shown) + (" ..." if len(values) > at_most + 1 else "") or "0 alone"
