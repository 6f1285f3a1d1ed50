"""Networks by name: what `--model` may say, built from settings, with its task and its tiers.

resnet20, 32, 56 and 110 are those for small images; they have no settings. A plain network is the
same class without adaptive blocks: it has one configuration, named `plain`.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

from pliant.adaptive.configuration import LETTERS, PRESETS, Configuration
from pliant.adaptive.network import AdaptiveNetwork, pta_mobilenet_v2
from pliant.adaptive.sampling import SAMPLERS
from pliant.errors import UserError
from pliant.models.cifar_resnet import DEPTHS, cifar_resnet
from pliant.models.mobilenet_v2 import mobilenet_v2
from pliant.train.pipenet import PIPENET, PipeNetSettings
from pliant.train.settings import NetworkSettings, TrainSettings
from pliant.train.task import AdaptiveTask, PlainTask

T = TypeVar("T")
ADAPTIVE_BLOCKS = 16
"""Of MobileNetV2; its first block stays plain."""
PLAIN = "plain"
"""The one tier of a network without adaptive blocks."""


def _pta(settings: NetworkSettings, _: PipeNetSettings, num_classes: int) -> AdaptiveNetwork:
    return pta_mobilenet_v2(num_classes=num_classes, **asdict(settings))


def _plain(settings: NetworkSettings, _: PipeNetSettings, num_classes: int) -> AdaptiveNetwork:
    shape = asdict(settings)
    del shape["light_expand"], shape["merge"]
    return AdaptiveNetwork(mobilenet_v2(num_classes=num_classes, **shape))


def _pipenet(_: NetworkSettings, settings: PipeNetSettings, num_classes: int) -> AdaptiveNetwork:
    return settings.build(num_classes)


def _resnet(
    depth: int, _: NetworkSettings, __: PipeNetSettings, num_classes: int
) -> AdaptiveNetwork:
    return AdaptiveNetwork(cifar_resnet(depth, num_classes=num_classes))


MODELS: dict[str, Callable[[NetworkSettings, PipeNetSettings, int], AdaptiveNetwork]] = {
    "pta_mobilenet_v2": _pta,
    "mobilenet_v2": _plain,
    **{f"resnet{depth}": partial(_resnet, depth) for depth in DEPTHS},
    PIPENET: _pipenet,
}
MOBILENETS = ("pta_mobilenet_v2", "mobilenet_v2")
"""Those that NetworkSettings shape and that a MobileNetV2 checkpoint can start."""


def build(
    model: str,
    settings: NetworkSettings,
    *,
    num_classes: int,
    pipenet: PipeNetSettings | None = None,
) -> AdaptiveNetwork:
    """The network named `model`, with random weights of torch's global seed.

    Args:
        model: A name in MODELS.
        settings: The shape of a MobileNetV2.
        num_classes: K.
        pipenet: The shape of a PipeNet; None: its defaults.

    Raises:
        UserError: for an unknown name, with the nearest known one.
    """
    return known(model, MODELS, "model")(settings, pipenet or PipeNetSettings(), num_classes)


def check_names(model: str, settings: TrainSettings) -> None:
    """Refuses an unknown model, sampler or tier at once, before any data is read.

    Raises:
        UserError: with the nearest known name.
    """
    known(model, MODELS, "model")
    known(settings.sampler, SAMPLERS, "sampler")
    named(settings.tiers, ADAPTIVE_BLOCKS)


def check_shape(models: Sequence[str], network: NetworkSettings, init: Path | None) -> None:
    """Refuses the flags of a MobileNetV2 where there is none; a PipeNet has its own check.

    Raises:
        UserError: naming the flags.
    """
    if set(models) & {*MOBILENETS, PIPENET}:
        return
    names = " and ".join(dict.fromkeys(models))
    if network != NetworkSettings():
        raise UserError(
            "--width, --padding, --light-expand, --merge, --dropout and --stem-stride shape a "
            f"MobileNetV2; leave them out for {names}"
        )
    if init is not None:
        raise UserError(f"--init holds a MobileNetV2; leave it out for {names}")


def named(wanted: Sequence[str], num_blocks: int) -> dict[str, Configuration]:
    """Tiers by name: a preset's name stands for itself, `name=LETTERS` names any configuration.

    Raises:
        UserError: for an unknown preset, with the nearest one; for a name that is taken or not
            made of letters, digits, - and _; for letters that are no configuration.
    """
    found: dict[str, Configuration] = {}
    for entry in wanted:
        name, equals, letters = entry.partition("=")
        if equals:
            check_new_name(name)
            found[name] = Configuration.from_text(letters, num_blocks)
        elif set(name) <= set(LETTERS):
            raise UserError(f'give the tier {name} a name, such as "mine={name}"')
        else:
            known(name, PRESETS, "tier")
            found[name] = Configuration.from_text(name, num_blocks)
    if len(found) < len(wanted):
        raise UserError(f"tiers need different names, got {', '.join(wanted)}")
    return found


def check_new_name(name: str) -> None:
    """Refuses a tier's name that is a preset's, or would not do in a file's name.

    Raises:
        UserError: with what is allowed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
        raise UserError(
            f'"{name}" cannot name a tier; allowed are 1 to 32 letters, digits, - and _'
        )
    if name in PRESETS or name == PLAIN:
        raise UserError(f'"{name}" is the name of a preset; give the tier another one')


def tiers_of(network: AdaptiveNetwork, wanted: Sequence[str]) -> dict[str, Configuration]:
    """The tiers `wanted`, see `named`, of this network; a plain one has `plain` alone."""
    if not network.num_blocks:
        return {PLAIN: network.configuration}
    return named(wanted, network.num_blocks)


def _weight(configuration: Configuration) -> int:
    """How much runs, roughly: a branch counts 0, 1 or 2 by its letter's place."""
    return sum(LETTERS.index(letter) for letter in configuration)


def task_of(network: AdaptiveNetwork, settings: TrainSettings) -> AdaptiveTask | PlainTask:
    """How `network` is trained under `settings`."""
    if not network.num_blocks:
        return PlainTask(network, label_smoothing=settings.label_smoothing)
    make = known(settings.sampler, SAMPLERS, "sampler")
    more: dict[str, object] = {}
    heaviest = Configuration.from_text("max", network.num_blocks)
    if make is SAMPLERS["presets"]:
        tiers = list(tiers_of(network, settings.tiers).values())
        heaviest = max(tiers, key=_weight)  # `max` may not be trained at all
        cheapest = min(tiers, key=_weight)  # the cheapest starts furthest from done
        more["names"] = tiers
        more["weights"] = settings.sample_weights or [1 + (t is cheapest) for t in tiers]
    return AdaptiveTask(
        network,
        make(num_blocks=network.num_blocks, seed=settings.seed, **more),
        heaviest=heaviest,
        distill_weight=settings.distill_weight,
        temperature=settings.distill_temperature,
        label_smoothing=settings.label_smoothing,
    )


def known(name: str, table: dict[str, T], what: str) -> T:
    """The entry of `table`.

    Raises:
        UserError: if there is none, with the nearest name.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ";"
    raise UserError(f'unknown {what} "{name}"{hint} ({", ".join(table)})')
