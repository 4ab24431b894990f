"""Splits: by subject, and by everybody behind a subject.

A subject that a generator made stands for the people who trained the generator: where these are in
the test set, the generated subject must not be in the training set.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from XraySynthLib.data.sample import Provenance
from XraySynthLib.errors import XraySynthError

SPLITS = ("train", "val", "test")
DERIVED_FROM = "derived_from"
"""Key of `Provenance.config`: names of the people behind a subject: in the shape model that it was
drawn from, or in the training set of the generator that made it."""


class SplitOverlapError(XraySynthError):
    """A subject, or somebody behind it, is on both sides of a split."""


def split_by_subject(
    subjects: Sequence[str], shares: tuple[float, float, float], seed: int
) -> dict[str, str]:
    """Assign whole subjects to train, val and test.

    Args:
        subjects: Names.
        shares: Of train, val and test, in any unit; every share above 0 gets a subject.
        seed: Seeds the order.

    Returns:
        Name -> split.

    Raises:
        ValueError: If there are fewer subjects than splits with a share, or a share is negative.
    """
    wanted = np.array(shares, dtype=float)
    if len(wanted) != len(SPLITS) or not (wanted >= 0).all() or not 0 < wanted.sum() < np.inf:
        raise ValueError(f"shares must be three numbers of 0 or more, got {shares}.")
    used = int((wanted > 0).sum())
    if len(subjects) < used:
        raise ValueError(f"{len(subjects)} subjects cannot be split into {used} sets.")
    # Everyone gets one, the rest goes by share (largest remainder).
    exact = wanted / wanted.sum() * len(subjects)
    counts = np.maximum(np.floor(exact), wanted > 0).astype(int)
    while counts.sum() > len(subjects):
        counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    while counts.sum() < len(subjects):
        counts[np.argmax(np.where(wanted > 0, exact - counts, -np.inf))] += 1
    order = np.random.default_rng((seed, 0)).permutation(len(subjects))
    names = np.repeat(SPLITS, counts)
    return {subjects[number]: str(name) for number, name in zip(order, names, strict=True)}


def people_behind(provenance: Provenance) -> set[str]:
    """A sample's subject and everybody behind it."""
    return {provenance.subject, *provenance.config.get(DERIVED_FROM, ())}


def refuse_overlap(training: Iterable[Provenance], test: Iterable[Provenance]) -> None:
    """See that nobody tested on is behind the training samples.

    Raises:
        SplitOverlapError: Naming who is on both sides.
    """
    trained = set().union(*map(people_behind, training))
    both = sorted(trained & {provenance.subject for provenance in test})
    if both:
        names = ", ".join(both[:8]) + (" ..." if len(both) > 8 else "")
        raise SplitOverlapError(
            f"{len(both)} subjects of the test set are behind the training set: {names}."
        )


def refuse_split_overlap(
    splits: Mapping[str, str], derived_from: Mapping[str, Iterable[str]]
) -> None:
    """See that no subject of one split is behind a subject of another.

    Args:
        splits: Subject -> split.
        derived_from: Subject -> the people behind it.

    Raises:
        SplitOverlapError: Naming the first.
    """
    for subject, people in derived_from.items():
        for person in people:
            if splits.get(person, splits[subject]) != splits[subject]:
                raise SplitOverlapError(
                    f"Subject {person} ({splits[person]}) is behind subject {subject} "
                    f"({splits[subject]}); they must be in one split."
                )
