"""Latency by hand, with a clock of our own; size by counting."""

import os
import time

import pytest
import torch

from pliant.errors import UserError
from pliant.metrics import latency as module
from pliant.metrics.latency import measure_latency, measure_times
from pliant.metrics.size import size_bytes


class Clock:
    """Ticks only when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def takes(self, *ms: float):
        left = list(ms)

        def call() -> None:
            self.now += left.pop(0) / 1e3

        return call


def test_by_hand(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    found = measure_latency(clock.takes(99, 1, 2, 3, 4, 10), runs=5, warmup=1)
    assert found.median_ms == pytest.approx(3)
    assert found.p90_ms == pytest.approx(7.6)  # 0.9 of the way from 4 to 10 has 4 of 5 below
    assert found.runs == 5
    assert found.threads == torch.get_num_threads()


def test_candidates_take_turns(monkeypatch: pytest.MonkeyPatch):
    Clock(monkeypatch)
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    found = measure_latency(calls, runs=4, warmup=1)
    assert list(found) == ["a", "b", "c"]
    rounds = [order[i : i + 3] for i in range(0, 15, 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_threads_are_set_and_restored():
    before = torch.get_num_threads()
    seen: list[int] = []
    found = measure_latency(lambda: seen.append(torch.get_num_threads()), runs=1, threads=1)
    assert set(seen) == {1}
    assert found.threads == 1
    other = 1 if before > 1 else os.cpu_count()
    with pytest.raises(RuntimeError, match="planned"):
        measure_latency(_fails, runs=1, threads=other)
    assert torch.get_num_threads() == before


def _fails() -> None:
    raise RuntimeError("planned")


def test_cpu_time_does_not_count_waiting():
    calls = {"wait": lambda: time.sleep(0.02)}
    assert measure_times(calls, 2, 0)["wait"][0] > 15
    assert measure_times(calls, 2, 0, clock="cpu")["wait"][0] < 10


def test_refusal():
    with pytest.raises(ValueError, match="something to time"):
        measure_latency({}, runs=1)
    with pytest.raises(ValueError, match="runs >= 1"):
        measure_latency(lambda: None, runs=0)


@pytest.mark.parametrize("threads", [-1, 0, 100_000])
def test_no_more_threads_than_cores(threads: int):
    with pytest.raises(UserError, match=f"threads must be 1 to .* got {threads}"):
        measure_latency(lambda: None, runs=1, threads=threads)


def test_size_by_hand():
    state = {"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.int8)}
    assert size_bytes(state) == 53
