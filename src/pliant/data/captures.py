"""Simulated captures of a dev set: its faces under other cameras, and recaptured.

One camera and one kind of attack cannot place a threshold for another camera. So the dev set that
ranks epochs and fits thresholds is joined by simulated captures of the same subjects: every sample
once more through a random camera, and every bona fide face as each kind of simulated attack,
through a random camera too. They are labelled `simulated <kind>` wherever they are counted.

Shapes: N = samples, M = captures, C = canvas side, S = input side in pixels.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from pliant.data.augment import BONA_FIDE, Augment
from pliant.data.crops import CropDataset
from pliant.data.manifest import Sample
from pliant.data.simulate import SIMULATIONS

MOST_CAPTURED = 2000
"""Dev samples that captures are made from, spread evenly; they stay in memory."""


@dataclass(frozen=True, kw_only=True)
class Captures:
    """What `simulated_captures` gives; row m was made from sample `source[m]`."""

    images: UInt8[Tensor, "M 3 S S"]
    """sRGB, at the network's input size."""
    targets: Int[Tensor, " M"]
    """1 bona fide, 0 attack."""
    kinds: tuple[str | None, ...]
    """Name of the simulated attack; None where the sample kept its label."""
    source: Int[Tensor, " M"]
    """Which sample it was made from."""


def simulated_captures(
    images: UInt8[Tensor, "N 3 C C"],
    targets: Int[Tensor, " N"],
    *,
    settings: Augment,
    size: int,
    seed: int,
    chunk: int = 64,
) -> Captures:
    """Every sample through a random camera, and every bona fide one as each simulated attack.

    Args:
        images: Wide crops, as `Augment.canvas_px` and `canvas_scale` ask for.
        targets: 1 bona fide, 0 attack.
        settings: The training run's augmentation; its kinds of attack and its camera are used.
        size: Side S of the network's input.
        seed: Of everything drawn.
        chunk: Samples at a time; part of what is drawn, so keep it.
    """
    generator = torch.Generator().manual_seed(seed)
    camera = replace(settings, simulate=()).build(size)
    made: list[tuple[Tensor, Tensor, list[str | None], Tensor]] = []
    for start in range(0, len(images), chunk):
        rows = torch.arange(start, min(start + chunk, len(images)))
        faces, labels = images[rows].float() / 255, targets[rows]
        seen, _ = camera(faces, labels, generator)
        made.append((seen, labels, [None] * len(rows), rows))
        live = labels == BONA_FIDE
        if not live.any():
            continue
        none = torch.zeros(int(live.sum()), dtype=labels.dtype)
        for kind in settings.simulate:
            shown, _ = camera(SIMULATIONS[kind](faces[live], generator), none, generator)
            made.append((shown, none, [kind] * len(none), rows[live]))
    return Captures(
        images=torch.cat([(seen * 255).round().to(torch.uint8) for seen, *_ in made]),
        targets=torch.cat([labels for _, labels, _, _ in made]),
        kinds=tuple(kind for _, _, kinds, _ in made for kind in kinds),
        source=torch.cat([rows for *_, rows in made]),
    )


class DevCrops(Dataset[dict[str, Tensor]]):
    """The dev crops as they are, followed by simulated captures of them; items as CropDataset's.

    `samples[k]` describes item k: a capture keeps its source's subject, is a presentation of its
    own, and a simulated attack says so in its species.

    Args:
        plain: Crops as the network wants them.
        wide: The same samples, cut as the augmentation wants them; None adds no captures.
        settings: The training run's augmentation.
        seed: Of the captures.
    """

    def __init__(
        self, plain: CropDataset, wide: CropDataset | None, *, settings: Augment, seed: int
    ) -> None:
        self.plain = plain
        self.samples: list[Sample] = list(plain.samples)
        self.targets: list[int] = list(plain.targets)
        self.captures: Captures | None = None
        if wide is None:
            return
        step = -(-len(wide) // MOST_CAPTURED)
        chosen = range(0, len(wide), step)
        self.captures = simulated_captures(
            torch.stack([wide[k]["image"] for k in chosen]),
            torch.tensor([wide.targets[k] for k in chosen]),
            settings=settings,
            size=plain.size,
            seed=seed,
        )
        self.targets += self.captures.targets.tolist()
        for kind, source in zip(self.captures.kinds, self.captures.source.tolist(), strict=True):
            sample = plain.samples[chosen[source]]
            name = f"{sample.presentation} ({'other camera' if kind is None else kind})"
            attack = (
                {} if kind is None else {"bona_fide": False, "pai_species": f"simulated {kind}"}
            )
            self.samples.append(replace(sample, clip=name, **attack))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index < len(self.plain):
            return self.plain[index]
        assert self.captures is not None
        return {
            "image": self.captures.images[index - len(self.plain)],
            "target": torch.tensor(self.targets[index]),
            "index": torch.tensor(index),
        }
