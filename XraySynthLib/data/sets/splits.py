"""Splits: by subject, and by everybody behind a subject.

All subjects of one person are in one split: a subject and somebody behind it, and subjects that
derive from the same person alone. A subject that a model made of many people is nobody of them; its
siblings may be in another split, but none of those people.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from XraySynthLib.data.sample import Provenance
from XraySynthLib.errors import XraySynthError

SPLITS = ("train", "val", "test")
DERIVED_FROM = "derived_from"
"""Key of `Provenance.config`: names of the people behind a subject: in the shape model that it was
drawn from, or in the training set of the generator that made it."""


class SplitOverlapError(XraySynthError):
    """A subject, or somebody behind it, is on both sides of a split."""


def persons_of(derived_from: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Find out which subjects are one person.

    Args:
        derived_from: Subject -> the people behind it.

    Returns:
        Subject -> the first subject of the same person, perhaps itself.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    behind = {subject: set(people) for subject, people in derived_from.items()}
    names = list(dict.fromkeys([*behind, *(name for people in behind.values() for name in people)]))
    number = {name: index for index, name in enumerate(names)}
    same = [
        (number[subject], number[person])
        for subject, people in behind.items()
        for person in people
        if person in behind or len(people) == 1
    ]
    rows, columns = np.array(same, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(same)), (rows, columns)), shape=(len(names), len(names)))
    persons = connected_components(graph, directed=False)[1]
    first: dict[int, str] = {}
    return {subject: first.setdefault(int(persons[number[subject]]), subject) for subject in behind}


def split_by_subject(
    derived_from: Mapping[str, Iterable[str]], shares: tuple[float, float, float], seed: int
) -> dict[str, str]:
    """Assign whole subjects to train, val and test, all of one person to the same.

    Args:
        derived_from: Subject -> the people behind it.
        shares: Of train, val and test among the persons, in any unit; every share above 0 gets one.
        seed: Seeds the order.

    Returns:
        Subject -> split.

    Raises:
        ValueError: If there are fewer persons than splits with a share, or a share is negative.
    """
    person_of = persons_of(derived_from)
    persons = list(dict.fromkeys(person_of.values()))
    wanted = np.array(shares, dtype=float)
    if len(wanted) != len(SPLITS) or not (wanted >= 0).all() or not 0 < wanted.sum() < np.inf:
        raise ValueError(f"shares must be three numbers of 0 or more, got {shares}.")
    used = int((wanted > 0).sum())
    if len(persons) < used:
        raise ValueError(
            f"{len(person_of)} subjects of {len(persons)} people cannot be split into {used} sets."
        )
    # Everyone gets one, the rest goes by share (largest remainder).
    exact = wanted / wanted.sum() * len(persons)
    counts = np.maximum(np.floor(exact), wanted > 0).astype(int)
    while counts.sum() > len(persons):
        counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    while counts.sum() < len(persons):
        counts[np.argmax(np.where(wanted > 0, exact - counts, -np.inf))] += 1
    order = np.random.default_rng((seed, 0)).permutation(len(persons))
    names = np.repeat(SPLITS, counts)
    split_of = {persons[number]: str(name) for number, name in zip(order, names, strict=True)}
    return {subject: split_of[person] for subject, person in person_of.items()}


def people_behind(provenance: Provenance) -> set[str]:
    """A sample's subject and everybody behind it."""
    return {provenance.subject, *provenance.config.get(DERIVED_FROM, ())}


def refuse_split_overlap(
    splits: Mapping[str, str], derived_from: Mapping[str, Iterable[str]]
) -> None:
    """See that all subjects of one person are in one split.

    Args:
        splits: Subject -> split.
        derived_from: Subject -> the people behind it.

    Raises:
        SplitOverlapError: Naming the first two that are not.
    """
    for subject, other in persons_of(derived_from).items():
        if splits[subject] != splits[other]:
            raise SplitOverlapError(
                f"Subjects {other} ({splits[other]}) and {subject} ({splits[subject]}) come of one "
                "person; they must be in one split."
            )
