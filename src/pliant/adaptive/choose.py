"""The best configuration within a budget, out of all of them.

With 16 blocks of three letters there are 3^16 = 43 million. Cost is additive over blocks
(`CostTable`); quality is taken as additive too, by measuring what every branch adds to all light.
Then the best for every cost at once is found exactly, block by block: a partial configuration that
costs no less and promises no more than another can be dropped, whatever follows (the
multiple-choice knapsack). As quality is not truly additive, the finalists' is measured.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pliant.adaptive.configuration import PRESETS, Configuration, preset
from pliant.adaptive.cost import CostTable
from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError

KINDS = {"budget_ms": "latency_ms", "budget_macs": "macs", "budget_bytes": "size_bytes"}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One configuration, measured."""

    configuration: Configuration
    """What runs."""
    cost: float
    """In the budget's unit: ms, MACs or bytes."""
    quality: float
    """Measured; higher is better."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `choose` found."""

    best: Point
    """Highest measured quality within the budget; of equal ones the cheapest."""
    front: list[Point]
    """Of all measured configurations, dearer ones too, those that none beats in both cost and
    quality; cheapest first."""
    kind: str
    """What the cost is: latency_ms, macs or size_bytes."""
    budget: float
    """The limit on it."""
    num_measured: int
    """Configurations whose quality was measured."""


def choose(
    network: AdaptiveNetwork,
    *,
    quality: Callable[[Configuration], float],
    tables: CostTable | Mapping[str, CostTable],
    budget_ms: float | None = None,
    budget_macs: float | None = None,
    budget_bytes: float | None = None,
    finalists: int = 8,
) -> Choice:
    """The best configuration whose cost is within one budget.

    Args:
        network: Says which configurations there are; it is not run here.
        quality: Of a configuration on the dev set, higher is better; called for all light, for
            every branch on its own (32 times for 16 blocks), for finalists and presets. To judge a
            configuration as a tier, calibrate it first.
        tables: Cost tables by kind, or the one of the budget's kind; see `cost_tables` and
            `latency_table`.
        budget_ms: Most milliseconds.
        budget_macs: Most multiply-accumulates.
        budget_bytes: Most bytes of weights.
        finalists: How many of the most promising within the budget are measured, >= 1.

    Raises:
        UserError: if not exactly one budget is given, its table is missing, or even the cheapest
            configuration is above it.
    """
    budgets = {"budget_ms": budget_ms, "budget_macs": budget_macs, "budget_bytes": budget_bytes}
    given = {name: value for name, value in budgets.items() if value is not None}
    if len(given) != 1:
        raise UserError(f"choose needs exactly one of {', '.join(budgets)}, got {len(given)}")
    ((name, budget),) = given.items()
    if not 0 < budget < float("inf"):
        raise UserError(f"{name} must be a number > 0, got {budget:g}")
    table = _table(tables, KINDS[name])
    cheapest = table.base + sum(min(block.values()) for block in table.blocks)
    if cheapest > budget:
        raise UserError(f"no configuration fits {name} {budget:g}; the cheapest needs {cheapest:g}")
    if finalists < 1:
        raise ValueError(f"finalists must be >= 1, got {finalists}")

    letters, num_blocks = network.letters, network.num_blocks
    low = letters[0] * num_blocks
    known: dict[str, float] = {}

    def measured(text: str) -> float:
        if text not in known:
            known[text] = float(quality(Configuration(text)))
        return known[text]

    start = measured(low)
    gains = [
        {x: 0.0 if x == low[0] else measured(low[:i] + x + low[i + 1 :]) - start for x in letters}
        for i in range(num_blocks)
    ]
    promising = predicted_front(table, gains, budget)
    for _, _, text in heapq.nlargest(finalists, promising, key=lambda state: state[1]):
        measured(text)
    for text in (preset(name, num_blocks, letters).letters for name in PRESETS):
        if table.of(Configuration(text)) <= budget:
            measured(text)
    points = [
        Point(configuration=c, cost=table.of(c), quality=value)
        for c, value in ((Configuration(text), value) for text, value in known.items())
    ]
    front = pareto_front(points)
    best = max((p for p in points if p.cost <= budget), key=lambda p: (p.quality, -p.cost))
    return Choice(best=best, front=front, kind=table.kind, budget=budget, num_measured=len(points))


State = tuple[float, float, str]
"""(cost, promised gain, letters so far)"""


def predicted_front(
    table: CostTable, gains: Sequence[Mapping[str, float]], budget: float
) -> list[State]:
    """All configurations within the budget that none beats in both cost and promised gain.

    Exact, up to ties: of configurations equal in both, one is kept. Cheapest first, so gains rise.

    Args:
        table: Cost by block and letter.
        gains: What a letter adds to the quality of all light, block by block.
        budget: Most cost.
    """
    rest = [0.0]  # the least that the blocks from here on will cost
    for block in reversed(table.blocks):
        rest.append(rest[-1] + min(block.values()))
    rest.reverse()
    states: list[State] = [(table.base, 0.0, "")]
    for i, (costs, adds) in enumerate(zip(table.blocks, gains, strict=True)):
        grown = (
            (cost + costs[x], gain + adds[x], text + x)
            for cost, gain, text in states
            for x in costs
        )
        # A billionth of slack: sums of floats in another order must not lose the exact fit.
        limit = budget - rest[i + 1] + 1e-9 * abs(budget)
        states = []
        for state in sorted(grown, key=lambda s: (s[0], -s[1])):
            if state[0] <= limit and (not states or state[1] > states[-1][1]):
                states.append(state)
    return [s for s in states if table.of(Configuration(s[2])) <= budget]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that none beats in cost without losing quality; cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.quality)):
        if not front or point.quality > front[-1].quality:
            front.append(point)
    return front


def _table(tables: CostTable | Mapping[str, CostTable], kind: str) -> CostTable:
    found = {tables.kind: tables} if isinstance(tables, CostTable) else dict(tables)
    if kind not in found:
        raise UserError(f"this budget needs a cost table of {kind}; given are {', '.join(found)}")
    return found[kind]
