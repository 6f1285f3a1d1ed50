"""Golden images: synthetic faces whose scores travel with the model, so that a device can check it.

Always the same eight of the rig, half of them attacked: they say whether a device computes what the
exporter computed, and nothing about how good the model is. No person is shown.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.data.rig import ATTACKS, Clip, RigSettings, render_clip
from pliant.runtime.crop import Preprocessing, crop_square, to_input

SETTINGS = RigSettings(subjects=len(ATTACKS), clips_per_subject=1, frames=1, size=112, seed=2007)
"""As many heads as there are attacks."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class GoldenImage:
    """One picture, as a device will read it."""

    png: bytes
    """The file."""
    pixels: NDArray[np.uint8]
    """What it decodes to: RGB, (S, S, 3)."""
    box: Box | None
    """x, y, width, height of the face in pixels; None where the model takes whole images."""
    species: str | None
    """None: bona fide."""

    def input(self, preprocessing: Preprocessing) -> NDArray[np.float32]:
        """What the network gets, float32 (3, size, size)."""
        crop = crop_square(
            self.pixels,
            self.box,
            scale=preprocessing.crop_scale,
            size=preprocessing.size,
            border=preprocessing.border,
        )
        return to_input(crop, preprocessing)


def golden_images(*, faces: bool = True) -> list[GoldenImage]:
    """The eight pictures; the same bits every time.

    Args:
        faces: Whether the model takes a face; else the boxes are left out.
    """
    images = []
    for subject in range(SETTINGS.subjects):
        for kind in (0, 1 + subject):  # everyone once live, and in a kind of attack of their own
            (frame,) = render_clip(SETTINGS, Clip(subject=subject, kind=kind, number=0))
            done, png = cv2.imencode(".png", cv2.cvtColor(frame.colour, cv2.COLOR_RGB2BGR))
            assert done
            images.append(
                GoldenImage(
                    png=png.tobytes(),
                    pixels=frame.colour,
                    box=_rounded(frame.box) if faces else None,
                    species=frame.species,
                )
            )
    return images


def _rounded(box: Box) -> Box:
    """JSON's own digits, so that writing and reading changes nothing."""
    x, y, width, height = (round(float(value), 2) for value in box)
    return x, y, width, height
