"""`pliant pad adapt RUN --data my-camera --out RUN2`: a run made fit for a new camera.

Thresholds travel badly from camera to camera, ranking much less so. A few minutes of captures refit
every tier's threshold, or first the classifier too; what is gained is measured on captures that
fitted neither.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from pliant import __version__
from pliant.errors import UserError
from pliant.jobs.folders import appearing, refuse_existing

if TYPE_CHECKING:
    from pliant.data.source import Source
    from pliant.train.run_folder import Run


def adapt(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    data: Path,
    out: Path,
    *,
    what: Literal["threshold", "head"] = "threshold",
    policy: str | None = None,
    tiers: tuple[str, ...] = (),
    strength: float | None = None,
    detector: Path | None = None,
    batch_size: int = 64,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Adapt a run to a new camera, and say what that gains on captures that fitted nothing.

    Args:
        run: A run folder of `pliant train`, task pad; it stays as it is.
        data: Captures of the new camera: a folder (live/, spoof/print/ ...), or a manifest CSV.
            Those marked test alone judge; without a test split judging is cross-fitted.
        out: The new run folder.
        what: Refit thresholds alone, or the classifier and then the thresholds.
        policy: Of the thresholds: min_acer, eer, apcer<=x, bpcer<=x; None: the training's.
        tiers: Whose thresholds are refitted; none named: all. A new head serves all.
        strength: How firmly the head is held to the old one, > 0; None: the captures choose.
        detector: A YuNet ONNX file for photos without face boxes; None: OpenCV's cascade.
        batch_size: Images per forward pass, >= 1.
        draws: Draws of the subject bootstrap, >= 1.
        seed: Of folds and bootstrap, >= 0.

    Raises:
        UserError: if `out` exists, the run is of another task or lacks a tier, or the captures are
            those of the training, cannot be used or cannot support the policy.
    """
    refuse_existing(out)
    _check(strength, batch_size, draws, seed)
    from pliant.train.run_folder import RunFolder

    opened = RunFolder.open(run)
    if opened.task != "pad":
        raise UserError(f"{run} is a run of task {opened.task}; only anti-spoofing has thresholds")
    _check_tiers(opened, what, tiers)
    from pliant.data.crops import load_or_skip
    from pliant.data.source import open_source
    from pliant.data.split import check_subjects
    from pliant.pad.thresholds import parse_policy

    wanted = str(parse_policy(policy or opened.settings["training"]["policy"]))
    source = open_source(data, "pad", detector=detector, crop_scale=opened.preprocessing.crop_scale)
    if source.sha256 == opened.settings["data"].get("sha256"):
        raise UserError(f"{data} is what {run} was trained on; give captures of the new camera")
    check_subjects(source.samples)
    samples, skipped = load_or_skip(source.samples)
    with appearing(out) as folder:
        return _adapt(
            opened, source, samples, [*source.skipped, *skipped], folder, what=what, policy=wanted,
            tiers=tiers or tuple(opened.tiers), strength=strength, batch_size=batch_size,
            draws=draws, seed=seed,
        ) | {"out": out}  # fmt: skip


def _check(strength: float | None, batch_size: int, draws: int, seed: int) -> None:
    if strength is not None and not 0 < strength < float("inf"):
        raise UserError(f"strength must be a finite number > 0, got {strength}")
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("draws", draws, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"{name} must be >= {least}, got {value}")


def _check_tiers(run: "Run", what: str, tiers: Sequence[str]) -> None:
    unknown = [tier for tier in tiers if tier not in run.tiers]
    if unknown:
        raise UserError(f'{run.path} has no tier "{unknown[0]}" ({", ".join(run.tiers)})')
    if what == "head" and tiers:
        raise UserError(
            "all tiers share the head, so all thresholds are refitted; leave --tiers out"
        )


def _adapt(
    run: "Run",
    source: "Source",
    samples: list,
    skipped: Sequence[Any],
    folder: Path,
    *,
    what: str,
    policy: str,
    tiers: Sequence[str],
    strength: float | None,
    batch_size: int,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Fits, judges, writes the new run into `folder`; the record of adaptation.json comes back."""
    import numpy as np

    from pliant.jobs import record
    from pliant.jobs.adapt_head import NewHead, head_of, set_head, tier_features
    from pliant.jobs.adapt_record import judged, notes_on, write_run
    from pliant.jobs.adapting import adapt_to, units_of
    from pliant.jobs.samples import is_synthetic
    from pliant.jobs.scoring import tier_probabilities, to_scores
    from pliant.pad.adapt import STRENGTHS, check_captures
    from pliant.pad.thresholds import parse_policy

    labels = to_scores(samples, np.zeros(len(samples)))
    held_out = np.array([sample.split == "test" for sample in samples])
    if held_out.all():
        raise UserError(
            f"all {len(samples)} captures are marked test; leave some unmarked to fit on"
        )
    check_captures(labels[~held_out], parse_policy(policy))
    if what == "head":
        if labels[~held_out].bona_fide.all():
            raise UserError("a head needs attacks too and the captures hold none; add prints or "
                            "replays of your own, or take --what threshold")  # fmt: skip
        old = head_of(run.model)
        features = tier_features(
            run.model, samples, run.preprocessing, tiers, batch_size=batch_size
        )
        scores = {tier: to_scores(samples, old.score(each)) for tier, each in features.items()}
        learner = NewHead(
            old=old,
            features=features,
            labels=labels,
            strengths=STRENGTHS if strength is None else (strength,),
        )
    else:
        found = tier_probabilities(
            run.model, samples, run.preprocessing, tiers, batch_size=batch_size
        )
        scores = {tier: to_scores(samples, each[:, 1]) for tier, each in found.items()}
        learner = None
    named = f"captures {source.name}" + (", out of fold" if learner else "")
    adapted = adapt_to(
        scores, units_of(samples, labels), held_out, learner, policy,
        source=named, draws=draws, seed=seed,
    )  # fmt: skip
    if adapted.head is not None:
        set_head(run.model, adapted.head)
    made: dict[str, Any] = {
        "pliant": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": what,
        "policy": policy,
        "tiers": list(tiers),
        "strength": adapted.strength,
        "seed": seed,
        "run": {
            "name": run.path.resolve().name,
            "sha256": record.of_model(run)["sha256"],
            "adapted": run.settings.get("adapted"),
        },
        "data": {
            "name": source.name,
            "sha256": source.sha256,
            "synthetic": is_synthetic(samples),
            "num_images": len(samples),
            "num_bona_fide": int(labels.bona_fide.sum()),
            "subjects": sorted({s.subject for s in samples if s.subject}),
            "num_skipped": len(skipped),
        },
        "judged": {"unit": adapted.unit, "num_parts": adapted.num_parts},
    }
    result = made | {
        "notes": [*source.notes, *notes_on(adapted, labels, record.overlap(source, run, samples))],
        "tiers": [judged(run, tier, adapted, draws=draws, seed=seed) for tier in tiers],
    }
    write_run(run, folder, made, adapted, result, skipped)
    return result
