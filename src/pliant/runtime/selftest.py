"""Does this device give the scores that the bundle promises?"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.contract import BundleTier, Contract
from pliant.runtime.given import check_box, network_input
from pliant.runtime.images import BadImage, decode_image
from pliant.runtime.session import Loaded

MAX_GOLDEN_PIXELS = 4_000_000
"""A golden image is drawn, not photographed."""
MAX_GOLDEN_SQUARE_PX = 4096


@dataclass(frozen=True, kw_only=True)
class TierTest:
    """One tier on the golden images."""

    tier: str
    max_difference: float
    """Largest difference of a probability from the promised one; NaN: a score was not finite."""
    flips: int
    """Golden images with another verdict (for other tasks: another class)."""
    passed: bool
    """Neither a flip nor a difference above the tolerance."""


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """What the self-test found."""

    tiers: tuple[TierTest, ...]
    num_images: int
    tolerance: float
    """Largest difference of a probability that passes."""

    @property
    def passed(self) -> bool:
        """Whether every tier passed."""
        return all(tier.passed for tier in self.tiers)

    def require(self) -> None:
        """Raises UserError unless every tier passed."""
        failed = [tier for tier in self.tiers if not tier.passed]
        if failed:
            raise UserError(
                f"the self-test failed in tier {failed[0].tier}: scores of the golden images "
                f"differ by {failed[0].max_difference:.2g} (allowed: {self.tolerance:g}) and "
                f"{failed[0].flips} verdicts flip; the file is damaged or this device computes "
                "differently; export it again, and do not use its verdicts here"
            )


def run_self_test(
    contract: Contract, read: Callable[[str], bytes], load: Callable[[str], Loaded]
) -> SelfTest:
    """Every tier on every golden image, each on its real way from the PNG to the probabilities.

    Args:
        contract: What is promised.
        read: The bytes of a file of the bundle.
        load: A tier, ready to run.

    Raises:
        UserError: if an image is no PNG, too large or damaged, a box does not fit it, or a tier
            cannot be created or run. A wrong score is a result and not an error.
    """
    inputs = [_input(contract, golden.file, golden.box, read) for golden in contract.golden]
    tests = []
    for tier in contract.tiers:
        loaded = load(tier.name)
        found = np.concatenate([loaded.probabilities(one) for one in inputs])
        promised = np.array([golden.probabilities[tier.name] for golden in contract.golden])
        tests.append(_compare(tier, found, promised, contract))
    return SelfTest(tiers=tuple(tests), num_images=len(inputs), tolerance=contract.tolerance)


def _input(
    contract: Contract,
    file: str,
    box: tuple[float, float, float, float] | None,
    read: Callable[[str], bytes],
) -> NDArray[np.float32]:
    data = read(file)
    if not data.startswith(b"\x89PNG"):
        raise UserError(f"{file} is no PNG image; the bundle is damaged")
    try:
        image = decode_image(data, max_pixels=MAX_GOLDEN_PIXELS)
    except BadImage as problem:
        raise UserError(f"{file} cannot be used: {problem}") from problem
    box = None if box is None else check_box(box)
    return network_input(image, box, contract.preprocessing, most=MAX_GOLDEN_SQUARE_PX)


def _compare(
    tier: BundleTier,
    found: NDArray[np.float64],
    promised: NDArray[np.float64],
    contract: Contract,
) -> TierTest:
    """Both (N, classes)."""
    difference = float(np.abs(found - promised).max())  # NaN stays NaN, and passes nothing
    if contract.task != "pad":
        flips = found.argmax(axis=1) != promised.argmax(axis=1)
    elif tier.threshold is not None:
        flips = (found[:, 1] >= tier.threshold) != (promised[:, 1] >= tier.threshold)
    else:
        flips = np.zeros(len(found), bool)
    count = int(flips.sum())
    passed = math.isfinite(difference) and difference <= contract.tolerance and not count
    return TierTest(tier=tier.name, max_difference=difference, flips=count, passed=passed)
