"""`xraysynth generate`: CT volumes with labels and landmarks, of people who never were."""

import errno
import json
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from XraySynthLib import __version__
from XraySynthLib.anatomy.subject import COMPACT
from XraySynthLib.data import Provenance
from XraySynthLib.data.sets import DERIVED_FROM
from XraySynthLib.data.sets.parts import damaged_files, sha256_of
from XraySynthLib.errors import UsageError, XraySynthError
from XraySynthLib.workflows.config import VerbConfig
from XraySynthLib.workflows.progress import tracked
from XraySynthLib.workflows.whole_folders import remove_if_unused, whole_folder
from XraySynthLib.workflows.workers import map_unordered, usable_cpus

PRESETS = {
    "compact": COMPACT,
    "full": ((256, 256, 256), 1.25),
    "wide": ((240, 128, 176), 2.5),
    "wide-full": ((480, 256, 352), 1.25),
}
"""Voxels (K, J, I) and their edge, mm: 320 mm about the pelvis; wide, 440 x 320 x 600 mm."""
MAX_COUNT = 100_000
N_HELD_OUT = 6
MODEL_NAME = "musculoskeletal-models"
"""The people of the shape model are called by it and their number."""
FILE_NAMES = CT_NAME, LABELS_NAME, LANDMARKS_NAME = (
    "ct.nii.gz",
    "labels.nii.gz",
    "landmarks.mrk.json",
)
PROVENANCE_NAME = "provenance.json"
"""Last in the alphabet, so that it is there when the others are."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(VerbConfig):
    """Make subjects: for each a folder with ct.nii.gz, labels.nii.gz, landmarks.mrk.json.

    Subject i depends on (seed, i) alone, whatever the workers; run again, only what is missing or
    damaged is made.

    Attributes:
        output: Folder to write to.
        count: How many subjects.
        backend: How CTs are made. rendered: from the shape model, without a network.
        preset: compact: 128 voxels of 2.5 mm along each axis. full: 256 of 1.25 mm. wide and
            wide-full: the same voxels over 440 x 320 x 600 mm, for tilted and lateral views.
        people: sampled: people who never were. held-out: the six people who shaped none of these,
            with their own bones, to test on; all else about them is drawn.
        workers: Processes; 0 for one a processor.
    """

    output: Path
    count: int = 1
    backend: Literal["rendered"] = "rendered"
    preset: Literal["compact", "full", "wide", "wide-full"] = "compact"
    people: Literal["sampled", "held-out"] = "sampled"
    workers: int = 0


def check_inputs(config: GenerateConfig) -> None:
    """See that the request makes sense and does not collide with what is there.

    Looks at the options of the subjects there, not yet at their bytes.

    Raises:
        UsageError: If the count is not sensible, the output is a file, or a subject there was made
            with other options.
    """
    if not 1 <= config.count <= MAX_COUNT:
        raise UsageError(f"--count must be 1 to {MAX_COUNT}, got {config.count}.")
    if config.people == "held-out" and config.count > N_HELD_OUT:
        raise UsageError(f"{N_HELD_OUT} people are held out; --count is {config.count}.")
    if config.seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {config.seed}.")
    if config.workers < 0:
        raise UsageError(f"--workers must be 0 or more, got {config.workers}.")
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    for index in range(config.count):
        _digests(config, index)


def run(config: GenerateConfig) -> Path:
    """Make the subjects that are missing or damaged; returns the output folder."""
    check_inputs(config)
    config.output.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(config)
    indices = range(config.count)
    missing = [index for index in indices if not is_whole(config, index)]
    shared = (config, PRESETS[config.preset])
    made = map_unordered(_make, missing, shared, config.workers or usable_cpus())
    there = set(indices) - set(missing)
    for _ in tracked(chain(there, made), "generate", config.count, config.progress):
        pass
    return config.output


def _remove_leftovers(config: GenerateConfig) -> None:
    """Remove what killed runs left of these subjects."""
    own = {folder_of(config, index).name for index in range(config.count)}
    for leftover in config.output.glob(".tmp-*"):
        name = leftover.name.split("-", 2)[-1]
        if name in own:
            remove_if_unused(leftover)


def folder_of(config: GenerateConfig, index: int) -> Path:
    """Folder of subject `index`."""
    kind = "subject" if config.people == "sampled" else "held-out"
    return config.output / f"{kind}-{index:04d}"


def is_whole(config: GenerateConfig, index: int) -> bool:
    """Whether a subject is there with every byte that was written.

    Raises:
        UsageError: If one is there that these options would not make.
    """
    digests = _digests(config, index)
    return digests is not None and not any(damaged_files(folder_of(config, index), digests))


def _digests(config: GenerateConfig, index: int) -> dict[str, str] | None:
    """SHA-256 of a subject's files by its provenance, or None where no subject is there.

    Raises:
        UsageError: If one is there that these options would not make.
    """
    folder = folder_of(config, index)
    if not folder.exists():
        return None
    try:
        provenance = json.loads((folder / PROVENANCE_NAME).read_text("utf-8"))
        options = provenance["config"]
        found = provenance["seed"], options["backend"], options["preset"]
        digests = {name: str(provenance["sha256"][name]) for name in FILE_NAMES}
        version = provenance["code_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} is there but is no whole subject of this program; remove it, or name "
            "another --output."
        ) from error
    if found != ([config.seed, index], config.backend, config.preset):
        raise UsageError(f"{folder} was made with other options; name another --output.")
    if version != __version__:
        raise UsageError(
            f"{folder} was made by version {version}, this is {__version__}, which may make "
            "other people; name another --output."
        )
    return digests


def _make(config: GenerateConfig, grid: tuple[tuple[int, int, int], float], index: int) -> None:
    """Render one subject into a folder that appears whole.

    Raises:
        XraySynthError: If it cannot be written.
    """
    from XraySynthLib.anatomy.render import render_ct
    from XraySynthLib.anatomy.shape_model import load_shape_model
    from XraySynthLib.anatomy.subject import sample_subject
    from XraySynthLib.data.formats import write_labels, write_landmarks, write_volume

    model = load_shape_model()
    person = None if config.people == "sampled" else model.held_out[index]
    subject = sample_subject((config.seed, index), person)
    volume = render_ct(subject, *grid)
    assert volume.labels is not None
    provenance = Provenance(
        kind="generated",
        subject=f"rendered-{config.seed}-{index:04d}" if person is None else _name(person),
        seed=(config.seed, index),
        config={
            DERIVED_FROM: [_name(one) for one in model.training] if person is None else [],
            "backend": config.backend,
            "preset": config.preset,
            "parameters": asdict(subject.parameters),
        },
    )
    document = {**vars(provenance), "config": dict(provenance.config)}
    final = folder_of(config, index)
    try:
        with whole_folder(final) as folder:
            write_volume(volume, folder / CT_NAME)
            write_labels(volume.labels, volume.ras_from_ijk, folder / LABELS_NAME)
            write_landmarks(subject.landmarks, folder / LANDMARKS_NAME)
            document["sha256"] = {name: sha256_of(folder / name) for name in FILE_NAMES}
            text = json.dumps(document, indent=2, allow_nan=False) + "\n"
            (folder / PROVENANCE_NAME).write_text(text, "utf-8")
            _digests(config, index)  # another run may have made another subject there meanwhile
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or str(error).rstrip(".")
        raise XraySynthError(
            f"{final} cannot be written: {reason}; the same command goes on from here."
        ) from error


def _name(person: int) -> str:
    """What one of the shape model's people is called."""
    return f"{MODEL_NAME}-{person}"
