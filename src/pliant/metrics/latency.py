"""How long a call takes: median and 90th percentile, several calls measured in turns.

Turns matter: a machine that slows down for a second slows every candidate alike, so differences
between candidates stay right. Their order is shuffled in every round.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

import numpy as np

from pliant.errors import UserError

Key = TypeVar("Key")
Clock = Literal["wall", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Wall-clock time of one call."""

    median_ms: float
    """Milliseconds; half of the calls were faster."""
    p90_ms: float
    """Milliseconds; nine of ten calls were faster."""
    threads: int | None
    """CPU threads of torch while measuring; None where torch was not in use."""
    runs: int
    """Timed calls."""


@overload
def measure_latency(
    calls: Callable[[], Any], *, runs: int = 50, warmup: int = 5, threads: int | None = None
) -> Latency: ...


@overload
def measure_latency(
    calls: Mapping[Key, Callable[[], Any]],
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int | None = None,
) -> dict[Key, Latency]: ...


def measure_latency(
    calls: Callable[[], Any] | Mapping[Key, Callable[[], Any]],
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int | None = None,
) -> Latency | dict[Key, Latency]:
    """Latency of one call, or of each of several by name.

    Args:
        calls: What to time; it must wait for its own result (a GPU's, too).
        runs: Timed calls of each, >= 1; candidates take turns.
        warmup: Untimed calls of each before that.
        threads: CPU threads of torch meanwhile, restored afterwards; None leaves them.

    Raises:
        UserError: if there is nothing to time, or for more threads than there are cores.
    """
    times = measure_times(
        calls if isinstance(calls, Mapping) else {"": calls}, runs, warmup, threads
    )
    with torch_threads(threads) as used:
        found = {
            name: Latency(
                median_ms=float(np.median(row)),
                p90_ms=float(np.percentile(row, 90)),
                threads=used,
                runs=runs,
            )
            for name, row in times.items()
        }
    return found if isinstance(calls, Mapping) else next(iter(found.values()))


def measure_times(
    calls: Mapping[Key, Callable[[], Any]],
    runs: int,
    warmup: int = 5,
    threads: int | None = None,
    clock: Clock = "wall",
) -> dict[Key, list[float]]:
    """Every timed call in milliseconds, round by round; see `measure_latency`.

    With the clock `cpu` the time that this process's threads computed counts, summed, so a busy
    machine disturbs less; it is no latency.

    Raises:
        UserError: if there is nothing to time, or for more threads than there are cores.
    """
    if not calls or runs < 1 or warmup < 0:
        raise UserError(f"need something to time, runs >= 1, warmup >= 0; got {runs}, {warmup}")
    times: dict[Key, list[float]] = {name: [] for name in calls}
    order = list(calls)
    now = time.perf_counter if clock == "wall" else time.process_time
    shuffle = random.Random(0).shuffle
    with torch_threads(threads):
        for turn in range(warmup + runs):
            shuffle(order)
            for name in order:
                start = now()
                calls[name]()
                if turn >= warmup:
                    times[name].append((now() - start) * 1e3)
    return times


def check_threads(threads: int | None) -> None:
    """Refuses a number of threads that this machine cannot run side by side.

    Raises:
        UserError: if it is not one of 1 to the number of cores; None is allowed.
    """
    cores = os.cpu_count() or 1
    if threads is not None and not 1 <= threads <= cores:
        raise UserError(f"threads must be 1 to {cores}, the cores of this machine, got {threads}")


@contextmanager
def torch_threads(threads: int | None) -> Iterator[int | None]:
    """Sets torch's CPU threads for a while, and says how many there are; torch is not imported.

    Raises:
        UserError: see `check_threads`.
    """
    check_threads(threads)
    torch = sys.modules.get("torch")
    if torch is None:
        yield None
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)
