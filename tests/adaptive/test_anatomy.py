"""Inverted residuals of other libraries, recognised by structure: look-alikes, and impostors."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pliant.adaptive.anatomy import anatomy, light_branch
from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import make_adaptive
from pliant.models.mobilenet_v2 import InvertedResidual as OurInvertedResidual


class ConvNormAct(nn.Sequential):
    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1):
        conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out), nn.ReLU6(inplace=True))


class Torchvision2(nn.Module):
    """Like torchvision's MobileNetV2 block."""

    def __init__(self, channels: int, out: int, stride: int, t: int) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and channels == out
        hidden = channels * t
        layers: list[nn.Module] = [] if t == 1 else [ConvNormAct(channels, hidden, 1)]
        layers += [ConvNormAct(hidden, hidden, 3, stride, hidden)]
        layers += [nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, 4, 1)
        self.conv_expand = nn.Conv2d(4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.conv_expand(self.conv_reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Torchvision3(nn.Module):
    """Like torchvision's MobileNetV3 block: `block`, squeeze-and-excitation, in-place sum."""

    def __init__(self, channels: int, out: int, stride: int, t: int) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and channels == out
        hidden = channels * t
        self.block = nn.Sequential(
            ConvNormAct(channels, hidden, 1),
            ConvNormAct(hidden, hidden, 5, stride, hidden),
            Squeeze(hidden),
            nn.Sequential(nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.block(x)
        if self.use_res_connect:
            result += x
        return result


class BatchNormAct2d(nn.BatchNorm2d):
    """Like timm's: the activation lives in the norm."""

    def __init__(self, channels: int, act: bool = True) -> None:
        super().__init__(channels)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )
        return self.act(x)


class Timm(nn.Module):
    """Like timm's InvertedResidual, with or without `se` and separate activations."""

    def __init__(self, channels: int, out: int, stride: int, t: int, old: bool = False) -> None:
        super().__init__()
        hidden = channels * t
        self.old = old
        if old:
            self.has_residual = stride == 1 and channels == out
        else:
            self.has_skip = stride == 1 and channels == out
        norm = nn.BatchNorm2d if old else BatchNormAct2d
        self.conv_pw = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn1 = norm(hidden)
        self.conv_dw = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = norm(hidden)
        if old:
            self.act1, self.act2 = nn.ReLU6(), nn.ReLU6()
        self.se = nn.Identity() if old else Squeeze(hidden)
        self.conv_pwl = nn.Conv2d(hidden, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out) if old else BatchNormAct2d(out, act=False)
        self.drop_path = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        x = self.bn1(self.conv_pw(x))
        x = self.act1(x) if self.old else x
        x = self.bn2(self.conv_dw(x))
        x = self.se(self.act2(x) if self.old else x)
        x = self.bn3(self.conv_pwl(x))
        if self.has_residual if self.old else self.has_skip:
            x = self.drop_path(x) + shortcut
        return x


def timm_old(channels: int, out: int, stride: int, t: int) -> nn.Module:
    return Timm(channels, out, stride, t, old=True)


KINDS = [Torchvision2, Torchvision3, Timm, timm_old]


def net(kind) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        ConvNormAct(3, 8, 3, 2),
        nn.Sequential(kind(8, 12, 2, 6), kind(12, 12, 1, 6)),
        nn.Sequential(kind(12, 12, 1, 4)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_any_tree_becomes_adaptive(kind, images: torch.Tensor):
    plain = net(kind)
    plain(images)
    before = copy.deepcopy(plain).eval()
    adaptive = make_adaptive(plain, light_start="largest").eval()
    assert adaptive.num_blocks == 3
    assert [b.residual for b in adaptive.blocks()] == [False, True, True]
    with adaptive.use("high"):
        assert torch.equal(adaptive(images), before(images))
    high = adaptive.extract("high")
    assert [type(m) for m in high.modules()] == [type(m) for m in before.modules()]
    assert list(high.state_dict()) == list(before.state_dict())
    assert torch.equal(high(images), before(images))
    calibrate(adaptive, "low", [images], name="low")
    for letters in ("low", "LHB", "BLH", "max"):
        extracted = adaptive.extract(letters)
        with adaptive.use(letters):
            assert torch.equal(adaptive(images), extracted(images))
    with adaptive.use("LBH"):
        adaptive.train()(images).sum().backward()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["largest", "rank1", "random"])
def test_light_branches_keep_the_librarys_layers(kind, start, images: torch.Tensor):
    adaptive = make_adaptive(net(kind), light_start=start)
    light = adaptive.blocks()[0].branches["light"]
    assert isinstance(light, OurInvertedResidual)
    heavy = anatomy(adaptive.blocks()[0].branches["heavy"])
    assert heavy is not None
    depthwise = light.conv[0]
    assert isinstance(depthwise, nn.Sequential)
    assert depthwise[0].kernel_size == heavy.depthwise.kernel_size
    assert depthwise[0].stride == heavy.depthwise.stride == (2, 2)
    assert depthwise[0].groups == 8
    assert depthwise[1].num_features == 8
    assert type(depthwise[2]) is type(heavy.depthwise_act)
    assert adaptive.extract("low")(images).shape == (4, 5)


def test_impostors_are_left_alone():
    assert anatomy(nn.Conv2d(3, 3, 1)) is None
    assert anatomy(ConvNormAct(3, 8, 3)) is None
    assert anatomy(Torchvision2(8, 8, 1, 1)) is None  # no expansion: it is light already
    odd = Torchvision2(8, 8, 1, 6)
    odd.conv[2] = nn.Conv2d(48, 8, 3, padding=1, bias=False)  # the projection is no 1x1
    assert anatomy(odd) is None
    nameless = Timm(8, 8, 1, 6)
    del nameless.has_skip
    assert anatomy(nameless) is None


def test_biased_convolutions_are_cut_too():
    block = Torchvision2(4, 4, 1, 6)
    for at, index in ((block.conv[0], 0), (block.conv[1], 0), (block.conv, 2)):
        old = at[index]
        at[index] = nn.Conv2d(
            old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding,
            groups=old.groups,
        )  # fmt: skip
    found = anatomy(block)
    assert found is not None
    for expand in (1, 2):
        light = light_branch(found, expand=expand)
        assert light(torch.zeros(2, 4, 5, 5)).shape == (2, 4, 5, 5)
        assert light.conv[-3][0].bias.shape == (4 * expand,)
