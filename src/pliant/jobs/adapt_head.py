"""The classifier of a run as one head for all tiers: what it sees, what it says, how it is changed.

Everything before it stays as it is, batch norms with each tier's statistics included, so features
are computed once and many heads can be fitted on them.

Shapes: N = frames, F = features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from pliant.adaptive.calibration import fingerprint
from pliant.adaptive.network import AdaptiveNetwork
from pliant.data.manifest import Sample
from pliant.data.progress import watched
from pliant.errors import UserError
from pliant.jobs.scoring import crops_of, normalise
from pliant.models.mobilenet_v2 import MobileNetV2
from pliant.pad.adapt import Head, balanced_weights, fit_head
from pliant.pad.scores import Scores
from pliant.runtime.crop import Preprocessing


@dataclass(frozen=True, kw_only=True, eq=False)
class NewHead:
    """A head for all tiers, fitted on the features that each of them computes."""

    old: Head
    features: Mapping[str, np.ndarray]
    """Per tier (N, F)."""
    labels: Scores
    """Of the N frames; any tier's."""
    strengths: tuple[float, ...]
    """What may hold it to the old one, > 0; see `fit_head`. Of several the captures choose."""

    def learn(self, rows: np.ndarray, strength: float) -> Head:
        """The head fitted on these frames in every tier."""
        mine, num = self.labels[rows], len(self.features)
        return fit_head(
            self.old,
            np.concatenate([features[rows] for features in self.features.values()]),
            np.tile(mine.bona_fide, num),
            np.tile(balanced_weights(mine) / num, num),
            strength=strength,
        )

    def score(self, head: Head | None, tier: str, rows: np.ndarray) -> np.ndarray:
        assert head is not None
        return head.score(self.features[tier][rows])


@torch.inference_mode()
def tier_features(
    model: AdaptiveNetwork,
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    tiers: Sequence[str],
    *,
    batch_size: int = 64,
) -> dict[str, np.ndarray]:
    """What the head sees in every tier, float32 (N, F) each; in eval mode, every crop made once."""
    model.eval()
    found: dict[str, list[np.ndarray]] = {tier: [] for tier in tiers}
    loader = DataLoader(crops_of(samples, preprocessing), batch_size=batch_size)
    for batch in watched(loader, len(loader), "computing features"):
        images = normalise(batch["image"], preprocessing)
        for tier in tiers:
            with model.use(tier):
                found[tier].append(model.features_of(images).numpy())
    return {tier: np.concatenate(parts) for tier, parts in found.items()}


def head_of(model: AdaptiveNetwork) -> Head:
    """The network's own head: of its two logits only the difference decides."""
    layer = _layer(model)
    weight, bias = (t.detach().double().numpy() for t in (layer.weight, layer.bias))
    return Head(weight=weight[1] - weight[0], bias=float(bias[1] - bias[0]))


@torch.no_grad()
def set_head(model: AdaptiveNetwork, head: Head) -> None:
    """Moves both logits by half of the change each, the smallest step of the weights that does.

    No tier's statistics depend on the head: they are marked as belonging to the new weights.
    """
    layer, old = _layer(model), head_of(model)
    weight = torch.from_numpy(head.weight - old.weight) / 2
    for row, sign in ((0, -1), (1, 1)):
        layer.weight[row] += (sign * weight).to(layer.weight)
        layer.bias[row] += sign * (head.bias - old.bias) / 2
    now = fingerprint(model)
    for tier in model.tiers.values():
        tier.fingerprint = now


def _layer(model: AdaptiveNetwork) -> nn.Linear:
    if not isinstance(model.net, MobileNetV2):
        raise UserError(
            f"a head can be fitted for a MobileNetV2, not for a {type(model.net).__name__}; "
            "take --what threshold"
        )
    layer = model.net.classifier[-1]
    assert isinstance(layer, nn.Linear)
    return layer
