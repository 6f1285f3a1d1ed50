"""A sub-network, looked at before it learns: what does not fit is refused before the first step.

The last feature map is tapped by its module's path. Where none is given it is the last 4-D output
that no pooling gives, at the outermost module that gives it.

Shapes: B = batch, D = channels of the image, S = side, C = channels, H, W = a map's height and
width, K = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pliant.distill.offline import evaluating
from pliant.distill.taps import as_map, find, record
from pliant.errors import UserError


@dataclass(frozen=True)
class Seen:
    """What a look at a sub-network found."""

    name: str
    """For messages: `sub-network 2 (MobileNetV2)`."""
    tap: str | None
    """Path of its last feature map; None: it has none."""
    channels: int
    """C of the map; 0: there is none."""
    num_classes: int
    """K."""
    finite: bool
    """Whether its logits for the example are numbers."""


def name_of(index: int, module: nn.Module) -> str:
    """What messages call the sub-network, from 0."""
    return f"sub-network {index + 1} ({type(module).__name__})"


def answer(
    network: nn.Module, x: Tensor, tap: str | None
) -> tuple[Float[Tensor, "B K"], Tensor | None]:
    """Logits, and the map at the tap, (B, C, H, W); a vector is a map of one pixel."""
    if tap is None:
        return network(x), None
    with record(network, [tap]) as features:
        logits = network(x)
    return logits, as_map(features[tap])


def look(network: nn.Module, example: Tensor, *, index: int, tap: str | None = None) -> Seen:
    """Runs a sub-network once, in eval mode and without gradient; it is left as it was.

    Args:
        network: Any module that gives logits.
        example: A batch of what it will be given.
        index: Its place, from 0.
        tap: Path of its last feature map; None: found.

    Raises:
        UserError: if it has no such module, does not take the example, or gives no logits.
    """
    name = name_of(index, network)
    if tap is not None:
        find(network, tap)
    outputs: dict[str, Tensor] = {}  # in the order of the modules' last calls
    pooled: list[Tensor] = []

    def keep(path: str, module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor):
            outputs.pop(path, None)
            outputs[path] = output
            if "Pool" in type(module).__name__:
                pooled.append(output)

    hooks = [
        module.register_forward_hook(lambda m, inputs, output, path=path: keep(path, m, output))
        for path, module in network.named_modules()
        if path
    ]
    try:
        with torch.no_grad(), evaluating(network):
            logits = network(example)
    except (RuntimeError, ValueError) as error:
        shape = tuple(example.shape[1:])
        raise UserError(f"{name} does not take an input of shape {shape}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(example):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"{name} must give logits of shape ({len(example)}, classes) for {len(example)} "
            f"images, got {got}"
        )
    tap = _last_map(outputs, pooled) if tap is None else tap
    if tap is not None and tap not in outputs:
        raise UserError(f'"{tap}" of {name} gives no feature map; tap a module that does')
    channels = 0 if tap is None else as_map(outputs[tap]).shape[1]
    return Seen(name, tap, channels, logits.shape[1], bool(logits.isfinite().all()))


def _last_map(outputs: dict[str, Tensor], pooled: list[Tensor]) -> str | None:
    maps = [o for o in outputs.values() if o.ndim == 4 and not any(o is p for p in pooled)]
    if not maps:
        return None
    same = [path for path, output in outputs.items() if output is maps[-1]]
    return min(reversed(same), key=lambda path: path.count("."))  # behind an in-place activation


def check_seen(method: str, seen: Sequence[Seen], *, least: int = 2, maps: bool = False) -> None:
    """Refuses what a method cannot train.

    Args:
        method: Its name, for the message.
        seen: Its sub-networks.
        least: How many it needs.
        maps: Whether it needs their feature maps.

    Raises:
        UserError: on too few, on other classes, on logits that are no numbers, on a missing map.
    """
    if len(seen) < least:
        raise UserError(f"{method} needs {least} sub-networks or more, got {len(seen)}")
    for one in seen:
        if not one.finite:
            raise UserError(
                f"{one.name} gives logits that are not finite (NaN or infinite); check its weights "
                "and its input"
            )
        if one.num_classes != seen[0].num_classes:
            raise UserError(
                f"{method} needs the same classes everywhere: {seen[0].name} has "
                f"{seen[0].num_classes}, {one.name} has {one.num_classes}"
            )
        if maps and one.tap is None:
            raise UserError(f"{method} needs feature maps and {one.name} has none; give taps")
