"""What `pliant pad adapt` fits, and decisions on captures that did not help to fit it.

Captures are few, so nothing is set aside for good: each part of them is judged by a head and by
thresholds that were fitted on the others (cross-fitting), and what is kept is fitted on all. Where
a head is fitted, a threshold is fitted on out-of-fold scores, inside each part too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pliant.data.manifest import Sample
from pliant.data.progress import watched
from pliant.errors import UserError
from pliant.jobs.adapt_head import NewHead
from pliant.pad.adapt import (
    NUM_FOLDS,
    Head,
    deal,
    fit_on_captures,
    log_loss,
    threshold_value,
)
from pliant.pad.scores import Scores, pool_presentations
from pliant.pad.thresholds import Threshold, parse_policy

Rows = np.ndarray
"""Places of frames, int64."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """What was fitted on all captures, and how it fared on those that fitted neither."""

    head: Head | None
    """None where thresholds alone were fitted."""
    strength: float | None
    """Of the head; see `pliant.pad.adapt.fit_head`."""
    thresholds: dict[str, Threshold]
    """Per tier."""
    tuned: dict[str, Scores]
    """Per tier, the presentations that its threshold was fitted on."""
    before: dict[str, Scores]
    """Per tier, the presentations judged, as the run scores them."""
    after: dict[str, Scores]
    """The same, out of fold."""
    accepted: dict[str, np.ndarray]
    """Per tier, whether each of `after` is accepted."""
    unit: str
    """What was held out together: subject, session, clip, image or `test split`."""
    num_parts: int


def adapt_to(
    scores: Mapping[str, Scores],
    units: Mapping[str, np.ndarray],
    held_out: np.ndarray,
    learner: NewHead | None,
    policy: str,
    *,
    source: str,
    draws: int,
    seed: int,
) -> Adapted:
    """Fits on all captures but those held out, and judges on these, or out of fold without any.

    Args:
        scores: Per tier, the frames as the run scores them.
        units: What may be held out together, best first; a label per frame.
        held_out: Which frames are a test split.
        learner: Fits heads; None: thresholds alone are fitted.
        policy: Of the thresholds.
        source: What the captures are, in words.
        draws: Of the subject bootstrap behind a threshold's interval.
        seed: Of folds and bootstrap.

    Raises:
        UserError: if the captures cannot support the policy or be divided.
    """
    labels, parsed = next(iter(scores.values())), parse_policy(policy)
    fitted, judged = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if len(judged):
        unit, parts = "test split", [(fitted, judged)]
    else:
        unit, fold = _folds(units, labels, fitted, seed)
        parts = [
            (np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(fold.max() + 1)
        ]
    found: dict[str, list[Scores]] = {tier: [] for tier in scores}
    accepted: dict[str, list[np.ndarray]] = {tier: [] for tier in scores}
    for fit, judge in watched(parts, len(parts), "cross-fitting"):
        head, _, tuned = _fit(learner, scores, units, fit, seed)
        for tier in scores:
            value = threshold_value(tuned[tier], parsed)
            one = scores[tier][judge]
            if learner and head:
                one = replace(one, score=head.score(learner.features[tier][judge]))
            found[tier].append(pool_presentations(one))
            accepted[tier].append(found[tier][-1].score >= value)
    head, strength, tuned = _fit(learner, scores, units, fitted, seed)
    return Adapted(
        head=head,
        strength=strength,
        thresholds={
            tier: fit_on_captures(each, policy, source=source, draws=draws, seed=seed)
            for tier, each in tuned.items()
        },
        tuned={tier: pool_presentations(each) for tier, each in tuned.items()},
        before={tier: _joined([pool_presentations(scores[tier][judge]) for _, judge in parts])
                for tier in scores},
        after={tier: _joined(parts) for tier, parts in found.items()},
        accepted={tier: np.concatenate(parts) for tier, parts in accepted.items()},
        unit=unit,
        num_parts=len(parts),
    )  # fmt: skip


def _fit(
    learner: NewHead | None,
    scores: Mapping[str, Scores],
    units: Mapping[str, np.ndarray],
    rows: Rows,
    seed: int,
) -> tuple[Head | None, float | None, dict[str, Scores]]:
    """A head, its strength, and per tier the rows as heads score them that have not seen them.

    The strength is the one of least log loss on those scores, the firmest where several are equal.
    """
    if learner is None:
        return None, None, {tier: each[rows] for tier, each in scores.items()}
    _, fold = _folds(units, learner.labels, rows, seed)
    best: tuple[float, float, dict[str, Scores]] | None = None
    for strength in sorted(learner.strengths, reverse=True):
        score = {tier: np.empty(len(rows)) for tier in scores}
        for k in range(fold.max() + 1):
            head = learner.learn(rows[fold != k], strength)
            for tier, features in learner.features.items():
                score[tier][fold == k] = head.score(features[rows[fold == k]])
        tuned = {tier: replace(each[rows], score=score[tier]) for tier, each in scores.items()}
        loss = sum(log_loss(each) for each in tuned.values())
        if best is None or loss < best[0]:
            best = loss, strength, tuned
    assert best is not None
    return learner.learn(rows, best[1]), *best[1:]


def _folds(
    units: Mapping[str, np.ndarray], labels: Scores, rows: Rows, seed: int
) -> tuple[str, np.ndarray]:
    """The best unit that gives folds, and the fold of each row."""
    for unit, groups in units.items():
        fold = deal(groups[rows], labels.bona_fide[rows], seed=seed)
        if fold is not None:
            return unit, fold
    mine = labels[rows]
    raise UserError(
        f"too few captures to judge what is fitted on them: {int(mine.bona_fide.sum())} images of "
        f"bona fide presentations and {int((~mine.bona_fide).sum())} of attacks, of "
        f"{mine.num_subjects} named subjects, cannot be divided so that both parts hold every "
        "class; add a second person, or name clips or sessions of the one"
    )


def _joined(parts: Sequence[Scores]) -> Scores:
    fields = ("subject", "presentation", "bona_fide", "species", "score")
    return Scores(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in fields})


def units_of(samples: Sequence[Sample], labels: Scores) -> dict[str, np.ndarray]:
    """What may be held out together, best first: subject, session, and at last clip or image.

    Images that belong to no clip are taken in runs of neighbours by name, because neighbours are
    often frames of one scene.
    """
    units: dict[str, np.ndarray] = {}
    subjects = [s.subject or "" for s in samples]
    if all(subjects) and len(set(subjects)) > 1:
        units["subject"] = np.array(subjects)
    first: dict[tuple[str, str], str] = {}  # a clip is of one session: that of its first frame
    keys = list(zip(subjects, labels.presentation.tolist(), strict=True))
    for key, sample in zip(keys, samples, strict=True):
        first.setdefault(key, sample.session or "")
    if all(first.values()):
        units["session"] = np.array([f"{key[0]}/{first[key]}" for key in keys])
    unit = np.array(["/".join(key) for key in keys], dtype=object)
    runs: dict[tuple[str, bool, str], list[int]] = {}
    for row, sample in enumerate(samples):
        if not sample.clip:
            kind = (subjects[row], sample.bona_fide is True, sample.pai_species or "")
            runs.setdefault(kind, []).append(row)
    for kind, rows in runs.items():
        rows.sort(key=lambda row: _natural(samples[row].name))
        for place, row in enumerate(rows):
            unit[row] = f"{kind} {place * NUM_FOLDS // len(rows)}"
    units["image" if runs else "clip"] = unit.astype(str)
    return units


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts img_9 before img_10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
