"""The short encoders that PipeNet chooses from, one per modality; each keeps only its early layers.

He, Zhang, Ren, Sun. "Deep Residual Learning for Image Recognition", 2016. arXiv 1512.03385
Xie, Girshick, Dollár, Tu, He. "Aggregated Residual Transformations", 2017. arXiv 1611.05431
Hu, Shen, Sun. "Squeeze-and-Excitation Networks", 2018. arXiv 1709.01507
Chollet. "Xception: Deep Learning with Depthwise Separable Convolutions", 2017. arXiv 1610.02357

The cuts are those in the code of PipeNet's authors; which one their winning submission used per
modality is not known. Departures: ReLU is never in place.

Shapes: B = batch, C = 3 channels in, D = channels out, H, W = height and width in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Pipeline:
    """An entry of the pool."""

    build: Callable[[int], nn.Module]
    """Makes the encoder for that many input channels."""
    channels: int
    """D, what it gives."""


class SqueezeExcite(nn.Module):
    """x times a gate per channel; the gate sees the channels' means (Hu et al., eq. 2 to 4).

    Args:
        channels: Of x.
        reduction: Hidden channels are channels / reduction.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),  # eq. 2
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),  # eq. 3
            nn.Sigmoid(),
        )

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        return x * self.gate(x)  # eq. 4


class Residual(nn.Module):
    """ReLU(body(x) + shortcut(x)); the shortcut is a 1x1 convolution where shapes differ.

    Args:
        body: Without a final activation.
        shortcut: None: x itself.
        activate: Whether the sum goes through a ReLU.
    """

    def __init__(
        self, body: nn.Module, shortcut: nn.Module | None, *, activate: bool = True
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut if shortcut is not None else nn.Identity()
        self.last = nn.ReLU() if activate else nn.Identity()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return self.last(self.body(x) + self.shortcut(x))


def conv_bn(
    channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    """Convolution, batch norm and, if asked, ReLU; half of the kernel is padded."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return [*layers, nn.ReLU()] if relu else layers


def basic_block(channels: int, out: int, stride: int = 1) -> Residual:
    """ResNet's block of two 3x3 convolutions."""
    body = nn.Sequential(
        *conv_bn(channels, out, 3, stride=stride), *conv_bn(out, out, 3, relu=False)
    )
    return Residual(body, _shortcut(channels, out, stride))


def basic_stage(channels: int, out: int, *, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` basic blocks, the first with the stride."""
    rest = [basic_block(out, out) for _ in range(blocks - 1)]
    return nn.Sequential(basic_block(channels, out, stride), *rest)


def resnet18_short(in_channels: int) -> nn.Sequential:
    """ResNet-18 to its second stage: 128 channels at 1/8; a batch norm on the input, max-pooling
    of 2 where the original has 3.
    """
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        *conv_bn(in_channels, 64, 7, stride=2),
        nn.MaxPool2d(2, 2),
        basic_stage(64, 64, blocks=2, stride=1),
        basic_stage(64, 128, blocks=2, stride=2),
    )


def _shortcut(channels: int, out: int, stride: int, kernel: int = 1) -> nn.Sequential | None:
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(*conv_bn(channels, out, kernel, stride=stride, relu=False))


def _se_block(
    channels: int, widths: tuple[int, int, int], *, groups: int, stride: int, kernel: int = 1
) -> Residual:
    """1x1, grouped 3x3, 1x1, squeeze and excite; `kernel` is the shortcut's."""
    first, middle, out = widths
    body = nn.Sequential(
        *conv_bn(channels, first, 1),
        *conv_bn(first, middle, 3, stride=stride, groups=groups),
        *conv_bn(middle, out, 1, relu=False),
        SqueezeExcite(out),
    )
    return Residual(body, _shortcut(channels, out, stride, kernel))


def _se_stage(
    channels: int,
    widths: tuple[int, int, int],
    *,
    blocks: int,
    groups: int,
    stride: int,
    kernel: int,
) -> nn.Sequential:
    first = _se_block(channels, widths, groups=groups, stride=stride, kernel=kernel)
    rest = [_se_block(widths[2], widths, groups=groups, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def se_resnext_short(in_channels: int, stages: tuple[int, ...]) -> nn.Sequential:
    """SE-ResNeXt (32 groups of width 4) with one or two stages of so many blocks."""
    layers: list[nn.Module] = [
        *conv_bn(in_channels, 64, 7, stride=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _se_stage(64, (128, 128, 256), blocks=stages[0], groups=32, stride=1, kernel=1),
    ]
    if len(stages) > 1:
        layers.append(
            _se_stage(256, (256, 256, 512), blocks=stages[1], groups=32, stride=2, kernel=1)
        )
    return nn.Sequential(*layers)


def senet154_short(in_channels: int) -> nn.Sequential:
    """SENet-154 (64 groups, three 3x3 convolutions first) with two stages of one block."""
    return nn.Sequential(
        *conv_bn(in_channels, 64, 3, stride=2),
        *conv_bn(64, 64, 3),
        *conv_bn(64, 128, 3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _se_stage(128, (128, 256, 256), blocks=1, groups=64, stride=1, kernel=1),
        _se_stage(256, (256, 512, 512), blocks=1, groups=64, stride=2, kernel=3),
    )


def _separable(channels: int, out: int) -> list[nn.Module]:
    """ReLU, depthwise 3x3, pointwise, batch norm."""
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
    ]


def _xception_block(channels: int, out: int, *, repeats: int, stride: int) -> Residual:
    layers = [*_separable(channels, out)]
    for _ in range(repeats - 1):
        layers += _separable(out, out)
    if stride > 1:
        layers.append(nn.MaxPool2d(3, stride, 1))
    return Residual(nn.Sequential(*layers), _shortcut(channels, out, stride), activate=False)


def xception_short(in_channels: int) -> nn.Sequential:
    """Xception with nine narrow blocks: 512 channels at 1/8; its two first convolutions have no
    padding, as in the original.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 32, 3, 2, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        _xception_block(64, 128, repeats=2, stride=2),
        _xception_block(128, 128, repeats=2, stride=2),
        *(_xception_block(128, 128, repeats=3, stride=1) for _ in range(6)),
        _xception_block(128, 512, repeats=2, stride=1),
    )


PIPELINES: dict[str, Pipeline] = {
    "resnet18": Pipeline(resnet18_short, 128),
    "se_resnext_2": Pipeline(lambda c: se_resnext_short(c, (2,)), 256),
    "se_resnext_2_4": Pipeline(lambda c: se_resnext_short(c, (2, 4)), 512),
    "se_resnext_3_4": Pipeline(lambda c: se_resnext_short(c, (3, 4)), 512),
    "senet154": Pipeline(senet154_short, 512),
    "xception": Pipeline(xception_short, 512),
}
"""By name; for other encoders give PipeNet the module itself."""
