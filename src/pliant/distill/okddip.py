"""OKDDip: auxiliary peers learn from targets of their own, and their ensemble teaches a leader.

Chen, Mei, Wang, Feng, Chen. "Online Knowledge Distillation with Diverse Peers", AAAI 2020.
https://arxiv.org/abs/1912.00350; constants and layers as in the authors' code (equation numbers
not checked). The last sub-network is the group leader g, the others are auxiliary:

    a_ij = softmax_j( (W_q h_i) . (W_k h_j) )       h: last feature map, averaged over pixels
    t_i  = Σ_j a_ij z_j                             j runs over all auxiliary peers, i among them
    t_g  = mean_j z_j
    L = Σ_i CE(z_i, y) + CE(z_g, y) + w(step) T² (Σ_i KL(t_i || z_i) + KL(t_g || z_g))

Departures: in a target the peers' logits are constants, and gradients reach the attention alone
(in the code they reach the peers too); networks of other widths get projections of their own; the
ramp-up takes 80/300 of any schedule and rises with every step.

Unverified: the code mixes logits, and so does this; whether the paper mixes probabilities was not
checked.

Shapes: B = batch, D = channels of the image, S = side, C = channels, P = projected, K = classes,
M = auxiliary peers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.adaptive.configuration import Configuration
from pliant.distill.kd import kd_loss
from pliant.distill.offline import Losses, check_number
from pliant.distill.peers import Answers, Peers, extract_network, predictions
from pliant.distill.ramp import RAMP, ramp_up
from pliant.distill.seen import check_seen


def attention(
    queries: Float[Tensor, "B M P"], keys: Float[Tensor, "B M P"]
) -> Float[Tensor, "B M M"]:
    """a: how much every peer (row) listens to every peer (column); rows sum to 1."""
    return torch.einsum("bip,bjp->bij", queries, keys).softmax(dim=-1)


def peer_targets(
    logits: Float[Tensor, "M B K"], shares: Float[Tensor, "B M M"]
) -> Float[Tensor, "M B K"]:
    """t_i of every auxiliary peer; gradients flow to the shares alone."""
    return torch.einsum("bij,jbk->ibk", shares, logits.detach())


def diverse_loss(
    logits: Float[Tensor, "M B K"], shares: Float[Tensor, "B M M"], *, temperature: float
) -> Float[Tensor, ""]:
    """Σ_i T² KL(t_i || z_i), in nats; mean over the batch. The shares learn by it too.

    Args:
        logits: Of the auxiliary peers.
        shares: From `attention`.
        temperature: T > 0.
    """
    log_p = (peer_targets(logits, shares) / temperature).log_softmax(-1)
    log_q = (logits / temperature).log_softmax(-1)
    divergence = F.kl_div(log_q, log_p, log_target=True, reduction="sum")
    return divergence / logits.shape[1] * temperature**2


class PeerAttention(nn.Module):
    """Projections to queries and keys, one pair for all peers of equal width.

    Args:
        channels: C of every auxiliary peer.
        reduction: P is the least C / reduction, at least 1.
    """

    def __init__(self, channels: Sequence[int], *, reduction: int = 8) -> None:
        super().__init__()
        projected = max(1, min(channels) // reduction)
        widths = channels[:1] if len(set(channels)) == 1 else channels
        self.queries = nn.ModuleList([nn.Linear(c, projected, bias=False) for c in widths])
        self.keys = nn.ModuleList([nn.Linear(c, projected, bias=False) for c in widths])

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "B M M"]:
        return attention(_project(self.queries, features), _project(self.keys, features))


def _project(layers: nn.ModuleList, features: Sequence[Tensor]) -> Float[Tensor, "B M P"]:
    last = len(layers) - 1
    return torch.stack([layers[min(k, last)](h) for k, h in enumerate(features)], dim=1)


@dataclass(frozen=True, kw_only=True)
class OKDDip:
    """Settings; `build()` makes the task."""

    temperature: float = 3.0
    """T, > 0; larger is softer."""
    weight: float = 1.0
    """Of both levels of distillation once the ramp is over, >= 0."""
    ramp: float = RAMP
    """Part of the schedule until they have their whole weight, 0 to 1."""
    reduction: int = 8
    """Channels per projected channel in the attention, >= 1."""

    def __post_init__(self) -> None:
        check_number(self.temperature > 0, "OKDDip.temperature", "> 0", self.temperature)
        check_number(self.weight >= 0, "OKDDip.weight", ">= 0", self.weight)
        check_number(0 <= self.ramp <= 1, "OKDDip.ramp", "in [0, 1]", self.ramp)
        check_number(self.reduction >= 1, "OKDDip.reduction", ">= 1", self.reduction)

    def build(self, peers: Peers, *, total_steps: int) -> "OKDDipTask":
        """The task, for a schedule of so many steps; the last sub-network is the leader.

        Raises:
            UserError: on fewer than three sub-networks, other classes, no feature map, NaN logits.
        """
        return OKDDipTask(self, peers, total_steps=total_steps)


class OKDDipTask(nn.Module):
    """Peers, their attention and their leader, and what they cost together.

    Predictors are network_1, network_2 ..., `leader` (the last of them) and `ensemble` (the mean
    of the others).
    """

    def __init__(self, settings: OKDDip, peers: Peers, *, total_steps: int) -> None:
        super().__init__()
        check_seen("OKDDip", peers.seen, least=3, maps=True)
        self.settings = settings
        self.decay_scales: dict[str, float] = {}
        self.peers = peers
        channels = [seen.channels for seen in peers.seen[:-1]]
        like = next(peers.parameters())
        attending = PeerAttention(channels, reduction=settings.reduction)
        self.attention = attending.to(like.device, like.dtype)
        self.ramp_steps = settings.ramp * total_steps

    @property
    def model(self) -> nn.Module:
        """The sub-networks; over an adaptive network, that network."""
        return self.peers.model

    def configurations(self, step: int) -> list[Configuration]:
        """The adaptive network's own that a step runs; else none."""
        return list(self.peers.configurations)

    def forward(
        self, images: Float[Tensor, "B D S1 S2"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        """`loss`, and unweighted `ce`, `kd_peers` and `kd_leader`."""
        answers: Answers = self.peers(images)
        leader, auxiliary = answers.logits[-1], torch.stack(answers.logits[:-1])
        ce = torch.stack([F.cross_entropy(z, targets) for z in answers.logits]).sum()
        shares = self.attention([one.mean((2, 3)) for one in answers.maps[:-1]])
        temperature = self.settings.temperature
        kd_peers = diverse_loss(auxiliary, shares, temperature=temperature)
        kd_leader = kd_loss(leader, auxiliary.mean(0), temperature=temperature)
        weight = self.settings.weight * ramp_up(step, length=self.ramp_steps)
        loss = ce + weight * (kd_peers + kd_leader)
        return {"loss": loss, "ce": ce, "kd_peers": kd_peers, "kd_leader": kd_leader}

    def predictors(self, images: Float[Tensor, "B D S1 S2"]) -> dict[str, Tensor]:
        """Logits by predictor."""
        answers = self.peers(images)
        named = predictions(answers)
        auxiliary = torch.stack(answers.logits[:-1]).mean(0)
        return {**named, "leader": answers.logits[-1], "ensemble": auxiliary}

    def extract(self, what: str) -> nn.Module:
        """A plain copy of one network.

        Raises:
            UserError: if there is no such predictor.
        """
        name = f"network_{len(self.peers.seen)}" if what == "leader" else what
        return extract_network(self.peers, name, others=["leader"])
