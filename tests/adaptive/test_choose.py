"""The choice: the exact search against enumeration, and the budget."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.adaptive.choose import Point, choose, pareto_front, predicted_front
from pliant.adaptive.configuration import Configuration
from pliant.adaptive.cost import CostTable
from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError

numbers = st.integers(-20, 20)


@st.composite
def problems(draw):
    num_blocks = draw(st.integers(1, 5))
    costs = draw(
        st.lists(st.tuples(numbers, numbers, numbers), min_size=num_blocks, max_size=num_blocks)
    )
    gains = draw(st.lists(st.tuples(numbers, numbers), min_size=num_blocks, max_size=num_blocks))
    budget = draw(st.integers(-60, 60))
    return costs, [(0, *g) for g in gains], budget


@given(problems())
def test_the_search_is_exact(problem):
    costs, gains, budget = problem
    rows = tuple(dict(zip("LHB", c, strict=True)) for c in costs)
    table = CostTable(kind="macs", base=3, blocks=rows)
    adds = [dict(zip("LHB", g, strict=True)) for g in gains]
    found = predicted_front(table, adds, budget)
    every = []
    for letters in itertools.product("LHB", repeat=len(rows)):
        cost = 3 + sum(row[x] for row, x in zip(rows, letters, strict=True))
        gain = sum(row[x] for row, x in zip(adds, letters, strict=True))
        every.append((cost, gain))
    within = {pair for pair in every if pair[0] <= budget}
    wanted = {
        (c, g)
        for c, g in within
        if not any(a <= c and b >= g and (a, b) != (c, g) for a, b in within)
    }
    assert {(c, g) for c, g, _ in found} == wanted
    assert len(found) == len(wanted)
    for cost, gain, text in found:  # and the letters are those of the sums
        assert table.of(Configuration(text)) == cost
        assert sum(row[x] for row, x in zip(adds, text, strict=True)) == gain


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12))
def test_front_against_pairs(pairs):
    points = [Point(configuration=Configuration("L"), cost=c, quality=q) for c, q in pairs]
    found = [(p.cost, p.quality) for p in pareto_front(points)]
    beaten = {
        (c, q) for c, q in pairs if any(a <= c and b >= q and (a, b) != (c, q) for a, b in pairs)
    }
    assert set(found) == set(pairs) - beaten
    assert found == sorted(set(found))


def fake_network(num_blocks: int) -> AdaptiveNetwork:
    return SimpleNamespace(letters="LHB", num_blocks=num_blocks)  # pyright: ignore[reportReturnType]


def additive(num_blocks: int, seed: int = 0):
    draw = np.random.default_rng(seed)
    costs, adds = draw.uniform(0.1, 1, (2, num_blocks, 3))
    costs[:, 0] = adds[:, 0] = 0
    table = CostTable(
        kind="latency_ms",
        base=1.0,
        blocks=tuple(dict(zip("LHB", row.tolist(), strict=True)) for row in costs),
    )

    def quality(one: Configuration) -> float:
        return float(sum(adds[i]["LHB".index(x)] for i, x in enumerate(one.letters)))

    return table, quality


def test_the_best_of_all_when_quality_is_additive():
    table, quality = additive(6)
    found = choose(fake_network(6), budget_ms=3.0, quality=quality, tables=table, finalists=3)
    every = [Configuration("".join(x)) for x in itertools.product("LHB", repeat=6)]
    best = max((c for c in every if table.of(c) <= 3.0), key=quality)
    assert found.best.configuration == best
    assert found.best.cost == table.of(best) <= 3.0
    assert found.kind == "latency_ms"
    assert found.front == pareto_front(found.front)
    assert found.best in found.front
    assert found.front[0].configuration == Configuration("L" * 6)


def test_sixteen_blocks_are_searched_at_once():
    table, quality = additive(16)
    asked: list[Configuration] = []

    def counted(one: Configuration) -> float:
        asked.append(one)
        return quality(one)

    found = choose(fake_network(16), budget_ms=6.0, quality=counted, tables={"latency_ms": table})
    assert len(asked) == len(set(asked)) == found.num_measured <= 33 + 8 + 7
    presets = [p for p in found.front if p.cost <= 6.0]
    assert found.best.quality >= max(p.quality for p in presets)


def test_measured_quality_decides_among_finalists():
    table, quality = additive(4)
    promised = choose(fake_network(4), budget_ms=2.5, quality=quality, tables=table)
    spoilt = promised.best.configuration

    def measured(one: Configuration) -> float:
        return quality(one) - 10 * (one == spoilt)  # not additive after all

    found = choose(fake_network(4), budget_ms=2.5, quality=measured, tables=table)
    assert found.best.configuration != spoilt
    assert found.best.cost <= 2.5


def test_refusals():
    table, quality = additive(4)
    network = fake_network(4)
    with pytest.raises(UserError, match="the cheapest needs 1"):
        choose(network, budget_ms=0.5, quality=quality, tables=table)
    with pytest.raises(UserError, match="exactly one"):
        choose(network, quality=quality, tables=table)
    with pytest.raises(UserError, match="exactly one"):
        choose(network, budget_ms=1, budget_macs=1, quality=quality, tables=table)
    with pytest.raises(UserError, match="needs a cost table of macs; given are latency_ms"):
        choose(network, budget_macs=1e6, quality=quality, tables=table)
    with pytest.raises(ValueError, match="finalists"):
        choose(network, budget_ms=5, quality=quality, tables=table, finalists=0)


@pytest.mark.parametrize("budget", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_budget_that_is_no_amount_is_refused(budget: float):
    table = CostTable(kind="latency_ms", base=1, blocks=({"L": 1, "H": 2, "B": 3},) * 4)
    with pytest.raises(UserError, match="number > 0"):
        choose(fake_network(4), budget_ms=budget, quality=lambda c: 0.0, tables=table)
