"""PipeNet judged: every subset of its modalities, each with a threshold of its own.

Shapes: N = frames, B = batch, M = modalities, S = side of a frame in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from pliant.data.manifest import Sample
from pliant.data.modal import ModalCrops, Problems, count_problems
from pliant.data.progress import watched
from pliant.errors import UserError
from pliant.jobs.clip_vote import vote_clips, vote_record, write_votes
from pliant.jobs.scoring import normalise
from pliant.models.pipe_patches import PatchMean
from pliant.models.pipenet import subsets
from pliant.pad.evaluation import evaluate_scores
from pliant.pad.nonresponse import nonresponse_record
from pliant.pad.table import ScoreTable
from pliant.pad.thresholds import fit_threshold
from pliant.runtime.frame_vote import VoteSettings
from pliant.train.pipenet import check_modalities
from pliant.train.run_folder import Run


@dataclass(frozen=True, kw_only=True)
class ModalScores:
    """Frame scores of every judged subset, of one run over one list of samples."""

    scores: Mapping[tuple[str, ...], np.ndarray]
    """Probability of bona fide, float64 (N,), by subset."""
    problems: Sequence[Problems]
    """Of every frame."""

    def missing(self, kept: tuple[str, ...]) -> list[list[str]]:
        """Of every frame, which of these modalities it lacks."""
        return [[name for name in kept if name in each] for each in self.problems]


def crops_of_run(run: Run, samples: Sequence[Sample]) -> ModalCrops:
    """The samples in all modalities of the run."""
    assert run.pipenet is not None
    return ModalCrops(
        samples,
        modalities=run.pipenet.modalities,
        size=run.preprocessing.size,
        crop_scale=run.preprocessing.crop_scale,
        border=run.preprocessing.border,
    )


def chosen_modalities(run: Run, wanted: Sequence[str]) -> tuple[str, ...]:
    """What decides, in the run's own order; all of its modalities where none is asked for.

    Raises:
        UserError: if the run is no PipeNet and modalities are asked for, or it lacks one of them.
    """
    words = tuple(w.strip() for entry in wanted for w in entry.split(",") if w.strip())
    if run.pipenet is None:
        if words:
            raise UserError(
                f"{run.path} sees colour alone ({run.settings['model']}); leave --modalities out"
            )
        return ()
    if not words:
        return run.pipenet.modalities
    check_modalities(words, run.pipenet.modalities, "--modalities")
    return tuple(name for name in run.pipenet.modalities if name in words)


@torch.inference_mode()
def modal_scores(
    run: Run,
    samples: Sequence[Sample],
    chosen: Sequence[tuple[str, ...]],
    *,
    batch_size: int = 64,
) -> ModalScores:
    """Scores of all frames with each choice of modalities; the others are zeros to the network."""
    crops = crops_of_run(run, samples)
    device = next(run.model.parameters()).device
    found: dict[tuple[str, ...], list[np.ndarray]] = {kept: [] for kept in chosen}
    loader = DataLoader(crops, batch_size=batch_size)
    net = run.model.eval().net
    assert isinstance(net, PatchMean)
    with run.model.use(next(iter(run.tiers))):
        for batch in watched(loader, len(loader), "scoring"):
            images = normalise(batch["image"].to(device), run.preprocessing)
            for kept, logits in zip(chosen, net.of_subsets(images, chosen), strict=True):
                found[kept].append(logits.double().softmax(dim=1)[:, 1].cpu().numpy())
    return ModalScores(
        scores={kept: np.concatenate(parts) for kept, parts in found.items()},
        problems=crops.problems(),
    )


def all_subsets(run: Run) -> list[tuple[str, ...]]:
    """Every choice of the run's modalities, the single ones first."""
    assert run.pipenet is not None
    return subsets(run.pipenet.modalities)


def judge_subsets(
    found: ModalScores,
    judged: Sequence[Sample],
    dev: Sequence[Sample],
    folder: Path | None,
    *,
    how: VoteSettings,
    role: str,
    policy: str,
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The `subsets` record: of each its threshold, measures, non-responses and vote.

    Args:
        found: Scores of the judged frames, then of dev.
        judged: The judged frames.
        dev: The frames that thresholds are fitted on; empty: none, unless dev itself is judged.
        folder: Gets scores_<modalities>.csv of each; None: no files.
        how: The rule of the vote.
        role: `dev` where `judged` is the dev split itself.
        policy: How thresholds are fitted.
        draws: Of the subject bootstrap.
        seed: Of the bootstrap.
    """
    rows = []
    for kept, score in found.scores.items():
        lacks = found.missing(kept)
        n = len(judged)
        table = vote_clips(judged, score[:n], how, missing=lacks[:n])
        tuned = table if role == "dev" else None
        if dev:
            tuned = vote_clips(dev, score[n:], how, missing=lacks[n:])
        row: dict[str, Any] = {"modalities": list(kept)} | judge_table(
            table, tuned, policy=policy, draws=draws, seed=seed
        )
        row["vote"] = vote_record(table, how)
        if folder is not None:
            row["scores_csv"] = f"scores_{'-'.join(kept)}.csv"
            write_votes(table, folder / row["scores_csv"])
        rows.append(row)
    return rows


def judge_table(
    table: ScoreTable, tuned: ScoreTable | None, *, policy: str, draws: int, seed: int
) -> dict[str, Any]:
    """Threshold, measures and non-responses of presentations; None with a reason where they cannot.

    Args:
        table: What is judged.
        tuned: What the threshold is fitted on; None: there is nothing to fit on.
        policy: How.
        draws: Of the subject bootstrap.
        seed: Of the bootstrap.
    """
    row: dict[str, Any] = {"threshold": None, "metrics": None, "reason": None}
    threshold, metrics = None, None
    try:
        if tuned is not None:
            threshold = fit_threshold(
                tuned.scores, policy, source="dev split", draws=draws, seed=seed
            )
        fitted_on = tuned.scores if tuned is not None else None
        metrics = evaluate_scores(table.scores, threshold, dev=fitted_on, draws=draws, seed=seed)
    except UserError as refusal:  # a class has no presentation with these modalities
        row["reason"] = str(refusal)
    row["threshold"] = threshold and threshold.to_json()
    row["metrics"] = metrics
    row["nonresponse"] = nonresponse_record(table, threshold and threshold.value)
    return row


def modality_record(
    run: Run, chosen: Sequence[str], problems: Sequence[Problems]
) -> dict[str, Any]:
    """The `modalities` block of evaluation.json."""
    assert run.pipenet is not None
    return {
        "known": list(run.pipenet.modalities),
        "used": list(chosen),
        "frames": len(problems),
        "unusable": count_problems(problems),
    }
