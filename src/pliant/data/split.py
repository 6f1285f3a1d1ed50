"""Train, dev and test by subject: a person whom training has seen proves nothing about strangers.

Splits that the data names are kept; what is missing is carved out of the rest, by subject, or by
clip or image where subjects are not named, which is then said. The choice is a pure function of the
samples and the seed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pliant.data.manifest import Sample
from pliant.errors import UserError

NUM_DRAWS = 64
"""Divisions that are drawn; the one nearest to the wanted shares is taken."""

_WORDS = {True: "bona fide", False: "attack"}
_MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Split:
    """Samples by side, each with its `split` filled in, in the order they came."""

    train: list[Sample]
    dev: list[Sample]
    test: list[Sample]
    notes: list[str]
    """Sentences that a user should read."""


@dataclass(frozen=True)
class _Group:
    """Samples that must stay together."""

    name: str
    counts: Counter
    """Images per class."""


def check_subjects(samples: Iterable[Sample]) -> None:
    """Refuses a subject on two sides; samples without a subject or a split are not looked at.

    Raises:
        UserError: with the offending ids.
    """
    sides: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.subject and sample.split:
            sides[sample.subject].add(sample.split)
    leaking = sorted(subject for subject, splits in sides.items() if len(splits) > 1)
    if leaking:
        named = "; ".join(f"{s} in {' and '.join(sorted(sides[s]))}" for s in leaking[:_MOST_NAMED])
        more = f"; and {len(leaking) - _MOST_NAMED} more" if len(leaking) > _MOST_NAMED else ""
        raise UserError(
            f"{len(leaking)} subject{'s' * (len(leaking) > 1)} on more than one side of the split "
            f"({named}{more}); every subject belongs to one of train, dev and test"
        )


def split_by_subject(
    samples: Sequence[Sample],
    *,
    seed: int,
    dev_share: float = 0.25,
    test_share: float = 0.0,
    live_only: bool = False,
) -> Split:
    """Fills in missing splits; both classes are on both sides.

    Args:
        samples: With or without a split. Those without one go to training where dev is given.
        seed: Of the draw.
        dev_share: Share of the images outside a given test split that becomes dev where no dev is
            given; kept as nearly as whole subjects allow.
        test_share: The same for test; 0: no test split is made.
        live_only: Take bona fide samples without any attack too, because attacks will be simulated.

    Raises:
        UserError: if a subject is on two sides, a side lacks a class, or there are too few subjects
            for a dev split.
    """
    if not 0 < dev_share < 1 or not 0 <= test_share < 1 - dev_share:
        raise UserError(
            "needed: 0 < dev_share < 1 and 0 <= test_share < 1 - dev_share, "
            f"got {dev_share} and {test_share}"
        )
    samples = list(samples)
    if not samples:
        raise UserError("there are no samples to split")
    check_subjects(samples)
    if not (live_only and all(sample.bona_fide for sample in samples)):
        live_only = False
        _check_classes(samples, "the data")
    groups = [_group_of(sample) for sample in samples]
    given = {sample.split for sample in samples}
    sides = [sample.split or "train" for sample in samples]
    random = np.random.default_rng(seed)
    notes: list[str] = []
    left = 1.0
    for side, share in (("test", test_share), ("dev", dev_share)):
        if side in given or not share:
            continue
        pool = [k for k in range(len(samples)) if sides[k] == "train"]
        chosen = _carve(
            [samples[k] for k in pool], [groups[k] for k in pool], share / left, random, side
        )
        for k in pool:
            sides[k] = side if groups[k] in chosen else "train"
        notes.append(_carved_note(samples, sides, side))
        left -= share
    if None in given and "dev" in given:
        count = sum(sample.split is None for sample in samples)
        notes.append(f"{count} images without a split were put into training")
    filled = [replace(s, split=side) for s, side in zip(samples, sides, strict=True)]
    check_subjects(filled)
    parts = {side: [s for s in filled if s.split == side] for side in ("train", "dev", "test")}
    for side in () if live_only else ("train", "dev"):
        _check_classes(parts[side], f"the {side} split")
    _check_known(parts["train"], parts["dev"] + parts["test"])
    return Split(train=parts["train"], dev=parts["dev"], test=parts["test"], notes=notes)


def class_of(sample: Sample) -> bool | str:
    """`bona_fide`, or the label for other tasks."""
    return str(sample.label) if sample.bona_fide is None else sample.bona_fide


def _group_of(sample: Sample) -> str:
    """What must stay together: a subject's samples, else a clip's, else the image alone."""
    if sample.subject:
        return f"subject {sample.subject}"
    if sample.clip:
        return f"clip {sample.clip}"
    return f"image {sample.name or sample.path}"


def _carve(
    samples: Sequence[Sample],
    names: Sequence[str],
    share: float,
    random: np.random.Generator,
    side: str,
) -> set[str]:
    """The groups that go to the new side: about `share` of each class; each class on both sides."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for name, sample in zip(names, samples, strict=True):
        counts[name][class_of(sample)] += 1
    strata: dict[tuple, list[str]] = defaultdict(list)  # groups that hold the same classes
    for name in sorted(counts):
        strata[tuple(sorted(counts[name]))].append(name)
    total = sum(counts.values(), Counter())
    best, best_cost = None, np.inf
    for _ in range(max(1, min(NUM_DRAWS, 200_000 // len(counts)))):
        chosen: list[str] = []
        for members in strata.values():
            chosen += _draw(members, share, random)
        taken = sum((counts[name] for name in chosen), Counter())
        if not _both_sides(taken, total):
            continue
        cost = sum(abs(taken[c] / total[c] - share) for c in total)
        if cost < best_cost:
            best, best_cost = set(chosen), cost
    if best is None:
        raise UserError(_too_few(samples, names, side))
    return best


def _draw(members: list[str], share: float, random: np.random.Generator) -> list[str]:
    """`share` of the members at random, rounded up or down by chance; 1 to all but 1 of several."""
    number = int(share * len(members) + random.random())
    if len(members) > 1:
        number = min(max(number, 1), len(members) - 1)
    return [members[k] for k in random.permutation(len(members))[:number]]


def _both_sides(taken: Counter, total: Counter) -> bool:
    """Training must keep every class; dev must hold both, or for labels any."""
    if any(taken[c] >= total[c] for c in total):
        return False
    if isinstance(next(iter(total)), bool):
        return all(taken[c] > 0 for c in total)
    return bool(taken)


def _too_few(samples: Sequence[Sample], names: Sequence[str], side: str) -> str:
    """Why no split exists, and what to do."""
    holders: dict[bool | str, set[str]] = defaultdict(set)
    for name, sample in zip(names, samples, strict=True):
        holders[class_of(sample)].add(name)
    fewest = min(holders, key=lambda c: len(holders[c]))
    kind = min(holders[fewest]).split(" ")[0]
    number = len(holders[fewest])
    what = _WORDS[fewest] if isinstance(fewest, bool) else f"class {fewest!r}"
    return (
        f"no {side} subjects possible: {what} samples come from {number} {kind}"
        f"{'s' * (number > 1)}, and both sides of a split need both classes; add subjects, or name "
        "a split for every sample (the split column, or train/ and dev/ folders)"
    )


def _carved_note(samples: Sequence[Sample], sides: Sequence[str], side: str) -> str:
    inside = [s for s, place in zip(samples, sides, strict=True) if place == side]
    subjects = sorted({s.subject for s in inside if s.subject})
    nameless = sum(s.subject is None for s in samples)
    if subjects:
        shown = ", ".join(subjects[:_MOST_NAMED]) + " ..." * (len(subjects) > _MOST_NAMED)
        note = f"{side} was carved out by subject: {shown} ({len(inside)} images)"
        if nameless:
            note += f"; {nameless} images name no subject and were split without regard to it"
        return note
    unit = "clip" if any(s.clip for s in inside) else "image"
    note = f"{side} was carved out by {unit} ({len(inside)} images)"
    if samples[0].bona_fide is None:
        return note
    return (
        f"{note}: the split could not be made by subject, because the data names none; the same "
        "person may be on both sides, and results will look better than on strangers"
    )


def _check_classes(samples: Sequence[Sample], where: str) -> None:
    """Refuses a set with one class only."""
    found = Counter(class_of(sample) for sample in samples)
    if len(found) > 1:
        return
    if not found:
        raise UserError(f"{where} is empty; it needs bona fide samples and attacks, or two classes")
    (only,) = found
    if isinstance(only, bool):
        raise UserError(
            f"{where} holds {_WORDS[only]} samples only ({found[only]}); it needs "
            f"{_WORDS[not only]} samples too"
        )
    raise UserError(f"{where} holds one class only ({only}); at least two are needed")


def _check_known(train: Sequence[Sample], rest: Sequence[Sample]) -> None:
    """Refuses a label that training never sees."""
    known = {class_of(sample) for sample in train}
    if unknown := sorted({str(class_of(s)) for s in rest if class_of(s) not in known}):
        raise UserError(
            f"class {', '.join(unknown[:_MOST_NAMED])} is missing from the training split; every "
            "class of dev and test must be in train"
        )
