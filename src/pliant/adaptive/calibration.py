"""Batch-norm statistics per tier: a forward-only re-estimate, kept beside the weights.

Which branches ran upstream shifts what a batch norm sees, so statistics gathered while training on
sampled configurations fit none of them. The remedy is known from slimmable networks: Yu and Huang,
"Universally Slimmable Networks and Improved Training Techniques", 2019, section 3.1,
https://arxiv.org/abs/1903.05134. Departure: batches count by their number of images.

Stored under `tier.<name>.<batch norm>.running_mean` and `running_var`, the path being that in the
network's `net`. Staleness: every training step and every load of weights raises a counter that
`use` compares; across files, and for weights changed behind the network's back, `fingerprint`.

Shapes: B, C, H, W, written "_ _ _ _" because the last batch may be smaller.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any
from warnings import warn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pliant.adaptive.configuration import Configuration
from pliant.adaptive.modes import evaluating
from pliant.adaptive.network import AdaptiveNetwork, Tier
from pliant.adaptive.statistics import StaleCalibrationWarning, TierStatistics, tiered_norms
from pliant.errors import UserError

PREFIX = "tier."


@torch.no_grad()
def calibrate(
    network: AdaptiveNetwork,
    what: Configuration | str,
    batches: Iterable[Float[Tensor, "_ _ _ _"]],
    *,
    name: str,
) -> TierStatistics:
    """Estimates a tier's batch-norm statistics from images and stores them in `network.tiers`.

    Forward passes alone: weights, gradients, the statistics that training keeps, modes, the
    configuration in use and the random state are as before, also after an error.

    Args:
        network: The network; a tier of this name is replaced.
        what: What the tier runs.
        batches: Images as the network takes them, on its device.
        name: The tier's name: small letters, digits, `_` and `-`.

    Raises:
        UserError: for a bad name, an unknown configuration, or no batch at all.
        ValueError: for a batch of one image (it has no variance).
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", name):
        raise UserError(
            f'"{name}" is no name for a tier; take small letters, digits, _ and -, a letter first, '
            "at most 64"
        )
    configuration = network.configuration_of(what)
    norms = [norm for _, norm in tiered_norms(network.net)]
    before = [(n, n.__dict__["momentum"], dict(n._buffers)) for n in norms]
    ran: set[nn.Module] = set()
    hooks = [n.register_forward_pre_hook(lambda module, _: ran.add(module)) for n in norms]
    num_images = 0
    try:
        with evaluating(network), network.use(configuration):
            for norm in norms:
                norm.training = True
                for key, buffer in norm._buffers.items():
                    norm._buffers[key] = buffer if buffer is None else torch.zeros_like(buffer)
            for images in batches:
                if len(images) < 2:
                    raise ValueError("calibrate needs batches of two images or more, got one image")
                num_images += len(images)
                for norm in norms:
                    norm.__dict__["momentum"] = len(images) / num_images  # a cumulative average
                network(images)
        values = [_own(norm) if norm in ran else None for norm in norms]
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum, buffers in before:
            norm.__dict__["momentum"] = momentum
            norm._buffers.update(buffers)
    if not num_images:
        raise UserError(f'calibrating tier "{name}" needs images, got none')
    statistics = TierStatistics(values)
    network.tiers[name] = Tier(
        configuration=configuration,
        statistics=statistics,
        fingerprint=fingerprint(network),
        num_images=num_images,
        version=network.switch.version,
    )
    return statistics


def fingerprint(network: AdaptiveNetwork) -> str:
    """SHA-256 of all parameters of the network, by name."""
    digest = hashlib.sha256()
    for name, parameter in network.net.named_parameters():
        digest.update(name.encode())
        values = parameter.detach().to("cpu", torch.float32).contiguous()
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def tier_state(network: AdaptiveNetwork) -> dict[str, Tensor]:
    """The statistics of all tiers, as tensors by name, to be stored beside the network's weights.

    Warns:
        StaleCalibrationWarning: for a tier whose statistics belong to other weights.
    """
    now = fingerprint(network) if network.tiers else ""
    paths = [path for path, _ in tiered_norms(network.net)]
    state: dict[str, Tensor] = {}
    for name, tier in network.tiers.items():
        if tier.fingerprint != now:
            _say_stale(name, tier)
        for path, pair in zip(paths, tier.statistics.values, strict=True):
            if pair is not None:
                state[f"{PREFIX}{name}.{path}.running_mean"] = pair[0].clone()
                state[f"{PREFIX}{name}.{path}.running_var"] = pair[1].clone()
    return state


def load_tiers(
    network: AdaptiveNetwork, state: Mapping[str, Tensor], records: Mapping[str, Mapping[str, Any]]
) -> None:
    """Puts stored tiers into `network.tiers`; load the network's weights first.

    Args:
        network: The network.
        state: Tensors as `tier_state` gave them; other names are passed over.
        records: `Tier.to_json()` by tier name.

    Warns:
        StaleCalibrationWarning: for a tier whose statistics belong to other weights.

    Raises:
        UserError: if statistics are missing or have the wrong size.
    """
    norms = tiered_norms(network.net)
    now = fingerprint(network) if records else ""
    for name, record in records.items():
        configuration = network.configuration_of(Configuration(record["configuration"]))
        values: list[tuple[Tensor, Tensor] | None] = []
        for path, norm in norms:
            own = _own(norm)
            keys = [f"{PREFIX}{name}.{path}.{part}" for part in ("running_mean", "running_var")]
            found = [state[key].to(own[0]) for key in keys if key in state]
            if any(tensor.shape != own[0].shape for tensor in found) or len(found) == 1:
                raise UserError(f'the statistics "{keys[0]}" do not fit this network')
            values.append((found[0].clone(), found[1].clone()) if found else None)
        _check_complete(network, name, configuration, values)
        tier = Tier(
            configuration=configuration,
            statistics=TierStatistics(values),
            fingerprint=record["fingerprint"],
            num_images=int(record["images"]),
            version=network.switch.version,
        )
        if tier.fingerprint != now:
            _say_stale(name, tier)
        network.tiers[name] = tier


def _check_complete(
    network: AdaptiveNetwork, name: str, configuration: Configuration, values: list[Any]
) -> None:
    """Refuses a tier that lacks statistics of a batch norm that it runs."""
    idle: set[nn.Module] = set()
    for block in network.blocks():
        letter = configuration.letters[block.index]
        for branch_name, branch in block.branches.items():
            if letter in block.names and block.names[letter] != branch_name:
                idle |= set(branch.modules())
    for (path, norm), value in zip(tiered_norms(network.net), values, strict=True):
        if value is None and norm not in idle:
            raise UserError(f'tier "{name}" has no statistics for "{path}"; calibrate it again')


def _say_stale(name: str, tier: Tier) -> None:
    tier.version = -1
    if not tier.warned:
        tier.warned = True
        warn(
            f'the statistics of tier "{name}" were estimated for other weights; calibrate it again',
            StaleCalibrationWarning,
            stacklevel=3,
        )


def _own(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The statistics that the batch norm itself keeps."""
    mean, variance = norm._buffers["running_mean"], norm._buffers["running_var"]
    assert mean is not None
    assert variance is not None
    return mean, variance
