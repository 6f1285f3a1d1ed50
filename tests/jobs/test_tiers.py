"""What tiers cost, and which one fits a budget."""

from pathlib import Path

import pytest
import torch

from pliant.data.manifest import read_manifest
from pliant.errors import UserError
from pliant.jobs.tiers import is_beaten, pick, scatter, summary, tiers
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
    said = summary(result)
    assert said[1] == "low = LLLLLLLLLLLLLLLL"
    assert said[-2:] == ["within 1e+12 macs: high", f"plot: {tmp_path / 'plot.svg'}"]


def test_the_terminal_plot_by_hand():
    assert [is_beaten(row, ROWS) for row in ROWS] == [False, False, True]
    lines = scatter(ROWS, "dev auc").splitlines()
    assert lines[0] == "dev auc, 0.9000 at the top"
    assert lines[1].index("* mid") == 1 + round(2 / 5 * 55)
    assert lines[5].endswith("o max")
    assert lines[8].index("* low") == 1 + round(1 / 5 * 55)
    assert max(map(len, lines)) < 80


def test_refusals(make_run, tmp_path: Path):
    run = make_run()
    with pytest.raises(UserError, match="give one budget"):
        tiers(run, budget_ms=1, budget_macs=1)
    with pytest.raises(UserError, match="--search needs a budget"):
        tiers(run, search=tmp_path)
    with pytest.raises(UserError, match="give --search and a budget"):
        tiers(run, name="mine")
    taken = tmp_path / "taken.svg"
    taken.touch()
    with pytest.raises(UserError, match="exists already"):
        tiers(run, plot=taken)
    with pytest.raises(UserError, match=r"written as .svg or .png"):
        tiers(tmp_path / "nothing", plot=tmp_path / "p.xyz")  # before anything is opened
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
    assert summary(result)[-1].row_count == len(found["front"])


def test_what_was_found_becomes_a_tier(make_run, rig: Path):
    run = make_run()
    before = RunFolder.open(run)
    result = tiers(run, budget_macs=1e12, search=rig, name="mine", runs=1)
    after = RunFolder.open(run)
    assert sorted(after.tiers) == ["high", "low", "mine"]
    mine = after.tiers["mine"]
    assert str(mine.configuration) == result["search"]["best"]["configuration"]
    assert mine.threshold is not None
    assert mine.threshold.record["num_attack"] > 0
    assert after.tiers["low"] == before.tiers["low"]
    x = torch.zeros(1, 3, 32, 32)
    with after.model.use("mine"):
        assert torch.equal(after.model(x), after.model.extract("mine")(x))
    with pytest.raises(UserError, match='has a tier "mine" already'):
        tiers(run, budget_macs=1e12, search=rig, name="mine", runs=1)


def test_a_search_needs_no_named_split_on_the_data_of_the_training(make_run, unsplit: Path, rig):
    names = sorted({str(s.subject) for s in read_manifest(unsplit)})
    run = make_run(data=unsplit, train_subjects=names[4:], dev_subjects=names[:4])
    found = tiers(run, budget_macs=1e12, search=unsplit, runs=1)["search"]
    assert found["num_measured"] > 32
