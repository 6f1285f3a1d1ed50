"""Choose a tier for a budget of milliseconds by running every tier on this device.

The budget is for one image from its face's box to its score: crop, preprocessing, network. Reading
the file and finding the face cost the same in every tier and are not in it. The face measured here
has 240 px; cutting out a much larger one takes longer, whatever the tier.
"""

import math
import numbers
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from pliant.runtime.latencies import device_key, forget, latency_file, remember, remembered

RUNS = 21
"""Timed calls of each tier."""
ROUNDS = 3
"""The tiers take turns: each is measured in this many bursts, so a busy second hits all."""
WARM_UP = 3
"""Untimed calls at the start of each burst: a new session allocates in its first runs."""
PROBES = 5
"""Timed calls of one tier that show whether remembered latencies were those of a busy moment."""
AGREE = 1.25
"""Rounds agree, and a probe agrees with what is remembered, within this factor."""
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


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A tier for a budget, and what it was chosen by."""

    tier: str
    ms: Mapping[str, float]
    """Milliseconds of each tier on this device, from a face's box to its score."""


def pick(bundle: Runnable, budget_ms: float, **keywords: Any) -> str:
    """Switch the bundle to its best tier within a budget; the tier's name comes back.

    Args:
        bundle: An open bundle.
        budget_ms: Most milliseconds from a face's box to its score, median of single images.
        **keywords: As `choose` takes them.

    Raises:
        UserError: if no tier fits; the fastest is named with its time.
    """
    chosen = choose(bundle, budget_ms, **keywords).tier
    bundle.use(chosen)
    return chosen


def choose(
    bundle: Runnable,
    budget_ms: float,
    *,
    runs: int = RUNS,
    cache: Path | str | None = None,
    remeasure: bool = False,
    now: Callable[[], float] = time.perf_counter,
) -> Choice:
    """The best tier within a budget; nothing is refused by remembered numbers alone.

    The best is that with the highest dev quality where every tier has one, else the costliest.

    Args:
        bundle: An open bundle; what it has in use stays.
        budget_ms: Most milliseconds from a face's box to its score, median of single images.
        runs: As for `latencies`.
        cache: As for `latencies`.
        remeasure: As for `latencies`.
        now: A clock in seconds.

    Raises:
        UserError: if no tier fits; the fastest is named with its time.
    """
    check_budget(budget_ms)
    key = _key(bundle)
    ms = None if remeasure else _known(bundle, key, runs, cache, now)
    if ms is None or min(ms.values()) > budget_ms:
        ms = _measured(bundle, key, ms, runs, cache, now)
    try:
        tier = best_within(ms, worth(bundle.contract), budget_ms)
    except UserError as problem:
        raise UserError(
            f"{problem} (measured just now; if the device was busy, try again; what is remembered "
            f"lies in {latency_file(key, cache)})"
        ) from None
    return Choice(tier=tier, ms=ms)


def latencies(
    bundle: Runnable,
    *,
    runs: int = RUNS,
    cache: Path | str | None = None,
    remeasure: bool = False,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Milliseconds of each tier on this device at its rested speed, remembered or measured.

    That is the least of the rounds' medians. It is remembered where the rounds agree; what is
    remembered is measured anew where the device shows itself faster, or more `runs` are wanted.

    Args:
        bundle: An open bundle; what it has in use stays.
        runs: Timed calls of each tier, at least.
        cache: Folder of remembered latencies; None: `pliant/latency` in the user's cache folder.
        remeasure: Forget what is remembered of this bundle, and measure.
        now: A clock in seconds.

    Raises:
        UserError: for runs < 1.
    """
    key = _key(bundle)
    ms = None if remeasure else _known(bundle, key, runs, cache, now)
    return _measured(bundle, key, None, runs, cache, now) if ms is None else ms


def _key(bundle: Runnable) -> dict[str, Any]:
    loaded = bundle.load(bundle.contract.default_tier)
    threads = loaded.session.get_session_options().intra_op_num_threads
    return device_key(bundle.sha256, threads)


def _known(
    bundle: Runnable,
    key: Mapping[str, Any],
    runs: int,
    cache: Path | str | None,
    now: Callable[[], float],
) -> dict[str, float] | None:
    """What is remembered, unless it is slower than what the default tier shows now."""
    _check_runs(runs)
    ms = remembered(key, [tier.name for tier in bundle.contract.tiers], cache, runs=runs)
    if ms is None:
        return None
    name = bundle.contract.default_tier
    shown = median(_burst(_call(bundle, name), PROBES, now))
    return None if shown * AGREE < ms[name] else ms


def _measured(
    bundle: Runnable,
    key: Mapping[str, Any],
    before: Mapping[str, float] | None,
    runs: int,
    cache: Path | str | None,
    now: Callable[[], float],
) -> dict[str, float]:
    """Measures, and remembers where the rounds agree; `before` counts where it is faster."""
    medians = {
        name: [median(turn) for turn in turns] for name, turns in _rounds(bundle, runs, now).items()
    }
    ms = {name: round(min(row), 3) for name, row in medians.items()}
    if before is not None:
        ms = {name: min(value, before[name]) for name, value in ms.items()}
    if all(max(row) <= AGREE * min(row) for row in medians.values()):
        remember(key, ms, cache, runs=runs)
    elif before is None:
        forget(key, cache)
    return ms


def measure(
    bundle: Runnable, *, runs: int = RUNS, now: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Milliseconds of every timed call of every tier; what the bundle has in use stays.

    Raises:
        UserError: for runs < 1.
    """
    turns = _rounds(bundle, runs, now)
    return {name: [ms for turn in row for ms in turn] for name, row in turns.items()}


def _rounds(bundle: Runnable, runs: int, now: Callable[[], float]) -> dict[str, list[list[float]]]:
    _check_runs(runs)
    names = [tier.name for tier in bundle.contract.tiers]
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    rounds = min(ROUNDS, runs)
    for turn in range(rounds):
        share = (turn + 1) * runs // rounds - turn * runs // rounds
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            times[name].append(_burst(_call(bundle, name), share, now))
    return times


def _check_runs(runs: int) -> None:
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise UserError(f"runs must be at least 1, got {runs}")


def _call(bundle: Runnable, name: str) -> Callable[[], None]:
    """Scores one made-up face in a tier."""
    photo = np.random.default_rng(0).integers(0, 256, (*PHOTO_SIZE, 3), dtype=np.uint8)
    box = FACE if bundle.contract.task == "pad" else None
    return partial(_score, bundle.load(name), photo, box, bundle.contract.preprocessing)


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
    number = isinstance(budget_ms, numbers.Real) and not isinstance(budget_ms, bool)
    if not number or not 0 < budget_ms < math.inf:
        raise UserError(f"a budget must be a number of milliseconds above 0, got {budget_ms!r}")
