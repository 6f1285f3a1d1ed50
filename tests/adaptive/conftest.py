"""Small networks that the tests of this folder share."""

import pytest
import torch

from pliant.adaptive.network import AdaptiveNetwork, pta_mobilenet_v2


@pytest.fixture
def network() -> AdaptiveNetwork:
    """A narrow PTA MobileNetV2 in eval mode whose batch norms have seen something."""
    torch.manual_seed(0)
    net = pta_mobilenet_v2(width=0.1, num_classes=3)
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return net.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
