"""`xraysynth generate`: CT volumes with labels and landmarks, of people who never were."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from XraySynthLib.data import Provenance
from XraySynthLib.data.sets import DERIVED_FROM
from XraySynthLib.errors import UsageError
from XraySynthLib.workflows.config import VerbConfig
from XraySynthLib.workflows.progress import tracked

PRESETS = {
    "compact": ((128, 128, 128), 2.5),
    "full": ((256, 256, 256), 1.25),
    "wide": ((240, 128, 176), 2.5),
    "wide-full": ((480, 256, 352), 1.25),
}
"""Voxels (K, J, I) and their edge, mm: 320 mm about the pelvis; wide, 440 x 320 x 600 mm."""
MAX_COUNT = 100_000
MODEL_NAME = "musculoskeletal-models"
"""The people of the shape model are called by it and their number."""
PROVENANCE_NAME = "provenance.json"


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(VerbConfig):
    """Make subjects: for each a folder with ct.nii.gz, labels.nii.gz, landmarks.mrk.json.

    Subject i depends on (seed, i) alone; run again, only what is missing is made.

    Attributes:
        output: Folder to write to.
        count: How many subjects.
        backend: How CTs are made. rendered: from the shape model, without a network.
        preset: compact: 128 voxels of 2.5 mm along each axis. full: 256 of 1.25 mm. wide and
            wide-full: the same voxels over 440 x 320 x 600 mm, for tilted and lateral views.
    """

    output: Path
    count: int = 1
    backend: Literal["rendered"] = "rendered"
    preset: Literal["compact", "full", "wide", "wide-full"] = "compact"


def check_inputs(config: GenerateConfig) -> None:
    """See that the request makes sense and does not collide with what is there.

    Raises:
        UsageError: If the count is not sensible, the output is a file, or a subject there was made
            with other options.
    """
    if not 1 <= config.count <= MAX_COUNT:
        raise UsageError(f"--count must be 1 to {MAX_COUNT}, got {config.count}.")
    if config.seed < 0:
        raise UsageError(f"--seed must be 0 or more, got {config.seed}.")
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"--output {config.output} is a file; name a folder.")
    for index in range(config.count):
        _is_there(config, index)


def run(config: GenerateConfig) -> Path:
    """Make the subjects that are missing; returns the output folder."""
    check_inputs(config)
    config.output.mkdir(parents=True, exist_ok=True)
    for _ in tracked(_made(config), "generate", config.count, config.progress):
        pass
    return config.output


def _made(config: GenerateConfig) -> Iterator[int]:
    for index in range(config.count):
        if not _is_there(config, index):
            _make(config, index)
        yield index


def folder_of(config: GenerateConfig, index: int) -> Path:
    """Folder of subject `index`."""
    return config.output / f"subject-{index:04d}"


def _is_there(config: GenerateConfig, index: int) -> bool:
    """Whether a subject is there, whole.

    Raises:
        UsageError: If one is there that these options would not make.
    """
    folder = folder_of(config, index)
    if not folder.exists():
        return False
    try:
        provenance = json.loads((folder / PROVENANCE_NAME).read_text("utf-8"))
        found = provenance["seed"], provenance["config"]["backend"], provenance["config"]["preset"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} is there but is no subject of this program.") from error
    if found != ([config.seed, index], config.backend, config.preset):
        raise UsageError(f"{folder} was made with other options; name another --output.")
    return True


def _make(config: GenerateConfig, index: int) -> None:
    """Render one subject into a folder that appears whole."""
    from XraySynthLib.anatomy.render import render_ct
    from XraySynthLib.anatomy.shape_model import load_shape_model
    from XraySynthLib.anatomy.subject import sample_subject
    from XraySynthLib.data.formats import write_labels, write_landmarks, write_volume

    subject = sample_subject((config.seed, index))
    volume = render_ct(subject, *PRESETS[config.preset])
    assert volume.labels is not None
    provenance = Provenance(
        kind="generated",
        subject=f"rendered-{config.seed}-{index:04d}",
        seed=(config.seed, index),
        config={
            DERIVED_FROM: [f"{MODEL_NAME}-{person}" for person in load_shape_model().training],
            "backend": config.backend,
            "preset": config.preset,
            "parameters": asdict(subject.parameters),
        },
    )
    with _whole_folder(folder_of(config, index)) as folder:
        write_volume(volume, folder / "ct.nii.gz")
        write_labels(volume.labels, volume.ras_from_ijk, folder / "labels.nii.gz")
        write_landmarks(subject.landmarks, folder / "landmarks.mrk.json")
        document = {**vars(provenance), "config": dict(provenance.config)}
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        (folder / PROVENANCE_NAME).write_text(text, "utf-8")


@contextmanager
def _whole_folder(final: Path) -> Iterator[Path]:
    """Lend a temporary folder beside `final`; rename it when the block ends well."""
    temporary = final.with_name(f".tmp-{secrets.token_hex(6)}-{final.name}")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
