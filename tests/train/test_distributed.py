"""Two processes on half batches each do what one does on whole ones (CPU, gloo).

With batch-norm statistics frozen a sample's gradient does not depend on its batch, so the loss
curves differ by the order of float32 sums alone: 4 epochs of 4 steps agree to 1e-3 relative,
a twentieth of what the loss falls by. Every step runs one configuration on both processes and
leaves most branches unused.
"""

import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("distributed_run.py")
LIGHTNINGS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((path / "metrics.csv").read_text().splitlines()))


def test_two_processes_follow_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # as below: more threads add up float32 in another order
        with torch.random.fork_rng():
            runpy.run_path(str(SCRIPT))["main"](one, "1", 8)
    finally:
        torch.set_num_threads(threads)
    # A Trainer of another test may hold the port that it left in the environment.
    clean = {name: value for name, value in os.environ.items() if name not in LIGHTNINGS}
    done = subprocess.run(  # Lightning starts the second process from this one's command line
        [sys.executable, str(SCRIPT), str(two), "2", "4"],
        env={**clean, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = list(zip(_rows(one), _rows(two), strict=True))
    assert len(rows) == 4
    assert float(rows[-1][0]["loss"]) < 0.98 * float(rows[0][0]["loss"])
    for alone, together in rows:
        assert float(together["loss"]) == pytest.approx(float(alone["loss"]), rel=1e-3)
        assert float(together["dev_mean"]) == pytest.approx(float(alone["dev_mean"]), abs=1e-6)
        for same in ("steps", "total_samples", "lr"):
            assert together[same] == alone[same]
    first, second = (load_file(path / "weights.safetensors") for path in (one, two))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if value.is_floating_point():
            assert (value - second[name]).abs().max() <= 1e-3 * (1 + value.abs().max()), name
