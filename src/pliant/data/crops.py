"""Samples as a data set of face crops, decoded once and kept in memory as far as allowed.

Shapes: N = samples, S = side of a crop in pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pliant.data.frames import read_sample
from pliant.data.manifest import Sample
from pliant.data.readable import load_or_skip
from pliant.errors import UserError
from pliant.runtime.crop import crop_square
from pliant.runtime.images import BadImage

__all__ = ["CropDataset", "load_or_skip", "targets_of"]


class CropDataset(Dataset[dict[str, torch.Tensor]]):
    """Item k: dict(image: uint8 (3, S, S), target: int64, index: int64 = k).

    The target of an anti-spoofing sample is int(bona_fide); of others, the place of its label among
    the classes. Pickling leaves the cached crops behind, so a worker process starts light.

    Args:
        samples: Anti-spoofing samples, or labelled ones.
        size: S.
        crop_scale: Side of the cut-out in multiples of the face box's longer side.
        border: See `crop_square`.
        cache_bytes: Memory for decoded crops; what does not fit is decoded anew each time.
        classes: Class names in the order of the targets; None: the samples' own labels, sorted.

    Raises:
        ValueError: if a label is missing from `classes`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        size: int,
        crop_scale: float,
        border: str = "reflect101",
        cache_bytes: int = 2 << 30,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.samples = list(samples)
        self.size, self.crop_scale, self.border = size, crop_scale, border
        self.targets = targets_of(self.samples, classes)
        self.num_cached = min(len(self.samples), cache_bytes // (3 * size * size))
        self._cache: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        image = self._cache.get(index)
        if image is None:
            image = torch.from_numpy(self.crop(index).transpose(2, 0, 1).copy())
            if index < self.num_cached:
                self._cache[index] = image
        return {
            "image": image,
            "target": torch.tensor(self.targets[index]),
            "index": torch.tensor(index),
        }

    def crop(self, index: int) -> NDArray[np.uint8]:
        """The crop straight from its file, uint8 (S, S, 3).

        Raises:
            UserError: if the file can no longer be read.
        """
        sample = self.samples[index]
        try:
            image = read_sample(sample)
        except BadImage as error:
            raise UserError(f"{sample.path} cannot be used: {error}") from error
        return crop_square(
            image, sample.box, scale=self.crop_scale, size=self.size, border=self.border
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": {}}


def targets_of(samples: Sequence[Sample], classes: Sequence[str] | None = None) -> list[int]:
    """The class index of each sample; see `CropDataset`."""
    if all(sample.bona_fide is not None for sample in samples) and classes is None:
        return [int(bool(sample.bona_fide)) for sample in samples]
    if classes is None:
        classes = sorted({str(sample.label) for sample in samples})
    place = {name: k for k, name in enumerate(classes)}
    if unknown := sorted({str(s.label) for s in samples} - set(place)):
        raise ValueError(f"labels {unknown[:5]} are not among the classes {list(classes)[:10]}")
    return [place[str(sample.label)] for sample in samples]
