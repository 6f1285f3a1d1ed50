"""Frames of a clip become one presentation's score; a clip without a usable frame, a non-response.

Shapes: N = frames.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from pliant.data.manifest import Sample
from pliant.jobs.scoring import to_scores
from pliant.pad.columns import factorise
from pliant.pad.scores import Scores, pool_presentations, write_scores
from pliant.pad.table import ScoreTable, write_table
from pliant.runtime.frame_vote import VoteSettings, vote

MISSING = "modality missing"
"""How the reason of a clip begins that lacks a modality in every frame."""
TRAINED_RULE = "mean"
"""How training pools the frames that its thresholds are fitted on."""


def vote_clips(
    samples: Sequence[Sample],
    score: Float64[np.ndarray, " N"],
    settings: VoteSettings,
    *,
    missing: Sequence[Sequence[str]] | None = None,
) -> ScoreTable:
    """One row per presentation, with the columns num_frames, num_rejected and num_missing.

    A frame that lacks a modality has no say; a presentation without any other is a non-response,
    whose reason names what its frames lack.

    Args:
        samples: The frames; those of one clip and subject are one presentation.
        score: Of each, in [0, 1].
        settings: The rule of the vote.
        missing: Of each frame, the modalities that it should have and lacks; None: nothing is.

    Raises:
        UserError: if frames of one presentation differ in label or species.
    """
    frames = to_scores(samples, score)
    presentation, code = factorise(frames.presentation)
    key = factorise(frames.subject)[1] * len(presentation) + code
    lacks = [tuple(each) for each in missing] if missing is not None else [()] * len(frames)
    heard = np.array([not each for each in lacks], bool)
    pooled = pool_presentations(frames)  # refuses frames that differ; names in its order
    means = _means(frames, heard) if settings.rule == TRAINED_RULE else {}
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order])) + 1
    groups = {_name(frames, rows[0]): rows for rows in np.split(order, starts)}
    found, reason, counts = np.full(len(pooled), np.nan), [""] * len(pooled), []
    for place in range(len(pooled)):
        name = _name(pooled, place)
        rows = groups[name]
        used = rows[heard[rows]]
        said = vote(frames.score[used], settings)
        if said.score is None:
            names = sorted({one for row in rows for one in lacks[row]})
            reason[place] = f"{MISSING}: {', '.join(names)}" if names else "too few frames"
        else:
            found[place] = means.get(name, said.score)
        counts.append((said.num_frames, said.num_rejected, len(rows) - len(used)))
    columns = np.array(counts, np.int64).reshape(-1, 3).T.astype(str)
    return ScoreTable(
        subject=pooled.subject,
        presentation=pooled.presentation,
        bona_fide=pooled.bona_fide,
        species=pooled.species,
        score=found,
        reason=np.array(reason),
        extra=dict(zip(("num_frames", "num_rejected", "num_missing"), columns, strict=True)),
        num_frames=len(frames) if len(frames) > len(pooled) else 0,
    )


def _means(frames: Scores, heard: np.ndarray) -> dict[tuple[str, str], float]:
    """The plain means to the last digit of training's, so that a threshold meets equal scores."""
    pooled = pool_presentations(frames[heard])
    return {_name(pooled, row): float(pooled.score[row]) for row in range(len(pooled))}


def _name(scores: Scores, row: int) -> tuple[str, str]:
    return str(scores.subject[row]), str(scores.presentation[row])


def vote_record(table: ScoreTable, settings: VoteSettings) -> dict[str, Any]:
    """What the vote did, for evaluation.json: the rule, and frames used, rejected, missing."""
    totals = {name: int(column.astype(np.int64).sum()) for name, column in table.extra.items()}
    return {
        "rule": settings.rule,
        "k": settings.k,
        "trim": settings.trim,
        "presentations": len(table),
        **totals,
    }


def write_votes(table: ScoreTable, path: Path) -> None:
    """The presentations as CSV; photos that all got a score leave out what only clips have."""
    if table.num_frames or not table.responded.all():
        write_table(table, path)
    else:
        write_scores(table.scores, path)
