"""ResNet for small images: depth 6n+2, three stages of 16, 32 and 64 channels.

He, Zhang, Ren, Sun. "Deep Residual Learning for Image Recognition", 2016.
https://arxiv.org/abs/1512.03385 (section 4.2).

Departure, as in the code of FFL (arXiv 1904.09058): the shortcut that changes the shape is a 1x1
convolution with batch norm (the paper's option B), where the paper's CIFAR networks pad with zeros.

State-dict keys are torchvision's. The network is an `nn.Sequential` of its stages, so two slices of
it are a trunk and a branch, and a trunk and a branch together are a network again.

Shapes: B = batch, C = channels, H, W = height and width in pixels, K = classes.
"""

import math
from collections import OrderedDict
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

DEPTHS = (20, 32, 56, 110)
"""The depths of the paper that have a name here."""


class BasicBlock(nn.Module):
    """ReLU(two 3x3 convolutions + shortcut).

    Args:
        channels: Of the input.
        out: Of the output.
        stride: Of the first convolution and of the shortcut.
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        hidden = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(hidden)) + shortcut)


class CifarResNet(nn.Sequential):
    """conv1, bn1, relu, layer1, layer2, layer3, avgpool, flatten, fc; made by `cifar_resnet`."""

    def map_of(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B C h w"]:
        """The last feature map: what `layer3` gives."""
        for name, module in self.named_children():
            x = module(x)
            if name == "layer3":
                break
        return x

    def features_of(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B C"]:
        """What the classifier sees: the last feature map, averaged over pixels."""
        return self.map_of(x).mean((2, 3))

    @property
    def classifier(self) -> nn.Linear:
        """Features to logits."""
        layer = self.get_submodule("fc")
        assert isinstance(layer, nn.Linear)
        return layer


def cifar_resnet(depth: int, *, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """A ResNet with random weights of torch's global seed.

    Args:
        depth: 6n+2 weighted layers, n >= 1 blocks in each stage: 8, 14, 20, 32, 56, 110 ...
        num_classes: K.
        in_channels: Of the image.

    Raises:
        ValueError: if the depth is no 6n+2, or a count is below 1.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(
            f"cifar_resnet needs a depth of 6n+2 (8, 14, 20, 32, 56, 110 ...), got {depth}"
        )
    if num_classes < 1 or in_channels < 1:
        raise ValueError(
            "cifar_resnet needs num_classes and in_channels >= 1, "
            f"got {num_classes} and {in_channels}"
        )
    model = CifarResNet(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            layer1=_stage(16, 16, blocks=blocks, stride=1),
            layer2=_stage(16, 32, blocks=blocks, stride=2),
            layer3=_stage(32, 64, blocks=blocks, stride=2),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, num_classes),
        )
    )
    init_weights(model)
    return model


def _stage(channels: int, out: int, *, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` basic blocks, the first with the stride."""
    rest = [BasicBlock(out, out) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(channels, out, stride), *rest)


def init_weights(model: nn.Module) -> None:
    """Fresh random weights: convolutions N(0, 2 / (k k out)), grouped ones too; norms 1 and 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels
            nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
        elif isinstance(module, (nn.BatchNorm2d, nn.Linear)):
            module.reset_parameters()


resnet20 = partial(cifar_resnet, 20)
resnet32 = partial(cifar_resnet, 32)
resnet56 = partial(cifar_resnet, 56)
resnet110 = partial(cifar_resnet, 110)
