"""Networks that teach each other against the same networks alone; writes distill.csv.

    python benchmarks/distill.py --part methods --cifar CIFAR.tar.xz
    python benchmarks/distill.py --part pta     --cifar CIFAR.tar.xz --epochs 6 \
        --nuaa NUAA --pta-epochs 3 --init mobilenet_v2_imagenet.safetensors
    python benchmarks/distill.py --part cost    --size 32 --batch-size 64
    python benchmarks/distill.py --part methods --cifar CIFAR.tar.xz --images 0 --size 32 \
        --epochs 60 --batch-size 128 --lr 0.1 --device cuda        # the full set; never run by us

methods: ResNet-20 on CIFAR-10-JPEG, averaged down to 16 px, 1,000 images to train (the first of
every class), 10 epochs, batches of 32. Every seed gives initial weights to three networks: every
method's k-th network starts as vanilla's k-th, sees the same images in the same order, shifted and
mirrored alike (a trunk is the first network's). `vanilla` are the first two trained apart, with
their ensemble; `vanilla, long` the first one for twice the epochs. The teacher of KD is a ResNet-32
for twice the epochs, whose cost is its own row. All methods run with their defaults. Judged after
the last epoch; dev (the next images of every class) and test choose nothing.
pta: configurations of one PTA MobileNetV2 of width 0.5, all of a step trained at every step: apart
(`none`, the mean of their losses), the heaviest teaching (`in-place`), FFL, and FFL without its
teaching, which is joint training with a fusion module. FFL sums three classifiers' losses where the
others take a mean, so it is also run at a third of the learning rate; these rows were added when
the first results were seen. cifar: as above, from scratch. nuaa: 64 px,
ImageNet start, subjects in the three folds of tiers.py: 4 to train, 2 dev, 3 test; the threshold
of ACER is fitted on dev, so ACER on dev flatters.
cost: CPU milliseconds of forward and backward, medians, all in turn in one process; MiB that
autograd keeps in between; `overhead`: (step - student - teacher's forward) / student.

images: what the optimiser saw. gmacs: forward multiply-accumulates (10^9) of all that was trained;
taught_gmacs: of a teacher, without gradient. Seconds are wall clock on a shared machine; CPU
seconds are the process's own. A finished run stays in benchmarks/results/distill.csv and is not run
again, so it resumes; seed by seed, so that an interrupted bench is balanced. One thread.
"""

import argparse
import copy
import csv
import io
import logging
import random
import statistics
import tarfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import AdaptiveNetwork, load_start, pta_mobilenet_v2
from pliant.data.crops import CropDataset
from pliant.data.manifest import Sample, read_manifest
from pliant.distill.families import OFFLINE
from pliant.distill.online import ONLINE
from pliant.distill.peers import Configurations, Networks, SharedTrunk
from pliant.jobs.scoring import to_scores
from pliant.models.cifar_resnet import CifarResNet, cifar_resnet
from pliant.pad.metrics import acer, auc
from pliant.pad.thresholds import fit_threshold
from pliant.runtime.crop import Preprocessing
from pliant.train.data_module import CropData
from pliant.train.module import TrainModule, seed_of, to_floats
from pliant.train.settings import TrainSettings
from pliant.train.task import AdaptiveTask, PlainTask

RESULTS = Path(__file__).parent / "results" / "distill.csv"
COLUMNS = (
    *("part", "data", "student", "method", "predictor", "seed", "epochs", "images"),
    *("gmacs", "taught_gmacs", "seconds", "cpu_seconds", "measure", "test", "dev", "value", "note"),
)
Row = dict[str, object]


@dataclass(frozen=True)
class Split:
    """uint8 (N, 3, S, S) and int64 (N,); of faces also the samples."""

    images: Tensor
    targets: Tensor
    samples: Sequence[Sample] = ()


class Items(Dataset[dict[str, Tensor]]):
    """A split as `CropData` wants it."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.targets)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.split.images[index], "target": self.split.targets[index]}


Data = dict[str, Split]


def cifar(archive: Path, *, size: int, images: int) -> Data:
    """`images` of train (0: 45,000), a quarter of that for dev, 2,000 of test; 0: all of both."""
    shares = {"train": images // 10 or 4500, "dev": images // 40 or 500}
    shares["test"] = 200 if images else 1000
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[str, list[tuple[np.ndarray, str]]] = {"train": [], "dev": [], "test": []}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if not member.isfile() or len(parts) < 3:
                continue
            place = parts[-3:-1]
            number = counts[place]
            counts[place] += 1
            side = place[0]
            if side == "train" and number >= shares["train"]:
                side, number = "dev", number - shares["train"]
            if number >= shares[side]:
                continue
            content = tar.extractfile(member)
            assert content is not None
            image = cv2.imdecode(np.frombuffer(content.read(), np.uint8), cv2.IMREAD_COLOR)
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
            found[side].append((image[..., ::-1].transpose(2, 0, 1).copy(), place[1]))
    classes = sorted({label for _, label in found["test"]})
    return {
        side: Split(
            torch.from_numpy(np.stack([image for image, _ in of])),
            torch.tensor([classes.index(label) for _, label in of]),
        )
        for side, of in found.items()
    }


def nuaa(folder: Path, *, fold: int, size: int) -> Data:
    """Face crops; the folds are those of tiers.py."""
    samples = read_manifest(folder / "manifest.csv")
    subjects = sorted({str(s.subject) for s in samples})
    random.Random(0).shuffle(subjects)
    turned = subjects[3 * fold :] + subjects[: 3 * fold]
    sides = dict(zip(turned, ["test"] * 3 + ["dev"] * 2 + ["train"] * 4, strict=True))
    data = {}
    for side in ("train", "dev", "test"):
        mine = [replace(s, split=side) for s in samples if sides[str(s.subject)] == side]
        crops = CropDataset(mine, size=size, crop_scale=1.5)
        items = [crops[k] for k in range(len(crops))]
        images = torch.stack([item["image"] for item in items])
        data[side] = Split(images, torch.tensor(crops.targets), mine)
    return data


def shift_and_mirror(
    images: Tensor, targets: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Every image moved by up to an eighth of its side, black around it, half of them mirrored."""
    count, _, side, _ = images.shape
    most = side // 8
    device = images.device
    moved = torch.randint(0, 2 * most + 1, (2, count), generator=generator, device=device)
    flipped = torch.rand(count, generator=generator, device=device) < 0.5
    rows, columns = (m[:, None] + torch.arange(side, device=device) for m in moved)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    padded = F.pad(images, [most] * 4)
    each = torch.arange(count, device=device)[:, None, None]
    cut = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2), targets


def macs_of(task: nn.Module, images: Tensor, targets: Tensor) -> tuple[float, float]:
    """Forward MACs of a step per image: of what is trained, and of what runs without gradient."""
    found = {True: 0, False: 0}

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = module.weight
            positions = output.numel() // (len(output) * len(weight))
            found[torch.is_grad_enabled()] += len(output) * positions * weight.numel()

    handle = nn.modules.module.register_module_forward_hook(count)
    try:
        copy.deepcopy(task).train()(images, targets, 0)
    finally:
        handle.remove()
    return found[True] / len(images), found[False] / len(images)


@dataclass
class Bench:
    """What is asked for, and what is done already."""

    given: argparse.Namespace
    done: set[tuple[str, ...]]
    teachers: dict[tuple[str, int], nn.Module]

    def settings(self, seed: int, *, times: int = 1, **more: Any) -> TrainSettings:
        given = self.given
        chosen = {"epochs": given.epochs * times, "batch_size": given.batch_size, "lr": given.lr}
        return TrainSettings(**(chosen | {"seed": seed, "balance": False, "light_lr": 1.0} | more))

    def train(self, task: Any, data: Data, settings: TrainSettings) -> Row:
        """Trains; what it cost."""
        train = data["train"]
        batches = CropData(
            train=Items(train), dev=Items(data["dev"]), calibration=Items(train),
            train_targets=train.targets.tolist(), dev_targets=data["dev"].targets.tolist(),
            settings=settings,
        )  # fmt: skip
        size = train.images.shape[-1]
        module = TrainModule(
            task, settings, preprocessing=Preprocessing(size=size), tiers={}, num_classes=2,
            augment=shift_and_mirror,
        )  # fmt: skip
        some = module.normalise(to_floats(train.images[:4]))
        trained, taught = macs_of(task, some, train.targets[:4])
        trainer = pl.Trainer(
            accelerator=self.given.device, devices=1, max_epochs=settings.epochs, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            limit_val_batches=0, use_distributed_sampler=False, inference_mode=False,
        )  # fmt: skip
        start, cpu = time.perf_counter(), time.process_time()
        with torch.random.fork_rng():
            trainer.fit(module, train_dataloaders=batches.train_dataloader())
        images = trainer.global_step * min(settings.batch_size, len(train.targets))
        task.cpu()
        return {
            "epochs": settings.epochs,
            "images": images,
            "gmacs": round(images * trained / 1e9, 1),
            "taught_gmacs": round(images * taught / 1e9, 1),
            "seconds": round(time.perf_counter() - start, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }

    def logits(self, answer: Callable[[Tensor], Mapping[str, Tensor]], split: Split) -> Any:
        """Logits of every predictor, float (N, K), on the device."""
        device = "cuda" if self.given.device == "cuda" else "cpu"
        parts: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for images in split.images.split(200):
                for name, z in answer(((to_floats(images) - 0.5) / 0.5).to(device)).items():
                    parts.setdefault(name, []).append(z.float().cpu())
        return {name: torch.cat(of) for name, of in parts.items()}

    def accuracies(self, task: Any, data: Data) -> Iterator[tuple[str, Row]]:
        """One row per predictor."""
        task.eval().to("cuda" if self.given.device == "cuda" else "cpu")

        def answer(images: Tensor) -> Mapping[str, Tensor]:
            if hasattr(task, "predictors"):
                return task.predictors(images)
            return {"network_1": task.model(images)}

        found = {side: self.logits(answer, data[side]) for side in ("test", "dev")}
        for name in found["test"]:
            yield (
                name,
                {"measure": "accuracy"}
                | {
                    side: round(float((z[name].argmax(1) == data[side].targets).float().mean()), 5)
                    for side, z in found.items()
                },
            )


def fresh(make: Callable[[], nn.Module], *seeds: int) -> Any:
    """A network with random weights of these seeds."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(*seeds))
        return make()


# ---------------------------------------------------------------------------------------- methods


def students(depth: int, seed: int, count: int) -> list[CifarResNet]:
    """The first networks of a seed."""
    return [fresh(lambda: cifar_resnet(depth), seed, k) for k in range(count)]


def online(name: str, count: int, *, trunk: bool, **settings: Any) -> Callable[..., nn.Module]:
    """Makes the task of `count` networks, on a shared trunk or apart."""

    def make(bench: Bench, seed: int, steps: int, example: Tensor) -> nn.Module:
        networks = students(bench.given.depth, seed, count)
        if trunk:
            peers = SharedTrunk(networks, upto="layer2", example=example)
        else:
            peers = Networks(networks, example=example)
        return fresh(lambda: ONLINE[name](**settings).build(peers, total_steps=steps), seed, 100)

    return make


def alone(bench: Bench, seed: int, steps: int, example: Tensor) -> nn.Module:
    return PlainTask(students(bench.given.depth, seed, 1)[0])


def teacher(bench: Bench, seed: int, steps: int, example: Tensor) -> nn.Module:
    return PlainTask(fresh(lambda: cifar_resnet(bench.given.teacher_depth), seed, 200))


def taught(bench: Bench, seed: int, steps: int, example: Tensor) -> nn.Module:
    (student,) = students(bench.given.depth, seed, 1)
    return OFFLINE["kd"]().build(student, bench.teachers["teacher", seed], example)


METHODS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    # without a weight nobody teaches: two networks, side by side
    "vanilla": (online("dml", 2, trunk=False, weight=0.0), 1),
    "ffl": (online("ffl", 2, trunk=True), 1),
    "dml": (online("dml", 2, trunk=False), 1),
    "teacher": (teacher, 2),
    "kd": (taught, 1),
    "ffl, apart": (online("ffl", 2, trunk=False), 1),
    "vanilla, long": (alone, 2),
    "one": (online("one", 2, trunk=True), 1),
    "kdcl": (online("kdcl", 2, trunk=False), 1),
    "okddip": (online("okddip", 3, trunk=True), 1),
    "oskd": (online("oskd", 1, trunk=False), 1),
}
"""Name: (bench, seed, steps, example) -> task; and how many times the epochs."""


def depth_of(given: argparse.Namespace, method: str) -> int:
    return given.teacher_depth if method == "teacher" else given.depth


def methods(bench: Bench) -> Iterator[list[Row]]:
    given = bench.given
    data = cifar(given.cifar, size=given.size, images=given.images)
    name = f"cifar-{len(data['train'].targets)}-{given.size}px"
    keys = [
        ("methods", name, f"resnet{depth_of(given, method)}", method, str(seed))
        for seed in range(given.seeds)
        for method in given.only or METHODS
    ]
    steps = given.epochs * (len(data["train"].targets) // given.batch_size)
    example = torch.zeros(4, 3, given.size, given.size)
    for key in remaining(bench, keys):
        seed, method = int(key[4]), key[3]
        if method == "kd" and ("teacher", seed) not in bench.teachers:  # resumed in between
            task = teacher(bench, seed, 0, example)
            bench.train(task, data, bench.settings(seed, times=METHODS["teacher"][1]))
            bench.teachers["teacher", seed] = task.model
        make, times = METHODS[method]
        task = make(bench, seed, steps * times, example)
        spent = bench.train(task, data, bench.settings(seed, times=times))
        if method == "teacher":
            bench.teachers["teacher", seed] = task.model
        yield [
            head(key) | {"predictor": predictor} | spent | row
            for predictor, row in bench.accuracies(task, data)
        ]


def head(key: tuple[str, ...]) -> Row:
    """The columns that name a run."""
    return dict(zip(("part", "data", "student", "method", "seed"), key, strict=True))


def remaining(bench: Bench, keys: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The runs that are not in the results yet; says on stdout how long they will take."""
    wanted = [key for key in keys if key not in bench.done]
    start = time.perf_counter()
    for number, key in enumerate(wanted):
        yield key
        taken = time.perf_counter() - start
        left = taken / (number + 1) * (len(wanted) - number - 1)
        said = ", ".join(key[1:])
        print(f"{said}: {number + 1}/{len(wanted)}, {left / 60:.0f} min left", flush=True)


# -------------------------------------------------------------------------------------------- pta

CHOICES = {"two": ("low", "high"), "three": ("low", "mid", "high")}
PTA = ("none", "in-place", "ffl", "ffl, weight 0", "ffl, lr / 3", "ffl, weight 0, lr / 3")


def pta_task(method: str, network: AdaptiveNetwork, names: Sequence[str], size: int, steps: int):
    """The task that trains all of `names` at every step."""
    if method.startswith("ffl"):
        peers = Configurations(
            network, names, example=torch.zeros(2, 3, size, size), tap="net.features.17"
        )
        weight = 0.0 if "weight 0" in method else 1.0
        return ONLINE["ffl"](weight=weight).build(peers, total_steps=steps)
    trained = [network.configuration_of(name) for name in names]
    return AdaptiveTask(
        network, lambda step: trained, heaviest=trained[-1],
        distill_weight=0.5 if method == "in-place" else 0.0,
    )  # fmt: skip


def pta(bench: Bench) -> Iterator[list[Row]]:
    given = bench.given
    keys = []
    for seed in range(given.seeds):
        for name in ("nuaa", "cifar"):
            if (given.nuaa if name == "nuaa" else given.cifar) is None:
                continue
            where = f"nuaa-fold{seed % 3}" if name == "nuaa" else f"cifar-{given.images}-16px"
            keys += [
                ("pta", where, f"pta 0.5 {how}", method, str(seed))
                for how in given.choices
                for method in given.only or PTA
            ]
    loaded: dict[str, Data] = {}
    for key in remaining(bench, keys):
        _, where, _, _, seed = key
        faces = where.startswith("nuaa")
        if where not in loaded:
            loaded = {where: nuaa(given.nuaa, fold=int(where[-1]), size=64)} if faces else {
                where: cifar(given.cifar, size=16, images=given.images)
            }  # fmt: skip
        yield pta_run(bench, loaded[where], key, faces)


def pta_run(bench: Bench, data: Data, key: tuple[str, ...], faces: bool) -> list[Row]:
    """Trains one adaptive network and judges every tier that it was trained for."""
    seed, names = int(key[4]), CHOICES[key[2].split()[-1]]
    size = data["train"].images.shape[-1]
    more = {"lr": 0.01, "light_lr": 4.0, "epochs": bench.given.pta_epochs} if faces else {}
    settings = bench.settings(seed, **more)
    if key[3].endswith("lr / 3"):
        settings = replace(settings, lr=settings.lr / 3)
    network = fresh(
        lambda: pta_mobilenet_v2(
            width=0.5, num_classes=2 if faces else 10, stem_stride=2 if faces else 1
        ),
        seed, 0,
    )  # fmt: skip
    # plain training images, all classes mixed, for the start and the tiers' statistics
    drawn = torch.from_numpy(np.random.default_rng(seed).permutation(len(data["train"].targets)))
    plain = (to_floats(data["train"].images[drawn[:512]]) - 0.5) / 0.5
    if faces:
        load_start(network, bench.given.init, "fitted", images=plain[:64], seed=seed)
    steps = settings.epochs * (len(data["train"].targets) // settings.batch_size)
    task = fresh(lambda: pta_task(key[3], network, names, size, steps), seed, 100)
    spent = bench.train(task, data, settings)
    task.eval().to("cuda" if bench.given.device == "cuda" else "cpu")
    rows = []
    for tier in names:
        device = next(network.parameters()).device
        calibrate(network, tier, (p.to(device) for p in plain.split(64)), name=tier)

        def answer(images: Tensor, tier: str = tier) -> Mapping[str, Tensor]:
            with network.use(tier):
                return {"": network(images)}

        found = {side: bench.logits(answer, data[side])[""] for side in ("test", "dev")}
        for measure, values in judged(found, data, faces).items():
            rows.append(head(key) | {"predictor": tier, "measure": measure} | spent | values)
    return rows


def judged(logits: Mapping[str, Tensor], data: Data, faces: bool) -> dict[str, Row]:
    """Accuracy; of faces AUC, and ACER at the threshold that is best on dev."""
    if not faces:
        right = {s: (z.argmax(1) == data[s].targets).float().mean() for s, z in logits.items()}
        return {"accuracy": {side: round(float(value), 5) for side, value in right.items()}}
    scores = {
        side: to_scores(data[side].samples, z.double().softmax(1)[:, 1].numpy())
        for side, z in logits.items()
    }
    threshold = fit_threshold(scores["dev"], "min_acer", draws=0).value
    return {
        "auc": {side: round(auc(s), 5) for side, s in scores.items()},
        "acer": {side: round(acer(s, threshold), 5) for side, s in scores.items()},
    }


# ------------------------------------------------------------------------------------------- cost


def kept_bytes(step: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps between the forward and the backward pass, weights left out."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step()
    del loss
    return sum(sizes.values())


TAPPED = {"fitnets": 1, "attention_transfer": 3, "fsp": 2, "similarity": 1}
"""How many stages each of these looks at; the others the logits."""


def cost_tasks(given: argparse.Namespace, example: Tensor) -> dict[str, nn.Module]:
    """A task of every method, and what they are compared with."""
    stages = ("layer3", "layer2", "layer1")
    tasks: dict[str, nn.Module] = {"student": PlainTask(students(given.depth, 0, 1)[0])}
    taught_by = fresh(lambda: cifar_resnet(given.teacher_depth), 0, 200)
    for name, settings in OFFLINE.items():
        taps = tuple(reversed(stages[: TAPPED.get(name, 0)]))
        more = {"student_taps": taps, "teacher_taps": taps} if taps else {}
        (student,) = students(given.depth, 0, 1)
        tasks[name] = settings(**more).build(student, copy.deepcopy(taught_by), example)
    tasks["one network"] = tasks["student"]
    for name in ONLINE:
        count = {"okddip": 3, "oskd": 1}.get(name, 2)
        networks = students(given.depth, 0, count)
        if name in ("one", "okddip", "ffl"):
            peers = SharedTrunk(networks, upto="layer2", example=example)
            tasks[f"{name}, trunk"] = ONLINE[name]().build(peers, total_steps=100)
        if name != "one":
            peers = Networks(students(given.depth, 0, count), example=example)
            tasks[f"{name}, apart"] = ONLINE[name]().build(peers, total_steps=100)
    return tasks


def cost(bench: Bench) -> Iterator[list[Row]]:
    """One step of every method; a teacher's forward pass stands apart."""
    given = bench.given
    key = ("cost", f"{given.size}px x {given.batch_size}", f"resnet{given.depth}", "", "0")
    if key in bench.done:
        return
    device = "cuda" if given.device == "cuda" else "cpu"
    torch.manual_seed(0)
    images = torch.randn(given.batch_size, 3, given.size, given.size)
    images = images.to(device, memory_format=torch.channels_last)
    targets = (torch.arange(len(images)) % 10).to(device)
    tasks = {name: task.to(device) for name, task in cost_tasks(given, images.cpu()).items()}
    for task in tasks.values():
        nn.utils.convert_conv2d_weight_memory_format(task, torch.channels_last)
    knowing = tasks["kd"].teacher.eval()
    nn.utils.convert_conv2d_weight_memory_format(knowing, torch.channels_last)

    def teach() -> None:
        with torch.no_grad():
            knowing(images)

    # BSS pushes images that both networks get right: here all of them, and none ever gives way
    agreed = torch.zeros_like(targets)
    for network in (tasks["bss"].teacher, tasks["bss"].model):
        nn.init.zeros_(network.classifier.weight)
        network.classifier.bias.data.copy_(torch.arange(10) == 0)

    def loss(name: str) -> Tensor:
        return tasks[name](images, agreed if name == "bss" else targets, 50)["loss"]

    def step(name: str) -> None:
        tasks[name].zero_grad()
        loss(name).backward()

    runs: dict[str, Callable[[], None]] = {"teacher, forward": teach}
    runs |= {name: partial(step, name) for name in tasks}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(given.turns + 2):
        for name, run in runs.items():
            start = time.process_time() if device == "cpu" else time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            end = time.process_time() if device == "cpu" else time.perf_counter()
            if turn >= 2:
                taken[name].append(end - start)
    median = {name: statistics.median(times) for name, times in taken.items()}
    kept = {name: kept_bytes(partial(loss, name)) for name in tasks}
    calls: list[int] = []
    handle = tasks["bss"].teacher.register_forward_hook(lambda *_: calls.append(1))
    step("bss")
    handle.remove()
    notes = {"bss": f"at worst: the teacher ran {len(calls)} times, the student twice"}
    yield list(cost_rows(key, tasks, median, kept, notes))


def cost_rows(
    key: tuple[str, ...],
    tasks: Mapping[str, nn.Module],
    median: Mapping[str, float],
    kept: Mapping[str, int],
    notes: Mapping[str, str],
) -> Iterator[Row]:
    """Milliseconds, MiB, and both in units of what a method is compared with."""
    student, teaching = median["student"], median["teacher, forward"]

    def row(method: str, measure: str, value: float, note: str = "") -> Row:
        named = {"method": method, "measure": measure, "value": f"{value:.4g}", "note": note}
        return head(key) | named

    yield row("teacher, forward", "ms", 1e3 * teaching)
    for name, task in tasks.items():
        yield row(name, "ms", 1e3 * median[name])
        if name != "bss":  # the passes of its attack are freed one by one: what is kept is no peak
            yield row(name, "kept MiB", kept[name] / 2**20)
        if name in OFFLINE:
            more = (median[name] - student - teaching) / student
            yield row(name, "overhead", more, notes.get(name, ""))
        elif name not in ("student", "one network"):
            count = len(task.peers.seen)
            alone = f"the sum of {count} apart" if count > 1 else "one alone"
            yield row(name, "step / apart", median[name] / (count * student), alone)
            yield row(name, "kept / apart", kept[name] / (count * kept["student"]), alone)
            yield row(name, "kept / one", kept[name] / kept["student"], "apart, one after another")


PARTS = {"methods": methods, "pta": pta, "cost": cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=tuple(PARTS), required=True)
    parser.add_argument("--cifar", type=Path, help="cifar10-jpeg.tar.xz")
    parser.add_argument("--nuaa", type=Path, help="the folder of manifest.csv")
    parser.add_argument("--init", type=Path, help="mobilenet_v2_imagenet.safetensors")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000, help="to train on; 0: all")
    parser.add_argument("--size", type=int, default=16, help="px")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pta-epochs", type=int, default=3, help="on nuaa")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--teacher-depth", type=int, default=32)
    parser.add_argument("--choices", nargs="*", default=("two",), choices=tuple(CHOICES))
    parser.add_argument("--turns", type=int, default=6, help="of the interleaved timings")
    parser.add_argument("--only", nargs="*", metavar="METHOD")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    given = parser.parse_args()
    if given.device == "cpu":
        torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for rows in PARTS[given.part](Bench(given, done(), {})):
        append(rows)


def append(rows: Sequence[Row]) -> None:
    """Adds a run's rows to the results in one write; a column that a row lacks stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not RESULTS.exists():
        writer.writeheader()
    writer.writerows(rows)
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        file.write(text.getvalue())


def done() -> set[tuple[str, ...]]:
    """(part, data, student, method, seed) of what the results hold already."""
    if not RESULTS.exists():
        return set()
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return {
            (r["part"], r["data"], r["student"], r["method"], r["seed"])
            for r in csv.DictReader(file)
        }


if __name__ == "__main__":
    main()
