"""What a few captures of a new camera give a run: threshold alone, or the head too; adapt.csv.

    PLIANT_DATA=... python benchmarks/adapt.py --run RUN --nuaa-run RUN

RUN was trained on the synthetic rig alone (`pliant train` on `pliant demo`'s data), the other on
NUAA (subjects 1-6 train, 7-9 dev). New cameras:
rig     for the first run other people of the rig through one fixed other camera, simulated
        (recapture.other_camera with the same draws for every photo, others for each seed);
nuaa    for the first run NUAA: real photos, and real printed photos, by a real camera;
camera  for the second run every other photo of subjects 7-9 through such a simulated camera. Its
        own threshold was fitted on the originals of these people, so `before` is flattered.
For each seed some subjects are drawn; at most 25 frames of each class and of each of them, spread
evenly, are the captures; all frames of all other subjects are judged. Every way gets the same
captures: `before` is the run's own threshold, `threshold` refits it, `head` fits the classifier
first, at each strength and at the one that the captures choose by themselves (`chosen`, the
default); `colour` is a colour histogram that knows the captures alone: what all has to beat. Policy
min_acer; thresholds of `head` and `colour` are fitted out of fold, by subject where there are two,
else by runs of images. The interval of ACER is over judged subjects. Ten minutes on one core.
"""

import argparse
import csv
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import recapture
import torch

from pliant.data.manifest import Sample, read_manifest
from pliant.data.rig import RigSettings, write_rig
from pliant.jobs.adapt_head import NewHead, head_of, tier_features
from pliant.jobs.adapting import adapt_to, units_of
from pliant.jobs.judging import pixels
from pliant.jobs.scoring import to_scores
from pliant.pad.adapt import STRENGTHS, deal, threshold_value
from pliant.pad.baseline import fit_baseline
from pliant.pad.before_after import rates
from pliant.pad.metrics import auc
from pliant.pad.scores import Scores, pool_presentations
from pliant.pad.thresholds import parse_policy
from pliant.runtime.files import write_atomic
from pliant.runtime.images import read_image
from pliant.train.run_folder import Run, RunFolder

RESULTS = Path(__file__).parent / "results" / "adapt.csv"
COLUMNS = (
    "data", "num_subjects", "seed", "subjects", "num_bona_fide", "num_attack", "way", "strength",
    "tier", "threshold", "auc", "apcer_max", "bpcer", "acer", "acer_low", "acer_high",
)  # fmt: skip
FRAMES = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--nuaa-run", type=Path, help="None: without the data set `camera`")
    parser.add_argument("--nuaa", type=Path, help="None: PLIANT_DATA/nuaa")
    parser.add_argument("--subjects", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = RunFolder.open(given.run)
    nuaa = given.nuaa or Path(os.environ["PLIANT_DATA"]) / "nuaa"
    rows: list[dict[str, object]] = []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            samples = through_a_camera(rig_people(Path(folder)), Path(folder), seed)
            features = tier_features(run.model, samples, run.preprocessing, list(run.tiers))
            crops = pixels(run, samples)
        rows += one(run, "rig", samples, features, crops, seed, given.subjects, given.draws)
    read = read_manifest(nuaa / "manifest.csv")
    if given.nuaa_run:
        other, few = RunFolder.open(given.nuaa_run), [s for s in read if s.split == "dev"][::2]
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                samples = through_a_camera(few, Path(folder), seed)
                features = tier_features(
                    other.model, samples, other.preprocessing, list(other.tiers)
                )
                crops = pixels(other, samples)
            rows += one(other, "camera", samples, features, crops, seed, [1], given.draws)
    samples = [replace(s, split=None) for s in read]
    features = tier_features(run.model, samples, run.preprocessing, list(run.tiers))
    crops = pixels(run, samples)
    for seed in range(given.seeds):
        rows += one(run, "nuaa", samples, features, crops, seed, given.subjects, given.draws)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(given.out, text.getvalue())


def rig_people(folder: Path) -> list[Sample]:
    """Twenty people whom training has not seen."""
    settings = RigSettings(subjects=20, frames=2, seed=1)
    return read_manifest(write_rig(settings, folder / "rig", progress=False))


def through_a_camera(samples: Sequence[Sample], folder: Path, seed: int) -> list[Sample]:
    """The same photos by a camera that training has not seen; the files are in `folder`."""
    found = []
    for place, sample in enumerate(samples):
        photo = recapture.other_camera(read_image(sample.path), np.random.default_rng(100 + seed))
        path = folder / f"{place}.png"
        cv2.imwrite(str(path), np.ascontiguousarray(photo[..., ::-1]))
        found.append(replace(sample, path=path, split=None))
    return found


def one(
    run: Run,
    data: str,
    samples: Sequence[Sample],
    features: dict[str, np.ndarray],
    crops: np.ndarray,
    seed: int,
    numbers: Sequence[int],
    draws: int,
) -> Iterator[dict[str, object]]:
    """One draw of subjects for each number of them, in every way."""
    everyone = sorted({str(s.subject) for s in samples})
    order = np.random.default_rng(seed).permutation(everyone)
    for number in numbers:
        drawn = sorted(order[:number].tolist())
        chosen = captures(samples, drawn)
        judged = [k for k, s in enumerate(samples) if s.subject not in drawn]
        rows = np.array([*chosen, *judged])
        kept = [samples[k] for k in rows]
        held_out = np.arange(len(rows)) >= len(chosen)
        seen = {tier: each[rows] for tier, each in features.items()}
        old = head_of(run.model)
        scores = {tier: to_scores(kept, old.score(each)) for tier, each in seen.items()}
        labels = next(iter(scores.values()))
        counts = {
            "data": data,
            "num_subjects": number,
            "seed": seed,
            "subjects": " ".join(drawn),
            "num_bona_fide": int(labels.bona_fide[~held_out].sum()),
            "num_attack": int((~labels.bona_fide[~held_out]).sum()),
        }
        units = units_of(kept, labels)
        yield counts | colour(crops[rows], labels, units, held_out, seed, draws)
        ways: dict[tuple[str, str], tuple[float, ...] | None] = {
            ("threshold", ""): None,
            ("head", "chosen"): STRENGTHS,
            **{("head", str(strength)): (strength,) for strength in STRENGTHS},
        }
        for (way, strength), strengths in ways.items():
            learner = strengths and NewHead(
                old=old, features=seen, labels=labels, strengths=strengths
            )
            adapted = adapt_to(
                scores, units, held_out, learner, "min_acer",
                source=data, draws=0, seed=seed,
            )  # fmt: skip
            for tier, after in adapted.after.items():
                common = counts | {"tier": tier}
                if way == "threshold":
                    stored = run.tiers[tier].threshold
                    assert stored is not None
                    before = adapted.before[tier]
                    accepted = before.score >= stored.value
                    found = {"way": "before", "threshold": round(stored.value, 4)}
                    yield common | found | measured(before, accepted, draws)
                found = {"way": way, "strength": strength}
                found["threshold"] = round(adapted.thresholds[tier].value, 4)
                yield common | found | measured(after, adapted.accepted[tier], draws)
        print(data, number, seed, flush=True)


def captures(samples: Sequence[Sample], subjects: Sequence[str]) -> list[int]:
    """At most `FRAMES` of each class and each subject, spread evenly over the list."""
    found: list[int] = []
    for subject in subjects:
        for live in (True, False):
            rows = [
                k for k, s in enumerate(samples) if s.subject == subject and s.bona_fide is live
            ]
            some = np.linspace(0, len(rows) - 1, min(FRAMES, len(rows))).round().astype(int)
            found += [rows[k] for k in some]
    return found


def colour(
    crops: np.ndarray,
    labels: Scores,
    units: dict[str, np.ndarray],
    held_out: np.ndarray,
    seed: int,
    draws: int,
) -> dict[str, object]:
    """The colour histogram of the same captures, its threshold fitted out of fold."""
    fit = np.flatnonzero(~held_out)
    folds = (deal(groups[fit], labels.bona_fide[fit], seed=seed) for groups in units.values())
    fold = next(found for found in folds if found is not None)
    score = np.empty(len(fit))
    for k in range(fold.max() + 1):
        rest = fit[fold != k]
        score[fold == k] = fit_baseline(crops[rest], labels.bona_fide[rest]).score(
            crops[fit[fold == k]]
        )
    threshold = threshold_value(replace(labels[fit], score=score), parse_policy("min_acer"))
    fitted = fit_baseline(crops[fit], labels.bona_fide[fit])
    test = replace(labels[held_out], score=fitted.score(crops[held_out]))
    pooled = pool_presentations(test)
    found = {"way": "colour", "tier": "", "threshold": round(threshold, 4)}
    return found | measured(pooled, pooled.score >= threshold, draws)


def measured(presentations: Scores, accepted: np.ndarray, draws: int) -> dict[str, object]:
    """The columns of one decision rule."""
    found = rates(presentations, accepted, draws=draws, seed=0)
    acer = found["acer"]
    return {
        "auc": round(auc(presentations), 4),
        "apcer_max": round(found["apcer_ap"]["rate"], 4),
        "bpcer": round(found["bpcer"]["rate"], 4),
        "acer": round(acer["value"], 4),
        "acer_low": round(acer["low"], 4),
        "acer_high": round(acer["high"], 4),
    }


if __name__ == "__main__":
    main()
