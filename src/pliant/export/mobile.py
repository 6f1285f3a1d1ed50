"""What the exports for ExecuTorch and LiteRT have in common: names of tiers, batches, parity."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pliant.adaptive.modes import evaluating
from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError

Model = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images (N, C, H, W) -> logits (N, K)."""
Run = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]
"""(method, images (N, C, H, W)) -> logits (N, K)."""


def method_name(tier: str) -> str:
    """`tier_` and the tier's name with `_` for `-`: what it is called inside a .pte or .tflite."""
    return "tier_" + tier.replace("-", "_")


def check_tiers(network: AdaptiveNetwork, tiers: Sequence[str]) -> None:
    """Refuses tiers that cannot stand in one file.

    Raises:
        UserError: if there is none, one is unknown, or two would have the same name.
    """
    known = ", ".join(network.tiers) or "none; calibrate one first"
    if not tiers:
        raise UserError(f"an export needs at least one tier; this network has: {known}")
    names: dict[str, str] = {}
    for tier in tiers:
        if tier not in network.tiers:
            raise UserError(f'unknown tier "{tier}"; this network has: {known}')
        name = method_name(tier)
        if name in names:
            raise UserError(
                f'the tiers "{names[name]}" and "{tier}" would both be called {name} in the file; '
                "leave one out, or calibrate it under another name"
            )
        names[name] = tier


def in_batches(
    images: NDArray[np.float32],
    shape: Sequence[int],
    one_batch: Model,
) -> NDArray[np.float32]:
    """Logits (N, K) of a model that takes inputs of one fixed shape.

    Args:
        images: (N, C, H, W), N a multiple of the model's batch.
        shape: (B, C, H, W) of the model.
        one_batch: The model.

    Raises:
        UserError: if the images do not fit.
    """
    size, *image = shape
    if images.shape[1:] != tuple(image) or len(images) == 0 or len(images) % size:
        raise UserError(
            f"this model takes batches of {size} images of shape {tuple(image)}, got an array of "
            f"shape {images.shape}"
        )
    return np.concatenate(
        [one_batch(images[start : start + size]) for start in range(0, len(images), size)]
    )


def tier_parity(
    network: AdaptiveNetwork, tiers: Sequence[str], images: NDArray[np.float32], run: Run
) -> dict[str, float]:
    """Largest difference of a logit between PyTorch and the exported file, by tier.

    A logit that is no number gives NaN, so callers refuse what is `not <= tolerance`.

    Args:
        network: What was exported.
        tiers: Names of its tiers.
        images: Inputs, float32 (N, C, H, W).
        run: The file, such as `partial(run_executorch, path)`.

    Raises:
        UserError: if a tier is unknown.
    """
    found: dict[str, float] = {}
    for tier in tiers:
        with torch.inference_mode(), evaluating(network), network.use(tier):
            device = next(network.parameters()).device
            here = network(torch.from_numpy(images).to(device)).cpu().numpy()
        found[tier] = float(np.abs(here - run(method_name(tier), images)).max())
    return found
