import numpy as np
import pytest

from pliant.pad.intervals import cluster_draws
from pliant.pad.metrics import apcer, bpcer
from pliant.pad.scores import Scores
from pliant.pad.slices import slice_record
from pliant.pad.table import ScoreTable

N = 800


def some_table(**extra):
    rng = np.random.default_rng(3)
    live = np.arange(N) % 2 == 0
    dark = rng.random(N) < 0.4
    score = 1 / (1 + np.exp(-rng.normal(np.where(live, 2 - 2.5 * dark, -2))))
    scores = Scores.of(
        score,
        live,
        species=np.where(live, "", np.where(np.arange(N) % 4 == 1, "print", "mask")),
        subject=(np.arange(N) // 10).astype(str),
    )
    light = np.where(dark, "dark", "bright")
    return ScoreTable.of(scores, light=light, side=rng.integers(50, 400, N), **extra)


def test_match_scores_are_no_slice():
    record = slice_record(some_table(match_score=np.arange(N)), 0.5, draws=0)
    assert set(record["columns"]) == {"light", "side"}
    assert record["skipped"] == {}


def test_rates_equal_those_of_the_part_alone():
    table = some_table()
    record = slice_record(table, 0.5, draws=200)
    dark = table[table.extra["light"] == "dark"]
    found = record["columns"]["light"]["dark"]
    assert bpcer(dark.scores, 0.5).to_json().items() <= found["bpcer"].items()
    for name, rate in apcer(dark.scores, 0.5).items():
        assert rate.to_json().items() <= found[f"apcer {name}"].items()
    assert found["num_bona_fide"] + found["num_attack"] == len(dark)
    assert found["bpnrr"]["rate"] == 0


def test_a_slice_that_differs_is_flagged_and_others_are_not():
    columns = slice_record(some_table(), 0.5, draws=500)["columns"]
    assert columns["light"]["dark"]["flagged"] == ["bpcer"]
    assert columns["light"]["bright"]["flagged"] == ["bpcer"]
    assert sum(len(entry["flagged"]) for entry in columns["side"].values()) <= 1


def test_intervals_equal_repeating_the_rows():
    table = some_table()
    found = slice_record(table, 0.5, draws=40, seed=5)["columns"]["light"]["dark"]["bpcer"]
    wanted = (table.extra["light"] == "dark") & table.bona_fide
    wrong, drawn = table.score < 0.5, []
    for _, times in cluster_draws(table.scores, draws=40, seed=5):
        for draw in times:
            rows = np.repeat(np.arange(N), draw[table.scores.clusters])
            rows = rows[wanted[rows]]
            drawn.append(wrong[rows].mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found["cluster_low"], found["cluster_high"]) == pytest.approx((low, high), abs=1e-12)


def test_which_columns_are_slices():
    names = [f"file {row}" for row in range(N)]
    table = some_table(file=names, camera=["one"] * N, total_ms=[1.5] * N)
    record = slice_record(table, 0.5, draws=0)
    assert list(record["columns"]) == ["light", "side"]
    assert record["skipped"] == {
        "file": "800 different values, a slice has at most 30",
        "camera": "every row says 'one'",
    }
    sides = record["columns"]["side"]
    assert len(sides) == 4
    total = sum(entry["num_bona_fide"] + entry["num_attack"] for entry in sides.values())
    assert total == N
    assert record["num_rates"] == 3 * 6
    assert sides[next(iter(sides))]["bpcer"]["cluster_low"] is None


def test_a_part_without_a_class_has_no_rate():
    table = some_table(kind=np.where(np.arange(N) % 2 == 0, "live", ""))
    columns = slice_record(table, 0.5, draws=0)["columns"]["kind"]
    assert columns["(empty)"]["bpcer"] is None
    assert columns["live"]["apcer print"] is None


def test_empty_cells_are_a_part_of_their_own():
    width = np.where(np.arange(N) % 8 < 2, "", (np.arange(N) // 8).astype(str))
    record = slice_record(
        some_table(width=width, kind=np.where(width == "", " ", "x")), 0.5, draws=0
    )
    parts = record["columns"]["width"]
    assert list(parts) == ["0 to 24", "25 to 49", "50 to 74", "75 to 99", "(empty)"]
    counts = [part["num_bona_fide"] + part["num_attack"] for part in parts.values()]
    assert counts == [150, 150, 150, 150, 200]
    assert set(record["columns"]["kind"]) == {"x", "(empty)"}
