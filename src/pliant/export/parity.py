"""Does the exported file compute what the network does? Tiers, presets, random configurations."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pliant.adaptive.configuration import PRESETS, preset
from pliant.adaptive.modes import evaluating
from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError
from pliant.export.onnx import AdaptiveOnnx
from pliant.export.static import INPUT, OUTPUT

TOLERANCE = 1e-4
"""Largest difference of a logit that an export may have."""
NUM_RANDOM = 50
"""Random configurations that are compared besides the tiers and presets."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """PyTorch against ONNX Runtime for one configuration."""

    max_abs_logits: float
    """Largest difference of a logit."""
    images: int
    """Compared."""
    flips: int
    """Of them, images whose decision differs; 0 where the configuration decides nothing."""


def session(data: bytes, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def configurations(network: AdaptiveNetwork, *, num_random: int = NUM_RANDOM) -> list[str]:
    """Names of all tiers, every preset's letters, and random letters; the same ones every time."""
    n, letters = network.num_blocks, network.letters
    draw = random.Random(0)
    if not n:  # a plain network: its tiers are all it has
        return list(network.tiers)
    presets = [str(preset(name, n, letters)) for name in PRESETS]
    drawn = ["".join(draw.choice(letters) for _ in range(n)) for _ in range(num_random)]
    return [*network.tiers, *dict.fromkeys(presets + drawn)]


def logits(network: AdaptiveNetwork, what: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What PyTorch computes, float32 (B, K)."""
    with torch.inference_mode(), evaluating(network), network.use(what):
        device = next(network.parameters()).device
        return network(torch.from_numpy(images).to(device)).cpu().numpy()


def check_parity(
    network: AdaptiveNetwork,
    exported: AdaptiveOnnx,
    images: NDArray[np.float32],
    *,
    thresholds: Mapping[str, float | None],
    what: Iterable[str] | None = None,
) -> dict[str, Parity]:
    """Parity of every configuration that is asked for.

    Args:
        network: What was exported.
        exported: The file.
        images: Inputs, float32 (B, C, H, W).
        thresholds: By tier; a tier with None decides by its most probable class.
        what: Tier names and letters; None: `configurations`.

    Raises:
        UserError: if a logit is off by more than `TOLERANCE`, or a decision differs.
    """
    found: dict[str, Parity] = {}
    for name in configurations(network) if what is None else what:
        tier = name if name in network.tiers else None
        letters = str(network.configuration_of(name))
        run = session(exported.configured(letters, tier)).run
        there = np.asarray(run([OUTPUT], {INPUT: images})[0])
        here = logits(network, name, images)
        flips = 0
        if tier is not None:
            flips = count_flips(here, there, thresholds[tier])
        parity = Parity(
            max_abs_logits=float(np.abs(here - there).max()), images=len(images), flips=flips
        )
        # not "> tolerance": a difference that is no number must not pass
        if not parity.max_abs_logits <= TOLERANCE or parity.flips:
            raise UserError(
                f"the export of {name} differs from the network: logits by up to "
                f"{parity.max_abs_logits:.2g} (allowed {TOLERANCE:g}), {flips} other decisions on "
                f"{len(images)} images; nothing was written"
            )
        found[name] = parity
    return found


def softmax(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of logits, (B, K)."""
    shifted = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def count_flips(
    here: NDArray[np.float32], there: NDArray[np.float32], threshold: float | None
) -> int:
    """Images that two computations decide differently, from their logits, (B, K) each."""
    return int((_accepts(here, threshold) != _accepts(there, threshold)).sum())


def _accepts(values: NDArray[np.float32], threshold: float | None) -> NDArray[np.int64]:
    """The decision per image: accepted or not; without a threshold the most probable class."""
    if threshold is None:
        return values.argmax(axis=1)
    return (softmax(values)[:, 1] >= threshold).astype(np.int64)
