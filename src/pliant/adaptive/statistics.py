"""Batch-norm statistics that follow the tier in use, without copying anything when it changes.

Every batch norm of an adaptive network looks its running mean and variance up at the switch; in
training mode, and where the tier in use has none for it, it finds its own.

Shapes: _ = channels, another number for every batch norm.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class StaleCalibrationWarning(UserWarning):
    """A tier is used whose statistics were estimated for other weights."""


@dataclass
class TierStatistics:
    """Running means and variances of one tier, in the order of the network's batch norms."""

    values: list[tuple[Float[Tensor, " _"], Float[Tensor, " _"]] | None]
    """(mean, variance); None for a batch norm that the tier does not run."""

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Changes every tensor in place, such as to another device."""
        self.values[:] = [v and (function(v[0]), function(v[1])) for v in self.values]


class _LooksAtSwitch:
    """Mixed in before a batch-norm class; `switch` and `index` are set when the class is put on."""

    switch: Any
    index: int
    training: bool
    _buffers: dict[str, Tensor | None]

    def _statistic(self, which: int, name: str) -> Tensor | None:
        statistics = self.switch.selection.statistics
        if statistics is not None and not self.training:
            pair = statistics.values[self.index]
            if pair is not None:
                return pair[which]
        return self._buffers[name]

    @property
    def running_mean(self) -> Tensor | None:
        return self._statistic(0, "running_mean")

    @property
    def running_var(self) -> Tensor | None:
        return self._statistic(1, "running_var")


@cache
def _tiered(plain: type[nn.Module]) -> type[nn.Module]:
    """The subclass of a batch-norm class that looks at a switch."""
    name = f"Tiered{plain.__name__}"
    return type(name, (_LooksAtSwitch, plain), {"__module__": __name__, "plain": plain})


TieredBatchNorm2d = _tiered(nn.BatchNorm2d)


def follow_switch(root: nn.Module, switch: object) -> None:
    """Makes every batch norm beneath `root` look at `switch`; their tensors stay where they are."""
    for index, (_, norm) in enumerate(_norms(root)):
        norm.__class__ = _tiered(type(norm))
        norm.__dict__.update(switch=switch, index=index)


def tiered_norms(root: nn.Module) -> list[tuple[str, nn.Module]]:
    """(path, batch norm) of all that look at a switch, in the order that follow_switch gave."""
    return [(path, m) for path, m in root.named_modules() if _follows(m)]


def _follows(module: nn.Module) -> bool:
    return isinstance(module, _LooksAtSwitch)


def settle(norm: nn.Module, statistics: TierStatistics | None) -> None:
    """Makes a following batch norm a plain one again, with a tier's statistics where it has any."""
    assert isinstance(norm, _LooksAtSwitch)
    pair = statistics.values[norm.index] if statistics else None
    if pair is not None:
        for name, value in zip(("running_mean", "running_var"), pair, strict=True):
            buffer = norm._buffers[name]
            assert buffer is not None
            buffer.copy_(value)
    del norm.__dict__["switch"], norm.__dict__["index"]
    norm.__class__ = vars(type(norm))["plain"]


def _norms(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in root.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            yield path, module
