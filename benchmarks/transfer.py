"""What carries an anti-spoofing model to unseen subjects, cameras and screens; writes transfer.csv.

    python benchmarks/transfer.py --data NUAA --init mobilenet_v2_imagenet.safetensors

Trains on NUAA subjects 1-4, fits thresholds on 5-6, judges on 7-9, on three test sets:
nuaa      their photos and printed photos as they are;
camera    the same through another camera (recapture.other_camera);
replay    their faces through another camera against the same faces on a screen, photographed
          (recapture.replay: independent of the simulation that training uses) by another camera.
No real second camera is at hand: the last two are simulated, and say so. One row per variant, seed,
tier and test set; finished variants are not run again.
"""

import argparse
import csv
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import recapture
import torch

from pliant.data.augment import Augment
from pliant.data.manifest import Sample, read_manifest
from pliant.jobs.samples import PAD_CLASSES, Prepared
from pliant.jobs.scoring import tier_probabilities, to_scores
from pliant.jobs.train import train_prepared
from pliant.pad.metrics import apcer, auc, bpcer, worst_species
from pliant.runtime.crop import Preprocessing
from pliant.runtime.images import read_image
from pliant.train.run_folder import RunFolder
from pliant.train.settings import NetworkSettings, TrainSettings

RESULTS = Path(__file__).parent / "results" / "transfer.csv"
COLUMNS = ("variant", "seed", "tier", "test", "auc", "apcer_max", "bpcer", "threshold", "seconds")
TRAIN, DEV, TEST = ("0001", "0002", "0003", "0004"), ("0005", "0006"), ("0007", "0008", "0009")


TWENTY = TrainSettings(epochs=20)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a row changes."""

    augment: Augment = field(default_factory=Augment)
    settings: TrainSettings = TWENTY
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    model: str = "pta_mobilenet_v2"


NAIVE = Augment(simulate=(), camera=0, recompress=0, scale=(1, 1), rotation=0, shift=0)
SANDWICH = replace(TWENTY, sampler="sandwich", distill_weight=0.5)
VARIANTS = {
    "camera + simulated attacks": Variant(),
    "naive": Variant(augment=NAIVE),
    "the same, distilled": Variant(settings=replace(TWENTY, distill_weight=0.5)),
    "the same, 128 px": Variant(preprocessing=Preprocessing(size=128)),
    "the same, sandwich and distilled, 10 epochs": Variant(settings=replace(SANDWICH, epochs=10)),
    "the same, sandwich and distilled": Variant(settings=SANDWICH),
    "plain, camera + simulated attacks": Variant(model="mobilenet_v2"),
    "random camera alone": Variant(augment=Augment(simulate=())),
    "simulated attacks alone": Variant(augment=Augment(camera=0, recompress=0)),
    "the same, crop 1.2": Variant(preprocessing=Preprocessing(crop_scale=1.2)),
    "the same, crop 1.9": Variant(preprocessing=Preprocessing(crop_scale=1.9)),
    "the same, weights averaged": Variant(settings=replace(TWENTY, ema=0.99)),
    "the same, per-block sampling": Variant(settings=replace(TWENTY, sampler="per_block")),
    "the same, light start random": Variant(settings=replace(TWENTY, light_start="random")),
    "plain, naive": Variant(augment=NAIVE, model="mobilenet_v2"),
}
"""`the same` is `camera + simulated attacks` with one change."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="names of variants")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sides = {
        s: side
        for side, group in zip(("train", "dev", "test"), (TRAIN, DEV, TEST), strict=True)
        for s in group
    }
    samples = [
        replace(s, split=sides[str(s.subject)]) for s in read_manifest(given.data / "manifest.csv")
    ]
    with tempfile.TemporaryDirectory() as folder:
        tests = test_sets([s for s in samples if s.split == "test"], Path(folder))
        for seed in range(given.seeds):
            for name in given.only or VARIANTS:
                if (name, str(seed)) not in done():
                    append(one(name, VARIANTS[name], seed, samples, tests, given.init))


def one(
    name: str,
    variant: Variant,
    seed: int,
    samples: Sequence[Sample],
    tests: dict[str, list[Sample]],
    init: Path,
) -> list[dict[str, object]]:
    """Trains one variant and judges every tier on every test set."""
    prepared = Prepared(
        task="pad",
        train=[s for s in samples if s.split == "train"],
        dev=[s for s in samples if s.split == "dev"],
        classes=PAD_CLASSES,
        skipped=[],
        record={
            "name": "nuaa",
            "sha256": "",
            "train_subjects": [],
            "dev_subjects": [],
            "notes": [],
        },
    )
    out = Path(tempfile.mkdtemp()) / "run"
    train_prepared(
        prepared,
        out,
        init=init,
        model=variant.model,
        settings=replace(variant.settings, seed=seed),
        preprocessing=variant.preprocessing,
        network=NetworkSettings(),
        augment=variant.augment,
    )
    run = RunFolder.open(out)
    with (out / "metrics.csv").open(newline="", encoding="utf-8") as file:
        seconds = sum(float(row["seconds"]) for row in csv.DictReader(file))
    rows = []
    for test, judged in tests.items():
        found = tier_probabilities(run.model, judged, run.preprocessing, list(run.tiers))
        for tier, probabilities in found.items():
            scores, threshold = to_scores(judged, probabilities[:, 1]), run.tiers[tier].threshold
            assert threshold is not None
            rates = apcer(scores, threshold.value)
            rows.append(
                {
                    "variant": name, "seed": seed, "tier": tier, "test": test,
                    "auc": round(auc(scores), 4),
                    "apcer_max": round(rates[worst_species(rates)].rate, 4),
                    "bpcer": round(bpcer(scores, threshold.value).rate, 4),
                    "threshold": round(threshold.value, 4), "seconds": round(seconds, 1),
                }
            )  # fmt: skip
    shutil.rmtree(out.parent)
    return rows


def test_sets(samples: Sequence[Sample], folder: Path) -> dict[str, list[Sample]]:
    """The three test sets; simulated photos are written beside each other, with the same boxes."""
    random = np.random.default_rng(0)
    sets: dict[str, list[Sample]] = {"nuaa": list(samples), "camera": [], "replay": []}

    def add(name: str, sample: Sample, image: np.ndarray, **changes: object) -> None:
        path = folder / f"{name}_{len(sets[name])}.png"
        cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
        sets[name].append(replace(sample, path=path, **changes))

    for number, sample in enumerate(samples):
        photo = read_image(sample.path)
        if number % 2:
            add("camera", sample, recapture.other_camera(photo, random))
        if sample.bona_fide:
            add("replay", sample, recapture.other_camera(photo, random))
            shown = recapture.other_camera(recapture.replay(photo, random), random)
            add("replay", sample, shown, bona_fide=False, pai_species="simulated replay")
    return sets


def append(rows: Sequence[dict[str, object]]) -> None:
    """Adds rows to the results."""
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def done() -> set[tuple[str, str]]:
    """(variant, seed) of what the results hold already."""
    if not RESULTS.exists():
        return set()
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return {(row["variant"], row["seed"]) for row in csv.DictReader(file)}


if __name__ == "__main__":
    main()
