"""FFL: parallel sub-networks, their ensemble and the fusion of their features teach each other.

Kim, Hyun, Chung, Kwak. "Feature Fusion for Online Mutual Knowledge Distillation", ICPR 2020.
https://arxiv.org/abs/1904.09058 (v2). The formulas are those of the authors' code (FFL-pytorch);
the paper's equation numbers were not checked.

    z_e  = mean_k z_k                                                      ensemble
    L_ce = Σ_k CE(z_k, y) + CE(z_f, y)                                     never weighted
    L_kd = KD(z_f <- z_e) + Σ_k KD(z_k <- z_f)                             targets are constants
    L    = L_ce + w(step) L_kd,   KD(s <- t) = T² KL(softmax(t/T) || softmax(s/T))

Both terms of the fused classifier z_f reach the sub-networks through their feature maps: that is
part of what they gain.

Departures: N >= 2 sub-networks of any architectures, where the code has two of one; the ramp-up
takes 80/300 of any schedule and rises with every step; no 1e-7 is added to the targets. Over one
adaptive network (`Configurations`) its configurations are the sub-networks, which is ours.

With two classes a softened prediction is one number, so of the dark knowledge (which wrong classes
are alike) nothing is left: the KD terms pass on how sure the teacher is of each image and no more.
What there is to gain must come from the fusion. At T = 3 the gradient is near that of matching
logits.

Shapes: B = batch, D = channels of the image, S = side, K = classes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.adaptive.configuration import Configuration
from pliant.distill.ffl_networks import FusedClassifier, FusionModule
from pliant.distill.kd import kd_loss
from pliant.distill.offline import Losses, check_number
from pliant.distill.peers import Peers, extract_network, predictions
from pliant.distill.ramp import RAMP, ramp_up
from pliant.distill.seen import check_seen


def label_loss(
    logits: Sequence[Tensor], fused: Float[Tensor, "B K"], targets: Int[Tensor, " B"]
) -> Float[Tensor, ""]:
    """L_ce: the sum of every classifier's cross-entropy, in nats."""
    return torch.stack([F.cross_entropy(z, targets) for z in (*logits, fused)]).sum()


def fused_loss(
    logits: Sequence[Tensor], fused: Float[Tensor, "B K"], *, temperature: float
) -> Float[Tensor, ""]:
    """KD(z_f <- z_e): the ensemble teaches the fused classifier.

    Args:
        logits: Of the sub-networks; constants.
        fused: Logits of the fused classifier; gradients flow to these.
        temperature: T > 0.
    """
    return kd_loss(fused, torch.stack(list(logits)).mean(0), temperature=temperature)


def networks_loss(
    logits: Sequence[Tensor], fused: Float[Tensor, "B K"], *, temperature: float
) -> Float[Tensor, ""]:
    """Σ_k KD(z_k <- z_f): the fused classifier teaches every sub-network.

    Args:
        logits: Of the sub-networks; gradients flow to these.
        fused: Logits of the fused classifier; constants.
        temperature: T > 0.
    """
    return torch.stack([kd_loss(z, fused, temperature=temperature) for z in logits]).sum()


@dataclass(frozen=True, kw_only=True)
class FFL:
    """Settings; `build()` makes the task."""

    temperature: float = 3.0
    """T, > 0; larger is softer."""
    weight: float = 1.0
    """Of L_kd once the ramp is over, >= 0."""
    ramp: float = RAMP
    """Part of the schedule until L_kd has its whole weight, 0 to 1."""
    fusion_decay: float = 0.1
    """Weight decay of the fusion module, in units of the sub-networks' own, >= 0."""

    def __post_init__(self) -> None:
        check_number(self.temperature > 0, "FFL.temperature", "> 0", self.temperature)
        check_number(self.weight >= 0, "FFL.weight", ">= 0", self.weight)
        check_number(0 <= self.ramp <= 1, "FFL.ramp", "in [0, 1]", self.ramp)
        check_number(self.fusion_decay >= 0, "FFL.fusion_decay", ">= 0", self.fusion_decay)

    def build(self, peers: Peers, *, total_steps: int) -> "FFLTask":
        """The task, for a schedule of so many steps.

        Raises:
            UserError: on one sub-network only, other classes, a missing feature map, NaN logits.
        """
        return FFLTask(self, peers, total_steps=total_steps)


class FFLTask(nn.Module):
    """Sub-networks, their fusion module, and what they cost together.

    Predictors are network_1, network_2 ..., `fused` and `ensemble`.
    """

    def __init__(self, settings: FFL, peers: Peers, *, total_steps: int) -> None:
        super().__init__()
        check_seen("FFL", peers.seen, maps=True)
        self.settings = settings
        self.peers = peers
        channels = [seen.channels for seen in peers.seen]
        self.fusion = FusionModule(channels, peers.seen[0].num_classes)
        like = next(peers.parameters())
        self.fusion.to(like.device, like.dtype)
        self.ramp_steps = settings.ramp * total_steps
        self.decay_scales = {"fusion": settings.fusion_decay}

    @property
    def model(self) -> nn.Module:
        """The sub-networks; over an adaptive network, that network."""
        return self.peers.model

    def configurations(self, step: int) -> list[Configuration]:
        """The adaptive network's own that a step runs; else none."""
        return list(self.peers.configurations)

    def parameter_groups(self, *, weight_decay: float) -> list[dict]:
        """For an optimiser of one's own: the sub-networks, and the fusion module with its decay.

        Args:
            weight_decay: Of the sub-networks; the authors' is 1e-4, and 1e-5 for the fusion module.
        """
        fusion_decay = weight_decay * self.settings.fusion_decay
        return [
            {"params": list(self.peers.parameters()), "weight_decay": weight_decay},
            {"params": list(self.fusion.parameters()), "weight_decay": fusion_decay},
        ]

    def forward(
        self, images: Float[Tensor, "B D S1 S2"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        """`loss`, and unweighted `ce`, `kd_fused` and `kd_networks`."""
        answers = self.peers(images)
        fused = self.fusion(answers.maps)
        ce = label_loss(answers.logits, fused, targets)
        temperature = self.settings.temperature
        kd_fused = fused_loss(answers.logits, fused, temperature=temperature)
        kd_networks = networks_loss(answers.logits, fused, temperature=temperature)
        weight = self.settings.weight * ramp_up(step, length=self.ramp_steps)
        loss = ce + weight * (kd_fused + kd_networks)
        return {"loss": loss, "ce": ce, "kd_fused": kd_fused, "kd_networks": kd_networks}

    def predictors(self, images: Float[Tensor, "B D S1 S2"]) -> dict[str, Tensor]:
        """Logits by predictor."""
        answers = self.peers(images)
        return {**predictions(answers), "fused": self.fusion(answers.maps)}

    def extract(self, what: str) -> nn.Module:
        """A copy of one predictor: a plain sub-network, or the fused classifier with all of them.

        Raises:
            UserError: if there is no such predictor.
        """
        if what == "fused":
            return copy.deepcopy(FusedClassifier(self.peers, self.fusion)).train(self.training)
        return extract_network(self.peers, what, others=["fused"])
