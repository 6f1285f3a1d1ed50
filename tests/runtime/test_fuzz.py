"""Mutated bundles and images: refused, or the true scores; nothing else (benchmarks/fuzz.py)."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
FAILURES = ("crash", "hang", "wrong_error", "wrong_score", "memory")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the script watches memory in /proc"),
    pytest.mark.skipif(not SCRIPT.is_file(), reason="benchmarks are no part of the package"),
]


def fuzz(bundle: Path, out: Path, *, count: int, images: int, seed: int) -> list[dict[str, str]]:
    numbers = ["--count", str(count), "--images", str(images), "--seed", str(seed)]
    command = [sys.executable, str(SCRIPT), str(bundle), *numbers, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(out, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check(rows: list[dict[str, str]], cases: int) -> None:
    assert sum(int(row["cases"]) for row in rows) == cases
    for row in rows:
        assert [int(row[name]) for name in FAILURES] == [0] * len(FAILURES), row
        assert int(row["refused"]) + int(row["same"]) == int(row["cases"])
        assert int(row["refused"]) > 0
        if row["kind"] == "names":
            assert row["same"] == "0"


def test_a_few_mutants(bundle_file, tmp_path):
    check(fuzz(bundle_file, tmp_path / "fuzz.csv", count=400, images=80, seed=1), 480)


@pytest.mark.slow
def test_ten_thousand_mutants(bundle_file, tmp_path):
    check(fuzz(bundle_file, tmp_path / "fuzz.csv", count=10_000, images=2000, seed=2), 12_000)
