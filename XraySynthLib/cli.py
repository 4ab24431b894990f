"""The command line: one verb, one config class, one function; errors become one sentence."""

import io
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib import import_module
from inspect import cleandoc
from itertools import takewhile
from pathlib import Path
from typing import Any

from XraySynthLib import __version__
from XraySynthLib.errors import MissingDependencyError, UsageError, XraySynthError

VERBS = {
    "generate": ("GenerateConfig", "People who never were: CT, labels and landmarks."),
    "fit": ("FitConfig", "Labelled bones or some landmarks of a pelvis -> all its landmarks."),
    "project": ("ProjectConfig", "A CT and a C-arm pose -> an X-ray with its landmarks."),
    "export": ("ExportConfig", "Subjects x views -> a labelled training set in a known format."),
    "train ct": ("TrainCtConfig", "CTs with label maps -> a CT generator."),
    "train xray": ("TrainXrayConfig", "Exported sets -> a sampler of X-rays."),
    "train landmarks": ("TrainLandmarksConfig", "Exported sets -> a landmark detector."),
    "sample": ("SampleConfig", "A sampler -> X-rays with their landmarks, a training set."),
    "detect": ("DetectConfig", "X-rays -> their landmarks, by a detector."),
    "evaluate": ("EvaluateConfig", "Predicted landmarks and the truth -> measures, a report."),
    "register": ("RegisterConfig", "An X-ray, a CT and its landmarks -> the C-arm's pose."),
    "study": ("StudyConfig", "Which images train a detector best: the arms, a report."),
    "demo": ("DemoConfig", "A real chest CT and two subjects at several poses, a report."),
    "doctor": ("DoctorConfig", "Versions, devices, engines and data: what works here."),
}
"""Verb -> its config class in `workflow_of(verb)`, and what `--help` says of it. A verb may be two
words."""

GO_ON = {"generate", "export", "train ct", "train xray", "train landmarks", "sample", "study"}
"""Verbs whose same command makes only what is missing; the others start over."""

DONE, FAILED, USAGE = 0, 1, 2
MAX_SENTENCE = 320


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done, 1 failed with a message, 2 usage.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return DONE if words else USAGE
    if words[0] == "--version":
        print(__version__)
        return DONE
    try:
        verb, options = _verb_and_options(words)
        return _run(verb, options)
    except UsageError as error:
        _say(error)
        return USAGE
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}." if error.filename else error)
        return FAILED
    except (XraySynthError, ValueError, MemoryError) as error:
        _say(error)
        return FAILED
    except KeyboardInterrupt:
        goes_on = any(" ".join(words[:n_words]) in GO_ON for n_words in (1, 2))
        what_next = "goes on after what was finished" if goes_on else "starts over"
        _say(f"Interrupted; the same command {what_next}.")
        return FAILED


def workflow_of(verb: str) -> str:
    """Name of the module that does a verb."""
    return f"XraySynthLib.workflows.{verb.replace(' ', '_')}"


def _verb_and_options(words: list[str]) -> tuple[str, list[str]]:
    """Split the command line behind its verb.

    Raises:
        UsageError: If there is no such verb.
    """
    for n_words in (2, 1):
        verb = " ".join(words[:n_words])
        if verb in VERBS:
            return verb, words[n_words:]
    seconds = [verb.partition(" ")[2] for verb in VERBS if verb.startswith(f"{words[0]} ")]
    if seconds:
        raise UsageError(f"Say what to {words[0]}: xraysynth {words[0]} {' | '.join(seconds)}.")
    raise UsageError(f"There is no verb {words[0]!r}; the verbs are {', '.join(VERBS)}.")


def _run(verb: str, words: list[str]) -> int:
    workflow = import_module(workflow_of(verb))
    config_class = getattr(workflow, VERBS[verb][0])
    try:
        config = _parse(config_class, verb, words)
    except SystemExit:  # the parser has printed its help
        return DONE
    if config.dry_run:
        from XraySynthLib.workflows.config import config_to_dict

        workflow.check_inputs(config)
        options = config_to_dict(config)
        del options["dry_run"]  # so that --config takes what was printed, and does it
        print(json.dumps({"verb": verb, **options}, indent=2))
        return DONE
    result = workflow.run(config)
    if config.progress == "json":
        print(json.dumps({"result": str(result)}))
    else:
        print(f"Wrote {result}" if isinstance(result, Path) else result)
    return DONE


def _parse(config_class: type, verb: str, words: list[str]) -> Any:
    """Options from the command line, over those of a `--config` file, over the defaults."""
    try:
        import tyro
    except ModuleNotFoundError as error:
        raise MissingDependencyError("The command line needs the package 'tyro'.") from error
    from XraySynthLib.workflows.config import check_option_names, read_config_file

    words, config_file = _without_config_file(words)
    from_file: list[str] = []
    if config_file is not None:
        values = read_config_file(config_file)
        if values.pop("verb", verb) != verb:
            raise UsageError(f"The config file {config_file} is for another verb than {verb}.")
        check_option_names(config_class, values, config_file)
        values = _without_overruled(values, words, getattr(config_class, "EXCLUSIVE", ()))
        from_file = _as_words(values)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                config_class,
                prog=f"xraysynth {verb}",
                description=cleandoc(config_class.__doc__ or "").partition("\nAttributes:")[0],
                args=[*from_file, *words],
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        sentence = _without_box(said.getvalue())
        raise UsageError(f"{sentence}; `xraysynth {verb} --help` lists the options.") from None


def _without_box(text: str) -> str:
    """What tyro says in a box, without the box, its title and what follows its first rule."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()[1:]
    lines = [line.strip("│ ") for line in plain]
    if lines and not lines[0].strip("-"):  # no box, but a rule under the title
        del lines[0]
    return " ".join(takewhile(lambda line: line.strip("─-"), lines)).rstrip(" .")


def _without_config_file(words: list[str]) -> tuple[list[str], Path | None]:
    """Take `--config FILE` (or `--config=FILE`) out of the words."""
    for position, word in enumerate(words):
        if word == "--config":
            if position + 1 == len(words):
                raise UsageError("--config needs a file.")
            return words[:position] + words[position + 2 :], Path(words[position + 1])
        if word.startswith("--config="):
            return words[:position] + words[position + 1 :], Path(word.partition("=")[2])
    return words, None


def _without_overruled(
    values: dict[str, Any], words: list[str], groups: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Drop from a config file what the command line says in another, exclusive way."""
    said = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in words}
    if not any(said & set(group) for group in groups):
        return values
    overruled = {name for group in groups if not said & set(group) for name in group}
    return {name: value for name, value in values.items() if name not in overruled}


def _as_words(values: dict[str, Any]) -> list[str]:
    """A config file's options as words; later words on the command line replace them."""
    words = []
    for name, value in values.items():
        if value is None:
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
            continue
        if isinstance(value, list):
            words += [f"--{option}", *map(str, value)]
        else:
            words.append(f"--{option}={value}")  # so that the value may begin with a dash
    return words


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
    return (
        "usage: xraysynth VERB [OPTIONS]\n\n"
        "Synthetic X-ray training data for image-guided surgery.\n\n"
        f"verbs:\n{verbs}\n\n"
        "Every verb takes --help, --config FILE, --dry-run, --seed and --progress."
    )


def _say(message: object) -> None:
    sentence = " ".join(str(message).split()) or type(message).__name__
    if len(sentence) > MAX_SENTENCE:
        sentence = sentence[: MAX_SENTENCE - 3] + "..."
    print(f"xraysynth: {sentence}", file=sys.stderr)
