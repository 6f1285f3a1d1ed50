"""Choose a tier for a budget of milliseconds by running every tier on this device.

The budget is for one image from its face's box to its score: crop, preprocessing, network. Reading
the file and finding the face cost the same in every tier and are not in it. The face measured here
has 240 px; cutting out a much larger one takes longer, whatever the tier.
"""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.contract import BundleTier, Contract
from pliant.runtime.crop import Box, Preprocessing
from pliant.runtime.given import network_input
from pliant.runtime.latencies import device_key, remember, remembered

RUNS = 21
"""Timed calls of each tier."""
ROUNDS = 3
"""The tiers take turns: each is measured in this many bursts, so a busy second hits all."""
WARM_UP = 3
"""Untimed calls at the start of each burst: a new session allocates in its first runs."""
MAX_BURST_S = 1.0
"""A burst ends after this time once one call was timed: slow devices need no statistics."""
PHOTO_SIZE = (480, 640)
"""Height and width in pixels of the photo that is scored."""
FACE = (220.0, 100.0, 200.0, 240.0)
"""Its face: x, y, width, height in pixels."""


class Runnable(Protocol):
    """What is asked of a bundle here."""

    @property
    def contract(self) -> Contract: ...
    @property
    def sha256(self) -> str: ...
    def load(self, name: str, /) -> Any: ...
    def use(self, name: str, /) -> Any: ...


def pick(
    bundle: Runnable,
    budget_ms: float,
    *,
    runs: int = RUNS,
    cache: Path | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> str:
    """Switch the bundle to its best tier within a budget; the tier's name comes back.

    The best is that with the highest dev quality where every tier has one, else the costliest.

    Args:
        bundle: An open bundle.
        budget_ms: Most milliseconds from a face's box to its score, median of single images.
        runs: Timed calls of each tier, where this device has not measured the bundle before.
        cache: Folder of remembered latencies; None: `pliant/latency` in the user's cache folder.
        now: A clock in seconds.

    Raises:
        UserError: if no tier fits; the fastest is named with its time.
    """
    check_budget(budget_ms)
    ms = latencies(bundle, runs=runs, cache=cache, now=now)
    chosen = best_within(ms, worth(bundle.contract), budget_ms)
    bundle.use(chosen)
    return chosen


def latencies(
    bundle: Runnable,
    *,
    runs: int = RUNS,
    cache: Path | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median milliseconds of each tier, remembered or measured; see `pick`."""
    loaded = bundle.load(bundle.contract.default_tier)
    threads = loaded.session.get_session_options().intra_op_num_threads
    key = device_key(bundle.sha256, threads)
    names = [tier.name for tier in bundle.contract.tiers]
    ms = remembered(key, names, cache)
    if ms is None:
        times = measure(bundle, runs=runs, now=now)
        ms = {name: round(median(row), 3) for name, row in times.items()}
        remember(key, ms, cache)
    return ms


def measure(
    bundle: Runnable, *, runs: int = RUNS, now: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Milliseconds of every timed call of every tier; what the bundle has in use stays.

    Raises:
        UserError: for runs < 1.
    """
    if runs < 1:
        raise UserError(f"runs must be at least 1, got {runs}")
    pre = bundle.contract.preprocessing
    photo = np.random.default_rng(0).integers(0, 256, (*PHOTO_SIZE, 3), dtype=np.uint8)
    box = FACE if bundle.contract.task == "pad" else None
    names = [tier.name for tier in bundle.contract.tiers]
    times: dict[str, list[float]] = {name: [] for name in names}
    rounds = min(ROUNDS, runs)
    for turn in range(rounds):
        share = (turn + 1) * runs // rounds - turn * runs // rounds
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            call = partial(_score, bundle.load(name), photo, box, pre)
            times[name] += _burst(call, share, now)
    return times


def _score(loaded: Any, photo: NDArray[np.uint8], box: Box | None, pre: Preprocessing) -> None:
    loaded.probabilities(network_input(photo, box, pre))


def _burst(call: Callable[[], Any], runs: int, now: Callable[[], float]) -> list[float]:
    times: list[float] = []
    begin = now()
    for place in range(WARM_UP + runs):
        start, _ = now(), call()
        end = now()
        late = end - begin > MAX_BURST_S
        if place >= WARM_UP or late:
            times.append(max((end - start) * 1e3, 1e-3))  # a coarse clock may show no time at all
        if late:
            break
    return times


def worth(contract: Contract) -> dict[str, float]:
    """What makes a tier better than another: dev quality where all have one, else its cost."""
    quality = {tier.name: _quality(tier) for tier in contract.tiers}
    known = {name: value for name, value in quality.items() if value is not None}
    if len(known) == len(quality):
        return known
    return {tier.name: float(tier.macs) for tier in contract.tiers}


def _quality(tier: BundleTier) -> float | None:
    dev = tier.dev or {}
    value = dev.get("auc", dev.get("accuracy"))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def best_within(ms: Mapping[str, float], worth: Mapping[str, float], budget_ms: float) -> str:
    """The tier of the highest worth within the budget; of equals the fastest.

    Raises:
        UserError: if none fits; the fastest is named with its time.
    """
    fitting = [name for name in ms if ms[name] <= budget_ms]
    if not fitting:
        fastest = min(ms, key=lambda name: ms[name])
        raise UserError(
            f"no tier fits {budget_ms:g} ms on this device; the fastest, {fastest}, takes "
            f"{ms[fastest]:.3g} ms; raise the budget or export a cheaper tier"
        )
    return max(fitting, key=lambda name: (worth[name], -ms[name]))


def check_budget(budget_ms: float) -> None:
    """Raises UserError unless it is a number of milliseconds above 0."""
    if not 0 < budget_ms < math.inf:
        raise UserError(f"a budget must be a number of milliseconds above 0, got {budget_ms}")
