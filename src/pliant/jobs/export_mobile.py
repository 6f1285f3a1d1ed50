"""The phones' half of `pliant export --target executorch|litert`: one file, a method per tier."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError
from pliant.export.executorch import executorch_bytes, run_executorch
from pliant.export.litert import litert_bytes, run_litert
from pliant.export.mobile import method_name
from pliant.export.parity import TOLERANCE, count_flips, logits
from pliant.train.run_folder import Run

Write = Callable[[AdaptiveNetwork, Sequence[str], Sequence[int]], bytes]
Ask = Callable[[Path, str, np.ndarray], np.ndarray]

TARGETS: dict[str, tuple[str, Write, Ask]] = {
    "executorch": ("model.pte", executorch_bytes, run_executorch),
    "litert": ("model.tflite", litert_bytes, run_litert),
}
"""Name of the file, what makes its bytes, and what asks it for logits."""


def mobile_model(
    run: Run, target: str, golden: np.ndarray
) -> tuple[str, bytes, dict[str, dict[str, Any]]]:
    """Name and bytes of the model's file, and each tier's parity in the target's own run time.

    Args:
        run: An opened run.
        target: One of `TARGETS`.
        golden: Inputs, float32 (B, 3, size, size); the file takes them one at a time.

    Raises:
        UserError: if the target's packages are missing, or a logit differs too much.
    """
    name, make, ask = TARGETS[target]
    tiers = list(run.tiers)
    data = make(run.model, tiers, (1, *golden.shape[1:]))
    records: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        for tier in tiers:
            here, there = logits(run.model, tier, golden), ask(path, method_name(tier), golden)
            stored = run.tiers[tier].threshold
            records[tier] = {
                "max_abs_logits": float(np.abs(here - there).max()),
                "images": len(golden),
                "flips": count_flips(here, there, stored and stored.value),
                "method": method_name(tier),
            }
    for tier, record in records.items():
        worst, flips = record["max_abs_logits"], record["flips"]
        if not worst <= TOLERANCE or flips:  # a difference that is no number must not pass
            raise UserError(
                f"{target} computes logits of {tier} that differ by up to {worst:.2g} (allowed "
                f"{TOLERANCE:g}), with {flips} other decisions; nothing was written"
            )
    return name, data, records
