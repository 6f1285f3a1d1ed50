"""How long a bundle takes on this device: to open, to switch, from a face's box to its score."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pliant.errors import UserError
from pliant.runtime.bundle import Bundle
from pliant.runtime.latencies import device_key
from pliant.runtime.pick import measure

OPENINGS = 3
"""How often the bundle is opened anew; medians are reported."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A bundle that was opened anew, and its times in milliseconds."""

    bundle: Bundle
    open_ms: float
    """Reading, checking every hash, and a session for the default tier."""
    first_use_ms: dict[str, float] = field(default_factory=dict)
    """Switching to each tier for the first time: a session is created."""
    switch_ms: dict[str, float] = field(default_factory=dict)
    """Switching to it again."""


def bench(file: Path, *, runs: int, threads: int, public_key: str | None = None) -> dict[str, Any]:
    """Milliseconds, with what they depend on.

    Args:
        file: A bundle.
        runs: Timed images per tier, >= 1; the tiers take turns.
        threads: CPU threads inside an operator.
        public_key: Whose signature is demanded.

    Raises:
        UserError: for runs < 1, or a bundle that cannot be opened.
    """
    if runs < 1:
        raise UserError(f"runs must be at least 1, got {runs}")
    openings = [_opening(file, threads, public_key) for _ in range(OPENINGS)]
    bundle = openings[-1].bundle
    times = measure(bundle, runs=runs)
    rows = [
        {
            "tier": tier.name,
            "configuration": tier.configuration,
            "macs": tier.macs,
            "median_ms": float(np.median(times[tier.name])),
            "p90_ms": float(np.percentile(times[tier.name], 90)),
            "runs": len(times[tier.name]),
            "first_use_ms": None
            if tier.name == bundle.contract.default_tier
            else median(one.first_use_ms[tier.name] for one in openings),
            "switch_ms": median(one.switch_ms[tier.name] for one in openings),
        }
        for tier in bundle.contract.tiers
    ]
    return {
        "file": file,
        "input_px": bundle.contract.preprocessing.size,
        "open_ms": median(one.open_ms for one in openings),
        "tiers": rows,
        **device_key(bundle.sha256, threads),
    }


def _opening(file: Path, threads: int, public_key: str | None) -> Opening:
    begun = time.perf_counter()
    bundle = Bundle.open(file, threads=threads, self_test=False, public_key=public_key)
    opened = Opening(bundle=bundle, open_ms=1000 * (time.perf_counter() - begun))
    for tier in bundle.contract.tiers:
        opened.first_use_ms[tier.name] = _ms(bundle.use, tier.name)
        bundle.use(bundle.contract.default_tier)
        bundle.use(tier.name)  # the last few sessions are kept, this one among them
        opened.switch_ms[tier.name] = _ms(bundle.use, tier.name)
    return opened


def _ms(call: Callable[[str], None], name: str) -> float:
    begun = time.perf_counter()
    call(name)
    return 1000 * (time.perf_counter() - begun)


def summary(result: Mapping[str, Any]) -> list:
    """One row per tier."""
    from rich.table import Table

    threads = result["threads"]
    title = f"{result['input_px']} px, batch 1, {threads} thread{'s' * (threads > 1)}"
    head = ("tier", "MMACs", "median ms", "p90 ms", "first switch ms", "again ms")
    table = Table(*head, title=f"{title}, ONNX Runtime {result['onnxruntime']}")
    for row in result["tiers"]:
        first = row["first_use_ms"]
        table.add_row(
            row["tier"],
            f"{row['macs'] / 1e6:.1f}",
            f"{row['median_ms']:.2f}",
            f"{row['p90_ms']:.2f}",
            "at opening" if first is None else f"{first:.1f}",
            f"{row['switch_ms']:.3f}",
        )
    return [
        table,
        f"opened in {result['open_ms']:.0f} ms on {result['processor']}",
        "A time is from a face's box to its score; finding the face is not in it.",
        "The first switch to a tier prepares it; again, it is kept ready, and nothing is done.",
    ]
