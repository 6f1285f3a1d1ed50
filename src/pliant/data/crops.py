"""Face crops as a data set: decoded once, kept as bytes within a bound, skipped when unreadable.

Shapes: S = side of the crop in pixels.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from pliant.data.manifest import Sample
from pliant.errors import UserError
from pliant.runtime.crop import Border, crop_square
from pliant.runtime.images import BadImage, read_image

T = TypeVar("T")
MOST_SKIPPED = 0.05


class Crop(TypedDict):
    """One item of a CropDataset."""

    image: UInt8[Tensor, "3 S S"]
    target: int
    index: int


class CropDataset(Dataset[Crop]):
    """The samples' crops, with `int(bona_fide)` or the class's number as target.

    Crops stay in memory up to `cache_bytes`; each loading process keeps its own.

    Args:
        samples: What to cut.
        size: Side of the crop, pixels.
        crop_scale: See `Preprocessing.crop_scale`.
        border: See `Preprocessing.border`.
        cache_bytes: Most memory for kept crops.
        classes: Class names in order; None takes the samples' own, sorted.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        size: int,
        crop_scale: float,
        border: Border = "reflect101",
        cache_bytes: int = 2 << 30,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.samples = list(samples)
        self.size = size
        self.crop_scale = crop_scale
        self.border: Border = border
        names = classes or sorted({str(s.label) for s in self.samples if s.bona_fide is None})
        place = {name: number for number, name in enumerate(names)}
        self.targets = [
            place[str(s.label)] if s.bona_fide is None else int(s.bona_fide) for s in self.samples
        ]
        self.room = cache_bytes // (3 * size * size)
        self.kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Crop:
        crop = self.kept.get(index)
        if crop is None:
            sample = self.samples[index]
            try:
                photo = read_image(sample.path)
            except BadImage as problem:
                raise UserError(f"{sample.path} became unreadable: {problem}") from problem
            crop = crop_square(
                photo, sample.box, scale=self.crop_scale, size=self.size, border=self.border
            )
            if len(self.kept) < self.room:
                self.kept[index] = crop
        image = torch.from_numpy(crop).permute(2, 0, 1)
        return {"image": image, "target": self.targets[index], "index": index}


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    path: Path
    reason: str


def load_or_skip(
    samples: Sequence[Sample], *, most: float = MOST_SKIPPED
) -> tuple[list[Sample], list[Skipped]]:
    """Decodes every image once; the readable samples, and the skipped ones with their reasons.

    Raises:
        UserError: if more than the share `most` cannot be read, naming the first three.
    """
    if not samples:
        return [], []
    kept: list[Sample] = []
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(_problem, (sample.path for sample in samples))
        for sample, reason in zip(samples, watched(reasons, len(samples), "reading"), strict=True):
            if reason is None:
                kept.append(sample)
            else:
                skipped.append(Skipped(sample.path, reason))
    refuse_too_many(skipped, len(samples), most=most)
    return kept, skipped


def refuse_too_many(skipped: Sequence[Skipped], total: int, *, most: float = MOST_SKIPPED) -> None:
    """Refuses to go on when too much of a data set was left out.

    Raises:
        UserError: if the share is above `most`, naming the first three images.
    """
    if len(skipped) > most * total:
        first = "; ".join(f"{s.path}: {s.reason}" for s in skipped[:3])
        raise UserError(
            f"{len(skipped)} of {total} images cannot be used, more than {most:.0%}; "
            f"repair or remove them, the first are: {first}"
        )


def watched(steps: Iterator[T], total: int, title: str) -> Iterator[T]:
    """The same steps with a bar and the time left on stderr, silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import track

    return iter(
        track(
            steps,
            description=title,
            total=total,
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
    )


def _problem(path: Path) -> str | None:
    try:
        read_image(path)
    except BadImage as problem:
        return str(problem)
    return None
