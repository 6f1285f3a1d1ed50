"""Run every tier of a model over samples, in batches; shared by evaluate and the tools around it.

Shapes: N = samples, B = batch, D = channels, K = classes, S = input side in pixels.
"""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pliant.adaptive.network import AdaptiveNetwork
from pliant.data.crops import CropDataset
from pliant.data.manifest import Sample
from pliant.data.progress import watched
from pliant.pad.scores import Scores
from pliant.runtime.crop import Preprocessing


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (B, D, S, S) to the network's input: (x / 255 - mean) / std, float32.

    Mean and standard deviation hold for every three channels.
    """
    times = images.shape[1] // 3
    mean = torch.tensor(preprocessing.mean * times, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std * times, device=images.device).view(1, -1, 1, 1)
    return (images.float() / 255 - mean) / std


def crops_of(samples: Sequence[Sample], preprocessing: Preprocessing) -> CropDataset:
    """The samples, cut as the network wants them."""
    return CropDataset(
        samples,
        size=preprocessing.size,
        crop_scale=preprocessing.crop_scale,
        border=preprocessing.border,
    )


@torch.inference_mode()
def tier_probabilities(
    model: AdaptiveNetwork,
    samples: Sequence[Sample] | Dataset,
    preprocessing: Preprocessing,
    tiers: Sequence[str],
    *,
    batch_size: int = 64,
    title: str = "scoring",
) -> dict[str, np.ndarray]:
    """Class probabilities of every tier, float64 (N, K) each; every crop is made once.

    The model is left in the mode and on the configuration it came with.

    Args:
        model: On any device.
        samples: What to score, or crops of it: items with `image`, uint8 (D, S, S).
        preprocessing: What the network expects.
        tiers: Names, or configurations.
        batch_size: Images per forward pass.
        title: Of the progress bar.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found: dict[str, list[np.ndarray]] = {tier: [] for tier in tiers}
    crops = samples if isinstance(samples, Dataset) else crops_of(samples, preprocessing)
    loader = DataLoader(crops, batch_size=batch_size)
    for batch in watched(loader, len(loader), title):
        images = normalise(batch["image"].to(device), preprocessing)
        for tier in tiers:
            with model.use(tier):
                logits = model(images)
            found[tier].append(logits.double().softmax(dim=1).cpu().numpy())
    model.train(was_training)
    return {tier: np.concatenate(parts) for tier, parts in found.items()}


def to_scores(samples: Sequence[Sample], bona_fide_probability: np.ndarray) -> Scores:
    """One score per sample, in the evaluator's form; frames are not pooled here.

    A presentation without a clip is named by its path beneath the samples' common folder, so that
    no score file tells where on which disk the images lie.
    """
    root = os.path.commonpath([s.path.parent for s in samples]) if samples else ""
    return Scores.of(
        bona_fide_probability,
        np.array([s.bona_fide is True for s in samples], dtype=bool),
        species=[None if s.bona_fide else s.pai_species for s in samples],
        subject=[s.subject for s in samples],
        presentation=[s.clip or os.path.relpath(s.path, root) for s in samples],
    )
