"""What of a set is in its folder: whether it is this set, what is missing, what is damaged.

`make_set` has the missing parts made and puts the set together; how an image is made is not here.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from XraySynthLib.data.sets import SET_NAME, Part, SetDescription, layout_module
from XraySynthLib.data.sets.description import UNFINISHED_NAME
from XraySynthLib.data.sets.parts import (
    PARTS_FOLDER,
    damaged_files,
    read_part_record,
    sha256_of,
)
from XraySynthLib.errors import UnreadableFileError, UsageError, XraySynthError
from XraySynthLib.workflows.config import Progress
from XraySynthLib.workflows.export_images import SetPlan, inputs_digest
from XraySynthLib.workflows.progress import stage, tracked
from XraySynthLib.workflows.set_report import (
    PAGE_NAME,
    SHEET_NAME,
    STATISTICS_NAME,
    write_set_report,
)

LOCK_NAME = ".lock"
REPORT_NAMES = (PAGE_NAME, SHEET_NAME, STATISTICS_NAME)


@dataclass
class Findings:
    """What a look at a set's folder found.

    Attributes:
        missing: Parts to make.
        damaged: Files that were there once, and are not, or not as they were written.
        n_checked: How many files were looked at.
        assembled: The files made of all parts, without the report, and their SHA-256; None where
            they are to be made.
        has_report: Whether the report is there.
    """

    missing: list[Part] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    n_checked: int = 0
    assembled: dict[str, str] | None = None
    has_report: bool = False

    def __str__(self) -> str:
        """What was found, in a sentence."""
        checked = f"Checked {self.n_checked} file{'s' * (self.n_checked != 1)}"
        if not self.damaged:
            return f"{checked}, none is damaged."
        shown = ", ".join(self.damaged[:8]) + (" ..." if len(self.damaged) > 8 else "")
        return f"{checked}; {len(self.damaged)} damaged or missing, made again: {shown}."


def make_set(
    folder: Path,
    plan: SetPlan,
    make_parts: Callable[[list[Part]], None],
    check: Callable[[list[Part]], None],
    verify: bool,
    progress: Progress,
) -> Findings:
    """Make what is missing of a set; see what there is first.

    Args:
        folder: The set's.
        plan: What is to be there.
        make_parts: Makes parts, their records last.
        check: Refuses what parts would be made from, before anything is touched.
        verify: Compare every byte of what is there.
        progress: How to report.

    Raises:
        XraySynthError: If the folder holds another set, or another export works there.
    """
    refuse_another_set(folder, plan, verify, progress)
    if not verify and is_whole(folder, plan.description, progress):
        return Findings()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        refuse_another_set(folder, plan, verify=False)  # another run may have begun one meanwhile
        remove_leftovers(folder)
        findings = look(folder, plan.description, verify, progress)
        try:
            check(findings.missing)
            _complete(folder, plan.description, findings, make_parts, progress)
        finally:
            remove_leftovers(folder)  # of workers that died, or were ended
    return findings


def _complete(
    folder: Path,
    description: SetDescription,
    findings: Findings,
    make_parts: Callable[[list[Part]], None],
    progress: Progress,
) -> None:
    """Make the parts that are missing, then what is made of all parts."""
    files = findings.assembled
    if files is None:
        description.write(folder / UNFINISHED_NAME)
        (folder / PARTS_FOLDER).mkdir(exist_ok=True)
        (folder / SET_NAME).unlink(missing_ok=True)
        for part in findings.missing:
            (folder / f"{part.stem}.json").unlink(missing_ok=True)
        make_parts(findings.missing)
        refuse_mixed_subjects(folder, description, progress)
        with stage("assemble", progress):
            names = layout_module(description.layout).assemble(folder, description)
            files = {name: sha256_of(folder / name) for name in sorted(names)}
            replace(description, files=files).write(folder / SET_NAME)
    if not findings.has_report:
        with stage("report", progress):
            write_set_report(folder, description)
            files |= {name: sha256_of(folder / name) for name in REPORT_NAMES}
            replace(description, files=files).write(folder / SET_NAME)
    _clear(folder, description)


def _clear(folder: Path, description: SetDescription) -> None:
    """Remove what only an unfinished set needs, the plan last."""
    if not layout_module(description.layout).FRAGMENTS_STAY:
        for path in (folder / PARTS_FOLDER).iterdir():
            if path.suffix != ".json":
                path.unlink()
    (folder / UNFINISHED_NAME).unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other exports out of a folder; a process that ends, however it ends, lets them in.

    Raises:
        XraySynthError: If another export is writing there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise XraySynthError(
            f"Another export is writing to {folder}; wait for its end, or name another --output."
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it with the lock
            (folder / LOCK_NAME).unlink()
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of runs and workers that were killed."""
    for leftover in list(folder.rglob(".tmp-*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def read_description(folder: Path) -> SetDescription | None:
    """What describes the set in a folder, finished or not; None where there is none to be read."""
    for name in (SET_NAME, UNFINISHED_NAME):
        with suppress(UnreadableFileError):  # the parts may still say whose they are
            return SetDescription.read(folder / name)
    return None


def refuse_another_set(
    folder: Path,
    plan: SetPlan,
    verify: bool,
    progress: Progress = "none",
) -> None:
    """Refuse to mix two sets: what is in the folder must be of these options and subjects' files.

    Args:
        folder: The set's.
        plan: What is to be there.
        verify: Compare the bytes of all subjects' files, not only of those that were written since.
        progress: How to report.

    Raises:
        UsageError: Saying what differs.
    """
    description, there = plan.description, read_description(folder)
    if there is not None:
        if names := _differing(_plain(there), _plain(description)):
            raise UsageError(
                f"{folder} holds a set of other options: it differs in {', '.join(names)}; name "
                "another --output, or repeat the command that made it."
            )
    elif not _holds_parts_alone(folder, description):
        raise UsageError(f"{folder} is not empty and holds no set; name another --output.")
    thorough = verify or there is None
    by_subject = groupby(description.parts, key=lambda part: part.subject)
    n_subjects, shown = len(description.subjects), progress if thorough else "none"
    for name, parts in tracked(by_subject, "subjects", n_subjects, shown):
        if not _made_from_the_same(folder, list(parts), plan, thorough):
            raise UsageError(
                f"{folder} holds images of {name} that were made from other files or options than "
                "those of now; name another --output, or put the files back."
            )


def _plain(description: SetDescription) -> dict[str, Any]:
    """A description, without its files, as it is after a round trip through JSON."""
    fields = json.loads(json.dumps(asdict(description)))
    del fields["files"]
    return fields


def _differing(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Keys, also of mappings in mappings, whose values are not the same, in words."""
    names = []
    for key in dict.fromkeys([*there, *wanted]):
        one, other = there.get(key), wanted.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            names += _differing(one, other)
        elif one != other:
            names.append(key.replace("_", " "))
    return names


def _holds_parts_alone(folder: Path, description: SetDescription) -> bool:
    """Whether a folder without a plan is empty, or has records of this plan's parts alone."""
    if not folder.is_dir() or not any(path.name != LOCK_NAME for path in folder.iterdir()):
        return True
    parts = {f"{part.stem}.json": part for part in description.parts}
    records = [
        f"{PARTS_FOLDER}/{path.name}"
        for path in folder.glob(f"{PARTS_FOLDER}/*.json")
        if path.stem.isdecimal()  # else a layout's fragment
    ]
    try:
        return bool(records) and all(
            name in parts and read_part_record(folder, parts[name]) is not None for name in records
        )
    except UnreadableFileError:
        return False


def _made_from_the_same(folder: Path, parts: list[Part], plan: SetPlan, thorough: bool) -> bool:
    """Whether those parts of a subject that are there were made from its files as they are now.

    Files that were not written since the first of these parts are taken for the same, unless
    `thorough`.
    """
    source = plan.subjects[parts[0].subject]
    records = [folder / f"{part.stem}.json" for part in parts]
    made_ns = [path.stat().st_mtime_ns for path in records if path.exists()]
    if not made_ns or not (thorough or source.changed_ns() >= min(made_ns)):
        return True
    inputs = inputs_digest(plan.description.layout, plan.recipe, source, source.digest())
    for part in parts:
        with suppress(UnreadableFileError):  # it will be made again
            record = read_part_record(folder, part)
            if record is not None and record["inputs"] != inputs:
                return False
    return True


def refuse_mixed_subjects(folder: Path, description: SetDescription, progress: Progress) -> None:
    """See that all parts are there, each subject's made from the same files.

    Raises:
        XraySynthError: If not.
    """
    inputs: dict[str, str] = {}
    parts = description.parts
    for part in tracked(parts, "compare", len(parts), progress):
        record = read_part_record(folder, part)
        if record is None:
            raise XraySynthError(
                f"The workers' files are not in {folder}; they need the same folder under the "
                "same name."
            )
        if inputs.setdefault(part.subject, record["inputs"]) != record["inputs"]:
            raise XraySynthError(
                f"The files of {part.subject} have changed while its images were made; name "
                "another --output."
            )


def is_whole(folder: Path, description: SetDescription, progress: Progress) -> bool:
    """Whether a set was finished and every file of it is there; bytes are not compared."""
    if not (folder / SET_NAME).exists() or (folder / UNFINISHED_NAME).exists():
        return False
    return look(folder, description, verify=False, progress=progress).has_report


def look(folder: Path, description: SetDescription, verify: bool, progress: Progress) -> Findings:
    """Find out what of a set is missing or damaged.

    Args:
        folder: The set's.
        description: Its plan.
        verify: Compare the SHA-256 of every file, instead of looking whether it is there.
        progress: How to report.
    """
    files = _files_of_set(folder)
    unfinished = (folder / UNFINISHED_NAME).exists() or not (folder / PARTS_FOLDER).exists()
    was_finished = files is not None or not unfinished
    damaged_of = partial(_damaged, folder, there=None if verify else _names_in(folder))
    findings = Findings()
    parts = description.parts
    fragments_are_gone = was_finished and not layout_module(description.layout).FRAGMENTS_STAY
    had_fragments = False
    for part in tracked(parts, "verify" if verify else "look", len(parts), progress):
        had_fragments |= _look_at_part(
            folder, part, was_finished, fragments_are_gone, damaged_of, findings
        )
    _look_at_assembled(files, was_finished, damaged_of, findings)
    if findings.assembled is None and fragments_are_gone and had_fragments:
        findings.missing = parts  # what it is assembled from
    return findings


def _look_at_part(
    folder: Path,
    part: Part,
    was_finished: bool,
    fragments_are_gone: bool,
    damaged_of: Callable[[Mapping[str, str]], list[str]],
    findings: Findings,
) -> bool:
    """Note what is missing of a part; returns whether it had fragments."""
    name = f"{part.stem}.json"
    expected = was_finished or (folder / name).exists()
    try:
        record = read_part_record(folder, part)
    except UnreadableFileError:
        record = None
    files = {} if record is None else record["files"]
    lasting = {
        file: digest for file, digest in files.items() if not file.startswith(f"{PARTS_FOLDER}/")
    }
    damaged = damaged_of(lasting if fragments_are_gone else files)
    if record is None and expected:
        damaged.append(name)
    if record is None or damaged:
        findings.missing.append(part)
    findings.damaged += damaged
    findings.n_checked += expected + len(lasting if fragments_are_gone else files)
    return len(lasting) < len(files)


def _look_at_assembled(
    files: Mapping[str, str] | None,
    was_finished: bool,
    damaged_of: Callable[[Mapping[str, str]], list[str]],
    findings: Findings,
) -> None:
    """Note what is missing of the files made of all parts, which `set.json` names."""
    damaged = [SET_NAME] if files is None else damaged_of(files)
    if was_finished:
        findings.damaged += damaged
        findings.n_checked += len(files or {}) + 1
    if files is not None and not findings.missing and set(damaged) <= set(REPORT_NAMES):
        findings.assembled = {name: files[name] for name in files if name not in REPORT_NAMES}
        findings.has_report = not damaged and set(REPORT_NAMES) <= set(files)


def _files_of_set(folder: Path) -> Mapping[str, str] | None:
    """The files that `set.json` names; None where it is missing or damaged."""
    try:
        return SetDescription.read(folder / SET_NAME).files
    except UnreadableFileError:
        return None


def _names_in(folder: Path) -> set[str]:
    """Every file of a folder, relative to it: listing is far quicker than asking for each."""
    return {
        f"{Path(place).relative_to(folder).as_posix()}/{name}".removeprefix("./")
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


def _damaged(folder: Path, files: Mapping[str, str], there: set[str] | None) -> list[str]:
    """Files that are not `there`; where that is None, those too whose SHA-256 is another."""
    if there is None:
        return list(damaged_files(folder, files))
    return [name for name in files if name not in there]
