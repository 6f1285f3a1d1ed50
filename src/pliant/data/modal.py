"""Aligned crops of colour, depth and infrared; what cannot be used is zeros, and is counted.

The box is that of the colour image; where another sensor's image has another resolution the box is
scaled with it. What makes a depth or infrared image unusable, and how it is brought to 8 bits, is
in modal_read.py.

Shapes: M = modalities, S = side of a crop in pixels.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pliant.data.crops import CropDataset
from pliant.data.frames import read_sample
from pliant.data.manifest import Sample
from pliant.data.modal_read import modal_image
from pliant.data.progress import map_threads, watched
from pliant.errors import UserError
from pliant.runtime.crop import crop_square
from pliant.runtime.files import write_atomic
from pliant.runtime.images import BadImage

COLOUR = "colour"
FILES = {"depth": "depth_path", "infrared": "ir_path"}
"""Modality -> the sample's field that names its file; colour is `path`."""
Problems = dict[str, str]
"""Modality -> why it cannot be used, of one sample."""


class ModalCrops(CropDataset):
    """Item k: dict(image: uint8 (3M, S, S), target: int64, index: int64 = k).

    A `CropDataset` of more channels: three of each modality, in the order of `modalities`.

    Args:
        samples: As for CropDataset.
        modalities: Any of colour, depth, infrared; at least one.
        size: S.
        crop_scale: As for CropDataset, as the rest.
        border: See `crop_square`.
        cache_bytes: Memory for decoded crops.
        classes: Class names in the order of the targets.

    Raises:
        ValueError: if a modality is unknown, or a label is missing from `classes`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        modalities: Sequence[str],
        size: int,
        crop_scale: float,
        border: str = "reflect101",
        cache_bytes: int = 2 << 30,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            samples,
            size=size,
            crop_scale=crop_scale,
            border=border,
            cache_bytes=cache_bytes // max(1, len(modalities)),
            classes=classes,
        )
        unknown = [name for name in modalities if name != COLOUR and name not in FILES]
        if unknown or not modalities:
            raise ValueError(
                f"unknown modalities {unknown}; allowed: {COLOUR}, {', '.join(FILES)}, at least one"
            )
        self.modalities = tuple(modalities)
        self._problems: dict[int, Problems] = {}

    def crop(self, index: int) -> NDArray[np.uint8]:
        """The crop straight from its files, uint8 (S, S, 3M); zeros where a modality has none.

        Raises:
            UserError: if the colour image can no longer be read.
        """
        sample = self.samples[index]
        try:
            colour = read_sample(sample)
        except BadImage as error:
            raise UserError(f"{sample.path} cannot be used: {error}") from error
        parts, problems = [], Problems()
        for name in self.modalities:
            image, box = colour, sample.box
            if name != COLOUR:
                height, width = colour.shape[:2]
                path = getattr(sample, FILES[name])
                try:
                    image, box = modal_image(name, path, sample.box, (width, height))
                except BadImage as reason:
                    problems[name] = str(reason)
                    parts.append(np.zeros((self.size, self.size, 3), np.uint8))
                    continue
            parts.append(
                crop_square(image, box, scale=self.crop_scale, size=self.size, border=self.border)
            )
        self._problems[index] = problems
        return np.concatenate(parts, axis=2)

    def problems(self) -> list[Problems]:
        """What cannot be used of every sample; reads those that were not read yet."""
        unread = [index for index in range(len(self)) if index not in self._problems]
        read = map_threads(self.__getitem__, unread)
        for _ in watched(read, len(unread), f"checking {', '.join(self.modalities)}"):
            pass
        return [self._problems[index] for index in range(len(self))]


def count_problems(problems: Sequence[Problems]) -> dict[str, dict[str, int]]:
    """Modality -> reason -> samples, the commonest first; only of modalities with a problem.

    Args:
        problems: Of every sample, as `ModalCrops.problems` gives them.
    """
    names = sorted({name for each in problems for name in each})
    return {
        name: dict(Counter(each[name] for each in problems if name in each).most_common())
        for name in names
    }


def problem_notes(problems: Sequence[Problems]) -> list[str]:
    """A sentence for each modality that some samples lack."""
    return [
        f"{name} cannot be used in {sum(reasons.values())} of {len(problems)} frames "
        f"({', '.join(f'{n} x {reason}' for reason, n in list(reasons.items())[:4])}): zeros there"
        for name, reasons in count_problems(problems).items()
    ]


def refuse_absent(modalities: Sequence[str], problems: Sequence[Problems], where: str) -> None:
    """Refuses data in which no frame has a wanted modality.

    Raises:
        UserError: naming the modality and the commonest reason.
    """
    for name, reasons in count_problems(problems).items():
        if name in modalities and sum(reasons.values()) == len(problems):
            raise UserError(
                f"no frame of {where} has {name} that can be used ({next(iter(reasons))}); leave "
                f"{name} out, or give a manifest whose {FILES[name]} names the files"
            )


def write_problems(samples: Sequence[Sample], problems: Sequence[Problems], path: Path) -> None:
    """A CSV of what could not be used: path, modality, reason."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "modality", "reason"))
    for sample, each in zip(samples, problems, strict=True):
        table.writerows((sample.name or sample.path.name, *item) for item in each.items())
    write_atomic(path, text.getvalue())
