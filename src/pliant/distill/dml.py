"""DML: networks of a cohort, each drawn to the predictions of all others.

Zhang, Xiang, Hospedales, Lu. "Deep Mutual Learning", CVPR 2018.
https://arxiv.org/abs/1706.00384 (equation numbers not checked).

    L_k = CE(z_k, y) + 1 / (N - 1) Σ_{l ≠ k} KL(p_l || p_k)

Departures: all networks step at once from one forward pass, where the paper updates them in turn
and runs an updated one again; a weight and a temperature beside the paper's 1 and 1 (another
temperature brings T²). The peers' predictions are constants in each other's losses.

Unverified: the paper's text was not at hand; the formula is recalled.

Shapes: B = batch, D = channels of the image, S = side, K = classes, N = networks.
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
from pliant.distill.peers import Peers, extract_network, predictions
from pliant.distill.seen import check_seen


def mutual_loss(logits: Sequence[Tensor], *, temperature: float = 1.0) -> Float[Tensor, ""]:
    """Σ_k 1 / (N - 1) Σ_{l ≠ k} T² KL(p_l || p_k), in nats; mean over the batch.

    Args:
        logits: Of N >= 2 networks, (B, K) each; a network gets gradients from its own term alone.
        temperature: T > 0.

    Raises:
        ValueError: if there are fewer than two, or the shapes differ.
    """
    if len(logits) < 2:
        raise ValueError(f"mutual_loss needs the logits of two networks or more, got {len(logits)}")
    terms = [
        kd_loss(student, peer, temperature=temperature)
        for k, student in enumerate(logits)
        for j, peer in enumerate(logits)
        if j != k
    ]
    return torch.stack(terms).sum() / (len(logits) - 1)


@dataclass(frozen=True, kw_only=True)
class DML:
    """Settings; `build()` makes the task."""

    temperature: float = 1.0
    """T, > 0; the paper's is 1."""
    weight: float = 1.0
    """Of what the peers teach, >= 0; the paper's is 1."""

    def __post_init__(self) -> None:
        check_number(self.temperature > 0, "DML.temperature", "> 0", self.temperature)
        check_number(self.weight >= 0, "DML.weight", ">= 0", self.weight)

    def build(self, peers: Peers, *, total_steps: int) -> "DMLTask":
        """The task; the schedule's length does not matter to it.

        Raises:
            UserError: on one network only, other classes, NaN logits.
        """
        return DMLTask(self, peers)


class DMLTask(nn.Module):
    """Networks and what they cost together. Predictors are network_1 ... and `ensemble`."""

    def __init__(self, settings: DML, peers: Peers) -> None:
        super().__init__()
        check_seen("DML", peers.seen)
        self.settings = settings
        self.decay_scales: dict[str, float] = {}
        self.peers = peers

    @property
    def model(self) -> nn.Module:
        """The networks; over an adaptive network, that network."""
        return self.peers.model

    def configurations(self, step: int) -> list[Configuration]:
        """The adaptive network's own that a step runs; else none."""
        return list(self.peers.configurations)

    def forward(
        self, images: Float[Tensor, "B D S1 S2"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        """`loss`, and unweighted `ce` and `mutual`, summed over the networks."""
        logits = self.peers(images).logits
        ce = torch.stack([F.cross_entropy(z, targets) for z in logits]).sum()
        mutual = mutual_loss(logits, temperature=self.settings.temperature)
        return {"loss": ce + self.settings.weight * mutual, "ce": ce, "mutual": mutual}

    def predictors(self, images: Float[Tensor, "B D S1 S2"]) -> dict[str, Tensor]:
        """Logits by predictor."""
        return predictions(self.peers(images))

    def extract(self, what: str) -> nn.Module:
        """A plain copy of one network.

        Raises:
            UserError: if there is no such predictor.
        """
        return extract_network(self.peers, what)
