"""`xraysynth generate`: CT volumes with labels and landmarks, of people who never were."""

import errno
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from XraySynthLib import __version__
from XraySynthLib.anatomy.subject import COMPACT
from XraySynthLib.data import Provenance, Volume
from XraySynthLib.data.sets import DERIVED_FROM
from XraySynthLib.data.sets.parts import damaged_files, sha256_of
from XraySynthLib.errors import UsageError, XraySynthError
from XraySynthLib.workflows.config import DeviceConfig
from XraySynthLib.workflows.progress import say, tracked
from XraySynthLib.workflows.whole_folders import remove_if_unused, whole_folder
from XraySynthLib.workflows.workers import map_unordered, usable_cpus

if TYPE_CHECKING:
    from XraySynthLib.ct.quality import Quality
    from XraySynthLib.workflows.conditions import Condition

    Draw = Callable[[Condition, tuple[int, ...]], tuple[Volume, Quality]]

PRESETS = {
    "coarse": ((96, 96, 96), 10 / 3),
    "compact": COMPACT,
    "full": ((256, 256, 256), 1.25),
    "wide": ((240, 128, 176), 2.5),
    "wide-full": ((480, 256, 352), 1.25),
    "maisi": ((256, 256, 256), 1.5),
}
"""Voxels (K, J, I) and their edge, mm: 320 mm about the pelvis; wide, 440 x 320 x 600 mm."""
MAX_COUNT = 100_000
N_HELD_OUT = 6
FILE_NAMES = CT_NAME, LABELS_NAME, LANDMARKS_NAME, PICTURE_NAME = (
    "ct.nii.gz",
    "labels.nii.gz",
    "landmarks.mrk.json",
    "picture.png",
)
PROVENANCE_NAME = "provenance.json"
"""Last in the alphabet, so that it is there when the others are."""
MODEL_SUFFIXES = (".json", ".pt", ".safetensors")
TRIES = 3
"""How often a CT that fails its quality check is drawn again."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(DeviceConfig):
    """Make subjects: for each a folder with CT, labels and landmarks.

    It holds ct.nii.gz, labels.nii.gz, landmarks.mrk.json, picture.png and provenance.json.
    Subject i depends on (seed, i) alone, whatever the workers; run again, only what is missing or
    damaged is made.

    Attributes:
        output: Folder to write to.
        count: How many subjects.
        backend: How CTs are made. rendered: from the shape model, without a network. diffusion:
            by a trained generator, on the label maps of the same subjects. maisi: likewise, by
            NVIDIA's MAISI-v2, whose files you have; with --preset maisi, without implants.
        preset: compact: 128 voxels of 2.5 mm along each axis. coarse: 96 of 3.33 mm. full: 256 of
            1.25 mm. wide and wide-full: the voxels of compact and full over 440 x 320 x 600 mm,
            for tilted and lateral views. maisi: 256 of 1.5 mm, the smallest that MAISI makes.
        people: sampled: people who never were. held-out: the six people who shaped none of these,
            with their own bones, to test on; all else about them is drawn.
        labels: Label map of your own to make CTs of, with a generator; what it leaves open is
            drawn. NIfTI, NRRD or MHA, ids of XraySynth, DeepFluoro, TotalSegmentator or MAISI.
        parameters: JSON file of what is set instead of drawn, the same in all subjects, as
            {"age_years": 75, "left_hip": {"flexion_deg": 20}}: fields of SubjectParameters.
        model: Folder of the generator, by default the one that comes with XraySynth; or of MAISI.
        workers: Processes; 0 for one a processor, and for one in all with a generator.
    """

    output: Path
    count: int = 1
    backend: Literal["rendered", "diffusion", "maisi"] = "rendered"
    preset: Literal["coarse", "compact", "full", "wide", "wide-full", "maisi"] = "compact"
    people: Literal["sampled", "held-out"] = "sampled"
    labels: Path | None = None
    parameters: Path | None = None
    model: Path | None = None
    workers: int = 0


def check_inputs(config: GenerateConfig) -> None:
    """See that the request makes sense and does not collide with what is there.

    Looks at the options of the subjects there, not yet at their bytes.

    Raises:
        UsageError: If the count is not sensible, the output is a file, or a subject there was made
            with other options.
        UnreadableFileError: If the generator cannot be used.
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
    knobs = _knobs(config)
    if config.people == "held-out" and (own := {"shape_scores", "local_variation"} & set(knobs)):
        raise UsageError(
            f"--people held-out have their own bones; leave out {' and '.join(sorted(own))}."
        )
    if config.labels is not None:
        _check_labels(config, knobs)
    if config.backend == "rendered" and config.model is not None:
        raise UsageError("--model needs --backend diffusion or maisi.")
    if config.backend == "diffusion":
        _check_generator(config)
    if config.backend == "maisi":
        _check_maisi(config, knobs)
    for index in range(config.count):
        _digests(config, index)


def _knobs(config: GenerateConfig) -> dict[str, Any]:
    """What is set instead of drawn; MAISI makes neither implants nor tables."""
    defaults = {"implants": (), "table": False} if config.backend == "maisi" else {}
    if config.parameters is None:
        return defaults
    from XraySynthLib.workflows.conditions import read_knobs

    return defaults | read_knobs(config.parameters)


def _check_labels(config: GenerateConfig, knobs: Mapping[str, Any]) -> None:
    from XraySynthLib.anatomy.fitted import BONE_KNOBS
    from XraySynthLib.data.formats.problems import check_file

    assert config.labels is not None
    check_file(config.labels)
    if config.backend == "rendered":
        raise UsageError(
            "--labels needs --backend diffusion or maisi: without a network no CT follows it."
        )
    if config.people == "held-out":
        raise UsageError("--labels has bones of its own; leave out --people held-out.")
    if own := {knob for knob in BONE_KNOBS & set(knobs) if knobs[knob] != ()}:
        raise UsageError(f"--labels decides on {', '.join(sorted(own))}; leave them out.")


def _check_maisi(config: GenerateConfig, knobs: Mapping[str, Any]) -> None:
    from XraySynthLib.workflows.ct_generator import check_maisi

    if config.model is None:
        raise UsageError("--backend maisi needs --model, the folder with MAISI's files.")
    if knobs["implants"] or knobs["table"]:
        raise UsageError("MAISI makes neither implants nor tables; leave them out of --parameters.")
    check_maisi(config.model, *PRESETS[config.preset], config.device)


def _check_generator(config: GenerateConfig) -> None:
    from XraySynthLib.workflows.ct_generator import check_generator

    spacing_mm = PRESETS[config.preset][1]
    low, high = check_generator(config.model, config.device).spacing_mm
    if not low - 0.01 <= spacing_mm <= high + 0.01:
        raise UsageError(
            f"This generator was trained on voxels of {low:g} to {high:g} mm; --preset "
            f"{config.preset} has {spacing_mm:.3g} mm."
        )


def run(config: GenerateConfig) -> Path:
    """Make the subjects that are missing or damaged; returns the output folder.

    Raises:
        XraySynthError: If one cannot be written, or none that passes its quality check was drawn.
    """
    check_inputs(config)
    config.output.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(config)
    indices = range(config.count)
    missing = [index for index in indices if not is_whole(config, index)]
    # A generator's network uses all processors by itself.
    n_workers = config.workers or (usable_cpus() if config.backend == "rendered" else 1)
    made = map_unordered(_make, missing, (config, PRESETS[config.preset]), n_workers)
    there = set(indices) - set(missing)
    for _ in tracked(chain(there, made), "generate", config.count, config.progress):
        pass
    refused = [index for index in indices if _refusal(config, index).exists()]
    if refused:
        raise XraySynthError(
            f"{len(refused)} of {config.count} CTs failed their quality check {TRIES} times and "
            f"were not written; {_refusal(config, refused[0])} says why."
        )
    if missing:
        _say_unused(config, missing[0])
    return config.output


def _say_unused(config: GenerateConfig, index: int) -> None:
    """Say once which weights MAISI's networks have no place for."""
    text = (folder_of(config, index) / PROVENANCE_NAME).read_text("utf-8")
    if unused := json.loads(text)["config"].get("unused_weights"):
        say(
            f"Of the weights in {config.model}, {len(unused)} have no place in the networks, first "
            f"{unused[0]}; provenance.json names all.",
            config.progress,
        )


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
        found = {"seed": provenance["seed"], **{name: options[name] for name in _OWN_OPTIONS}}
        digests = {name: str(provenance["sha256"][name]) for name in FILE_NAMES}
        version = provenance["code_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} is there but is no whole subject of this program; remove it, or name "
            "another --output."
        ) from error
    if found != {"seed": [config.seed, index], **_own_options(config)}:
        raise UsageError(f"{folder} was made with other options; name another --output.")
    if version != __version__:
        raise UsageError(
            f"{folder} was made by version {version}, this is {__version__}, which may make "
            "other people; name another --output."
        )
    return digests


_OWN_OPTIONS = ("backend", "preset", "given", "labels", "model")


def _own_options(config: GenerateConfig) -> dict[str, Any]:
    """What tells one run's subjects from another's, as provenance.json has it."""
    given = config.parameters and json.loads(config.parameters.read_text("utf-8"))
    labels = config.labels and _digest_of(config.labels, config.labels.stat().st_mtime_ns)
    model = None if config.backend == "rendered" else _model_digest(config)
    return {
        "backend": config.backend,
        "preset": config.preset,
        "given": given,
        "labels": labels,
        "model": model,
    }


def _model_digest(config: GenerateConfig) -> str:
    """SHA-256 of a generator's files."""
    from XraySynthLib.workflows.ct_generator import generator_folder

    folder = generator_folder(config.model)
    files = sorted(one for one in folder.iterdir() if one.suffix in MODEL_SUFFIXES)
    digests = [f"{one.name} {_digest_of(one, one.stat().st_mtime_ns)}" for one in files]
    return sha256(" ".join(digests).encode()).hexdigest()


@lru_cache(8)
def _digest_of(path: Path, changed_ns: int) -> str:
    """SHA-256 of a file that has not changed since."""
    return sha256_of(path)


def _refusal(config: GenerateConfig, index: int) -> Path:
    """Where it is said why a subject was not written."""
    return config.output / f"refused-{folder_of(config, index).name}.json"


def _make(config: GenerateConfig, grid: tuple[tuple[int, int, int], float], index: int) -> None:
    """Make one subject, in a folder that appears whole.

    Raises:
        XraySynthError: If it cannot be written.
    """
    if config.backend != "rendered":  # first: weights that cannot be used cost no fit
        draw, behind, unused = _generator(config.backend, config.model, config.device)
    condition = _condition(config, grid, index)
    volume: Volume | None = condition.rendered
    record: dict[str, Any] = {}
    people = condition.people
    if config.backend != "rendered":
        volume, record = _generated(draw, condition, (config.seed, index))
        if unused:
            record["unused_weights"] = list(unused)
        people = tuple(sorted({*people, *behind, *_of_the_same_bones(config, index)}))
    refusal = _refusal(config, index)
    try:
        if volume is None:
            refusal.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
            return
        _write(config, index, volume, condition, people, record)
        refusal.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or str(error).rstrip(".")
        raise XraySynthError(
            f"{folder_of(config, index)} cannot be written: {reason}; the same command goes on "
            "from here."
        ) from error


def _of_the_same_bones(config: GenerateConfig, index: int) -> tuple[str, ...]:
    """The rendered subject that a network's has the bones of: both must go into one split."""
    drawn = config.people == "sampled" and config.labels is None
    return (_name_of("rendered", config, index),) if drawn else ()


def _name_of(backend: str, config: GenerateConfig, index: int) -> str:
    """What a subject who is nobody is called."""
    return f"{backend}-{config.seed}-{index:04d}"


def _condition(
    config: GenerateConfig, grid: tuple[tuple[int, int, int], float], index: int
) -> "Condition":
    from XraySynthLib.workflows.conditions import labelled_condition, sampled_condition

    seed, knobs = (config.seed, index), _knobs(config)
    if config.labels is not None:
        return labelled_condition(config.labels, seed, grid, knobs)
    return sampled_condition(seed, config.people == "held-out", grid, knobs)


def _generated(
    draw: "Draw", condition: "Condition", seed: tuple[int, int]
) -> tuple[Volume | None, dict[str, Any]]:
    """A CT of a condition that passes its quality check, and the record; None if none does."""
    refused = []
    for attempt in range(TRIES):
        volume, quality = draw(condition, (*seed, attempt))
        record = {"attempt": attempt, "quality": quality.to_dict()}
        if not quality.complaints:
            return volume, {**record, "refused": refused}
        refused.append(record)
    return None, {"refused": refused}


@lru_cache(1)
def _generator(
    backend: str, model: Path | None, device: str
) -> tuple["Draw", tuple[str, ...], tuple[str, ...]]:
    """What draws a CT of a condition by a seed, whom its networks have seen, weights not used."""
    from XraySynthLib.workflows import ct_generator

    if backend == "maisi":
        assert model is not None
        maisi = ct_generator.ready_maisi(model, device)
        return partial(ct_generator.maisi_volume, maisi), (), maisi.unused
    generator = ct_generator.ready_generator(model, device)
    return partial(ct_generator.generated_volume, generator), generator.config.people, ()


def _write(
    config: GenerateConfig,
    index: int,
    volume: Volume,
    condition: "Condition",
    people: tuple[str, ...],
    record: dict[str, Any],
) -> None:
    from XraySynthLib.data.formats import write_labels, write_landmarks, write_volume
    from XraySynthLib.workflows.ct_picture import write_ct_picture

    assert volume.labels is not None
    provenance = Provenance(
        kind="generated",
        subject=condition.person or _name_of(config.backend, config, index),
        seed=(config.seed, index),
        config={
            DERIVED_FROM: list(people),
            **_own_options(config),
            "parameters": dict(condition.known),
            "condition": dict(condition.origin),
            **record,
        },
    )
    document = {**vars(provenance), "config": dict(provenance.config)}
    with whole_folder(folder_of(config, index)) as folder:
        write_volume(volume, folder / CT_NAME)
        write_labels(volume.labels, volume.ras_from_ijk, folder / LABELS_NAME)
        write_landmarks(condition.landmarks, folder / LANDMARKS_NAME)
        write_ct_picture(volume, condition.landmarks, folder / PICTURE_NAME)
        document["sha256"] = {name: sha256_of(folder / name) for name in FILE_NAMES}
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        (folder / PROVENANCE_NAME).write_text(text, "utf-8")
        _digests(config, index)  # another run may have made another subject there meanwhile
