"""PipeNet: an encoder of its own for each modality, fused by residual stages.

Yang, Zhu, Fwu, Ye, You, Zhu. "PipeNet: Selective Modal Pipeline of Fusion Network for Multi-Modal
Face Anti-Spoofing", CVPR Workshops 2020. https://arxiv.org/abs/2004.11744; details from the
authors' code (pipenet-pytorch), whose modalities all go through one trunk: `share_trunk=True` is
that.

Departures: any number of modalities and any encoder; features are pooled to the smallest of their
sizes, so that different encoders fit together; trunks are separate unless told otherwise, as the
paper's title says and its code does not. A shared trunk sees the modalities as one batch, so that
its batch norms learn the mixture that they will meet; the authors' code runs it once for each.

A missing modality is an image of zeros, which is also what modal feature erasing trains for.

Shapes: B = batch, M = modalities, H, W = height and width in pixels, K = classes.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.models.pipelines import PIPELINES, Pipeline, SqueezeExcite, basic_stage

MODALITIES = ("colour", "depth", "infrared")
CHANNELS = 3
"""Of every modality; depth and infrared are repeated."""


class PipeNet(nn.Module):
    """Made by `pipenet`.

    Args:
        pipelines: By modality: the encoder and its output channels; one module may serve several.
        num_classes: K.
        dropout: Before the head, 0 to below 1.
    """

    def __init__(
        self, pipelines: Mapping[str, tuple[nn.Module, int]], *, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.modalities = tuple(pipelines)
        first: dict[int, str] = {}  # a shared encoder stands under the first name that has it
        self.trunk_of = {
            name: first.setdefault(id(trunk), name) for name, (trunk, _) in pipelines.items()
        }
        self.trunks = nn.ModuleDict({name: pipelines[name][0] for name in first.values()})
        self.excite = nn.ModuleDict(
            {name: SqueezeExcite(channels) for name, (_, channels) in pipelines.items()}
        )
        fused = sum(channels for _, channels in pipelines.values())
        self.fusion = nn.Sequential(
            basic_stage(fused, 256, blocks=2, stride=2),
            basic_stage(256, 512, blocks=2, stride=2),
        )
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, num_classes)
        )

    def maps_of(self, x: Float[Tensor, "B 3M H W"]) -> dict[str, Tensor]:
        """By modality: what its encoder and gate give, (B, D, h, w)."""
        images = dict(zip(self.modalities, self.split(x), strict=True))
        maps: dict[str, Tensor] = {}
        for key, trunk in self.trunks.items():
            names = [name for name in self.modalities if self.trunk_of[name] == key]
            found = trunk(torch.cat([images[name] for name in names]))
            maps |= dict(zip(names, found.chunk(len(names)), strict=True))
        return {name: self.excite[name](maps[name]) for name in self.modalities}

    def fuse(self, maps: Mapping[str, Tensor]) -> Float[Tensor, "B 512"]:
        """What the head sees of all modalities' maps."""
        parts = [maps[name] for name in self.modalities]
        size = min((part.shape[2], part.shape[3]) for part in parts)
        even = [p if p.shape[2:] == size else F.adaptive_avg_pool2d(p, size) for p in parts]
        return self.fusion(torch.cat(even, dim=1)).mean((2, 3))

    def features_of(self, x: Float[Tensor, "B 3M H W"]) -> Float[Tensor, "B 512"]:
        """What the head sees."""
        return self.fuse(self.maps_of(x))

    def forward(self, x: Float[Tensor, "B 3M H W"]) -> Float[Tensor, "B K"]:
        return self.head(self.features_of(x))

    def of_subsets(
        self, x: Float[Tensor, "B 3M H W"], chosen: Sequence[Sequence[str]]
    ) -> list[Float[Tensor, "B K"]]:
        """The logits with each choice of modalities, the others zeros; see `without`.

        Every image is encoded once, and zeros once for all. In eval mode alone: batch norms of a
        training step would see other batches.
        """
        seen, blank = self.maps_of(x), self.maps_of(torch.zeros_like(x[:1]))
        return [
            self.head(
                self.fuse({n: seen[n] if n in kept else blank[n].expand_as(seen[n]) for n in seen})
            )
            for kept in chosen
        ]

    def split(self, x: Float[Tensor, "B 3M H W"]) -> tuple[Tensor, ...]:
        """The modalities' images, (B, 3, H, W) each.

        Raises:
            ValueError: if the channels are not three for each modality.
        """
        if x.shape[1] != CHANNELS * len(self.modalities):
            raise ValueError(
                f"PipeNet with {', '.join(self.modalities)} needs "
                f"{CHANNELS * len(self.modalities)} channels, got {x.shape[1]}"
            )
        return x.split(CHANNELS, dim=1)


def pipenet(
    pipelines: Mapping[str, str | tuple[nn.Module, int]] | None = None,
    *,
    share_trunk: bool = False,
    num_classes: int = 2,
    dropout: float = 0.5,
) -> PipeNet:
    """A PipeNet with random weights of torch's global seed.

    Args:
        pipelines: By modality, in the order of the input's channels: a name in `PIPELINES`, or an
            encoder and its output channels. None: ResNet-18 for colour, depth and infrared, which
            is the published network.
        share_trunk: One encoder for all modalities; they must name the same one.
        num_classes: K.
        dropout: Before the head, 0 to below 1.

    Raises:
        ValueError: if a name is unknown, there is no modality, or a shared trunk has several names.
    """
    chosen = dict.fromkeys(MODALITIES, "resnet18") if pipelines is None else dict(pipelines)
    if not chosen or num_classes < 1 or not 0 <= dropout < 1:
        raise ValueError(
            "pipenet needs a modality, num_classes >= 1 and dropout in [0, 1), "
            f"got {list(chosen)}, {num_classes} and {dropout}"
        )
    if share_trunk and (len(set(map(str, chosen.values()))) > 1):
        raise ValueError("share_trunk needs the same pipeline for every modality")
    built: dict[str, tuple[nn.Module, int]] = {}
    for name, what in chosen.items():
        if share_trunk and built:
            built[name] = next(iter(built.values()))
        elif isinstance(what, str):
            entry = _entry(what)
            built[name] = (entry.build(CHANNELS), entry.channels)
        else:
            built[name] = what
    return PipeNet(built, num_classes=num_classes, dropout=dropout)


def subsets(modalities: Sequence[str] = MODALITIES) -> list[tuple[str, ...]]:
    """Every choice of at least one modality, the single ones first: seven for three."""
    counts = range(1, len(modalities) + 1)
    return [chosen for count in counts for chosen in combinations(modalities, count)]


def without(
    x: Float[Tensor, "B 3M H W"], kept: Sequence[str], modalities: Sequence[str] = MODALITIES
) -> Float[Tensor, "B 3M H W"]:
    """The input with the images of all other modalities set to zero.

    Raises:
        ValueError: if a kept modality is unknown.
    """
    if unknown := set(kept) - set(modalities):
        raise ValueError(f"unknown modalities {sorted(unknown)}; known: {', '.join(modalities)}")
    mask = torch.tensor([name in kept for name in modalities], device=x.device)
    return x * mask.repeat_interleave(CHANNELS).view(1, -1, 1, 1)


def _entry(name: str) -> Pipeline:
    if name not in PIPELINES:
        raise ValueError(f"unknown pipeline {name!r}; known: {', '.join(PIPELINES)}")
    return PIPELINES[name]
