"""ONE: branches on a shared trunk learn from their own gated ensemble, on the fly.

Lan, Zhu, Gong. "Knowledge Distillation by On-the-Fly Native Ensemble", NeurIPS 2018.
https://arxiv.org/abs/1806.04606; the gate's layers and the ramp-up are those of the authors' code
(equation numbers not checked).

    g   = softmax(ReLU(BN(W mean_pixels(t))))       t: what the trunk gives
    z_e = Σ_k g_k z_k                               logits are mixed, not probabilities
    L   = Σ_k CE(z_k, y) + CE(z_e, y) + w(step) Σ_k T² KL(p_e || p_k)

Departures: the ramp-up takes 80/300 of any schedule and rises with every step.

Shapes: B = batch, D = channels of the image, S = side, C = channels of the trunk, H, W = its
output's height and width, K = classes, N = branches.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.adaptive.configuration import Configuration
from pliant.distill.kd import kd_loss
from pliant.distill.offline import Losses, check_number
from pliant.distill.peers import Peers, SharedTrunk, extract_network, predictions
from pliant.distill.ramp import RAMP, ramp_up
from pliant.distill.seen import check_seen
from pliant.errors import UserError


def gated_ensemble(logits: Sequence[Tensor], gate: Float[Tensor, "B N"]) -> Float[Tensor, "B K"]:
    """z_e: the branches' logits, mixed image by image.

    Args:
        logits: Of the branches.
        gate: Shares, each row sums to 1.
    """
    return torch.einsum("nbk,bn->bk", torch.stack(list(logits)), gate)


class Gate(nn.Module):
    """Shares of the branches, by image.

    Args:
        channels: C of the trunk.
        num_branches: N.
    """

    def __init__(self, channels: int, num_branches: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_branches, bias=False)  # the norm has the bias
        self.norm = nn.BatchNorm1d(num_branches)

    def forward(self, shared: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N"]:
        return F.relu(self.norm(self.linear(shared.mean((2, 3))))).softmax(dim=1)


class GatedEnsemble(nn.Module):
    """Trunk, branches and gate: images to the logits of the ensemble."""

    def __init__(self, peers: SharedTrunk, gate: Gate) -> None:
        super().__init__()
        self.peers = peers
        self.gate = gate

    def forward(self, images: Float[Tensor, "B D S1 S2"]) -> Float[Tensor, "B K"]:
        answers = self.peers(images)
        return gated_ensemble(answers.logits, self.gate(answers.shared))


@dataclass(frozen=True, kw_only=True)
class ONE:
    """Settings; `build()` makes the task."""

    temperature: float = 3.0
    """T, > 0; larger is softer."""
    weight: float = 1.0
    """Of what the ensemble teaches once the ramp is over, >= 0."""
    ramp: float = RAMP
    """Part of the schedule until that has its whole weight, 0 to 1."""

    def __post_init__(self) -> None:
        check_number(self.temperature > 0, "ONE.temperature", "> 0", self.temperature)
        check_number(self.weight >= 0, "ONE.weight", ">= 0", self.weight)
        check_number(0 <= self.ramp <= 1, "ONE.ramp", "in [0, 1]", self.ramp)

    def build(self, peers: Peers, *, total_steps: int) -> "ONETask":
        """The task, for a schedule of so many steps.

        Raises:
            UserError: on networks without a shared trunk, one branch only, NaN logits.
        """
        return ONETask(self, peers, total_steps=total_steps)


class ONETask(nn.Module):
    """Trunk, branches and gate, and what they cost together.

    Predictors are network_1, network_2 ..., `gated` and `ensemble` (the plain mean).
    """

    def __init__(self, settings: ONE, peers: Peers, *, total_steps: int) -> None:
        super().__init__()
        if not isinstance(peers, SharedTrunk):
            raise UserError(f"ONE needs a SharedTrunk, got {type(peers).__name__}")
        check_seen("ONE", peers.seen)
        self.settings = settings
        self.decay_scales: dict[str, float] = {}
        self.peers = peers
        like = next(peers.parameters())
        self.gate = Gate(peers.shared_channels, len(peers.seen)).to(like.device, like.dtype)
        self.ramp_steps = settings.ramp * total_steps

    @property
    def model(self) -> nn.Module:
        """The branches on their trunk."""
        return self.peers.model

    def configurations(self, step: int) -> list[Configuration]:
        """None to choose."""
        return []

    def forward(
        self, images: Float[Tensor, "B D S1 S2"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        """`loss`, and unweighted `ce` and `kd`, summed over the branches."""
        answers = self.peers(images)
        ensemble = gated_ensemble(answers.logits, self.gate(answers.shared))
        ce = torch.stack([F.cross_entropy(z, targets) for z in (*answers.logits, ensemble)]).sum()
        temperature = self.settings.temperature
        kd = torch.stack(
            [kd_loss(z, ensemble, temperature=temperature) for z in answers.logits]
        ).sum()
        weight = self.settings.weight * ramp_up(step, length=self.ramp_steps)
        return {"loss": ce + weight * kd, "ce": ce, "kd": kd}

    def predictors(self, images: Float[Tensor, "B D S1 S2"]) -> dict[str, Tensor]:
        """Logits by predictor."""
        answers = self.peers(images)
        return {
            **predictions(answers),
            "gated": gated_ensemble(answers.logits, self.gate(answers.shared)),
        }

    def extract(self, what: str) -> nn.Module:
        """A copy of one predictor: a plain network, or the gated ensemble.

        Raises:
            UserError: if there is no such predictor.
        """
        if what == "gated":
            return copy.deepcopy(GatedEnsemble(self.peers, self.gate)).train(self.training)
        return extract_network(self.peers, what, others=["gated"])
