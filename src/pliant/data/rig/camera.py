"""The camera: lens, colour filters, noise, white balance, tone, JPEG; depth and infrared.

One camera model sees bona fide faces and attacks alike.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pliant.data.rig.head import grey
from pliant.data.rig.settings import Array

OVERSAMPLE = 2
"""Rays per stored pixel and direction."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One device and its automatic settings during a clip."""

    blur: float
    """Sigma of the lens in stored px."""
    exposure: float
    """What the automatic exposure aims at: mean of the picture's middle, in linear light."""
    balance: Array
    """White-balance error, linear RGB gains."""
    adapt: float
    """How far the automatic white balance follows the picture's mean colour, 0 to 1."""
    shot: float
    """Photon noise: sigma at white."""
    read: float
    """Read noise: sigma in linear light."""
    contrast: float
    saturation: float
    sharpen: float
    vignette: float
    quality: int
    """JPEG quality, 1 to 100."""
    depth_noise: float
    """Sigma of the depth sensor at 0.5 m, mm."""
    infrared_gain: float


def draw_camera(rng: np.random.Generator, difficulty: float) -> Camera:
    """A random camera; difficulty blurs and adds noise a little, for every clip alike."""
    return Camera(
        blur=float(rng.uniform(0.22, 0.42) + 0.15 * difficulty * rng.random()),
        exposure=float(rng.uniform(0.16, 0.36)),
        balance=np.exp(rng.normal(0, 1, 3) * np.array([0.10, 0.03, 0.14])).astype(np.float32),
        adapt=float(rng.uniform(0.25, 0.65)),
        shot=float(rng.uniform(0.008, 0.03) * (0.6 + 0.8 * difficulty)),
        read=float(rng.uniform(0.001, 0.006) * (0.6 + 0.8 * difficulty)),
        contrast=float(rng.uniform(0.9, 1.2)),
        saturation=float(rng.uniform(0.65, 1.05)),
        sharpen=float(rng.uniform(0.0, 0.9)),
        vignette=float(rng.uniform(0.0, 0.35)),
        quality=int(rng.integers(72, 97)),
        depth_noise=float(rng.uniform(0.8, 1.6) + 4.0 * difficulty**2),
        infrared_gain=float(rng.uniform(0.8, 1.25)),
    )


def shrink(picture: Array, side: int) -> Array:
    """Average the rays that fall on each stored pixel."""
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


_KERNEL_GREEN = np.asarray([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
_KERNEL_OTHER = np.asarray([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4


def through_filter_array(linear: Array) -> Array:
    """Keep one colour a pixel in the Bayer pattern RGGB, then interpolate bilinearly."""
    out = np.empty_like(linear)
    for k, sites in enumerate((((0, 0),), ((0, 1), (1, 0)), ((1, 1),))):
        mosaic = np.zeros(linear.shape[:2], np.float32)
        for row, col in sites:
            mosaic[row::2, col::2] = linear[row::2, col::2, k]
        kernel = _KERNEL_GREEN if k == 1 else _KERNEL_OTHER
        out[..., k] = cv2.filter2D(mosaic, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return out


def photograph(radiance: Array, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(S, S, 3) uint8 RGB of a (2S, 2S, 3) radiance, before JPEG."""
    side = radiance.shape[0] // OVERSAMPLE
    seen = cv2.GaussianBlur(radiance, (0, 0), camera.blur * OVERSAMPLE)
    seen = shrink(seen, side)
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    fall = 1 - np.float32(camera.vignette * 0.5) * (axis[:, None] ** 2 + axis[None] ** 2)
    seen = seen * fall[..., None]
    middle = seen[side // 4 : -side // 4, side // 4 : -side // 4]
    mean = np.asarray(cv2.mean(middle)[:3], np.float32)
    guess = (mean.mean() / (mean + np.float32(0.01))) ** np.float32(camera.adapt)  # grey world
    seen = seen * guess * np.float32(camera.exposure / (float(mean.mean()) + 0.02))
    seen = seen * camera.balance
    seen = 0.5 * seen + 0.5 * through_filter_array(seen)
    sigma = np.sqrt(np.maximum(seen, 0) * np.float32(camera.shot**2) + np.float32(camera.read**2))
    grain = rng.standard_normal(seen.shape, np.float32)
    grain = 0.65 * grain + 0.35 * cv2.blur(grain, (2, 2))
    seen = np.maximum(seen + sigma * grain, 0)
    seen = seen / (1 + np.float32(0.22) * seen * seen)  # shoulder: highlights roll off
    pale = grey(seen)[..., None]
    seen = np.maximum(pale + np.float32(camera.saturation) * (seen - pale), 0)
    code = np.minimum(seen, 1) ** np.float32(1 / 2.2)
    code = np.float32(0.5) + np.float32(camera.contrast) * (code - np.float32(0.5))
    if camera.sharpen > 0.05:
        code += np.float32(camera.sharpen) * (code - cv2.GaussianBlur(code, (0, 0), 0.9))
    return np.clip(code * 255 + 0.5, 0, 255).astype(np.uint8)


def to_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """The file's bytes."""
    full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444  # the frame is a cut of a larger picture
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise OSError("OpenCV could not encode a JPEG")
    return data.tobytes()


def measure_depth(depth: Array, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint16]:
    """(S, S) uint16 mm of a (2S, 2S) depth; 0 where edges left the sensor without an answer."""
    rays = [depth[row::OVERSAMPLE, col::OVERSAMPLE] for row in range(2) for col in range(2)]
    near = np.minimum(np.minimum(rays[0], rays[1]), np.minimum(rays[2], rays[3]))
    far = np.maximum(np.maximum(rays[0], rays[1]), np.maximum(rays[2], rays[3]))
    torn = far - near > 60
    sigma = np.float32(camera.depth_noise) * (near / 500) ** 2
    rough = cv2.blur(rng.standard_normal(near.shape, np.float32), (2, 2)) * 1.6
    seen = np.rint(near + np.minimum(sigma, 60) * rough)
    lost = torn & (rng.random(near.shape, np.float32) < 0.5)
    return np.where(lost, 0, np.clip(seen, 1, 65535)).astype(np.uint16)


def photograph_infrared(
    infrared: Array, camera: Camera, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(S, S) uint8 of a (2S, 2S) infrared radiance, square-root coded."""
    side = infrared.shape[0] // OVERSAMPLE
    seen = shrink(cv2.GaussianBlur(infrared, (0, 0), 0.5 * OVERSAMPLE), side)
    seen = seen * np.float32(camera.infrared_gain)
    noise = rng.standard_normal(seen.shape, np.float32)
    seen = np.maximum(seen + np.float32(0.012) * noise, 0)
    return np.clip(np.sqrt(seen) * 215 + 0.5, 0, 255).astype(np.uint8)
