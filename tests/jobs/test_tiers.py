"""What tiers cost, and which one fits a budget."""

from pathlib import Path

import pytest

from pliant.errors import UserError
from pliant.jobs.tiers import pick, summary, tiers
from pliant.train.run_folder import RunFolder

ROWS = [
    {"tier": "low", "macs": 10, "size_bytes": 4, "latency_ms": {"median": 1.0}, "quality": 0.8},
    {"tier": "mid", "macs": 20, "size_bytes": 6, "latency_ms": {"median": 2.0}, "quality": 0.9},
    {"tier": "max", "macs": 50, "size_bytes": 9, "latency_ms": {"median": 5.0}, "quality": 0.85},
]


def test_the_best_that_fits_not_the_largest():
    assert pick(ROWS, "ms", 5.0) == "mid"
    assert pick(ROWS, "ms", 1.5) == "low"
    assert pick(ROWS, "bytes", 4) == "low"


def test_without_quality_the_costliest_that_fits():
    rows = [row | {"quality": None} for row in ROWS]
    assert pick(rows, "macs", 49) == "mid"
    assert pick(rows, "macs", 50) == "max"


def test_of_equal_quality_the_cheaper():
    assert pick([row | {"quality": 1.0} for row in ROWS], "ms", 9) == "low"


def test_nothing_fits():
    with pytest.raises(UserError, match=r"no tier fits 0.5 ms; the cheapest, low, takes 1"):
        pick(ROWS, "ms", 0.5)


def test_costs_of_a_run(make_run, tmp_path: Path):
    run = make_run()
    result = tiers(run, budget_macs=1e12, plot=tmp_path / "plot.svg", runs=2)
    low, high = result["tiers"]
    stored = RunFolder.open(run).tiers
    assert (low["tier"], high["tier"]) == ("low", "high")
    assert (low["macs"], high["macs"]) == (stored["low"].macs, stored["high"].macs)
    assert low["macs"] < high["macs"]
    assert low["latency_ms"]["runs"] == 2
    assert low["latency_ms"]["median"] > 0
    assert result["quality"] == "dev auc"
    assert high["quality"] == pytest.approx(0.6)
    assert result["picked"] == "high"
    assert (tmp_path / "plot.svg").read_text().lstrip().startswith("<svg")
    assert len(summary(result)) == 3


def test_refusals(make_run, tmp_path: Path):
    run = make_run()
    with pytest.raises(UserError, match="give one budget"):
        tiers(run, budget_ms=1, budget_macs=1)
    with pytest.raises(UserError, match="--search needs a budget"):
        tiers(run, search=tmp_path)
    taken = tmp_path / "taken.svg"
    taken.touch()
    with pytest.raises(UserError, match="exists already"):
        tiers(run, plot=taken)
    with pytest.raises(UserError, match="no run folder"):
        tiers(tmp_path / "nothing")


@pytest.mark.parametrize(("unit", "kind"), [("macs", "macs"), ("bytes", "size_bytes")])
def test_search_finds_what_no_tier_offers(make_run, rig: Path, unit: str, kind: str):
    run = make_run()
    low, high = tiers(run, runs=1)["tiers"]
    between = (low[kind] + high[kind]) / 2
    result = tiers(run, **{f"budget_{unit}": between}, search=rig, runs=1)
    found = result["search"]
    assert result["picked"] == "low"
    assert found["best"][kind] <= between
    assert found["best"] in found["front"]
    assert found["num_measured"] > 32
    costs = [point[kind] for point in found["front"]]
    qualities = [point["quality"] for point in found["front"]]
    assert costs == sorted(costs)
    assert qualities == sorted(qualities)
    assert list(RunFolder.open(run).tiers) == ["low", "high"]
    assert len(summary(result)) == 3
