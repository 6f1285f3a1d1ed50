"""OSKD: a network learns from the nearest images of the same class in its own output space.

"Efficient Online Subclass Knowledge Distillation for Image Classification", ICPR 2020 (Tzelepi,
Passalis, Tefas). No text but the abstract was at hand and no formula was found: everything below is
a reading, the paper may differ.

    N_k(i) = the k images of the batch nearest to h_i among those of its class
    t_i    = mean of h_j over N_k(i), a constant
    L      = CE(z, y) + w mean_i d(h_i, t_i),   h = logits

with d the squared distance, or T² KL of the softened predictions. k = 0 takes all mates: plain
compactness of classes, the control that tells whether "subclass" is more than a name. An image
without a mate adds nothing, so batches need two and more of a class. Optionally the nearest image
of another class is pushed away up to a margin.

Shapes: B = batch, D = channels of the image, S = side, K = classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.adaptive.configuration import Configuration
from pliant.distill.offline import Losses, check_number
from pliant.distill.peers import Peers, extract_network
from pliant.distill.seen import check_seen
from pliant.errors import UserError


def mates(
    outputs: Float[Tensor, "B K"], targets: Int[Tensor, " B"], *, neighbours: int
) -> Float[Tensor, "B B"]:
    """Row i: equal shares of the nearest other images of its class, sum 1; zeros if there is none.

    Args:
        outputs: h.
        targets: Classes.
        neighbours: k, >= 1; where a class has fewer mates, those; 0: all mates.
    """
    same = _same_class(targets)
    if neighbours and neighbours < len(targets):
        distance = _distances(outputs).masked_fill(~same, torch.inf)
        nearest = distance.topk(neighbours, largest=False).indices
        same = same & torch.zeros_like(same).scatter_(1, nearest, True)
    shares = same.to(outputs)
    return shares / shares.sum(1, keepdim=True).clamp(min=1)


def subclass_loss(
    outputs: Float[Tensor, "B K"],
    targets: Int[Tensor, " B"],
    *,
    neighbours: int = 1,
    temperature: float | None = None,
) -> Float[Tensor, ""]:
    """Mean over images of the distance to the mean of their mates; 0 for images without.

    Args:
        outputs: h; gradients flow to these, and not to what they make as targets.
        targets: Classes.
        neighbours: See `mates`.
        temperature: None: squared distance; else T² KL of the softened predictions, in nats.
    """
    fixed = outputs.detach()
    shares = mates(fixed, targets, neighbours=neighbours)
    wanted = shares @ fixed
    if temperature is None:
        each = (outputs - wanted).square().sum(1)
    else:
        log_q = (outputs / temperature).log_softmax(-1)
        log_p = (wanted / temperature).log_softmax(-1)
        each = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1) * temperature**2
    return each.where(shares.any(1), 0).mean()


def push_loss(
    outputs: Float[Tensor, "B K"], targets: Int[Tensor, " B"], *, margin: float
) -> Float[Tensor, ""]:
    """Mean over images of max(0, margin - distance to the nearest image of another class)."""
    other = targets[:, None] != targets[None]
    distance = _distances(outputs.detach()).masked_fill(~other, torch.inf)
    nearest = outputs.detach()[distance.argmin(1)]
    gap = (margin - torch.linalg.vector_norm(outputs - nearest, dim=1)).clamp(min=0)
    return gap.where(other.any(1), 0).mean()


def _same_class(targets: Tensor) -> Tensor:
    """Pairs of different images of one class, (B, B)."""
    same = targets[:, None] == targets[None]
    return same & ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)


def _distances(outputs: Tensor) -> Tensor:
    exact = "donot_use_mm_for_euclid_dist"  # equal images at distance 0
    return torch.cdist(outputs.float(), outputs.float(), compute_mode=exact)


@dataclass(frozen=True, kw_only=True)
class OSKD:
    """Settings; `build()` makes the task."""

    weight: float = 0.1
    """Of the subclass term, >= 0."""
    neighbours: int = 1
    """k, >= 1; 0: all mates, the control."""
    matching: Literal["logits", "softened"] = "logits"
    """Squared distance of logits, or KL of softened predictions."""
    temperature: float = 4.0
    """T of `softened`, > 0; larger is softer."""
    push: float = 0.0
    """Weight of the push from the nearest image of another class, >= 0; 0: off."""
    margin: float = 1.0
    """Distance at which the push ends, > 0."""

    def __post_init__(self) -> None:
        check_number(self.weight >= 0, "OSKD.weight", ">= 0", self.weight)
        check_number(self.neighbours >= 0, "OSKD.neighbours", ">= 0", self.neighbours)
        if self.matching not in ("logits", "softened"):
            raise UserError(f'OSKD.matching must be logits or softened, got "{self.matching}"')
        check_number(self.temperature > 0, "OSKD.temperature", "> 0", self.temperature)
        check_number(self.push >= 0, "OSKD.push", ">= 0", self.push)
        check_number(self.margin > 0, "OSKD.margin", "> 0", self.margin)

    def build(self, peers: Peers, *, total_steps: int) -> "OSKDTask":
        """The task; the schedule's length does not matter to it.

        Raises:
            UserError: on more than one network, NaN logits.
        """
        return OSKDTask(self, peers)


class OSKDTask(nn.Module):
    """One network that teaches itself. The predictor is network_1."""

    def __init__(self, settings: OSKD, peers: Peers) -> None:
        super().__init__()
        check_seen("OSKD", peers.seen, least=1)
        if len(peers.seen) > 1:
            raise UserError(f"OSKD trains one network by itself, got {len(peers.seen)}")
        self.settings = settings
        self.decay_scales: dict[str, float] = {}
        self.peers = peers

    @property
    def model(self) -> nn.Module:
        """The network's holder; over an adaptive network, that network."""
        return self.peers.model

    def configurations(self, step: int) -> list[Configuration]:
        """The adaptive network's own that a step runs; else none."""
        return list(self.peers.configurations)

    def forward(
        self, images: Float[Tensor, "B D S1 S2"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        """`loss`, and unweighted `ce`, `subclass` and, where it is on, `push`."""
        logits = self.peers(images).logits[0]
        settings = self.settings
        ce = F.cross_entropy(logits, targets)
        subclass = subclass_loss(
            logits,
            targets,
            neighbours=settings.neighbours,
            temperature=settings.temperature if settings.matching == "softened" else None,
        )
        loss = ce + settings.weight * subclass
        if not settings.push:
            return {"loss": loss, "ce": ce, "subclass": subclass}
        push = push_loss(logits, targets, margin=settings.margin)
        return {"loss": loss + settings.push * push, "ce": ce, "subclass": subclass, "push": push}

    def predictors(self, images: Float[Tensor, "B D S1 S2"]) -> dict[str, Tensor]:
        """Logits by predictor."""
        return {"network_1": self.peers(images).logits[0]}

    def extract(self, what: str) -> nn.Module:
        """A plain copy of the network.

        Raises:
            UserError: if there is no such predictor.
        """
        return extract_network(self.peers, what)
