"""PipeNet as a run is told of it: its settings, which are flags and a record, and how it is built.

Yang, Zhu, Fwu, Ye, You, Zhu. "PipeNet", 2020. https://arxiv.org/abs/2004.11744; the defaults are
those of the authors' code, except that every modality has a trunk of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pliant.adaptive.network import AdaptiveNetwork
from pliant.data.modal_augment import ModalAugmentation
from pliant.errors import UserError
from pliant.models.pipe_patches import CROPS, PatchMean
from pliant.models.pipelines import PIPELINES
from pliant.models.pipenet import CHANNELS, MODALITIES, pipenet
from pliant.runtime.crop import Preprocessing

PIPENET = "pipenet"
"""Its name for `--model`."""
BLACK_IS_ZERO = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
"""PipeNet's input is x / 255: a missing modality must be zeros for the network too."""


@dataclass(frozen=True, kw_only=True)
class PipeNetSettings:
    """PipeNet's shape, augmentation and test crops; of no use to other models."""

    modalities: tuple[str, ...] = MODALITIES
    """Any of colour, depth, infrared."""
    pipelines: tuple[str, ...] = ("resnet18",)
    """One encoder for all, or one for each modality: resnet18, se_resnext_2, se_resnext_2_4,
    se_resnext_3_4, senet154, xception."""
    share_trunk: bool = False
    """One encoder with one set of weights for all modalities, as in the authors' code."""
    patch: int = 24
    """Side of the patch that the network sees, cut from the frame of `size` px; 16 to `size`."""
    crops: int = 36
    """Patches of a frame whose logits are averaged: 36, or 1 for the centre alone."""
    dropout: float = 0.5
    """Before the head, 0 to below 1."""
    joint: bool = False
    """Draw the augmentation once for all modalities, so that they stay registered."""
    downscale: float = 0.5
    """Probability that a training patch loses pixels, 0 to 1."""
    erase: float = 0.5
    """Probability that a modality, or all but one, becomes zeros in training, 0 to 1."""

    def __post_init__(self) -> None:
        for name in ("modalities", "pipelines"):
            given = getattr(self, name)
            words = [given] if isinstance(given, str) else given
            split = (w.strip() for entry in words for w in entry.split(",") if w.strip())
            object.__setattr__(self, name, tuple(split))  # "colour,depth" is two
        check_modalities(self.modalities, MODALITIES, "pipenet.modalities")
        for name in self.pipelines:
            if name not in PIPELINES:
                raise UserError(f'unknown pipeline "{name}"; allowed: {", ".join(PIPELINES)}')
        if len(self.pipelines) not in (1, len(self.modalities)):
            raise UserError(
                f"pipenet.pipelines needs one name, or one for each of "
                f"{', '.join(self.modalities)}; got {', '.join(self.pipelines) or 'none'}"
            )
        if self.share_trunk and len(set(self.pipelines)) > 1:
            raise UserError("pipenet.share_trunk needs one pipeline for all modalities")
        if not 16 <= self.patch <= 1024:
            raise UserError(f"pipenet.patch must lie in [16, 1024] px, got {self.patch}")
        if self.crops not in CROPS:
            raise UserError(f"pipenet.crops must be 36 or 1, got {self.crops}")
        for name in ("downscale", "erase"):
            if not 0 <= (value := getattr(self, name)) <= 1:  # nan is refused too
                raise UserError(f"pipenet.{name} must lie in [0, 1], got {value}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"pipenet.dropout must lie in [0, 1), got {self.dropout}")

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return CHANNELS * len(self.modalities)

    def check_fits(self, preprocessing: Preprocessing) -> None:
        """Refuses frames that hold no patch.

        Raises:
            UserError: if the patch is larger than the frame.
        """
        if self.patch > preprocessing.size:
            raise UserError(
                f"pipenet.patch must be at most the frame's {preprocessing.size} px (--size), "
                f"got {self.patch}"
            )

    def build(self, num_classes: int) -> AdaptiveNetwork:
        """The network of one tier, `plain`, with random weights of torch's global seed."""
        names = self.pipelines * (len(self.modalities) // len(self.pipelines))
        net = pipenet(
            dict(zip(self.modalities, names, strict=True)),
            share_trunk=self.share_trunk,
            num_classes=num_classes,
            dropout=self.dropout,
        )
        return AdaptiveNetwork(PatchMean(net, patch=self.patch, crops=self.crops))

    def augmentation(self, *, wanted: bool) -> ModalAugmentation:
        """What makes training patches of frames; not wanted: plain patches at random places."""
        if not wanted:
            return ModalAugmentation(
                size=self.patch, joint=True, flip=0.0, rotation=0.0, downscale=0.0, erase=0.0
            )
        return ModalAugmentation(
            size=self.patch, joint=self.joint, downscale=self.downscale, erase=self.erase
        )


def pipenet_of(settings: Mapping[str, Any]) -> PipeNetSettings | None:
    """What a run's settings.json says of PipeNet; None for another model.

    Raises:
        UserError: if it says what no PipeNet can be.
        TypeError: on unknown names.
    """
    record = settings.get(PIPENET)
    return None if record is None else PipeNetSettings(**record)


def check_modalities(given: tuple[str, ...], known: tuple[str, ...], what: str) -> None:
    """Refuses unknown, repeated or no modalities.

    Raises:
        UserError: with what is allowed.
    """
    if not given or len(set(given)) < len(given) or set(given) - set(known):
        got = ", ".join(given) or "none"
        raise UserError(f"{what} must be some of {', '.join(known)}, each once; got {got}")
