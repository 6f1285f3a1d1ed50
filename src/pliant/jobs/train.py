"""`pliant train --data PATH --out RUN`: one network, trained once, with every tier ready for use.

Reads and splits the data, trains, calibrates every tier on training images, fits its threshold on
the dev split alone, counts its cost, and leaves a run folder. The test split is never looked at.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from tyro.conf import arg

from pliant.data.augment import Augment
from pliant.data.manifest import Skipped
from pliant.runtime.crop import Preprocessing
from pliant.runtime.files import write_atomic
from pliant.train.pipenet import PIPENET, PipeNetSettings
from pliant.train.settings import Machine, NetworkSettings, TrainSettings

if TYPE_CHECKING:
    from pliant.adaptive.network import AdaptiveNetwork
    from pliant.jobs.samples import Prepared
    from pliant.train.module import Augmentation, TrainModule


def train(
    data: Path,
    out: Path,
    *,
    task: Literal["pad", "classify"] = "pad",
    init: Path | None = None,
    model: str = "pta_mobilenet_v2",
    resume: bool = False,
    policy: str = "min_acer",
    dev_share: float = 0.25,
    detector: Path | None = None,
    settings: Annotated[TrainSettings, arg(name="")] = TrainSettings(),  # noqa: B008
    preprocessing: Annotated[Preprocessing, arg(name="")] = Preprocessing(),  # noqa: B008
    network: Annotated[NetworkSettings, arg(name="")] = NetworkSettings(),  # noqa: B008
    pipenet: PipeNetSettings = PipeNetSettings(),  # noqa: B008
    augment: Augment = Augment(),  # noqa: B008
    machine: Annotated[Machine, arg(name="")] = Machine(),  # noqa: B008
) -> Path:
    """Train one adaptive network; a finished run folder comes back.

    Args:
        data: A manifest CSV, or a folder: live/ and spoof/<species>/, or class folders.
        out: The run folder, new.
        task: Anti-spoofing (`pad`), or any class folders (`classify`).
        init: Weights to start from (safetensors, torchvision's MobileNetV2 keys); None: random.
        model: pta_mobilenet_v2; for a plain network with one tier mobilenet_v2, or resnet20, 32, 56
            or 110 for small images; pipenet for one of several modalities (colour, depth,
            infrared), which a manifest must name.
        resume: Go on with an unfinished run in `out`; at most one epoch is lost.
        policy: How each tier's threshold is fitted on dev: min_acer, eer, apcer<=x, bpcer<=x.
        dev_share: Share of the training subjects that becomes dev where the data names no dev.
        detector: A YuNet ONNX file for photos without face boxes; None: OpenCV's cascade.
        settings: The recipe.
        preprocessing: The network's input.
        network: The shape of a MobileNetV2.
        pipenet: The modalities, shape and augmentation of a PipeNet.
        augment: How training crops are varied; a PipeNet has its own way.
        machine: Where to compute.

    Raises:
        UserError: if the data, the start or the machine cannot be used, `out` is taken, or the loss
            is no longer a number.
        KeyboardInterrupt: on Ctrl-C; the run can be resumed.
    """
    from pliant.jobs.modal_samples import check_pipenet
    from pliant.jobs.samples import prepare
    from pliant.train.fit import is_first_process
    from pliant.train.run_folder import RunFolder

    if not resume and is_first_process():
        RunFolder.check_free(out)
    check_words([model], init, policy, detector, settings, network, machine)
    preprocessing = check_pipenet(
        model, pipenet, preprocessing, task=task, init=init, network=network, augment=augment
    )
    colour_alone = model != PIPENET
    prepared = prepare(
        data,
        task,
        detector=detector,
        dev_share=dev_share,
        seed=settings.seed,
        simulate=augment.simulate
        if settings.augmentation and task == "pad" and colour_alone
        else (),
        crop_scale=preprocessing.crop_scale,
    )
    if not colour_alone:
        prepared = replace(prepared, modalities=pipenet.modalities)
    check_support_on_dev(prepared, policy)
    train_prepared(
        prepared, out, init=init, model=model, resume=resume, policy=policy, settings=settings,
        preprocessing=preprocessing, network=network, pipenet=pipenet, augment=augment,
        machine=machine,
    )  # fmt: skip
    report_on_dev(prepared, out, policy=policy)
    return out


def check_support_on_dev(prepared: "Prepared", policy: str) -> None:
    """Refuses a policy that the dev split of anti-spoofing is too small for.

    Raises:
        UserError: with how many presentations are missing.
    """
    from pliant.jobs.scoring import to_scores
    from pliant.pad.scores import pool_presentations
    from pliant.pad.thresholds import check_support, parse_policy

    if prepared.task == "pad" and not all(sample.bona_fide for sample in prepared.dev):
        named = to_scores(prepared.dev, np.zeros(len(prepared.dev)))
        check_support(pool_presentations(named), parse_policy(policy))


def check_words(
    models: Sequence[str],
    init: Path | None,
    policy: str,
    detector: Path | None,
    settings: TrainSettings,
    network: NetworkSettings,
    machine: Machine,
) -> None:
    """Refuses at once what would otherwise be refused after every image was read."""
    import torch

    from pliant.adaptive.network import load_start
    from pliant.pad.thresholds import parse_policy
    from pliant.runtime.yunet import YuNet
    from pliant.train.fit import check_machine
    from pliant.train.network import build, check_names, check_shape

    parse_policy(policy)
    for model in models:
        check_names(model, settings)
    check_shape(models, network, init)
    check_machine(machine)
    if detector is not None:
        YuNet(detector)
    if init is not None:
        with torch.random.fork_rng():
            load_start(build("mobilenet_v2", network, num_classes=2), init)


def report_on_dev(prepared: "Prepared", out: Path, *, policy: str) -> None:
    """Writes report.html into a finished run: every tier on the dev split, which it says."""
    from pliant.data.source import Source
    from pliant.jobs.evaluate import DEV_NOTE, Chosen, measure
    from pliant.jobs.samples import say
    from pliant.train.run_folder import RunFolder

    if prepared.task == "pad" and all(sample.bona_fide for sample in prepared.dev):
        say("no report: the dev split holds no real attacks; pliant evaluate makes one elsewhere")
        return
    source = Source(
        samples=[*prepared.train, *prepared.dev],
        skipped=[Skipped(path=Path(row["path"]), reason=row["reason"]) for row in prepared.skipped],
        notes=prepared.record["notes"],
        name=prepared.record["name"],
        sha256=prepared.record["sha256"],
    )
    chosen = Chosen(role="dev", judged=prepared.dev, dev=[], note=DEV_NOTE)
    with tempfile.TemporaryDirectory() as folder:  # the report alone is kept
        training = prepared.train if prepared.task == "pad" else []
        run = RunFolder.open(out, several_modalities=True)
        measure(
            run, source, chosen, training, Path(folder),
            policy=policy, modalities=prepared.modalities,
        )  # fmt: skip
        write_atomic(out / "report.html", (Path(folder) / "report.html").read_text("utf-8"))


def train_prepared(
    prepared: "Prepared",
    out: Path,
    *,
    init: Path | None,
    model: str,
    settings: TrainSettings,
    preprocessing: Preprocessing,
    network: NetworkSettings,
    augment: Augment,
    pipenet: PipeNetSettings = PipeNetSettings(),  # noqa: B008
    machine: Machine = Machine(),  # noqa: B008
    policy: str = "min_acer",
    resume: bool = False,
) -> Path:
    """`train` from samples that are read and split already; see there."""
    import torch

    from pliant.jobs.modal_samples import check_frames
    from pliant.jobs.publish import publish
    from pliant.jobs.training import augment_of, batches_of, carry_out, start_of
    from pliant.train.network import MOBILENETS, build

    task = prepared.task
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = build(model, network, num_classes=len(prepared.classes), pipenet=pipenet)
    augment = augment_of(augment, task)
    batches, varied = batches_of(prepared, settings, preprocessing, augment, pipenet)
    module = _module(net, prepared, settings, preprocessing, varied, pipenet)
    if prepared.modalities:
        prepared.record["notes"] += check_frames(batches, prepared)
    record = {
        "task": task,
        "classes": list(prepared.classes),
        "model": model,
        "network": asdict(network) if model in MOBILENETS else {},
        "preprocessing": preprocessing.to_json(),
        "training": asdict(settings) | {"policy": policy},
        "augment": asdict(augment) if settings.augmentation and not prepared.modalities else None,
        "data": prepared.record,
        "start": start_of(module.network, batches, preprocessing, init),
    } | ({PIPENET: asdict(pipenet)} if prepared.modalities else {})
    carry_out(
        module, batches, prepared, out, record,
        publish=lambda folder: publish(folder, module, batches, prepared, preprocessing, policy),
        settings=settings, machine=machine, resume=resume,
    )  # fmt: skip
    return out


def _module(
    net: "AdaptiveNetwork",
    prepared: "Prepared",
    settings: TrainSettings,
    preprocessing: Preprocessing,
    augmentation: "Augmentation | None",
    pipenet: PipeNetSettings,
) -> "TrainModule":
    """The module that steps."""
    from pliant.adaptive.cost import cost_tables
    from pliant.train.module import TrainModule
    from pliant.train.network import task_of, tiers_of

    channels, side = 3, preprocessing.size  # of what a training step sees
    if prepared.modalities:
        channels, side = pipenet.channels, pipenet.patch
    return TrainModule(
        task_of(net, settings),
        settings,
        preprocessing=preprocessing,
        tiers=tiers_of(net, settings.tiers),
        num_classes=prepared.num_classes,
        macs=cost_tables(net, (1, channels, side, side))["macs"].of,
        augment=augmentation,
    )


def summary(out: Path) -> list:
    """The tiers of the run, and what to do next."""
    import json

    from rich.table import Table

    table = Table("tier", "MMACs", "MB", "dev", "threshold")
    for tier in json.loads((out / "tiers.json").read_text(encoding="utf-8"))["tiers"]:
        ((measure, value),) = tier["dev"].items()
        threshold = tier["threshold"]
        table.add_row(
            tier["tier"],
            f"{tier['macs'] / 1e6:.1f}",
            f"{tier['size_bytes'] / 1e6:.2f}",
            f"{measure} {value:.4f}",
            f"{threshold['value']:.4f}" if threshold else "",
        )
    return [table, f"Next: pliant evaluate {out} --data DATA --out DIR"]
