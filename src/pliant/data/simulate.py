"""Simulated presentation attacks: what a screen or a sheet of paper does to a live face.

A live photo is turned into a labelled, *simulated* attack: the face is "shown" on a medium and
"photographed" again. Nothing here is a measurement of a real device; the ranges are our choice.

Sources of the idea: simulated presentation clues (moire, colour distortion) carried a plain
ResNet-50 to first place of the CVPR 2024 unified attack challenge (no code was read).
Physics used:

* screen: light adds. Gamma, white point, black level, viewing angle, glow, glass reflection. Its
  RGB stripes are sampled by the sensor: a grating of f cycles per pixel appears at the alias
  f - round(f), and the stripes lie a third of a period apart, so the alias is coloured (moire).
* paper: ink subtracts. Smaller gamut, grey blacks, tinted white, one halftone screen per ink at
  its own angle, gloss, shading of a bent sheet.

Departure from physics: gratings enter as the first harmonic of the alias, at the resolution of
the crop; the light of the second scene is one gradient and a few glare spots.

Shapes: B = batch, H = W = side in pixels. Images are sRGB in [0, 1]. Every function draws from
the generator that it is given and is repeatable to the bit with it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "B 3 H W"]


def simulate_replay(images: Images, generator: torch.Generator) -> Images:
    """The faces shown on a screen and photographed again."""
    draw = _Draw(len(images), generator)
    light = to_linear(blur(images, draw.uniform(0.0, 0.9)))
    light = _saturate(light, draw.uniform(0.75, 1.35))
    light = light.clamp_min(1e-4) ** draw.uniform(0.8, 1.35)  # display gamma against ours
    white = torch.cat(
        [draw.uniform(0.7, 1.08), draw.uniform(0.88, 1.05), draw.uniform(0.92, 1.35)], dim=1
    )
    light = light * white * draw.uniform(0.65, 1.5) * _gradient(images, draw, depth=0.3)
    light = light + draw.uniform(0.0, 0.06)  # black level: the back light shines through
    light = light * _moire(images, draw)
    light = light + draw.sometimes(0.5) * 0.35 * _glow(light)
    light = light + _glare(images, draw, strength=0.4) * draw.sometimes(0.5)
    shown = to_srgb(light)
    return _frame(shown, images, draw, rim="bezel", share=0.35)


def simulate_print(images: Images, generator: torch.Generator) -> Images:
    """The faces printed on a sheet of paper and photographed again."""
    draw = _Draw(len(images), generator)
    ink = blur(images, draw.uniform(0.0, 0.9))
    ink = _saturate(ink, draw.uniform(0.35, 1.15)).clamp(0, 1)
    ink = ink.clamp_min(1e-4) ** draw.uniform(0.75, 1.4)
    ink = (ink + _halftone(images, draw)).clamp(0, 1)
    black = draw.uniform(0.02, 0.22)
    white = draw.uniform(0.75, 1.0) * (1 - draw.uniform(0.0, 0.12, channels=3))
    paper = to_linear(black + (white - black).clamp_min(0.2) * ink)
    paper = _bend(paper, draw)
    light = paper * _gradient(images, draw, depth=0.5) * draw.uniform(0.6, 1.6)
    light = light * (1 - draw.uniform(0.0, 0.18, channels=3))
    light = light + _glare(images, draw, strength=0.3) * draw.sometimes(0.4)
    shown = to_srgb(light)
    return _frame(shown, images, draw, rim="paper", share=0.4)


SIMULATIONS = {"replay": simulate_replay, "print": simulate_print}
"""Name of the species, as in `simulate=replay,print`, to its function."""


def to_linear(srgb: Images) -> Images:
    """Linear light of sRGB values; the power law 2.2 stands in for the exact curve."""
    return srgb.clamp(0, 1) ** 2.2


def to_srgb(light: Images) -> Images:
    """The inverse of `to_linear`; over-exposed light clips."""
    return light.clamp(1e-6, 1) ** (1 / 2.2)


def blur(images: Images, sigma: Float[Tensor, "B 1 1 1"]) -> Images:
    """Gaussian blur, one sigma in pixels per image; 0 leaves an image as it is."""
    batch, channels, height, width = images.shape
    radius = max(1, math.ceil(2.5 * float(sigma.max())))
    x = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (x / sigma.reshape(batch, 1).clamp_min(0.05)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = images.reshape(1, batch * channels, height, width)
    flat = F.pad(flat, (radius,) * 4, mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=batch * channels)
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=batch * channels)
    return flat.reshape(batch, channels, height, width)


class _Draw:
    """Random numbers, one per image, shaped (B, channels, 1, 1)."""

    def __init__(self, batch: int, generator: torch.Generator) -> None:
        self.batch = batch
        self.generator = generator

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        shape = (self.batch, channels, 1, 1)
        noise = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return low + (high - low) * noise

    def sometimes(self, share: float) -> Tensor:
        return (self.uniform(0, 1) < share).float()


def _grid(images: Images) -> tuple[Tensor, Tensor]:
    """Pixel coordinates x (1, 1, 1, W) and y (1, 1, H, 1)."""
    height, width = images.shape[-2:]
    x = torch.arange(width, dtype=images.dtype, device=images.device)
    y = torch.arange(height, dtype=images.dtype, device=images.device)
    return x.reshape(1, 1, 1, width), y.reshape(1, 1, height, 1)


def _saturate(images: Images, amount: Tensor) -> Images:
    grey = images.mean(dim=1, keepdim=True)
    return grey + (images - grey) * amount


def _wave(images: Images, cycles: Tensor, angle: Tensor, phase: Tensor) -> Tensor:
    """cos of a plane wave; `cycles` per pixel along the direction `angle`."""
    x, y = _grid(images)
    path = x * torch.cos(angle) + y * torch.sin(angle)
    return torch.cos(2 * math.pi * cycles * path + phase)


def _moire(images: Images, draw: _Draw) -> Tensor:
    """Factor around 1: two gratings of RGB stripes, seen at their alias frequency."""
    stripes = torch.arange(3, device=images.device).reshape(1, 3, 1, 1) * (2 * math.pi / 3)
    x, y = _grid(images)
    # a screen is rarely parallel to the sensor: the alias drifts across the image
    bow = draw.uniform(-3, 3) * ((x - x.mean()) / x.numel()) ** 2
    bow = bow + draw.uniform(-3, 3) * ((y - y.mean()) / y.numel()) ** 2
    factor = torch.ones_like(images[:, :1])
    tilt = draw.uniform(-0.6, 0.6)
    for turn, coloured in ((0.0, 1.0), (math.pi / 2, 0.0)):
        cycles = draw.uniform(0.02, 0.5)
        phase = draw.uniform(0, 2 * math.pi) + stripes * coloured + 2 * math.pi * bow
        depth = draw.uniform(0.0, 1.0) ** 2 * 0.35 * draw.sometimes(0.75)
        factor = factor * (1 + depth * _wave(images, cycles, tilt + turn, phase))
    bands = draw.sometimes(0.3) * draw.uniform(0.02, 0.12)  # refresh against rolling shutter
    cycles = draw.uniform(0.5, 5) / y.numel()
    rows = torch.full_like(cycles, math.pi / 2)
    return factor * (1 + bands * _wave(images, cycles, rows, draw.uniform(0, 6.3)))


def _halftone(images: Images, draw: _Draw) -> Tensor:
    """Added ink: one dot screen per ink, each at its own angle."""
    angles = torch.tensor([15.0, 75.0, 0.0], device=images.device) * (math.pi / 180)
    angles = angles.reshape(1, 3, 1, 1) + draw.uniform(0, math.pi / 2)
    cycles = draw.uniform(0.12, 0.5)
    dots = _wave(images, cycles, angles, draw.uniform(0, 6.3)) * _wave(
        images, cycles, angles + math.pi / 2, draw.uniform(0, 6.3)
    )
    lines = _wave(images, draw.uniform(0.05, 0.5), draw.uniform(-0.1, 0.1) + math.pi / 2, angles)
    grain = torch.randn(images.shape, generator=draw.generator, device=images.device)
    return (
        dots * draw.uniform(0, 1) ** 2 * 0.3 * draw.sometimes(0.6)
        + lines * draw.uniform(0, 0.06) * draw.sometimes(0.4)
        + grain * draw.uniform(0, 0.03)
    )


def _glow(light: Images, shrink: int = 4) -> Images:
    """Light spread over about 4 pixels; the mean of 4 x 4 pixels, smoothed, is cheap and enough."""
    small = F.avg_pool2d(F.pad(light, (shrink,) * 4, mode="replicate"), shrink, ceil_mode=True)
    small = F.avg_pool2d(small, 3, stride=1, padding=1, count_include_pad=False)
    wide = F.interpolate(small, scale_factor=shrink, mode="bilinear", align_corners=False)
    return wide[..., shrink : shrink + light.shape[-2], shrink : shrink + light.shape[-1]]


def _gradient(images: Images, draw: _Draw, depth: float) -> Tensor:
    """Factor in [1 - depth, 1]: light that falls off linearly in one direction."""
    x, y = _grid(images)
    angle = draw.uniform(0, 2 * math.pi)
    path = (x / x.numel() - 0.5) * torch.cos(angle) + (y / y.numel() - 0.5) * torch.sin(angle)
    return 1 - draw.uniform(0, depth) * (path + 0.7).clamp(0, 1.4) / 1.4


def _glare(images: Images, draw: _Draw, strength: float) -> Tensor:
    """Added light: two soft spots, stretched and turned, as of a lamp and a window."""
    x, y = _grid(images)
    total = torch.zeros_like(images[:, :1])
    for _ in range(2):
        angle = draw.uniform(0, math.pi)
        dx = x / x.numel() - draw.uniform(0, 1)
        dy = y / y.numel() - draw.uniform(0, 1)
        along = (dx * torch.cos(angle) + dy * torch.sin(angle)) / draw.uniform(0.08, 0.6)
        across = (dy * torch.cos(angle) - dx * torch.sin(angle)) / draw.uniform(0.05, 0.3)
        hard = draw.uniform(1, 4)  # 1 is a soft spot, 4 nearly a pane with an edge
        spot = torch.exp(-((along**2 + across**2).clamp_min(1e-6) ** hard))
        total = total + draw.uniform(0, 1) ** 2 * strength * spot
    return total


def _bend(images: Images, draw: _Draw) -> Images:
    """A sheet bent about an upright or a level axis, and shaded by its slope."""
    x, y = _grid(images)
    upright = draw.sometimes(0.7)
    u = (x / x.numel() - 0.5) * upright + (y / y.numel() - 0.5) * (1 - upright)
    bend = draw.uniform(-0.8, 0.8) * draw.sometimes(0.6)
    slope = bend * (u + draw.uniform(-0.3, 0.3))
    shade = 1 + slope * draw.uniform(-1, 1)
    height, width = images.shape[-2:]
    base_x = ((x + 0.5) / width * 2 - 1).expand(len(images), 1, height, width)
    base_y = ((y + 0.5) / height * 2 - 1).expand(len(images), 1, height, width)
    squeeze = 1 + bend.abs() * 0.5 * u**2
    grid = torch.cat(
        [
            torch.where(upright > 0, base_x * squeeze, base_x),
            torch.where(upright > 0, base_y, base_y * squeeze),
        ],
        dim=1,
    )
    bent = F.grid_sample(
        images, grid.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False
    )
    return bent * shade


def _frame(shown: Images, others: Images, draw: _Draw, *, rim: str, share: float) -> Images:
    """With probability `share` the medium's edge is seen, before another image of the batch."""
    x, y = _grid(shown)
    u, v = x / x.numel() * 2 - 1, y / y.numel() * 2 - 1
    angle = draw.uniform(-0.15, 0.15)
    u, v = u * torch.cos(angle) + v * torch.sin(angle), v * torch.cos(angle) - u * torch.sin(angle)
    edges = [draw.uniform(0.62, 1.35) for _ in range(4)]
    inside = torch.minimum(
        torch.minimum(edges[0] - u, edges[1] + u), torch.minimum(edges[2] - v, edges[3] + v)
    )  # > 0 on the picture, falling to the outside
    soft = draw.uniform(30, 120)
    picture = torch.sigmoid(inside * soft)
    width = draw.uniform(0.0, 0.25)
    border = torch.sigmoid((inside + width) * soft)
    if rim == "bezel":
        tone = draw.uniform(0.0, 0.12) + draw.sometimes(0.15) * 0.7  # black, at times white
    else:
        tone = draw.uniform(0.65, 1.0)
    order = torch.randperm(len(shown), generator=draw.generator, device=shown.device)
    behind = blur(others[order].flip(-1), draw.uniform(0, 3)) * draw.uniform(0.3, 1.2)
    framed = picture * shown + (1 - picture) * (border * tone + (1 - border) * behind)
    seen = draw.sometimes(share)
    return (seen * framed + (1 - seen) * shown).clamp(0, 1)
