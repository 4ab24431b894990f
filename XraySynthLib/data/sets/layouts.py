"""How the files of a set are laid out: one module a layout, all with the same four functions."""

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from XraySynthLib.data.formats.dicom_files import is_dicom
from XraySynthLib.data.sample import Sample
from XraySynthLib.data.sets.description import SET_NAME, UNFINISHED_NAME, SetDescription
from XraySynthLib.data.sets.parts import Part
from XraySynthLib.data.xray import Quantity
from XraySynthLib.errors import MissingDependencyError, UnreadableFileError, UsageError

LAYOUTS = ("coco", "deepfluoro", "synthex", "webdataset", "dicom", "scene")
"""Each is a module of this package."""


class Layout(Protocol):
    """What every layout's module has.

    Attributes:
        QUANTITIES: What its images may be; the first is the default.
        FRAGMENTS_STAY: Whether the files that `write_part` puts under `parts/` are kept once the
            set is whole: where they are small, so that a damaged index is made again from them.
    """

    QUANTITIES: tuple[Quantity, ...]
    FRAGMENTS_STAY: bool

    def check(self, description: SetDescription) -> None:
        """Refuse a set that the layout cannot hold, before an image of it is made.

        Raises:
            UsageError: Saying what to change.
        """
        ...

    def write_part(self, folder: Path, part: Part, samples: Iterable[Sample]) -> list[str]:
        """Write the files of a part; the same samples give the same bytes.

        Every file appears whole or not at all (`atomic_path`). Files that only `assemble` needs
        are fragments: they are called `part.stem` and a suffix, and lie under `parts/`.

        Args:
            folder: The set's; `parts/` is there.
            part: The part.
            samples: Its samples, to be taken one by one: they are made while they are taken.

        Returns:
            The files, relative to `folder`, with forward slashes.
        """
        ...

    def assemble(self, folder: Path, description: SetDescription) -> list[str]:
        """Make the files that need all parts, atomically.

        Returns:
            These files, relative to `folder`.
        """
        ...

    def read(self, path: Path, split: str | None = None) -> Sequence[Sample]:
        """Open a set of this layout, of XraySynth or not.

        The samples of a folder with `set.json` come in the order of the run.

        Args:
            path: Its folder or file.
            split: Only this split; None for all. A set without splits is all "train".

        Raises:
            UnreadableFileError: If it is not whole, damaged or not such a set.
        """
        ...


def layout_module(name: str) -> Layout:
    """The module of a layout.

    Raises:
        ValueError: If there is no such layout.
        MissingDependencyError: If a package that it needs is not installed.
    """
    if name not in LAYOUTS:
        raise ValueError(f"Unknown layout {name!r}; the layouts are {', '.join(LAYOUTS)}.")
    try:
        return cast(Layout, import_module(f"XraySynthLib.data.sets.{name}"))
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"The layout {name} needs the package {error.name!r}, which is not installed."
        ) from error


def check_mask_count(description: SetDescription, most: int) -> None:
    """Refuse a set of more masks an image than its layout holds.

    Raises:
        UsageError: If it has more.
    """
    if len(description.mask_names) > most:
        raise UsageError(
            f"The layout {description.layout} holds at most {most} masks an image, "
            f"{len(description.mask_names)} are asked for: choose fewer --label-values."
        )


def open_set(path: str | Path, split: str | None = None) -> Sequence[Sample]:
    """Open a set, of XraySynth or of somebody else, whatever its layout.

    Args:
        path: The set's folder, a COCO .json, a DeepFluoro .h5, a .tar, an .mrb.
        split: "train", "val" or "test"; None for all.

    Raises:
        UnreadableFileError: If nothing there is a set, or the set is not whole.
    """
    path = Path(path)
    samples = layout_module(_layout_of(path)).read(path, split)
    if (path / SET_NAME).is_file():
        wanted = SetDescription.read(path / SET_NAME).n_images_of(split)
        if len(samples) < wanted:
            raise UnreadableFileError(
                f"Cannot read {path}: {wanted - len(samples)} of its {wanted} images are missing; "
                "the export command that made it makes them again."
            )
    return samples


def _layout_of(path: Path) -> str:
    if not path.exists():
        raise UnreadableFileError(f"Cannot read {path}: there is no such file or folder.")
    if (path / SET_NAME).is_file():
        return SetDescription.read(path / SET_NAME).layout
    if (path / UNFINISHED_NAME).is_file():
        raise UnreadableFileError(
            f"Cannot read {path}: the set is not whole; the command that began it makes the rest."
        )
    suffix = path.suffix.lower()
    by_suffix = {
        ".json": "coco",
        ".h5": "deepfluoro",
        ".hdf5": "deepfluoro",
        ".tar": "webdataset",
        ".mrb": "scene",
        ".dcm": "dicom",
    }
    if path.is_file() and suffix in by_suffix:
        return by_suffix[suffix]
    if is_dicom(path):
        return "dicom"
    if path.is_dir():
        for pattern, layout in (
            ("*.tar", "webdataset"),
            ("annotations/*.json", "coco"),
            ("**/*.dcm", "dicom"),
            ("**/*.tiff", "synthex"),
        ):
            if next(path.glob(pattern), None) is not None:
                return layout
        if any(is_dicom(file) for file in path.rglob("*")):  # scanners give no suffix
            return "dicom"
    raise UnreadableFileError(f"Cannot read {path}: it is no set of a known layout.")
