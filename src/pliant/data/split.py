"""Train, dev and test by subject: nobody's face stands on two sides."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pliant.data.manifest import Sample
from pliant.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Split:
    """The three sides, and what has to be said of them."""

    train: list[Sample]
    dev: list[Sample]
    test: list[Sample]
    notes: list[str]


def check_subjects(samples: Sequence[Sample]) -> None:
    """Refuses data in which a subject stands on two sides.

    Raises:
        UserError: with the offending ids.
    """
    sides: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.subject and sample.split:
            sides[sample.subject].add(sample.split)
    leaks = sorted(subject for subject, seen in sides.items() if len(seen) > 1)
    if leaks:
        named = ", ".join(f"{s} ({' and '.join(sorted(sides[s]))})" for s in leaks[:10])
        more = f" and {len(leaks) - 10} more" if len(leaks) > 10 else ""
        raise UserError(
            f"{len(leaks)} subjects stand on two sides of the split: {named}{more}; "
            "give every subject one side, or leave the split column empty"
        )


def split_by_subject(
    samples: Sequence[Sample], *, seed: int, dev_share: float = 0.25, test_share: float = 0.0
) -> Split:
    """Keeps the sides that the data names, and carves the missing ones by subject.

    Where no training sample has a subject, clips (or single images) take the subjects' place, and
    a note says so. Every carved side holds every class.

    Args:
        samples: With or without sides.
        seed: Of the draw.
        dev_share: Share of the subjects for dev where the data names no dev, 0 to below 1.
        test_share: Likewise for test.

    Raises:
        UserError: if there is one class only, nothing to train on, or too few subjects.
    """
    check_subjects(samples)
    sides: dict[str, list[Sample]] = {"train": [], "dev": [], "test": []}
    open_side = "train" if not any(s.split == "train" for s in samples) else None
    for sample in samples:
        side = sample.split or open_side
        if side:
            sides[side].append(replace(sample, split=side))
    unused = sum(s.split is None for s in samples) if open_side is None else 0
    notes = [f"{unused} samples without a split were left out"] if unused else []
    if not sides["train"]:
        raise UserError("the data has no training samples; give some the split train, or no split")
    _need_classes(sides["train"], "the training data")
    for side, share in (("test", test_share), ("dev", dev_share)):
        if sides[side] or not share:
            continue
        by_subject = all(sample.subject for sample in sides["train"])
        if not by_subject:
            notes.append(
                f"{side} could not be split off by subject: subjects are not known (name their "
                "folders), so the same face may stand on both sides and numbers are optimistic"
            )
        kept, carved = _carve(sides["train"], share, seed=seed, side=side, by_subject=by_subject)
        sides["train"], sides[side] = kept, [replace(s, split=side) for s in carved]
    if sides["dev"]:
        _need_classes(sides["dev"], "the dev data")
    return Split(notes=notes, **sides)


def _class_of(sample: Sample) -> str:
    if sample.bona_fide is None:
        return str(sample.label)
    return "bona fide" if sample.bona_fide else "attack"


def _need_classes(samples: Sequence[Sample], what: str) -> None:
    classes = {_class_of(sample) for sample in samples}
    if len(classes) < 2:
        have = next(iter(classes))
        lack = {"attack": "bona fide", "bona fide": "attack"}.get(have, "a second class of")
        raise UserError(f'{what} holds one class only ("{have}"); add {lack} samples')


def _carve(
    samples: Sequence[Sample], share: float, *, seed: int, side: str, by_subject: bool
) -> tuple[list[Sample], list[Sample]]:
    """(what stays, what is carved off): whole groups, in a seeded order, every class on each side.

    Classes are filled one after another, the rarest first, so that a subject with both counts for
    both and attacks without a bona fide twin are spread too.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[str(sample.subject) if by_subject else sample.presentation].append(sample)
    holders: dict[str, set[str]] = defaultdict(set)
    for name, members in groups.items():
        for sample in members:
            holders[_class_of(sample)].add(name)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    carved: set[str] = set()
    for _, having in sorted(holders.items(), key=lambda item: (len(item[1]), item[0])):
        wanted = max(1, round(share * len(having)))
        for name in order:
            if len(carved & having) >= wanted or len(having - carved) <= 1:
                break
            if name in having - carved and all(
                len(others - carved) > 1 for others in holders.values() if name in others
            ):
                carved.add(name)
    lacking = [kind for kind, having in holders.items() if not carved & having]
    if lacking:
        noun = "subjects" if by_subject else "images"
        raise UserError(
            f'no {side} {noun} could be set aside: "{lacking[0]}" has {len(holders[lacking[0]])} '
            f"{noun}, at least two are needed for both sides to hold it; add more"
        )
    kept = [s for name, members in groups.items() if name not in carved for s in members]
    return kept, [s for name, members in groups.items() if name in carved for s in members]
