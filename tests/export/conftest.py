"""A small adaptive network with tiers whose statistics differ; it was never trained."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import AdaptiveNetwork, pta_mobilenet_v2

SIDE = 32
TIERS = ("low", "mid", "high", "max")


def calibrated(network: AdaptiveNetwork, *, side: int = SIDE) -> AdaptiveNetwork:
    """Weights and statistics that no two batch norms share, then a calibration per tier."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias):
                tensor.data += 0.3 * torch.randn(tensor.shape, generator=generator)
    images = torch.rand(16, 3, side, side, generator=generator) * 2 - 1
    for tier in TIERS:
        calibrate(network, tier, [images], name=tier)
    return network.eval()


@pytest.fixture(scope="session")
def network() -> AdaptiveNetwork:
    """PTA-MobileNetV2, width 0.35."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return calibrated(pta_mobilenet_v2(width=0.35))


@pytest.fixture
def with_tiers() -> Callable[[AdaptiveNetwork], AdaptiveNetwork]:
    """Gives a network of one's own the four tiers."""
    return calibrated
