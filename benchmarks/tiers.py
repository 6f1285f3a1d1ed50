"""Every tier of one adaptive network against plain networks trained alone; writes tiers.csv.

    python benchmarks/tiers.py nuaa  --data NUAA      --init mobilenet_v2_imagenet.safetensors
    python benchmarks/tiers.py cifar --data CIFAR.tar.xz
    python benchmarks/tiers.py steps

nuaa: subjects 1-9 in three folds; fold k tests on three subjects, takes two others for dev and
trains on the remaining four; 96 px, 8 epochs of plain crops (no simulated attack, no random
camera), ImageNet start (narrower networks: cut from it). With --seeds 1 every fold has a seed of
its own (three seeds in all), with 3 all nine pairs are run.
cifar: CIFAR-10-JPEG, 4,000 training, 1,000 dev and 3,000 test images, 32 px, from scratch.
Rivals are trained alone for as many steps as the whole adaptive network: MobileNetV2 at width 1.0,
0.75, 0.5 and 0.35, and one of light branches only. `pta` samples one preset per step; the other
ways to sample stand beside it, also for as many steps, at the compute that the table tells.
steps: wall-clock of one training step, PTA-sampling and plain MobileNetV2 in turn, medians.

Finished rows stay in benchmarks/results/tiers.csv and are not run again, so it resumes. One
thread per process; several processes may share the file if they run different parts.
"""

import argparse
import csv
import io
import random
import shutil
import statistics
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pliant.adaptive.cost import cost
from pliant.data.augment import Augment
from pliant.data.manifest import Sample, read_manifest
from pliant.jobs.samples import PAD_CLASSES, Prepared
from pliant.jobs.scoring import tier_probabilities, to_scores
from pliant.jobs.train import train_prepared
from pliant.pad.metrics import apcer, auc, bpcer, worst_species
from pliant.runtime.crop import Preprocessing
from pliant.train.run_folder import RunFolder
from pliant.train.settings import NetworkSettings, TrainSettings

RESULTS = Path(__file__).parent / "results" / "tiers.csv"
COLUMNS = (
    *("part", "fold", "seed", "network", "tier", "macs", "steps", "seconds", "total_macs"),
    *("measure", "value", "apcer_max", "bpcer", "note"),
)
SANDWICH = {"sampler": "sandwich", "distill_weight": 0.5}
RIVALS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "pta": ("pta_mobilenet_v2", 1.0, {}),
    "plain 1.0": ("mobilenet_v2", 1.0, {}),
    "plain 0.75": ("mobilenet_v2", 0.75, {}),
    "plain 0.5": ("mobilenet_v2", 0.5, {}),
    "plain 0.35": ("mobilenet_v2", 0.35, {}),
    "light alone": ("pta_mobilenet_v2", 1.0, {"tiers": ("low",)}),
    "pta, sandwich": ("pta_mobilenet_v2", 1.0, {"sampler": "sandwich"}),
    "pta, sandwich and distilled": ("pta_mobilenet_v2", 1.0, SANDWICH),
    "pta, per block": ("pta_mobilenet_v2", 1.0, {"sampler": "per_block"}),
    "pta, distilled": ("pta_mobilenet_v2", 1.0, {"distill_weight": 0.5}),
}
"""Name: model, width, and what changes in the recipe."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("nuaa", "cifar", "steps"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=tuple(RIVALS), metavar="NETWORK")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "steps":
        append(step_times())
        return
    runs = nuaa_runs if given.part == "nuaa" else cifar_runs
    for row in runs(given):
        append(row)


def append(rows: Sequence[dict[str, object]]) -> None:
    """Adds rows to the results; a column that a row lacks stays empty."""
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def done() -> set[tuple[str, str, str, str]]:
    """(part, fold, seed, network) of what the results hold already."""
    if not RESULTS.exists():
        return set()
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return {(r["part"], r["fold"], r["seed"], r["network"]) for r in csv.DictReader(file)}


def nuaa_runs(given: argparse.Namespace) -> Iterator[list[dict[str, object]]]:
    samples = read_manifest(given.data / "manifest.csv" if given.data.is_dir() else given.data)
    subjects = sorted({str(s.subject) for s in samples})
    random.Random(0).shuffle(subjects)  # the folds are the same for every seed
    pairs = [(fold, (fold + turn) % 3) for turn in range(given.seeds) for fold in range(3)]
    for fold, seed in pairs:
        turned = subjects[3 * fold :] + subjects[: 3 * fold]
        sides = dict(zip(turned, ["test"] * 3 + ["dev"] * 2 + ["train"] * 4, strict=True))
        placed = [replace(s, split=sides[str(s.subject)]) for s in samples]
        yield from one_by_one(given, "nuaa", fold, seed, placed, "pad", Preprocessing(), 8)


def cifar_runs(given: argparse.Namespace) -> Iterator[list[dict[str, object]]]:
    with tempfile.TemporaryDirectory() as folder:
        placed = cifar_subset(given.data, Path(folder))
        for seed in range(given.seeds):
            yield from one_by_one(
                given, "cifar", 0, seed, placed, "classify",
                Preprocessing(size=32), 10,
            )  # fmt: skip


def cifar_subset(archive: Path, folder: Path) -> list[Sample]:
    """The first images of every class: 400 to train, 100 for dev, 300 to test."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    samples = []
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if not member.isfile() or len(parts) < 3 or parts[-3] not in ("train", "test"):
                continue
            side, label = parts[-3], parts[-2]
            number = counts[side, label]
            if number >= (500 if side == "train" else 300):
                continue
            counts[side, label] += 1
            content = tar.extractfile(member)
            assert content is not None
            path = folder / f"{side}_{label}_{number}.jpg"
            path.write_bytes(io.BytesIO(content.read()).getvalue())
            split = side if side == "test" else "dev" if number >= 400 else "train"
            samples.append(Sample(path=path, label=label, split=split))
    return samples


def one_by_one(
    given: argparse.Namespace,
    part: str,
    fold: int,
    seed: int,
    samples: Sequence[Sample],
    task: str,
    preprocessing: Preprocessing,
    epochs: int,
) -> Iterator[list[dict[str, object]]]:
    """Trains the adaptive network and its rivals on one fold and seed; a list of rows for each."""
    sides = {side: [s for s in samples if s.split == side] for side in ("train", "dev", "test")}
    classes = PAD_CLASSES if task == "pad" else tuple(sorted({str(s.label) for s in samples}))
    prepared = Prepared(
        task=task, train=sides["train"], dev=sides["dev"], classes=classes, skipped=[],
        record={"name": part, "sha256": "", "train_subjects": [], "dev_subjects": [], "notes": []},
    )  # fmt: skip
    for name, (model, width, changes) in RIVALS.items():
        if (given.only and name not in given.only) or (part, str(fold), str(seed), name) in done():
            continue
        settings = TrainSettings(
            epochs=epochs,
            seed=seed,
            dev_images=200,
            **({} if task == "pad" else {"batch_size": 64, "lr": 0.05, "light_lr": 1.0}),
            **changes,
        )
        out = Path(tempfile.mkdtemp()) / "run"
        train_prepared(
            prepared, out, init=given.init, model=model, settings=settings,
            preprocessing=preprocessing,
            network=NetworkSettings(width=width, stem_stride=2 if task == "pad" else 1),
            augment=Augment(simulate=(), camera=0, recompress=0),
        )  # fmt: skip
        yield judged(out, prepared, sides["test"], part, fold, seed, name)
        shutil.rmtree(out.parent)


def judged(
    out: Path, prepared: Prepared, test: list[Sample], part: str, fold: int, seed: int, name: str
) -> list[dict[str, object]]:
    """One row per tier of a finished run, on the test split at the dev-fitted threshold."""
    run = RunFolder.open(out)
    with (out / "metrics.csv").open(newline="", encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    found = tier_probabilities(run.model, test, run.preprocessing, list(run.tiers))
    rows = []
    for tier, probabilities in found.items():
        row: dict[str, object] = {
            "part": part, "fold": fold, "seed": seed, "network": name, "tier": tier,
            "macs": run.tiers[tier].macs,
            "steps": sum(int(e["steps"]) for e in epochs),
            "seconds": round(sum(float(e["seconds"]) for e in epochs), 1),
            "total_macs": epochs[-1]["total_macs"],
        }  # fmt: skip
        if prepared.task == "pad":
            scores = to_scores(test, probabilities[:, 1])
            threshold = run.tiers[tier].threshold
            row |= {"measure": "auc", "value": round(auc(scores), 5)}
            if threshold is not None:
                rates = apcer(scores, threshold.value)
                row["apcer_max"] = round(rates[worst_species(rates)].rate, 5)
                row["bpcer"] = round(bpcer(scores, threshold.value).rate, 5)
        else:
            truth = [prepared.classes.index(str(s.label)) for s in test]
            right = (probabilities.argmax(axis=1) == truth).mean()
            row |= {"measure": "accuracy", "value": round(float(right), 5)}
        rows.append(row)
    return rows


def step_times(steps: int = 40, side: int = 96, batch: int = 32) -> list[dict[str, object]]:
    """Median seconds of a step without augmentation, the networks in turn in one process."""
    from pliant.adaptive.network import pta_mobilenet_v2
    from pliant.adaptive.sampling import presets

    net = pta_mobilenet_v2().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    targets = torch.arange(batch) % 2
    sampler = presets()
    tiers = ("low", "mid", "high", "max")
    taken: dict[str, list[float]] = {name: [] for name in (*tiers, "pta")}
    for step in range(steps + 3):
        for name in taken:
            optimiser.zero_grad()
            start = time.perf_counter()
            with net.use(sampler(step)[0] if name == "pta" else name):
                torch.nn.functional.cross_entropy(net(images), targets).backward()
            optimiser.step()
            if step >= 3:
                taken[name].append(time.perf_counter() - start)
    mean = {name: statistics.fmean(times) for name, times in taken.items()}
    median = {name: statistics.median(times) for name, times in taken.items()}
    alone = sum(median[tier] for tier in tiers)
    rows: list[dict[str, object]] = [
        {
            "part": "steps", "network": name, "tier": "" if name == "pta" else name,
            "macs": "" if name == "pta" else cost(net, name, (1, 3, side, side)).macs,
            "steps": steps, "measure": "seconds per step, median", "value": round(seconds, 5),
        }
        for name, seconds in median.items()
    ]  # fmt: skip
    for measure, value in (
        # steps differ by configuration: the sampled ones are compared by their mean
        ("PTA-sampling / plain MobileNetV2", mean["pta"] / mean["high"]),
        ("all tiers at once / each alone", mean["pta"] / alone),
    ):
        rows.append(
            {"part": "steps", "network": "ratio", "measure": measure, "value": round(value, 4)}
        )
    return rows


if __name__ == "__main__":
    main()
