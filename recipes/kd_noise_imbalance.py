"""Distillation beyond compression: every offline method under label noise and class imbalance.

    python recipes/kd_noise_imbalance.py --data CIFAR.tar.xz --out DIR    # hours on 2 cores
    python recipes/kd_noise_imbalance.py --quick --out DIR                # dry run: a minute

The study of "Knowledge Distillation Beyond Model Compression", ICPR 2020,
https://arxiv.org/abs/2007.01922: which methods help where the training set is clean, where 0 to
40 % of its labels are wrong, and where its classes are unequally frequent. Its text was not read:
the list of its nine methods (KD, BSS, FitNets, attention transfer, FSP, RKD,
similarity-preserving; DML and ONE online) is from memory, the sizes here are ours, and adjusted KD
and cross-model triplets stand beside them. Cross-model triplets are meant for half-hidden images;
here they are judged on whole ones.

Protocol: the teacher (the deeper network, trained for as many epochs) learns from the **same**
wrong or unequal labels as its student; one that knew the true ones would leak them. The test set
is clean and even, is judged once, after the last epoch, and chooses nothing; nor does anything
else: every method runs with its defaults. Per seed the noise, the initial weights, the order and
the augmentation are the same for all methods, so differences to `vanilla` are paired by seed.
`vanilla, long` is trained for twice the epochs: the rival of two networks' budget.

noise: of so many labels, each becomes one of the other classes, all alike (symmetric).
imbalance: class k of K keeps a share of f^(-k / (K - 1)) of its images: the last one keeps 1/f.

Writes results.csv (a row for each run; a restart skips what is there) and summary.csv: accuracy,
NLL and ECE minus vanilla's, mean and 95 % t interval over the seeds. The dry run draws gratings
instead of photographs and says nothing of the methods. Result: not run in full yet.
"""

import argparse
import csv
import io
import logging
import math
import statistics
import sys
import tarfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from pliant.distill.families import OFFLINE
from pliant.distill.online import ONLINE
from pliant.distill.peers import Networks, SharedTrunk
from pliant.errors import UserError
from pliant.metrics.accuracy import (
    accuracy,
    expected_calibration_error,
    negative_log_likelihood,
)
from pliant.models.cifar_resnet import CifarResNet, cifar_resnet
from pliant.runtime.crop import Preprocessing
from pliant.runtime.files import write_atomic
from pliant.train.data_module import EpochOrder
from pliant.train.module import Normalise, TrainModule, seed_of, to_floats
from pliant.train.settings import TrainSettings
from pliant.train.task import PlainTask

SIZES: dict[str, tuple[Any, Any, str]] = {
    "images": (5000, 300, "to train on, the first of every class"),
    "test_images": (5000, 200, "to judge on"),
    "side": (32, 16, "px, averaged down"),
    "epochs": (30, 2, "passes over the training images"),
    "depth": (20, 8, "of the student, 6n+2"),
    "teacher_depth": (56, 14, "of the teacher, 6n+2"),
    "seeds": (10, 1, "paired runs"),
}
"""Flag -> its default, its default in the dry run, and what it is."""

TAPS = {
    "fitnets": ("layer2",),
    "attention_transfer": ("layer1", "layer2", "layer3"),
    "fsp": ("layer1", "layer2"),
    "similarity": ("layer3",),
    "rkd": ("avgpool",),
    "cross_triplet": ("avgpool",),
}
"""Where a method looks, in both networks; the others see the logits alone."""

METHODS = ("vanilla", "vanilla, long", "teacher", *OFFLINE, "dml", "one")
MEASURES = ("accuracy", "nll", "ece")


@dataclass(frozen=True)
class Split:
    """Images and what they are called."""

    images: Tensor
    """uint8 (N, 3, S, S)."""
    targets: Tensor
    """int64 (N,)."""


def noisy_labels(
    targets: Int[np.ndarray, " N"], share: float, *, num_classes: int, seed: int
) -> Int[np.ndarray, " N"]:
    """The targets, round(share N) of them replaced by another class, all others alike.

    Args:
        targets: 0 to num_classes - 1.
        share: 0 to 1.
        num_classes: K >= 2.
        seed: Of which and what.
    """
    random = np.random.default_rng((seed, 1))
    wrong = random.permutation(len(targets))[: round(share * len(targets))]
    moved = targets.copy()
    moved[wrong] = (targets[wrong] + random.integers(1, num_classes, len(wrong))) % num_classes
    return moved


def unequal_classes(
    targets: Int[np.ndarray, " N"], factor: float, *, num_classes: int, seed: int
) -> Int[np.ndarray, " M"]:
    """Sorted indices of a long tail: of class k a share of factor^(-k / (K - 1)), at least one.

    Args:
        targets: 0 to num_classes - 1.
        factor: First class over last, >= 1.
        num_classes: K >= 2.
        seed: Of which images stay.
    """
    random = np.random.default_rng((seed, 2))
    kept = []
    for k in range(num_classes):
        members = random.permutation(np.flatnonzero(targets == k))
        kept.append(members[: max(1, round(len(members) * factor ** (-k / (num_classes - 1))))])
    return np.sort(np.concatenate(kept))


def spoiled(train: Split, condition: str, *, num_classes: int, seed: int) -> Split:
    """The training set under `clean`, `noise 0.4` or `imbalance 10`."""
    what, _, amount = condition.partition(" ")
    targets = train.targets.numpy()
    if what == "noise":
        moved = noisy_labels(targets, float(amount), num_classes=num_classes, seed=seed)
        return Split(train.images, torch.from_numpy(moved))
    if what == "imbalance":
        kept = unequal_classes(targets, float(amount), num_classes=num_classes, seed=seed)
        return Split(train.images[kept], train.targets[kept])
    return train


def read_archive(archive: Path, *, side: int, images: int, test_images: int) -> tuple[Split, Split]:
    """The first images of every class of train/CLASS/ and test/CLASS/ in a tar file.

    Raises:
        UserError: if there is no such folder in it.
    """
    files: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    with tarfile.open(archive) as tar:
        names = [m for m in tar.getmembers() if m.isfile() and len(Path(m.name).parts) >= 3]
        classes = sorted({Path(m.name).parts[-2] for m in names})
        wanted = {
            "train": images // len(classes or "1"),
            "test": test_images // len(classes or "1"),
        }
        for member in names:
            place, label = Path(member.name).parts[-3:-1]
            if place not in wanted or len(files[place, label]) >= wanted[place]:
                continue
            content = tar.extractfile(member)
            assert content is not None
            image = cv2.imdecode(np.frombuffer(content.read(), np.uint8), cv2.IMREAD_COLOR)
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            files[place, label].append(image[..., ::-1].transpose(2, 0, 1))
    if not all(files[place, label] for place in wanted for label in classes) or not classes:
        raise UserError(f"{archive} must hold train/CLASS/*.jpg and test/CLASS/*.jpg")
    train, test = (
        Split(
            torch.from_numpy(np.concatenate([np.stack(files[place, c]) for c in classes])),
            torch.tensor([k for k, c in enumerate(classes) for _ in files[place, c]]),
        )
        for place in ("train", "test")
    )
    return train, test


def gratings(count: int, *, side: int, num_classes: int, seed: int) -> Split:
    """Waves in noise; the class is their direction. For the dry run."""
    random = np.random.default_rng(seed)
    targets = np.arange(count) % num_classes
    angle = (targets + random.normal(0, 0.2, count)) * np.pi / num_classes
    rows, columns = np.mgrid[:side, :side]
    along = np.cos(angle)[:, None, None] * rows + np.sin(angle)[:, None, None] * columns
    wave = np.sin(along + random.uniform(0, 2 * np.pi, count)[:, None, None])[:, None]
    images = 128 + 50 * wave + random.normal(0, 50, (count, 3, side, side))
    return Split(torch.from_numpy(images.clip(0, 255).astype(np.uint8)), torch.from_numpy(targets))


def shift_and_mirror(
    images: Tensor, targets: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A batch moved by up to an eighth of its side, black around it, half of it mirrored."""
    most = images.shape[-1] // 8
    device = images.device
    moves = torch.randint(-most, most + 1, (2,), generator=generator, device=device)
    down, right = moves.tolist()
    moved = F.pad(images, [most + right, most - right, most + down, most - down])
    moved = moved[..., most:-most, most:-most]
    flipped = torch.rand((len(images), 1, 1, 1), generator=generator, device=device) < 0.5
    return torch.where(flipped, moved.flip(3), moved), targets


class Items(Dataset[dict[str, Tensor]]):
    """A split, image by image."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.targets)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.split.images[index], "target": self.split.targets[index]}


def train(task: Any, data: Split, settings: TrainSettings, device: str) -> None:
    """Trains a task; afterwards it is on the CPU."""
    order = EpochOrder(
        data.targets.numpy(), batch_size=settings.batch_size, seed=settings.seed, balance=False
    )
    module = TrainModule(
        task, settings, preprocessing=Preprocessing(size=data.images.shape[-1]), tiers={},
        num_classes=2, augment=shift_and_mirror,
    )  # fmt: skip
    loader = DataLoader(Items(data), batch_size=settings.batch_size, sampler=order, drop_last=True)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.filterwarnings("ignore", module="lightning|torch.utils._pytree")  # no dev set here
        trainer = pl.Trainer(
            accelerator=device, devices=1, max_epochs=settings.epochs, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            limit_val_batches=0, use_distributed_sampler=False, inference_mode=False,
        )  # fmt: skip
        trainer.fit(module, train_dataloaders=loader)
    task.cpu()


def judge(model: nn.Module, test: Split) -> dict[str, float]:
    """Accuracy, NLL in nats and ECE."""
    normalise = Normalise(Preprocessing(size=test.images.shape[-1]))
    model.eval()
    with torch.no_grad():
        parts = [model(normalise(to_floats(images))) for images in test.images.split(250)]
    probabilities = torch.cat(parts).double().softmax(1).numpy()
    labels = test.targets.numpy()
    return {
        "accuracy": float(accuracy(probabilities, labels)["rate"]),
        "nll": float(negative_log_likelihood(probabilities, labels)),
        "ece": float(expected_calibration_error(probabilities, labels)),
    }


@dataclass
class Study:
    """One condition and seed: every method on the same training set."""

    given: argparse.Namespace
    data: Split
    num_classes: int
    seed: int
    teacher: nn.Module | None = None

    def network(self, depth: int, place: int) -> CifarResNet:
        """Random weights of this seed; the student is at place 0."""
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(self.seed, place))
            return cifar_resnet(depth, num_classes=self.num_classes)

    @property
    def steps(self) -> int:
        """Of a run."""
        return self.given.epochs * (len(self.data.targets) // self.batch_size)

    @property
    def batch_size(self) -> int:
        """At most a quarter of the images."""
        return min(self.given.batch_size, len(self.data.targets) // 4)

    def run(self, method: str) -> tuple[nn.Module, float]:
        """The trained network of a method, and the seconds that it took."""
        times = 2 if method == "vanilla, long" else 1
        task = self.task(method)
        settings = TrainSettings(
            epochs=self.given.epochs * times, batch_size=self.batch_size, lr=self.given.lr,
            balance=False, light_lr=1.0, seed=self.seed,
        )  # fmt: skip
        start = time.perf_counter()
        train(task, self.data, settings, self.given.device)
        seconds = time.perf_counter() - start
        if method == "teacher":
            self.teacher = task.model
        return (task.extract("network_1") if method in ONLINE else task.model), seconds

    def task(self, method: str) -> Any:
        """What a method trains."""
        example = torch.zeros(4, *self.data.images.shape[1:])
        student = self.network(self.given.depth, 0)
        if method.startswith("vanilla"):
            return PlainTask(student)
        if method == "teacher":
            return PlainTask(self.network(self.given.teacher_depth, 100))
        if method in ONLINE:
            pair = [student, self.network(self.given.depth, 1)]
            peers = (
                SharedTrunk(pair, upto="layer2", example=example)
                if method == "one"
                else Networks(pair, example=example)
            )
            with torch.random.fork_rng():
                torch.manual_seed(seed_of(self.seed, 200))
                return ONLINE[method]().build(peers, total_steps=self.steps)
        if self.teacher is None:
            self.run("teacher")
        assert self.teacher is not None
        more: dict[str, Any] = {"total_steps": self.steps} if method == "bss" else {}
        if method in TAPS:
            more |= {"student_taps": TAPS[method], "teacher_taps": TAPS[method]}
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(self.seed, 200))
            return OFFLINE[method](**more).build(student, self.teacher, example)


def summarise(rows: Sequence[dict[str, str]]) -> list[dict[str, object]]:
    """Differences to vanilla of the same condition and seed: mean and 95 % t interval."""
    found = {(r["condition"], r["seed"], r["method"]): r for r in rows}
    summary = []
    for condition in dict.fromkeys(r["condition"] for r in rows):
        for method in dict.fromkeys(r["method"] for r in rows):
            pairs = [
                (found[key], found[condition, key[1], "vanilla"])
                for key in found
                if key[0] == condition and key[2] == method
                if (condition, key[1], "vanilla") in found
            ]
            if not pairs:
                continue
            row: dict[str, object] = {"condition": condition, "method": method}
            row["seeds"] = len(pairs)
            for name in MEASURES:
                row[name] = statistics.mean(float(own[name]) for own, _ in pairs)
                differences = [float(own[name]) - float(base[name]) for own, base in pairs]
                row[f"{name}_more"] = statistics.mean(differences)
                row[f"{name}_half_width"] = half_width(differences)
            summary.append(row)
    return summary


T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
"""0.975 quantiles of Student's t for 1 to 12 degrees of freedom."""


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % t interval of a mean; above 13 values the last quantile, which is too wide."""
    if len(values) < 2:
        return math.nan
    quantile = T_975[min(len(values) - 2, len(T_975) - 1)]
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A table."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(path, text.getvalue())


def plan(given: argparse.Namespace) -> Iterator[tuple[int, str]]:
    """Seeds and conditions, so that an interrupted study is balanced."""
    conditions = ["clean", *(f"noise {share:g}" for share in given.noise if share)]
    conditions += [f"imbalance {factor:g}" for factor in given.imbalance if factor > 1]
    for seed in range(given.seeds):
        for condition in conditions:
            yield seed, condition


def run_recipe(given: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, object]]:
    """Trains and judges all that is not in results.csv yet."""
    given.out.mkdir(parents=True, exist_ok=True)
    if given.data is None:
        size = {"side": given.side, "num_classes": 4}
        whole = gratings(given.images, seed=0, **size)
        test = gratings(given.test_images, seed=1, **size)
    else:
        whole, test = read_archive(
            given.data, side=given.side, images=given.images, test_images=given.test_images
        )
    num_classes = int(test.targets.max()) + 1
    path = given.out / "results.csv"
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    for seed, condition in plan(given):
        data = spoiled(whole, condition, num_classes=num_classes, seed=seed)
        study = Study(given, data, num_classes, seed)
        for method in given.methods:
            done = {(r["condition"], r["seed"], r["method"]) for r in rows}
            if (condition, str(seed), method) in done:
                continue
            model, seconds = study.run(method)
            measured = {name: f"{value:.5f}" for name, value in judge(model, test).items()}
            named = {"condition": condition, "seed": str(seed), "method": method}
            rows.append(named | measured | {"seconds": f"{seconds:.1f}"})
            write_csv(path, rows)
            say(f"{condition}, seed {seed}, {method}: accuracy {measured['accuracy']}")
    summary = summarise(rows)
    write_csv(given.out / "summary.csv", summary)
    return summary


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, help="a tar file of train/CLASS and test/CLASS")
    where.add_argument("--quick", action="store_true", help="the dry run")
    parser.add_argument("--out", type=Path, required=True, help="a folder; results.csv goes on")
    for name, (usual, small, help_) in SIZES.items():
        shown = f"{help_} ({usual}; dry run: {small})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=shown)
    parser.add_argument("--noise", type=float, nargs="*", default=[0.2, 0.4])
    parser.add_argument("--imbalance", type=float, nargs="*", default=[10.0])
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS, metavar="METHOD")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    given = parser.parse_args()
    for name, (usual, small, _) in SIZES.items():
        if getattr(given, name) is None:
            setattr(given, name, small if given.quick else usual)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    try:
        summary = run_recipe(given, lambda line: print(line, file=sys.stderr))
    except (UserError, OSError, tarfile.TarError) as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2) from None
    for row in summary:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
