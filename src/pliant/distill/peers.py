"""Sub-networks that learn together: apart, on a shared trunk, or as configurations of one network.

Each kind answers images with every sub-network's logits and last feature map, and hands out a
single sub-network as a plain one.

Shapes: B = batch, D = channels of the image, S = side, C = channels, H, W = a map's height and
width, K = classes.
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pliant.adaptive.configuration import Configuration
from pliant.adaptive.network import AdaptiveNetwork
from pliant.distill.offline import evaluating
from pliant.distill.seen import answer, look, name_of
from pliant.errors import UserError


@dataclass(frozen=True)
class Answers:
    """What the sub-networks say to a batch, one entry each."""

    logits: list[Tensor]
    """(B, K) each."""
    maps: list[Tensor]
    """(B, C_k, H_k, W_k) each; empty if one sub-network has none."""
    shared: Tensor | None = None
    """The trunk's output, where there is a trunk."""

    @property
    def ensemble(self) -> Float[Tensor, "B K"]:
        """The mean of the logits."""
        return torch.stack(self.logits).mean(0)


class Networks(nn.Module):
    """Sub-networks of their own, of any architectures.

    Args:
        networks: Any modules, images to logits.
        example: A batch of images, on which bad input is found out.
        taps: Paths of the last feature maps; None: found.

    Raises:
        UserError: if a module stands there twice, does not take the images, or lacks its tap.
    """

    configurations: tuple[Configuration, ...] = ()

    def __init__(
        self,
        networks: Sequence[nn.Module],
        *,
        example: Float[Tensor, "B D S1 S2"],
        taps: Sequence[str | None] | None = None,
    ) -> None:
        super().__init__()
        if len(set(map(id, networks))) < len(networks):
            raise UserError(
                "a sub-network stands there twice; give each place a network of its own"
            )
        if taps is not None and len(taps) != len(networks):
            raise UserError(f"{len(networks)} sub-networks need as many taps, got {len(taps)}")
        self.networks = nn.ModuleList(networks)
        paths = [None] * len(networks) if taps is None else taps
        self.seen = [
            look(network, example, index=index, tap=tap)
            for index, (network, tap) in enumerate(zip(networks, paths, strict=True))
        ]

    @property
    def model(self) -> nn.Module:
        """What is trained and kept."""
        return self

    def forward(self, images: Float[Tensor, "B D S1 S2"]) -> Answers:
        pairs = zip(self.networks, self.seen, strict=True)
        return _answers([answer(network, images, seen.tap) for network, seen in pairs])

    def extract(self, index: int) -> nn.Module:
        """A copy of one sub-network, from 0."""
        return copy.deepcopy(self.networks[index])


class SharedTrunk(nn.Module):
    """Sub-networks that share their first stages; the first one's are kept.

    Args:
        networks: `nn.Sequential`s such as CifarResNet, each with random weights of its own.
        upto: The last shared child, such as `layer2`.
        example: A batch of images, on which bad input is found out.

    Raises:
        UserError: if one is no Sequential or has no such child, or a branch does not fit the trunk.
    """

    configurations: tuple[Configuration, ...] = ()

    def __init__(
        self,
        networks: Sequence[nn.Sequential],
        *,
        upto: str,
        example: Float[Tensor, "B D S1 S2"],
    ) -> None:
        super().__init__()
        cuts = [_cut(network, upto, index) for index, network in enumerate(networks)]
        self.trunk = networks[0][: cuts[0]] if cuts else nn.Sequential()
        self.branches = nn.ModuleList([n[cut:] for n, cut in zip(networks, cuts, strict=True)])
        try:
            with torch.no_grad(), evaluating(self.trunk):
                shared = self.trunk(example)
        except (RuntimeError, ValueError) as error:
            shape = tuple(example.shape[1:])
            raise UserError(
                f"the trunk does not take an input of shape {shape}: {error}"
            ) from error
        self.shared_channels = int(shared.shape[1])
        self.seen = [look(branch, shared, index=k) for k, branch in enumerate(self.branches)]

    @property
    def model(self) -> nn.Module:
        """What is trained and kept."""
        return self

    def forward(self, images: Float[Tensor, "B D S1 S2"]) -> Answers:
        shared = self.trunk(images)
        pairs = zip(self.branches, self.seen, strict=True)
        return _answers([answer(branch, shared, seen.tap) for branch, seen in pairs], shared)

    def extract(self, index: int) -> nn.Module:
        """A copy of one sub-network, from 0: trunk and branch joined, of its own class and keys."""
        branch = self.branches[index]
        parts = OrderedDict([*self.trunk.named_children(), *branch.named_children()])
        return copy.deepcopy(type(branch)(parts)).train(branch.training)


class Configurations(nn.Module):
    """Configurations of one adaptive network as sub-networks: light ones learn from heavy ones.

    They share every weight that they have in common. They share the running batch-norm statistics
    too, which become a mixture: calibrate the tiers afterwards, as after any adaptive training.

    Args:
        model: The adaptive network.
        names: Tiers, presets, letters or configurations, such as ("low", "high").
        example: A batch of images, on which bad input is found out.
        tap: Path of the last feature map; None: found.

    Raises:
        UserError: if a name is no configuration, or two are the same.
    """

    def __init__(
        self,
        model: AdaptiveNetwork,
        names: Sequence[str | Configuration],
        *,
        example: Float[Tensor, "B D S1 S2"],
        tap: str | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.configurations = tuple(model.configuration_of(name) for name in names)
        if len(set(self.configurations)) < len(self.configurations):
            raise UserError(f"two of {', '.join(map(str, names))} are the same configuration")
        self.selected: tuple[str | Configuration, ...] = self.configurations
        """What a pass runs; put calibrated tiers' names here for their statistics."""
        self.seen = []
        for index, configuration in enumerate(self.configurations):
            with model.use(configuration):
                self.seen.append(look(model, example, index=index, tap=tap))

    def forward(self, images: Float[Tensor, "B D S1 S2"]) -> Answers:
        runs = []
        for selected, seen in zip(self.selected, self.seen, strict=True):
            with self.model.use(selected):
                runs.append(answer(self.model, images, seen.tap))
        return _answers(runs)

    def extract(self, index: int) -> nn.Module:
        """A plain copy of one configuration, from 0."""
        return self.model.extract(self.configurations[index])


Peers = Networks | SharedTrunk | Configurations


def predictions(answers: Answers) -> dict[str, Tensor]:
    """Logits by predictor: network_1, network_2 ... and `ensemble`, the mean of their logits."""
    named = {f"network_{k}": logits for k, logits in enumerate(answers.logits, start=1)}
    return {**named, "ensemble": answers.ensemble}


def extract_network(peers: Peers, what: str, *, others: Sequence[str] = ()) -> nn.Module:
    """The sub-network of a predictor's name, as a plain one.

    Args:
        peers: The sub-networks.
        what: network_1, network_2 ...
        others: What else the method hands out, for the message.

    Raises:
        UserError: if there is no such predictor.
    """
    names = [f"network_{k}" for k in range(1, len(peers.seen) + 1)]
    if what not in names:
        raise UserError(f'cannot extract "{what}"; there are {", ".join([*names, *others])}')
    return peers.extract(names.index(what))


def _answers(runs: list[tuple[Tensor, Tensor | None]], shared: Tensor | None = None) -> Answers:
    maps = [found for _, found in runs if found is not None]
    return Answers([logits for logits, _ in runs], maps if len(maps) == len(runs) else [], shared)


def _cut(network: nn.Module, upto: str, index: int) -> int:
    children = [name for name, _ in network.named_children()]
    if not isinstance(network, nn.Sequential) or upto not in children[:-1]:
        raise UserError(
            f'{name_of(index, network)} cannot share a trunk up to "{upto}": it must be an '
            f"nn.Sequential with that child before its last; its children are {', '.join(children)}"
        )
    return children.index(upto) + 1
