"""The CIFAR ResNet: the published parameter counts, shapes, start, slices."""

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pliant.models.cifar_resnet import (
    DEPTHS,
    BasicBlock,
    CifarResNet,
    cifar_resnet,
    resnet20,
    resnet32,
    resnet56,
    resnet110,
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def by_hand(depth: int, classes: int) -> int:
    """3x3 convolutions and norms, counted from the paper's table, with 1x1 shortcuts."""
    n = (depth - 2) // 6
    total = 3 * 16 * 9 + 2 * 16
    for channels, out in ((16, 16), (16, 32), (32, 64)):
        for block in range(n):
            before = channels if block == 0 else out
            total += 9 * before * out + 9 * out * out + 4 * out
            if before != out:
                total += before * out + 2 * out
    return total + 65 * classes


@pytest.mark.parametrize(("depth", "parameters"), [(32, 472_756), (56, 861_620)])
def test_parameter_counts_of_the_ffl_code(depth: int, parameters: int):
    assert count(cifar_resnet(depth, num_classes=100)) == parameters


@pytest.mark.parametrize(
    ("build", "depth"), list(zip((resnet20, resnet32, resnet56, resnet110), DEPTHS, strict=True))
)
def test_named_depths(build, depth: int):
    net = build(num_classes=10)
    assert count(net) == by_hand(depth, 10)
    convolutions = [
        m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    assert len(convolutions) + 1 == depth  # and the linear layer


def test_maps_and_logits():
    torch.manual_seed(0)
    net = resnet20(num_classes=7).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert net.map_of(x).shape == (2, 64, 8, 8)
        torch.testing.assert_close(net.classifier(net.features_of(x)), net(x))
        assert net(torch.randn(1, 3, 64, 48)).shape == (1, 7)


def test_a_block_by_the_slow_way():
    torch.manual_seed(0)
    block = BasicBlock(4, 6, 2).eval().double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)

    def norm(bn, t):
        scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        return (t - bn.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + bn.bias.view(
            1, -1, 1, 1
        )

    hidden = norm(block.bn1, F.conv2d(x, block.conv1.weight, stride=2, padding=1)).clamp(min=0)
    body = norm(block.bn2, F.conv2d(hidden, block.conv2.weight, padding=1))
    shortcut = norm(block.downsample[1], F.conv2d(x, block.downsample[0].weight, stride=2))
    torch.testing.assert_close(block(x), (body + shortcut).clamp(min=0))
    assert BasicBlock(4, 4).downsample is None


def test_start():
    torch.manual_seed(0)
    net = resnet56()
    conv = net.get_submodule("layer3.8.conv2")
    assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert all(
        bool((m.weight == 1).all() and (m.bias == 0).all())
        for m in net.modules()
        if isinstance(m, nn.BatchNorm2d)
    )


def test_keys_are_torchvisions_and_slices_join_to_the_network():
    torch.manual_seed(0)
    net = cifar_resnet(8, num_classes=5).eval()
    assert {"conv1.weight", "layer2.0.downsample.0.weight", "fc.bias"} <= set(net.state_dict())
    trunk, branch = net[:5], net[5:]
    assert list(dict(branch.named_children())) == ["layer3", "avgpool", "flatten", "fc"]
    joined = CifarResNet(OrderedDict([*trunk.named_children(), *branch.named_children()]))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(joined(x), net(x))
    assert list(joined.state_dict()) == list(net.state_dict())


@pytest.mark.parametrize("depth", [2, 9, 19, 34, -4])
def test_other_depths_are_refused(depth: int):
    with pytest.raises(ValueError, match="needs a depth of 6n\\+2"):
        cifar_resnet(depth)


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes and in_channels >= 1, got 0 and 3"):
        cifar_resnet(8, num_classes=0)
