"""What a configuration costs: parameters, MACs, bytes, milliseconds.

All four are additive: a base (what every configuration runs) plus, for every block, what its letter
runs. So 33 numbers tell the cost of all 3^16 configurations. For parameters, MACs and bytes this is
exact; MACs are those of convolutions and linear layers, read off shapes without computing anything.
For latency it is a model, fitted to measurements, whose error `prediction_error` reports.
"""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pliant.adaptive.configuration import ALL, Configuration
from pliant.adaptive.modes import evaluating
from pliant.adaptive.network import AdaptiveNetwork
from pliant.metrics.latency import Clock, Latency, measure_latency, measure_times
from pliant.metrics.size import size_bytes

Shape = Sequence[int]
Kind = Literal["params", "macs", "size_bytes", "latency_ms"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one configuration costs."""

    params: int
    """Parameters in use."""
    macs: int
    """Multiply-accumulates of convolutions and linear layers, for one image."""
    size_bytes: int
    """Weights, statistics and counters, as they are stored."""


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """An additive cost: a base, and for every block one number per letter."""

    kind: Kind
    """What is counted, in the unit of its name."""
    base: float
    """What every configuration costs."""
    blocks: tuple[Mapping[str, float], ...]
    """Cost by letter, block by block."""

    def of(self, configuration: Configuration) -> float:
        """The cost of a configuration, in the unit of `kind`."""
        pairs = zip(self.blocks, configuration.letters, strict=True)
        return self.base + sum(block[letter] for block, letter in pairs)


@dataclass(frozen=True, kw_only=True)
class PredictionError:
    """How far an additive latency table is from measurements of configurations it has not seen."""

    mean_ms: float
    """Mean absolute error."""
    mean_percent: float
    """Mean absolute error, relative to the measured latency."""
    max_percent: float
    """Largest of those."""
    noise_percent: float
    """What measuring itself is off by: mean relative difference of the medians of two halves of
    the runs, halved; no table can be closer than that."""
    num_configurations: int
    """Drawn block by block, all letters alike."""


def cost(
    network: AdaptiveNetwork, what: Configuration | str, input_shape: Shape = (1, 3, 96, 96)
) -> Cost:
    """Parameters, MACs and bytes of one configuration; `latency` measures its milliseconds.

    Args:
        network: The network.
        what: A configuration, its letters, or the name of a tier or preset.
        input_shape: Batch (counted as 1), channels, height, width in pixels.

    Raises:
        UserError: if it is no configuration of this network.
    """
    configuration = network.configuration_of(what)
    found = {
        kind: table.of(configuration) for kind, table in cost_tables(network, input_shape).items()
    }
    return Cost(
        params=round(found["params"]),
        macs=round(found["macs"]),
        size_bytes=round(found["size_bytes"]),
    )


def count_macs(
    network: AdaptiveNetwork, what: Configuration | str, input_shape: Shape = (1, 3, 96, 96)
) -> int:
    """MACs of one configuration for one image; see `cost`. For many, take `cost_tables` once."""
    return cost(network, what, input_shape).macs


def cost_tables(
    network: AdaptiveNetwork, input_shape: Shape = (1, 3, 96, 96)
) -> dict[str, CostTable]:
    """The exact tables, by kind: `params`, `macs`, `size_bytes`.

    Args:
        network: The network; it is not changed and computes nothing.
        input_shape: Batch (counted as 1), channels, height, width in pixels.
    """
    macs = _macs_by_module(network, (1, *input_shape[1:]))
    counts: dict[Kind, Callable[[nn.Module], float]] = {
        "params": lambda module: sum(p.numel() for p in module.parameters()),
        "macs": lambda module: sum(macs.get(m, 0) for m in module.modules()),
        "size_bytes": lambda module: size_bytes(module.state_dict()),
    }
    return {kind: _additive(network, kind, count) for kind, count in counts.items()}


def latency_table(
    network: AdaptiveNetwork,
    input_shape: Shape = (1, 3, 96, 96),
    *,
    threads: int = 1,
    runs: int = 20,
    design: Literal["mixed", "one_at_a_time"] = "mixed",
    clock: Clock = "wall",
    seed: int = 0,
) -> CostTable:
    """Milliseconds by block and letter, fitted to measured configurations on this device.

    Measured eagerly, in inference mode, on zeros; configurations take turns, medians count. With
    `one_at_a_time` every branch is the difference of two measurements: all light, and all light
    but one. `mixed` adds as many configurations with letters drawn at random and fits by least
    squares: every measurement then informs every block, and branches are timed in company.
    On one CPU thread at 96 px (CPU time, on a busy machine) fresh configurations were predicted to
    3-18 % by the former and to 1 %, the noise of measuring, by the latter.

    Args:
        network: The network, on the device to be measured; its mode and configuration stay.
        input_shape: Batch, channels, height, width in pixels; batch 1 for latency.
        threads: CPU threads of torch.
        runs: Timed passes of each configuration.
        design: Which configurations are measured.
        clock: `wall`, or `cpu` for time that other processes do not lengthen.
        seed: Of the drawn configurations.
    """
    letters, num_blocks = network.letters, network.num_blocks
    low = letters[0] * num_blocks
    rows = [low[:i] + x + low[i + 1 :] for i in range(num_blocks) for x in letters[1:]]
    measured = [low, *rows]
    if design == "mixed":
        measured += balanced(num_blocks, letters, len(measured), seed)
        measured += [letter * num_blocks for letter in letters]
    configurations = [Configuration(row) for row in dict.fromkeys(measured)]
    times = measure(network, configurations, input_shape, threads=threads, runs=runs, clock=clock)
    medians = np.array([np.median(times[c]) for c in configurations])
    columns = [(i, x) for i in range(num_blocks) for x in letters[1:]]
    matrix = np.array(
        [[1.0, *(float(c.letters[i] == x) for i, x in columns)] for c in configurations]
    )
    # Relative errors are what counts, and noise grows with the time that is measured.
    solved = np.linalg.lstsq(matrix / medians[:, None], np.ones(len(medians)), rcond=None)[0]
    extra = dict(zip(columns, solved[1:].tolist(), strict=True))
    return CostTable(
        kind="latency_ms",
        base=float(solved[0]),
        blocks=tuple(
            {letter: extra.get((i, letter), 0.0) for letter in letters} for i in range(num_blocks)
        ),
    )


def prediction_error(
    network: AdaptiveNetwork,
    table: CostTable,
    input_shape: Shape = (1, 3, 96, 96),
    *,
    num_configurations: int = 20,
    threads: int = 1,
    runs: int = 20,
    clock: Clock = "wall",
    seed: int = 1,
) -> PredictionError:
    """How well a latency table predicts fresh random configurations, measured now.

    Args:
        network: As for `latency_table`.
        table: Made by it.
        input_shape: As for `latency_table`.
        num_configurations: How many to draw.
        threads: CPU threads of torch.
        runs: Timed passes of each, >= 2.
        clock: That of the table.
        seed: Of the draws; another one than the table's.
    """
    draw = random.Random(f"prediction error {seed}")
    configurations = [
        Configuration("".join(draw.choices(network.letters, k=network.num_blocks)))
        for _ in range(num_configurations)
    ]
    times = measure(network, configurations, input_shape, threads=threads, runs=runs, clock=clock)
    real = np.array([np.median(times[c]) for c in configurations])
    halves = [np.array([np.median(times[c][i::2]) for c in configurations]) for i in (0, 1)]
    error = np.abs(np.array([table.of(c) for c in configurations]) - real)
    return PredictionError(
        mean_ms=float(error.mean()),
        mean_percent=float((error / real).mean() * 100),
        max_percent=float((error / real).max() * 100),
        noise_percent=float((np.abs(halves[0] - halves[1]) / real).mean() * 50),
        num_configurations=num_configurations,
    )


def latency(
    network: AdaptiveNetwork,
    what: Configuration | str,
    input_shape: Shape = (1, 3, 96, 96),
    *,
    threads: int = 1,
    runs: int = 50,
) -> Latency:
    """Measured median and 90th percentile of one configuration, as a plain extracted network.

    Args:
        network: On the device to be measured.
        what: A configuration, its letters, or the name of a tier or preset.
        input_shape: Batch, channels, height, width in pixels.
        threads: CPU threads of torch.
        runs: Timed passes.

    Raises:
        UserError: if it is no configuration of this network.
    """
    device = next(network.parameters()).device
    image = torch.zeros(tuple(input_shape), device=device)
    plain = network.extract(what).eval()

    @torch.inference_mode()
    def once() -> None:
        plain(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return measure_latency(once, runs=runs, threads=threads)


@torch.inference_mode()
def measure(
    network: AdaptiveNetwork,
    configurations: Sequence[Configuration],
    input_shape: Shape,
    *,
    threads: int,
    runs: int,
    clock: Clock = "wall",
) -> dict[Configuration, list[float]]:
    """Timed passes of configurations in milliseconds, in turns; the network stays as it was."""
    device = next(network.parameters()).device
    image = torch.zeros(tuple(input_shape), device=device)

    def once(configuration: Configuration) -> Callable[[], None]:
        def call() -> None:
            network.use(configuration)
            network(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return call

    before = network.switch.selection
    try:
        with evaluating(network):
            calls = {configuration: once(configuration) for configuration in configurations}
            return measure_times(calls, runs, warmup=3, threads=threads, clock=clock)
    finally:
        network.switch.selection = before


def balanced(num_blocks: int, letters: str, num: int, seed: int = 0) -> list[str]:
    """Random configurations in which every block has every letter (almost) equally often."""
    draw = random.Random(f"balanced {seed}")
    columns = []
    for _ in range(num_blocks):
        column = [letters[i % len(letters)] for i in range(num)]
        draw.shuffle(column)
        columns.append(column)
    return ["".join(row) for row in zip(*columns, strict=True)] if columns else [""]


def _additive(
    network: AdaptiveNetwork, kind: Kind, count: Callable[[nn.Module], float]
) -> CostTable:
    """A table of what `count` says about modules."""
    blocks = []
    for block in network.blocks():
        row = {x: count(block.branches[name]) for x, name in block.names.items()}
        blocks.append({**row, ALL: count(block.branches)})
    base = count(network.net) - sum(row[ALL] for row in blocks)
    return CostTable(kind=kind, base=base, blocks=tuple(blocks))


def _macs_by_module(network: AdaptiveNetwork, input_shape: Shape) -> dict[nn.Module, int]:
    """MACs of every convolution and linear layer, from one pass of shapes alone (meta tensors)."""
    shadow = copy.deepcopy(network).to("meta").eval()
    real = dict(zip(shadow.modules(), network.modules(), strict=True))
    found: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            each = module.in_features
        else:
            assert isinstance(module, nn.Conv2d)
            each = module.weight[0].numel()
        found[real[module]] = found.get(real[module], 0) + output.numel() * each

    for module in shadow.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    with torch.no_grad(), shadow.use(Configuration(ALL * network.num_blocks)):
        shadow(torch.empty(tuple(input_shape), device="meta"))
    return found
