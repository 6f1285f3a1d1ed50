"""Augmentation on tensors: another camera, another crop, and simulated attacks.

A PAD model learns its camera before it learns the attack. So every training crop, bona fide or
attack, is "taken" with a random camera (exposure, gamma, white balance, saturation, sharpening,
blur, noise, resolution, recompression) and a random crop; and some attacks of each batch are
replaced by *simulated* ones made from the batch's own bona fide faces (see simulate.py), so that
the same face under the same cameras stands on both sides and only the recapture differs.

The data set delivers a crop wider than the network's input (`canvas_px`), at the same pixels per
face, so that jitter needs no second interpolation of the sharp image.

Shapes: B = batch, C = canvas side, S = input side in pixels. Images are sRGB in [0, 1].
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pliant.data.simulate import SIMULATIONS, blur
from pliant.errors import UserError

CANVAS_MARGIN = 1.25
BONA_FIDE = 1


def random_crop(
    images: Float[Tensor, "B 3 C C"],
    size: int,
    *,
    scale: tuple[float, float],
    rotation: float,
    shift: float,
    generator: torch.Generator,
) -> Float[Tensor, "B 3 S S"]:
    """Crops of `size` pixels: random zoom, turn in degrees, shift as a share of the side, flip.

    A third of the crops only flip: they keep the sharpness that evaluation will see.
    """
    batch, _, canvas, _ = images.shape
    rand = torch.rand((5, batch), generator=generator, device=images.device)
    moved = (rand[4] > 1 / 3).float()
    zoom = (scale[0] * (scale[1] / scale[0]) ** rand[0]) ** moved
    turn = (rand[1] * 2 - 1) * rotation * math.pi / 180 * moved
    mirror = torch.where(
        torch.rand(batch, generator=generator, device=images.device) < 0.5, -1.0, 1.0
    )
    side = size / canvas * zoom  # half-width of the crop in grid units
    theta = torch.stack(
        [
            torch.stack([side * turn.cos() * mirror, -side * turn.sin()], dim=1),
            torch.stack([side * turn.sin() * mirror, side * turn.cos()], dim=1),
        ],
        dim=1,
    )
    move = (rand[2:4] * 2 - 1) * shift * moved * size / canvas * 2
    theta = torch.cat([theta, move.t().unsqueeze(2)], dim=2)
    grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
    cut = F.grid_sample(
        images, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return cut.clamp(0, 1)


def random_camera(
    images: Float[Tensor, "B 3 S S"], *, strength: float, generator: torch.Generator
) -> Float[Tensor, "B 3 S S"]:
    """The same scene through another camera; `strength` 0 changes nothing, 1 is the default."""
    batch = len(images)

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        noise = torch.rand((batch, channels, 1, 1), generator=generator, device=images.device)
        return low + (high - low) * noise

    def sometimes(share: float) -> Tensor:
        return (draw(0, 1) < share).float() * strength

    x = images.clamp_min(1e-4) ** torch.exp(draw(-0.5, 0.5) * strength)  # tone curve
    x = x * torch.exp(draw(-0.35, 0.35) * strength)  # exposure
    x = x * torch.exp(draw(-0.18, 0.18, channels=3) * strength)  # white balance
    grey = x.mean(dim=1, keepdim=True)
    colour = torch.where(draw(0, 1) < 0.12 * strength, 0.0, torch.exp(draw(-0.5, 0.4) * strength))
    x = grey + (x - grey) * colour
    level = x.mean(dim=(1, 2, 3), keepdim=True)
    x = level + (x - level) * torch.exp(draw(-0.35, 0.25) * strength)  # contrast
    soft = blur(x, sometimes(0.4) * draw(0.2, 1.1))
    x = soft + sometimes(0.35) * draw(0.2, 1.2) * (soft - blur(soft, draw(0.6, 1.4)))  # sharpening
    grain = torch.randn(x.shape, generator=generator, device=x.device)
    x = x + grain * sometimes(0.5) * draw(0.0, 0.04)
    return x.clamp(0, 1)


def random_recompression(
    images: Float[Tensor, "B 3 S S"], *, share: float, generator: torch.Generator
) -> Float[Tensor, "B 3 S S"]:
    """With probability `share`: fewer pixels (to 0.45 x) and JPEG of quality 30 to 95."""
    rand = torch.rand((len(images), 4), generator=generator, device=images.device).cpu().numpy()
    pixels = (images.detach().permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    side = images.shape[-1]
    for k, (coarse, factor, jpeg, quality) in enumerate(rand):
        image = pixels[k]
        if coarse < share * 0.5:
            small = max(8, round(side * (0.45 + 0.55 * float(factor))))
            image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
        if jpeg < share:
            flags = [cv2.IMWRITE_JPEG_QUALITY, 30 + int(65 * float(quality))]
            image = cv2.imdecode(cv2.imencode(".jpg", image, flags)[1], cv2.IMREAD_COLOR)
        pixels[k] = np.asarray(image).reshape(side, side, 3)
    return torch.from_numpy(pixels).to(images.device).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Settings; `build(size)` makes the callable."""

    simulate: tuple[str, ...] = ("replay", "print")
    """Kinds of simulated attack: any of replay, print; empty for none."""
    simulate_share: float = 0.5
    """Share of each batch's attacks that is simulated from its bona fide faces, 0 to 1."""
    camera: float = 1.0
    """Strength of the random camera, 0 (off) to 2."""
    recompress: float = 0.5
    """Share of crops that lose pixels or are recompressed, 0 to 1."""
    scale: tuple[float, float] = (0.8, 1.2)
    """Crop-scale jitter, as factors of the crop scale; at most 1.25."""
    rotation: float = 8.0
    """Largest turn, degrees, 0 to 180."""
    shift: float = 0.04
    """Largest shift, as a share of the crop's side, 0 to 0.5."""

    def __post_init__(self) -> None:
        given = [self.simulate] if isinstance(self.simulate, str) else self.simulate
        words = tuple(word.strip() for entry in given for word in entry.split(",") if word.strip())
        object.__setattr__(self, "simulate", words)  # "replay,print" is two
        object.__setattr__(self, "scale", tuple(self.scale))  # JSON knows lists alone
        unknown = [name for name in self.simulate if name not in SIMULATIONS]
        if unknown:
            raise UserError(
                f'unknown simulated attack "{unknown[0]}"; allowed: {", ".join(SIMULATIONS)}'
            )
        most = {"simulate_share": 1, "camera": 2, "recompress": 1, "rotation": 180, "shift": 0.5}
        for name, high in most.items():
            if not 0 <= (value := getattr(self, name)) <= high:  # nan is refused too
                raise UserError(f"augment.{name} must lie in [0, {high}], got {value}")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= CANVAS_MARGIN:
            raise UserError(
                f"augment.scale must be two factors with 0 < low <= high <= {CANVAS_MARGIN}, "
                f"got {self.scale}"
            )

    def canvas_px(self, size: int) -> int:
        """Side of the crop that the data set must deliver for inputs of `size` pixels."""
        return 2 * math.ceil(size * CANVAS_MARGIN / 2)

    def canvas_scale(self, crop_scale: float, size: int) -> float:
        """Crop scale of that wider crop: the same pixels per face."""
        return crop_scale * self.canvas_px(size) / size

    def build(self, size: int) -> "Augmentation":
        return Augmentation(self, size)


class Augmentation:
    """(images, targets, generator) -> (images, targets); targets: 1 bona fide, 0 attack."""

    def __init__(self, settings: Augment, size: int) -> None:
        self.settings = settings
        self.size = size

    def __call__(
        self,
        images: Float[Tensor, "B 3 C C"],
        targets: Int[Tensor, " B"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "B 3 S S"], Int[Tensor, " B"]]:
        wish = self.settings
        images, targets = add_simulated(
            images, targets, kinds=wish.simulate, share=wish.simulate_share, generator=generator
        )
        images = random_crop(
            images,
            self.size,
            scale=wish.scale,
            rotation=wish.rotation,
            shift=wish.shift,
            generator=generator,
        )
        images = random_camera(images, strength=wish.camera, generator=generator)
        return random_recompression(images, share=wish.recompress, generator=generator), targets


def add_simulated(
    images: Float[Tensor, "B 3 C C"],
    targets: Int[Tensor, " B"],
    *,
    kinds: tuple[str, ...],
    share: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "B 3 C C"], Int[Tensor, " B"]]:
    """Replaces a share of the attacks by simulated ones made from the batch's bona fide faces.

    The balance of the classes stays. A batch without any attack (a live-only training set)
    turns half of its faces into simulated attacks. Nothing happens without bona fide faces.
    """
    live = torch.nonzero(targets == BONA_FIDE).flatten()
    attacks = torch.nonzero(targets != BONA_FIDE).flatten()
    if not kinds or not len(live):
        return images, targets
    if len(attacks):
        chosen = torch.rand(len(attacks), generator=generator, device=images.device) < share
        places = attacks[chosen]
    else:
        order = torch.randperm(len(live), generator=generator, device=images.device)
        places = live[order[: len(live) // 2]]
    if not len(places):
        return images, targets
    pick = torch.randint(len(live), (len(places),), generator=generator, device=images.device)
    sources = images[live[pick]]
    which = torch.randint(len(kinds), (len(places),), generator=generator, device=images.device)
    images, targets = images.clone(), targets.clone()
    for number, kind in enumerate(kinds):
        rows = which == number
        if rows.any():
            images[places[rows]] = SIMULATIONS[kind](sources[rows], generator)
    targets[places] = 0
    return images, targets
