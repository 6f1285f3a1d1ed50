"""FFL's fusion module: the sub-networks' last feature maps become one classifier.

Kim, Hyun, Chung, Kwak. "Feature Fusion for Online Mutual Knowledge Distillation", ICPR 2020.
https://arxiv.org/abs/1904.09058; the layers are those of the authors' code (FFL-pytorch).

Departures: any number of maps of any channels and sizes (the code has two of 64 channels at 8x8):
maps are averaged down to the smallest height and width, the pointwise convolution gives as many
channels as the widest map has. Pooling is global, which is the same at 8x8.

Shapes: B = batch, D = channels of the image, S = side, C = channels, H, W = a map's height and
width, K = classes, N = sub-networks.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.distill.peers import Peers
from pliant.models.cifar_resnet import init_weights


class FusionModule(nn.Module):
    """Depthwise 3x3, pointwise 1x1, mean over pixels, linear; 16,228 parameters in the paper's net.

    Args:
        channels: C_k of every map.
        num_classes: K.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        total, out = sum(channels), max(channels)
        self.channels = tuple(channels)
        self.depthwise = nn.Sequential(
            nn.Conv2d(total, total, 3, padding=1, groups=total, bias=False),
            nn.BatchNorm2d(total),
            nn.ReLU(),
        )
        self.pointwise = nn.Sequential(
            nn.Conv2d(total, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
        )
        self.classifier = nn.Linear(out, num_classes)
        init_weights(self)

    def forward(self, maps: Sequence[Tensor]) -> Float[Tensor, "B K"]:
        """Logits of the fused classifier.

        Raises:
            ValueError: if the maps are not those that the module was made for.
        """
        if tuple(one.shape[1] for one in maps) != self.channels:
            raise ValueError(
                f"the fusion module needs maps of {self.channels} channels, got "
                f"{tuple(tuple(one.shape) for one in maps)}"
            )
        fused = self.pointwise(self.depthwise(concatenate(maps)))
        return self.classifier(fused.mean((2, 3)))


def concatenate(maps: Sequence[Tensor]) -> Float[Tensor, "B C H W"]:
    """All maps along the channels, each averaged down to the smallest height and width of any."""
    size = (min(one.shape[2] for one in maps), min(one.shape[3] for one in maps))
    even = [m if m.shape[2:] == size else F.adaptive_avg_pool2d(m, size) for m in maps]
    return torch.cat(even, dim=1)


class FusedClassifier(nn.Module):
    """All sub-networks and their fusion, images to logits: N times the cost of one of them."""

    def __init__(self, peers: Peers, fusion: FusionModule) -> None:
        super().__init__()
        self.peers = peers
        self.fusion = fusion

    def forward(self, images: Float[Tensor, "B D S1 S2"]) -> Float[Tensor, "B K"]:
        return self.fusion(self.peers(images).maps)
