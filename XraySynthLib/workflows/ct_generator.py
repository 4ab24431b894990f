"""The CT generator as workflows use it: found, loaded, asked for a CT of a condition, checked."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from XraySynthLib.data import Volume
from XraySynthLib.errors import UnreadableFileError, UsageError
from XraySynthLib.workflows.packages import need_torch_packages

if TYPE_CHECKING:
    from XraySynthLib.ct.maisi import Maisi
    from XraySynthLib.ct.model import Generator, GeneratorConfig
    from XraySynthLib.ct.quality import Quality
    from XraySynthLib.workflows.conditions import Condition

SHIPPED = Path(__file__).parent.parent / "assets" / "ct_generator"


def generator_folder(model: Path | None) -> Path:
    """The folder of a generator, or of the one that comes with XraySynth.

    Raises:
        UnreadableFileError: If none comes with it.
    """
    if model is None and not (SHIPPED / "config.json").is_file():
        raise UnreadableFileError(
            "This version of XraySynth comes without a CT generator: train one with xraysynth "
            "train ct, and name its folder with --model."
        )
    return model or SHIPPED


def check_generator(model: Path | None, device: str = "cpu") -> "GeneratorConfig":
    """See that a generator and the device are there; weights are not read.

    Returns:
        What it is.

    Raises:
        UnreadableFileError: If it is not there or damaged.
        UsageError: If the device is not there.
        MissingDependencyError: If a package that it needs is not installed.
    """
    folder = generator_folder(model)
    need_torch_packages("The CT generator", "einops")
    from XraySynthLib.ct import PARTS
    from XraySynthLib.ct.model import read_generator_config
    from XraySynthLib.training.precision import device_of

    config = read_generator_config(folder)
    for part in PARTS:
        if not (folder / f"{part}.safetensors").is_file():
            raise UnreadableFileError(
                f"{folder / part}.safetensors is missing; get the whole model."
            )
    device_of(device)
    return config


def ready_generator(model: Path | None, device: str) -> "Generator":
    """A generator, loaded.

    Raises:
        XraySynthError: If it cannot be used, or the device is not there.
    """
    folder = generator_folder(model)
    need_torch_packages("The CT generator", "einops")
    import torch

    from XraySynthLib.ct.model import load_generator
    from XraySynthLib.training.precision import device_of
    from XraySynthLib.workflows.workers import usable_threads

    torch.set_num_threads(usable_threads())
    return load_generator(folder, device_of(device))


def check_maisi(folder: Path, shape: tuple[int, int, int], spacing_mm: float, device: str) -> None:
    """See that MAISI's files are there and that it makes such volumes; weights are not read.

    Raises:
        UsageError: If it makes no such volumes, or the device is not there.
        UnreadableFileError: If a file is not there.
        MissingDependencyError: If a package that it needs is not installed.
    """
    need_torch_packages("The CT generator", "einops")
    from XraySynthLib.ct.maisi import check_maisi_grid
    from XraySynthLib.ct.maisi_files import read_maisi_config
    from XraySynthLib.training.precision import device_of

    try:
        check_maisi_grid(shape, spacing_mm)
    except ValueError as error:
        raise UsageError(f"{error}; use --preset maisi.") from error
    read_maisi_config(folder)
    device_of(device)


def ready_maisi(folder: Path, device: str) -> "Maisi":
    """MAISI, loaded.

    Raises:
        XraySynthError: If it cannot be used, or the device is not there.
    """
    need_torch_packages("The CT generator", "einops")
    import torch

    from XraySynthLib.ct.maisi_files import load_maisi
    from XraySynthLib.training.precision import device_of
    from XraySynthLib.workflows.workers import usable_threads

    torch.set_num_threads(usable_threads())
    return load_maisi(folder, device_of(device))


def maisi_volume(
    maisi: "Maisi", condition: "Condition", seed: tuple[int, ...]
) -> tuple[Volume, "Quality"]:
    """A CT of a condition by MAISI, with the condition's labels, and its quality record.

    Nothing is known of MAISI's training: agreement with bone and HU are recorded, not judged.

    Raises:
        UsageError: If the labels hold what MAISI does not make.
    """
    from XraySynthLib.ct.quality import quality_of
    from XraySynthLib.ct.tissues import kinds_of

    labels = condition.rendered.labels
    assert labels is not None
    spacing_mm = float(condition.rendered.spacing_mm.mean())
    noise_seed = int(np.random.default_rng(seed).integers(2**62))
    try:
        values_hu = maisi.generate(labels, spacing_mm, noise_seed)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    quality = quality_of(values_hu, kinds_of(labels), spacing_mm, {}, 0.0)
    return Volume(values_hu, condition.rendered.ras_from_ijk, labels), quality


def generated_volume(
    generator: "Generator", condition: "Condition", seed: tuple[int, ...]
) -> tuple[Volume, "Quality"]:
    """A CT of a condition, with the condition's labels, and its quality record."""
    from XraySynthLib.ct.quality import quality_of
    from XraySynthLib.ct.tissues import QUALITY, kinds_of, scalars_of

    labels = condition.rendered.labels
    assert labels is not None
    kinds = kinds_of(labels)
    spacing_mm = float(condition.rendered.spacing_mm.mean())
    noise_seed = int(np.random.default_rng(seed).integers(2**62))
    scalars = scalars_of({**condition.known, "spacing_mm": spacing_mm})
    values_hu = generator.generate(kinds, scalars, noise_seed)
    config = generator.config
    quality = quality_of(
        values_hu,
        kinds,
        spacing_mm,
        config.tissue_hu,
        config.least_agreement,
        float(scalars[QUALITY]),
    )
    return Volume(values_hu, condition.rendered.ras_from_ijk, labels), quality
