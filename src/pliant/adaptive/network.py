"""The adaptive network: one stored net, every configuration; and the ways to make one.

Distributed training: a step leaves the branches unused that its configurations do not run, so
DistributedDataParallel needs `find_unused_parameters=True`.

Threads: `use` changes the network that it is called on. Threads that use different configurations
at a time take a deep copy each.

Shapes: B = batch, C = channels, H, W = height and width in pixels, F = features, K = classes.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal
from warnings import warn

from jaxtyping import Float
from torch import Tensor, nn

from pliant.adaptive.anatomy import anatomy, light_branch, set_residual
from pliant.adaptive.block import AllBranches, Merge, PTABlock, Selection, Switch
from pliant.adaptive.configuration import ALL, LETTERS, Configuration
from pliant.adaptive.start import load_start, start_light
from pliant.adaptive.statistics import (
    StaleCalibrationWarning,
    TierStatistics,
    follow_switch,
    settle,
    tiered_norms,
)
from pliant.errors import UserError
from pliant.models.mobilenet_v2 import MobileNetV2, Padding, mobilenet_v2

__all__ = [
    "AdaptiveNetwork",
    "Tier",
    "Using",
    "load_start",
    "make_adaptive",
    "pta_mobilenet_v2",
]


@dataclass
class Tier:
    """A named configuration with its own batch-norm statistics."""

    configuration: Configuration
    """What it runs."""
    statistics: TierStatistics
    """What `calibrate` estimated."""
    fingerprint: str
    """Of the weights that the statistics belong to."""
    num_images: int
    """Behind the statistics."""
    version: int
    """The switch's version then; -1: known to be stale."""
    warned: bool = False
    """Whether staleness was said."""

    def to_json(self) -> dict[str, Any]:
        """What a run folder keeps beside the statistics themselves."""
        return {
            "configuration": str(self.configuration),
            "images": self.num_images,
            "fingerprint": self.fingerprint,
        }


class Using:
    """What `AdaptiveNetwork.use` hands back; as a context it restores the selection before."""

    def __init__(self, network: "AdaptiveNetwork", before: Selection) -> None:
        self._switch = network.switch
        self._before = before
        self._network = network

    def __enter__(self) -> "AdaptiveNetwork":
        return self._network

    def __exit__(self, *error: object) -> None:
        self._switch.selection = self._before


class AdaptiveNetwork(nn.Module):
    """A module tree with PTA blocks, and the switch that they all look at.

    It starts on the heaviest configuration (`high`). A tree without PTA blocks is welcome: it has
    one configuration, the empty one, named `plain`.

    Args:
        net: The tree; its PTA blocks are given this network's switch, in the order they stand in.

    Raises:
        ValueError: if the blocks do not all have the same letters.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        blocks = [m for m in net.modules() if isinstance(m, PTABlock)]
        self.letters = blocks[0].letters if blocks else LETTERS
        if any(block.letters != self.letters for block in blocks):
            raise ValueError("all blocks of an AdaptiveNetwork need branches of the same letters")
        heaviest = Configuration(self.letters.replace(ALL, "")[-1] * len(blocks))
        self.switch = Switch(Selection(heaviest, heaviest.letters))
        for index, block in enumerate(blocks):
            block.switch, block.index = self.switch, index
        follow_switch(net, self.switch)
        self.net = net
        self.num_blocks = len(blocks)
        self.tiers: dict[str, Tier] = {}
        self._allowed = frozenset(self.letters)
        # on the inner tree, so that loading into that alone is seen too
        net.register_load_state_dict_post_hook(partial(_weights_loaded, self.switch))

    @property
    def configuration(self) -> Configuration:
        """The one in use."""
        return self.switch.selection.configuration

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        if self.training:
            self.switch.version += 1
        return self.net(x)

    def features_of(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """What the classifier sees; see `MobileNetV2.features_of`.

        Raises:
            ValueError: if the network was not made of a MobileNetV2.
        """
        if not isinstance(self.net, MobileNetV2):
            raise ValueError(f"features_of needs a MobileNetV2, got {type(self.net).__name__}")
        if self.training:
            self.switch.version += 1
        return self.net.features_of(x)

    def use(self, what: Configuration | str) -> Using:
        """Switches at once, in time that does not depend on the network; restores as a context.

        `with model.use("low"): ...` runs the tier and then goes back to what was in use before;
        `model.use("low")` alone stays.

        Args:
            what: A tier's name (its own batch-norm statistics are used), a preset's name, letters,
                or a Configuration (the statistics that training keeps are used).

        Raises:
            UserError: if it is no configuration of this network.
        """
        before = self.switch.selection
        self.switch.selection = self.selection(what)
        return Using(self, before)

    def selection(self, what: Configuration | str) -> Selection:
        """What `use` puts on the switch.

        Warns:
            StaleCalibrationWarning: once per tier whose statistics belong to other weights.

        Raises:
            UserError: if it is no configuration of this network.
        """
        tier = self.tiers.get(what) if isinstance(what, str) else None
        if tier is not None:
            if tier.version != self.switch.version and not tier.warned:
                tier.warned = True
                warn(
                    f'the statistics of tier "{what}" were estimated before the weights changed; '
                    "calibrate it again",
                    StaleCalibrationWarning,
                    stacklevel=3,
                )
            return Selection(tier.configuration, tier.configuration.letters, tier.statistics)
        configuration = self.configuration_of(what)
        return Selection(configuration, configuration.letters)

    def configuration_of(self, what: Configuration | str) -> Configuration:
        """The configuration that a tier's or preset's name or letters mean here.

        Raises:
            UserError: if it is no configuration of this network.
        """
        if isinstance(what, str):
            if what in self.tiers:
                return self.tiers[what].configuration
            return Configuration.from_text(what, self.num_blocks, self.letters, self.tiers)
        if len(what) != self.num_blocks or not what.used <= self._allowed:
            raise UserError(
                f'configuration "{what}" does not fit: the network has {self.num_blocks} adaptive '
                f"blocks with letters {', '.join(self.letters)}"
            )
        return what

    def extract(self, what: Configuration | str) -> nn.Module:
        """A plain copy that holds one configuration alone, equal to the last bit in eval mode.

        PTA blocks are replaced by the branch that runs (the original module for the heavy one), or
        by AllBranches for B; a tier's statistics become the batch norms' own. Keys are those of
        the plain network.

        Raises:
            UserError: if it is no configuration of this network.
        """
        selection = self.selection(what)
        # Branches that do not run are not copied: the memo has an empty module in their place.
        unused: dict[int, object] = {}
        for block in self.blocks():
            letter = selection.letters[block.index]
            for name, branch in block.branches.items():
                if letter not in (ALL, name[0].upper()):
                    unused[id(branch)] = nn.Identity()
        holder = nn.ModuleList([copy.deepcopy(self.net, {**unused, id(self.switch): self.switch})])
        for path, module in list(holder.named_modules()):
            if isinstance(module, PTABlock):
                parent, _, name = path.rpartition(".")
                letter = selection.letters[module.index]
                setattr(holder.get_submodule(parent), name, _plain(module, letter))
        for _, norm in tiered_norms(holder):
            settle(norm, selection.statistics)
        return holder[0]

    def blocks(self) -> list[PTABlock]:
        """The PTA blocks, in order."""
        return [m for m in self.net.modules() if isinstance(m, PTABlock)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AdaptiveNetwork":
        super()._apply(fn, recurse)
        for tier in self.tiers.values():
            tier.statistics.apply(fn)
        return self


def _weights_loaded(switch: Switch, net: nn.Module, incompatible: object) -> None:
    switch.version += 1


def _plain(block: PTABlock, letter: str) -> nn.Module:
    if letter == ALL:
        return AllBranches(block.branches, residual=block.residual, merge=block.merge)
    branch = block.branches[block.names[letter]]
    if block.residual:
        set_residual(branch, True)
    return branch


def make_adaptive(
    model: nn.Module,
    *,
    light_expand: int = 1,
    merge: Merge = "mean",
    light_start: Literal["largest", "rank1", "random"] = "rank1",
    branches: Mapping[str, int] | None = None,
) -> AdaptiveNetwork:
    """A model whose inverted residuals (torchvision's, timm's, pliant's) became PTA blocks.

    The given model is changed: its blocks become the heavy branches, so `high` computes what it
    did, to the last bit. Blocks without expansion stay plain: their heavy branch would be the light
    one. A light branch has neither the squeeze-and-excitation nor the drop path of the heavy one.

    Args:
        model: Any module tree.
        light_expand: Hidden channels per input channel of the light branch, >= 1.
        merge: How B joins the branches.
        light_start: How the light branches start; see `start.py`.
        branches: Instead of one light branch, several: expansion by name, cheapest first, such as
            {"light": 1, "medium": 3}.

    Raises:
        UserError: if the model has no inverted residual, or is adaptive already.
        ValueError: if a branch would be as wide as the heavy one, the branches are not in order, or
            a name is unknown. The model is then as it was.
    """
    lighter = {"light": light_expand} if branches is None else dict(branches)
    _check_branches(lighter, merge, light_start)
    if any(isinstance(module, PTABlock) for module in model.modules()):
        raise UserError("the model is adaptive already; give make_adaptive the plain one")
    switch = Switch(Selection(Configuration(""), ""))
    blocks: dict[str, PTABlock] = {}
    for path, module in model.named_modules():
        layers = anatomy(module)
        if layers is None or not path:
            continue
        built: dict[str, nn.Module] = {
            name: light_branch(layers, expand=expand) for name, expand in lighter.items()
        }
        blocks[path] = PTABlock(
            {**built, "heavy": module},
            switch=switch,
            index=len(blocks),
            residual=layers.residual,
            merge=merge,
        ).train(module.training)
    if not blocks:
        raise UserError(
            "the model has no inverted residual to make adaptive; known are torchvision's (`conv` "
            "and `use_res_connect`) and timm's (`conv_pw`, `conv_dw`, `conv_pwl`)"
        )
    for path, block in blocks.items():  # the model is changed once nothing can fail any more
        set_residual(block.branches["heavy"], False)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, block)
    network = AdaptiveNetwork(model)
    start_light(network, light_start)
    return network


def _check_branches(lighter: Mapping[str, int], merge: str, light_start: str) -> None:
    expansions = list(lighter.values())
    letters = {name[:1].upper() for name in lighter}
    if not (
        lighter
        and all(isinstance(t, int) for t in expansions)
        and all(a < b for a, b in pairwise(expansions))
        and len(letters) == len(lighter)
        and all("A" <= letter <= "Z" for letter in letters)
        and not letters & {"H", ALL}
    ):
        raise ValueError(
            "branches needs names of different first letters (none of them H or B) and rising "
            f"whole expansions, such as {{'light': 1, 'medium': 3}}; got {dict(lighter)}"
        )
    if merge not in ("mean", "sum"):
        raise ValueError(f"merge must be mean or sum, got {merge!r}")
    if light_start not in ("largest", "rank1", "random"):
        raise ValueError(f"light_start must be largest, rank1 or random, got {light_start!r}")


def pta_mobilenet_v2(
    *,
    width: float = 1.0,
    num_classes: int = 2,
    in_channels: int = 3,
    padding: Padding = "same_tf",
    light_expand: int = 1,
    merge: Merge = "mean",
    dropout: float = 0.2,
    stem_stride: Literal[1, 2] = 2,
) -> AdaptiveNetwork:
    """MobileNetV2 with 16 PTA blocks (its first block stays plain) and random weights.

    Args:
        width: Channel multiplier, > 0.
        num_classes: K.
        in_channels: Of the image.
        padding: At stride 2; `same_tf` is what the ImageNet weights were trained with.
        light_expand: Expansion of the light branches, 1, 2 or 3.
        merge: How B joins the branches.
        dropout: Before the classifier, 0 to below 1.
        stem_stride: 1 keeps the resolution of small images.

    Raises:
        ValueError: if a value lies outside its range.
    """
    if light_expand not in (1, 2, 3):
        raise ValueError(f"light_expand must be 1, 2 or 3, got {light_expand!r}")
    plain: MobileNetV2 = mobilenet_v2(
        width=width,
        num_classes=num_classes,
        in_channels=in_channels,
        padding=padding,
        dropout=dropout,
        stem_stride=stem_stride,
    )
    return make_adaptive(plain, light_expand=light_expand, merge=merge, light_start="random")
