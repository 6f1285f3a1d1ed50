"""Networks by name: what `--model` may say, built from settings, with its task and its tiers.

A plain network is the same class without adaptive blocks: it has one configuration, named `plain`.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from pliant.adaptive.configuration import PRESETS, Configuration
from pliant.adaptive.network import AdaptiveNetwork, pta_mobilenet_v2
from pliant.adaptive.sampling import SAMPLERS
from pliant.errors import UserError
from pliant.models.mobilenet_v2 import mobilenet_v2
from pliant.train.settings import NetworkSettings, TrainSettings
from pliant.train.task import AdaptiveTask, PlainTask

T = TypeVar("T")
PLAIN = "plain"
"""The one tier of a network without adaptive blocks."""


def _pta(settings: NetworkSettings, num_classes: int) -> AdaptiveNetwork:
    return pta_mobilenet_v2(num_classes=num_classes, **asdict(settings))


def _plain(settings: NetworkSettings, num_classes: int) -> AdaptiveNetwork:
    shape = asdict(settings)
    del shape["light_expand"], shape["merge"]
    return AdaptiveNetwork(mobilenet_v2(num_classes=num_classes, **shape))


MODELS: dict[str, Callable[[NetworkSettings, int], AdaptiveNetwork]] = {
    "pta_mobilenet_v2": _pta,
    "mobilenet_v2": _plain,
}


def build(model: str, settings: NetworkSettings, *, num_classes: int) -> AdaptiveNetwork:
    """The network named `model`, with random weights of torch's global seed.

    Raises:
        UserError: for an unknown name, with the nearest known one.
    """
    return known(model, MODELS, "model")(settings, num_classes)


def check_names(model: str, settings: TrainSettings) -> None:
    """Refuses an unknown model, sampler or tier at once, before any data is read.

    Raises:
        UserError: with the nearest known name.
    """
    known(model, MODELS, "model")
    known(settings.sampler, SAMPLERS, "sampler")
    for name in settings.tiers:
        known(name, PRESETS, "tier")


def tiers_of(network: AdaptiveNetwork, wanted: Sequence[str]) -> dict[str, Configuration]:
    """The presets `wanted` as configurations of this network; a plain one has `plain` alone."""
    if not network.num_blocks:
        return {PLAIN: network.configuration}
    return {name: Configuration.from_text(name, network.num_blocks) for name in wanted}


def task_of(network: AdaptiveNetwork, settings: TrainSettings) -> AdaptiveTask | PlainTask:
    """How `network` is trained under `settings`."""
    if not network.num_blocks:
        return PlainTask(network, label_smoothing=settings.label_smoothing)
    make = known(settings.sampler, SAMPLERS, "sampler")
    more: dict[str, object] = {}
    if make is SAMPLERS["presets"]:
        more["names"] = tuple(tiers_of(network, settings.tiers))
        # the first tier is the cheapest, and starts furthest from done
        more["weights"] = settings.sample_weights or (2, *[1] * (len(settings.tiers) - 1))
    return AdaptiveTask(
        network,
        make(num_blocks=network.num_blocks, seed=settings.seed, **more),
        heaviest=Configuration.from_text("max", network.num_blocks),
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
