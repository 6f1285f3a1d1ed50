"""Every tier's scores turned into its measures: the middle part of `pliant evaluate`.

Shapes: N = samples, K = classes, S = input side in pixels.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pliant.data.manifest import Sample
from pliant.errors import UserError
from pliant.jobs.clip_vote import TRAINED_RULE, vote_clips, vote_record, write_votes
from pliant.jobs.modal_judging import (
    ModalScores,
    all_subsets,
    judge_subsets,
    modal_scores,
    modality_record,
)
from pliant.jobs.scoring import crops_of, tier_probabilities, to_scores
from pliant.metrics.accuracy import classification_metrics
from pliant.pad.baseline import fit_baseline
from pliant.pad.evaluation import (
    det_curves,
    evaluate_scores,
    score_histogram,
    tier_agreement,
)
from pliant.pad.nonresponse import nonresponse_record
from pliant.pad.scores import Scores, pool_presentations, read_scores, write_scores
from pliant.pad.sheet import make_sheet
from pliant.pad.table import ScoreTable
from pliant.pad.thresholds import Threshold, fit_threshold
from pliant.runtime.frame_vote import VoteSettings
from pliant.train.run_folder import DEV_SCORES, Run, RunFolder

BASELINE_IMAGES = 3000
"""Training images behind the colour baseline, at most, evenly along the list."""
SHEET_TIERS = ("low", "high")
"""Tiers whose decisions are shown; all of a run's where it has neither."""


def judge_pad(
    run: Run,
    judged: Sequence[Sample],
    dev: Sequence[Sample],
    rows: Sequence[dict[str, Any]],
    folder: Path,
    *,
    role: str,
    policy: str,
    batch_size: int,
    draws: int,
    seed: int,
    how: VoteSettings = VoteSettings(rule=TRAINED_RULE),  # noqa: B008
    modalities: tuple[str, ...] = (),
    each_subset: bool = False,
) -> dict[str, Any]:
    """Fills each tier's row (threshold, metrics, det, histogram, scores_csv); agreement and sheet.

    A stored threshold holds for the vote and the modalities that it was fitted with: others get
    their own, fitted on dev and not stored.

    Args:
        run: The opened run; a threshold fitted here is stored in it.
        judged: What is measured.
        dev: What a missing threshold is fitted on; empty where the data has no dev split.
        rows: One per tier, with its costs.
        folder: Gets scores_<tier>.csv.
        role: `dev` where `judged` is the dev split itself.
        policy: How a missing threshold is fitted.
        batch_size: Images per forward pass.
        draws: Of the subject bootstrap.
        seed: Of the bootstrap.
        how: How frames of a clip vote.
        modalities: What a PipeNet decides on; () for other networks.
        each_subset: Judge a PipeNet on every subset of its modalities too.
    """
    names, n = [row["tier"] for row in rows], len(judged)
    own = run.pipenet.modalities if run.pipenet else ()
    scores, modal = frame_scores(
        run, [*judged, *dev], names, modalities, each_subset=each_subset, batch_size=batch_size
    )
    missing = modal.missing(modalities) if modal else [[] for _ in (*judged, *dev)]
    as_trained = how.rule == TRAINED_RULE and modalities == own
    decisions: dict[str, tuple[Scores, Threshold]] = {}
    sheet: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    for row in rows:
        name, score = row["tier"], scores[row["tier"]]
        table = vote_clips(judged, score[:n], how, missing=missing[:n])
        _check_heard(table)
        test, tuned = table.scores, None
        if dev:
            tuned = vote_clips(dev, score[n:], how, missing=missing[n:]).scores
        elif role == "dev":
            tuned = test
        if as_trained:
            threshold, fitted_on = threshold_of(run, name, tuned, policy, draws=draws, seed=seed)
        else:
            source = f"dev split, vote {how.rule}{_of(modalities)}"
            fitted_on, threshold = tuned, None
            if tuned is not None:
                threshold = fit_threshold(tuned, policy, source=source, draws=draws, seed=seed)
        row["threshold"] = threshold and threshold.to_json()
        row["metrics"] = evaluate_scores(test, threshold, dev=fitted_on, draws=draws, seed=seed)
        row["det"] = det_curves(test)
        row["histogram"] = score_histogram(test)
        row["nonresponse"] = nonresponse_record(table, threshold and threshold.value)
        row["scores_csv"] = f"scores_{name}.csv"
        write_votes(table, folder / row["scores_csv"])
        row["vote"] = vote_record(table, how)
        if threshold:
            decisions[name] = (test, threshold)
    shown = [name for name in decisions if name in SHEET_TIERS] or list(decisions)
    for name in shown:
        sheet += contact_sheet(run, judged, name, *decisions[name])
    if modal is not None:
        result["modalities"] = modality_record(run, modalities, modal.problems[:n])
        if each_subset:
            result["subsets"] = judge_subsets(
                modal, judged, dev, folder,
                how=how, role=role, policy=policy, draws=draws, seed=seed,
            )  # fmt: skip
    return result | {"agreement": tier_agreement(decisions), "sheet": sheet}


def frame_scores(
    run: Run,
    samples: Sequence[Sample],
    names: Sequence[str],
    modalities: tuple[str, ...],
    *,
    each_subset: bool,
    batch_size: int,
) -> tuple[dict[str, np.ndarray], ModalScores | None]:
    """Probability of bona fide of every frame by tier, (N,); of a PipeNet also by modalities."""
    if run.pipenet is None:
        found = tier_probabilities(
            run.model, samples, run.preprocessing, names, batch_size=batch_size
        )
        return {name: probabilities[:, 1] for name, probabilities in found.items()}, None
    chosen = dict.fromkeys([*all_subsets(run), modalities] if each_subset else [modalities])
    modal = modal_scores(run, samples, list(chosen), batch_size=batch_size)
    return dict.fromkeys(names, modal.scores[modalities]), modal


def _check_heard(table: ScoreTable) -> None:
    """Refuses data in which one class has no presentation with a response.

    Raises:
        UserError: with the reason that most of them have.
    """
    for truth, what in ((True, "bona fide presentation"), (False, "attack")):
        rows = table.bona_fide == truth
        if rows.any() and not table.responded[rows].any():
            reasons, counts = np.unique(table.reason[rows], return_counts=True)
            raise UserError(
                f"no {what} of {int(rows.sum())} can be judged ({reasons[counts.argmax()]}); give "
                "--modalities that the data has"
            )


def _of(modalities: Sequence[str]) -> str:
    return f", {' + '.join(modalities)}" if modalities else ""


def threshold_of(
    run: Run, tier: str, dev: Scores | None, policy: str, *, draws: int, seed: int
) -> tuple[Threshold | None, Scores | None]:
    """The tier's threshold and the scores that it was fitted on, where they are known.

    The stored one; where the run has none, one fitted on `dev` and stored in the run.
    """
    stored = run.tiers[tier].threshold
    if stored is not None:
        threshold = Threshold.from_json(stored.record)
        path = run.path / DEV_SCORES.format(tier=tier)
        kept = read_scores(path) if path.is_file() else None
        same = kept is not None and kept.sha256 == threshold.dev_sha256
        return threshold, kept if same else None
    if dev is None:
        return None, None
    fitted = fit_threshold(dev, policy, source="dev split", draws=draws, seed=seed)
    write_scores(dev, run.path / DEV_SCORES.format(tier=tier))
    RunFolder.store_threshold(run.path, tier, fitted.to_json())
    print(f"{tier}: threshold {fitted.value:.4f} fitted on dev, stored in the run", file=sys.stderr)
    return fitted, dev


def contact_sheet(
    run: Run, samples: Sequence[Sample], tier: str, scores: Scores, threshold: Threshold
) -> list[dict[str, Any]]:
    """The `sheet` entries of one tier; a presentation is shown by its first image."""
    named = to_scores(samples, np.zeros(len(samples)))
    first: dict[tuple[str, str], int] = {}
    for index, key in enumerate(
        zip(named.subject.tolist(), named.presentation.tolist(), strict=True)
    ):
        first.setdefault(key, index)
    keys = list(zip(scores.subject.tolist(), scores.presentation.tolist(), strict=True))
    crops = crops_of(samples, run.preprocessing)
    return make_sheet(
        tier=tier,
        score=scores.score,
        threshold=threshold.value,
        bona_fide=scores.bona_fide,
        species=scores.species.tolist(),
        presentation=scores.presentation.tolist(),
        image_of=lambda row: crops[first[keys[row]]]["image"].permute(1, 2, 0).numpy(),
    )


def judge_baseline(
    run: Run, training: Sequence[Sample], judged: Sequence[Sample], *, draws: int, seed: int
) -> dict[str, Any]:
    """The colour histogram, trained on the run's training images and judged on the same crops."""
    step = max(1, -(-len(training) // BASELINE_IMAGES))
    training = training[::step]
    fitted = fit_baseline(pixels(run, training), np.array([s.bona_fide is True for s in training]))
    test = pool_presentations(to_scores(judged, fitted.score(pixels(run, judged))))
    return {
        "name": "colour histogram",
        "num_images": len(training),
        "metrics": evaluate_scores(test, None, draws=draws, seed=seed),
    }


def pixels(run: Run, samples: Sequence[Sample]) -> np.ndarray:
    """The crops as the network gets them, uint8 (N, S, S, 3)."""
    crops = crops_of(samples, run.preprocessing)
    return np.stack([crops[i]["image"].permute(1, 2, 0).numpy() for i in range(len(crops))])


def judge_classes(
    run: Run, judged: Sequence[Sample], rows: Sequence[dict[str, Any]], *, batch_size: int
) -> dict[str, Any]:
    """Fills each tier's row with accuracy, likelihood and ECE; the tiers' agreement comes back."""
    unknown = sorted({str(s.label) for s in judged} - set(run.classes))
    if unknown:
        raise UserError(
            f"the run does not know the classes {', '.join(unknown[:5])}; it was trained on "
            f"{', '.join(run.classes[:20])}"
        )
    names = [row["tier"] for row in rows]
    found = tier_probabilities(run.model, judged, run.preprocessing, names, batch_size=batch_size)
    labels = np.array([run.classes.index(str(s.label)) for s in judged])
    for row in rows:
        row["threshold"] = None
        row["metrics"] = classification_metrics(found[row["tier"]], labels)
    return {"agreement": class_agreement(found)}


def class_agreement(found: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """How often each pair of tiers names different classes; probabilities (N, K) come in."""
    chosen = {name: p.argmax(axis=1) for name, p in found.items()}
    names = list(chosen)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    different = {(a, b): int((chosen[a] != chosen[b]).sum()) for a, b in pairs}
    return [
        {"a": a, "b": b, "n": len(chosen[a]), "different": k, "rate": k / len(chosen[a])}
        for (a, b), k in different.items()
    ]
