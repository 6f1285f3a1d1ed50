"""The recipe's tables from frame scores that are made up; the committed rows have its columns."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pliant.data.manifest import Sample

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location(
    "pad_pipenet_rig", ROOT / "recipes" / "pad_pipenet_rig.py"
)
assert SPEC is not None
assert SPEC.loader is not None
recipe = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(recipe)


def frames() -> list[Sample]:
    """Dev and test: four people each, a bona fide clip and a replayed one, five frames a clip."""
    return [
        Sample(
            path=Path(f"/d/{split}{who}-{live}-{k}.png"),
            name=f"{split}{who}-{live}-{k}.png",
            bona_fide=live,
            pai_species=None if live else "replay",
            subject=f"{split}{who}",
            clip=f"{split}{who}-{live}",
            split=split,
        )
        for split in ("dev", "test")
        for who in range(4)
        for live in (True, False)
        for k in range(5)
    ]


def test_a_vote_forgives_what_a_single_frame_does_not() -> None:
    samples = frames()
    score = np.array([0.8 if s.bona_fide else 0.2 for s in samples])
    score[::5] = 1 - score[::5]  # the first frame of every clip is wrong
    nothing: list[list[str]] = [[] for _ in samples]
    by_rule = {
        rule: recipe.judge(samples, score, rule, nothing) for rule in (recipe.FRAME, *recipe.RULES)
    }
    assert by_rule[recipe.FRAME]["acer"] == pytest.approx(0.2)
    assert by_rule[recipe.FRAME]["presentations"] == 40
    assert by_rule["median"]["acer"] == 0
    assert by_rule["median"]["presentations"] == 8
    assert by_rule["medstd"]["num_rejected"] == 8
    assert by_rule["mean"]["apcer_replay"] == 0
    assert by_rule["mean"]["acer_seen"] == by_rule["mean"]["acer"] == 0


def test_the_tables_name_every_row_and_vote(tmp_path: Path) -> None:
    rows = [
        {
            "seed": seed, "model": "pipenet", "modalities": "depth", "vote": rule,
            "acer": 0.1 * (1 + seed), "acer_low": 0.0, "acer_high": 0.4,
            "acer_seen": 0.1, "acer_seen_low": 0.05, "acer_seen_high": 0.2,
        }
        for seed in (0, 1)
        for rule in (recipe.FRAME, *recipe.RULES)
    ]  # fmt: skip
    ((name, cells),) = recipe.grid(rows, "acer")
    assert name == "pipenet: depth"
    assert cells == ["15.0 (0 to 40)"] * 6
    assert recipe.grid(rows, "acer_seen")[0][1] == ["10.0 (5 to 20)"] * 6
    recipe.write_page(rows, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "2 seeds" in page
    assert "http" not in page
    recipe.write_csv(rows, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert next(csv.reader(file)) == list(recipe.COLUMNS)


def test_the_committed_results_are_the_recipes() -> None:
    with (ROOT / "benchmarks" / "results" / "pipenet_rig.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(recipe.COLUMNS)
    each = {(row["model"], row["modalities"], row["vote"]) for row in rows}
    assert len(each) == (1 + 7) * (1 + len(recipe.RULES))
