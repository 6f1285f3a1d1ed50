"""From a plan to what trains: networks, the task between them, and the module that steps it.

Shapes: B = batch, S = input side in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pliant.adaptive.network import AdaptiveNetwork
from pliant.distill.offline import OfflineTask, evaluating
from pliant.distill.online import OnlineTask
from pliant.distill.peers import Configurations, Networks, Peers, SharedTrunk
from pliant.jobs.distill_methods import inside
from pliant.jobs.distill_plan import Plan
from pliant.jobs.samples import Prepared
from pliant.jobs.training import first_images, start_of
from pliant.runtime.crop import Preprocessing
from pliant.train.data_module import CropData
from pliant.train.fit import num_processes
from pliant.train.module import Augmentation, TrainModule
from pliant.train.network import ADAPTIVE_BLOCKS, MOBILENETS, build, named, tiers_of
from pliant.train.settings import Machine, NetworkSettings

EXAMPLES = 8
"""Images on which bad input is found out."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What is ready to train."""

    module: TrainModule
    """Holds the task."""
    network: dict[str, Any]
    """The shape of MobileNetV2 students, for the record; {} without one."""
    start: dict[str, Any]
    """Where those, or else all, start."""
    macs: int
    """Forward MACs of one image in a step: every network's, a teacher's, the method's own parts."""


def build_students(
    plan: Plan, network: NetworkSettings, *, num_classes: int, seed: int
) -> list[AdaptiveNetwork]:
    """The students, each with random weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [build(name, network, num_classes=num_classes) for name in plan.students]


def build_module(
    plan: Plan,
    prepared: Prepared,
    batches: CropData,
    *,
    varied: Augmentation | None,
    preprocessing: Preprocessing,
    network: NetworkSettings,
    init: Path | None,
    teacher: nn.Module | None,
    machine: Machine,
) -> Built:
    """The module that steps the plan's task.

    Args:
        plan: Who teaches whom.
        prepared: The samples.
        batches: Their batches.
        varied: The augmentation.
        preprocessing: The networks' input.
        network: The shape of MobileNetV2 students.
        init: Their start; None: random weights.
        teacher: For an offline method.
        machine: Its processes share the steps.

    Raises:
        UserError: on whatever the method refuses, before its first step.
    """
    settings = batches.settings
    students = build_students(plan, network, num_classes=len(prepared.classes), seed=settings.seed)
    start: dict[str, Any] = {"kind": "random", "seed": settings.seed}
    for name, student in zip(plan.students, students, strict=True):
        if init is None or name in MOBILENETS:
            start = start_of(student, batches, preprocessing, init)
        if init is None:
            break  # one sentence for all
    example = first_images(batches, preprocessing, EXAMPLES)
    steps = total_steps(batches, machine)
    more: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)  # of the method's own parts
        if teacher is None:
            task: Any = plan.settings.build(peers_of(plan, students, example), total_steps=steps)
            tiers = named(plan.peers, ADAPTIVE_BLOCKS)
            macs = pass_macs([task], lambda: task.predictors(example[:1]))
            if not tiers:
                with torch.no_grad(), evaluating(task):
                    more["predictors"] = list(task.predictors(example))
                more["ranking"] = [n for n in more["predictors"] if n.startswith("network_")]
        else:
            (student,) = students
            nn.utils.convert_conv2d_weight_memory_format(teacher, torch.channels_last)
            task = inside(plan.settings).build(student, teacher, example)
            tiers = tiers_of(student, ())
            both = [student, teacher]
            macs = pass_macs(both, lambda: [net(example[:1]) for net in both])
    module = TrainModule(
        task,
        settings,
        preprocessing=preprocessing,
        tiers=tiers,
        num_classes=prepared.num_classes,
        augment=varied,
        more_macs=macs,
        **more,
    )
    shape = asdict(network) if set(plan.students) & set(MOBILENETS) else {}
    return Built(module=module, network=shape, start=start, macs=macs)


def peers_of(
    plan: Plan, students: Sequence[AdaptiveNetwork], example: Float[Tensor, "B 3 S S"]
) -> Peers:
    """The sub-networks of an online method: copies of plain students, or the adaptive one itself.

    Raises:
        UserError: if a tap or the trunk's end does not exist.
    """
    if plan.peers:
        configurations = tuple(named(plan.peers, ADAPTIVE_BLOCKS).values())
        tap = f"net.{plan.taps[0]}" if plan.taps else None
        return Configurations(students[0], configurations, example=example, tap=tap)
    plain = [student.extract(student.configuration) for student in students]
    if plan.share_upto:
        return SharedTrunk(cast(list[nn.Sequential], plain), upto=plan.share_upto, example=example)
    taps = plan.taps * len(plain) if len(plan.taps) == 1 else plan.taps
    return Networks(plain, example=example, taps=taps or None)


def total_steps(batches: CropData, machine: Machine) -> int:
    """Of the whole run."""
    world = num_processes(machine)
    images, settings = len(batches.train_targets), batches.settings
    batch_size = min(settings.batch_size, max(1, images // world))
    return settings.epochs * max(1, images // (batch_size * world))


def pass_macs(modules: Sequence[nn.Module], run: Callable[[], object]) -> int:
    """MACs of convolutions and linear layers in a pass of one image, run in evaluation mode."""
    found = 0

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal found
        weight = cast(Tensor, module.weight)  # of a linear layer (out, in)
        found += output.numel() * weight[0].numel()

    parts = {part for module in modules for part in module.modules()}
    hooks = [
        part.register_forward_hook(note)
        for part in parts
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad(), evaluating(*modules):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def online_task(module: TrainModule) -> OnlineTask:
    """The module's task, of an online method."""
    return cast(OnlineTask, module.task)


def offline_task(module: TrainModule) -> OfflineTask:
    """The module's task, of an offline method."""
    assert isinstance(module.task, OfflineTask)
    return module.task


def settings_record(plan: Plan, teacher: dict[str, Any] | None, built: Built) -> dict[str, Any]:
    """The `distill` block of settings.json."""
    return {
        "method": plan.method,
        "settings": asdict(plan.settings),
        "students": list(plan.students),
        "peers": list(plan.peers),
        "share_upto": plan.share_upto,
        "taps": list(plan.taps),
        "keep": plan.keep,
        "teacher": teacher,
        "networks_per_step": plan.num_networks,
        "forward_macs_per_image": built.macs,
        "network": built.network,
        "start": built.start,
    }
