"""KDCL: networks of any capacity learn from one soft target that is made of all their logits.

Guo, Wang, Wu, Yu, Liang, Hu, Luo. "Online Knowledge Distillation via Collaborative Learning",
CVPR 2020.
https://openaccess.thecvf.com/content_CVPR_2020/papers/Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.pdf
(equation numbers not checked). Four targets z_t:

    naive      logits of the network of smallest CE(z_i, y), image by image
    linear     Σ_i a_i z_i with the shares a that minimise CE, image by image
    min_logit  min_i (z_i - z_i[y]), class by class
    general    Σ_i a_i z_i with a = C⁻¹1 / 1ᵀC⁻¹1, C the correlation of the networks' errors

    L = Σ_i CE(z_i, y) + w T² KL(p_t || p_i)

Departures: every network sees the same images, where the paper distorts them for each. The error of
`general` is probabilities minus the one-hot label; its shares are equal until `measure` is called,
after every epoch, with images held out.

Unverified: the paper's text was not at hand, the formulas are from summaries of it; that `linear`
finds its shares by image, and the error of `general`, are readings.

Shapes: N = networks, B = batch, D = channels of the image, S = side, K = classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pliant.adaptive.configuration import Configuration
from pliant.distill.kd import kd_loss
from pliant.distill.offline import Losses, check_number, evaluating
from pliant.distill.peers import Peers, extract_network, predictions
from pliant.distill.seen import check_seen
from pliant.errors import UserError

HALVINGS = 24
"""Of the interval in which `linear_shares` searches a line: 2^-24 of it stays."""


def naive_target(
    logits: Float[Tensor, "N B K"], targets: Int[Tensor, " B"]
) -> Float[Tensor, "B K"]:
    """Every image's logits of the network that does best on it."""
    losses = -logits.log_softmax(-1).gather(2, _columns(logits, targets)).squeeze(2)  # (N, B)
    return logits[losses.argmin(0), torch.arange(len(targets), device=logits.device)]


def min_logit_target(
    logits: Float[Tensor, "N B K"], targets: Int[Tensor, " B"]
) -> Float[Tensor, "B K"]:
    """Class by class the least logit above that of the image's own class, which becomes 0."""
    return (logits - logits.gather(2, _columns(logits, targets))).amin(0)


def linear_shares(
    logits: Float[Tensor, "N B K"], targets: Int[Tensor, " B"]
) -> Float[Tensor, "B N"]:
    """Shares >= 0 of sum 1 by which the mixed logits have the smallest cross-entropy.

    The problem is convex: share moves from the network of steepest ascent to that of steepest
    descent, as far as it pays. For two networks one move is exact; for more there are 8 N.
    """
    count, size = logits.shape[:2]
    shares = logits.new_full((size, count), 1 / count)
    hot = F.one_hot(targets, logits.shape[2]).to(logits)
    rows = torch.arange(size, device=logits.device)
    for _ in range(1 if count == 2 else 8 * count):
        mixed = torch.einsum("nbk,bn->bk", logits, shares)
        slope = torch.einsum("nbk,bk->bn", logits, mixed.softmax(-1) - hot)
        gains = slope.argmin(1)
        gives = slope.masked_fill(shares <= 0, -torch.inf).argmax(1)
        direction = logits[gains, rows] - logits[gives, rows]
        low, high = torch.zeros_like(shares[:, 0]), shares[rows, gives]
        step = high  # everything, unless that goes too far
        for _ in range(HALVINGS):
            ahead = (mixed + step[:, None] * direction).softmax(-1) - hot
            far = (ahead * direction).sum(1) > 0
            low, high = torch.where(far, low, step), torch.where(far, step, high)
            step = (low + high) / 2
        shares = shares.index_put((rows, gives), -step, accumulate=True)
        shares = shares.index_put((rows, gains), step, accumulate=True)
    return shares


def error_correlation(
    logits: Float[Tensor, "N B K"], targets: Int[Tensor, " B"]
) -> Float[Tensor, "N N"]:
    """C: inner products of the networks' errors, probabilities - one-hot; mean over images."""
    errors = logits.softmax(-1) - F.one_hot(targets, logits.shape[2])
    return torch.einsum("ibk,jbk->ij", errors, errors) / len(targets)


def general_shares(correlation: Float[Tensor, "N N"]) -> Float[Tensor, " N"]:
    """C⁻¹1 / 1ᵀC⁻¹1: of sum 1, and negative where that lowers the error of the mixture."""
    ridge = 1e-6 * correlation.diagonal().mean().clamp(min=1e-12)  # networks may be equal
    eye = torch.eye(len(correlation), dtype=correlation.dtype, device=correlation.device)
    solved = torch.linalg.solve(correlation + ridge * eye, correlation.new_ones(len(correlation)))
    return solved / solved.sum()


def _columns(logits: Tensor, targets: Tensor) -> Tensor:
    return targets.view(1, -1, 1).expand(len(logits), -1, 1)


@dataclass(frozen=True, kw_only=True)
class KDCL:
    """Settings; `build()` makes the task."""

    target: Literal["naive", "linear", "min_logit", "general"] = "min_logit"
    """How the logits become one target."""
    temperature: float = 2.0
    """T, > 0; larger is softer."""
    weight: float = 1.0
    """Of what the target teaches, >= 0."""

    def __post_init__(self) -> None:
        if self.target not in ("naive", "linear", "min_logit", "general"):
            raise UserError(
                f'KDCL.target must be naive, linear, min_logit or general, got "{self.target}"'
            )
        check_number(self.temperature > 0, "KDCL.temperature", "> 0", self.temperature)
        check_number(self.weight >= 0, "KDCL.weight", ">= 0", self.weight)

    def build(self, peers: Peers, *, total_steps: int) -> "KDCLTask":
        """The task; the schedule's length does not matter to it.

        Raises:
            UserError: on one network only, other classes, NaN logits.
        """
        return KDCLTask(self, peers)


class KDCLTask(nn.Module):
    """Networks and what they cost together. Predictors are network_1 ... and `ensemble`."""

    shares: Tensor

    def __init__(self, settings: KDCL, peers: Peers) -> None:
        super().__init__()
        check_seen("KDCL", peers.seen)
        self.settings = settings
        self.decay_scales: dict[str, float] = {}
        self.peers = peers
        like = next(peers.parameters())
        self.register_buffer("shares", like.new_full((len(peers.seen),), 1 / len(peers.seen)))

    @property
    def model(self) -> nn.Module:
        """The networks; over an adaptive network, that network."""
        return self.peers.model

    def configurations(self, step: int) -> list[Configuration]:
        """The adaptive network's own that a step runs; else none."""
        return list(self.peers.configurations)

    def teacher(
        self, logits: Float[Tensor, "N B K"], targets: Int[Tensor, " B"]
    ) -> Float[Tensor, "B K"]:
        """z_t of the settings."""
        match self.settings.target:
            case "naive":
                return naive_target(logits, targets)
            case "min_logit":
                return min_logit_target(logits, targets)
            case "linear":
                return torch.einsum("nbk,bn->bk", logits, linear_shares(logits, targets))
            case "general":
                return torch.einsum("nbk,n->bk", logits, self.shares.to(logits))

    def forward(
        self, images: Float[Tensor, "B D S1 S2"], targets: Int[Tensor, " B"], step: int
    ) -> Losses:
        """`loss`, and unweighted `ce` and `kd`, summed over the networks."""
        logits = self.peers(images).logits
        ce = torch.stack([F.cross_entropy(z, targets) for z in logits]).sum()
        with torch.no_grad():
            teacher = self.teacher(torch.stack(logits).float(), targets)
        temperature = self.settings.temperature
        kd = torch.stack([kd_loss(z, teacher.to(z), temperature=temperature) for z in logits]).sum()
        return {"loss": ce + self.settings.weight * kd, "ce": ce, "kd": kd}

    def measure(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Sets the shares of `general` from (images, targets) held out, at least one batch.

        Raises:
            UserError: if there is no batch.
        """
        total, count = torch.zeros(()), 0
        with torch.no_grad(), evaluating(self):
            for images, targets in batches:
                logits = torch.stack(self.peers(images).logits).double()
                total = error_correlation(logits, targets) * len(targets) + total.to(logits)
                count += len(targets)
        if not count:
            raise UserError("KDCL general needs held-out images to measure its shares; got none")
        self.shares.copy_(general_shares(total / count))

    def predictors(self, images: Float[Tensor, "B D S1 S2"]) -> dict[str, Tensor]:
        """Logits by predictor."""
        return predictions(self.peers(images))

    def extract(self, what: str) -> nn.Module:
        """A plain copy of one network.

        Raises:
            UserError: if there is no such predictor.
        """
        return extract_network(self.peers, what)
