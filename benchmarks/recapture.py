"""A second, independent recapture: what the transfer benchmark judges and training never sees.

`pliant.data.simulate` trains on closed formulas on tensors. This file photographs a real screen
grid instead: the face is resampled to display pixels, each split into red, green and blue stripes,
seen in perspective by a sensor of its own resolution, and developed by another camera. Whoever
learned the formulas by heart fails here. numpy and OpenCV only; images are uint8 RGB.
"""

import cv2
import numpy as np


def replay(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The picture on a screen, photographed: moire comes from sampling, not from a formula."""
    side = image.shape[0]
    video = cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 0.8))
    video = recompress(video, int(random.integers(60, 92))).astype(np.float32) / 255
    pixels = int(random.integers(int(0.9 * side), int(2.2 * side)))
    panel = cv2.resize(video, (pixels, pixels), interpolation=cv2.INTER_CUBIC).clip(0, 1) ** 2.2
    panel = np.repeat(np.repeat(panel, 3, axis=0), 3, axis=1)
    stripes = np.zeros((3, 3, 3), np.float32)
    for channel in range(3):
        stripes[:, channel, channel] = 3
    stripes[2] *= random.uniform(0.3, 0.9)  # the dark line between rows of pixels
    stripes /= stripes.mean(axis=(0, 1), keepdims=True)
    duty = random.uniform(0.6, 1)
    panel = panel * (np.tile(stripes, (pixels, pixels, 1)) * duty + 1 - duty)
    white = np.array([random.uniform(0.8, 1.05), 1, random.uniform(0.95, 1.25)], np.float32)
    panel = panel * white * random.uniform(0.7, 1.4) + random.uniform(0.002, 0.04)
    seen = cv2.GaussianBlur(_perspective(panel, side, random), (0, 0), random.uniform(0.25, 0.8))
    if random.random() < 0.5:
        seen = seen + random.uniform(0, 0.25) * _spot(side, random)
    photo = seen.clip(0, 1) ** (1 / 2.2)
    if random.random() < 0.3:
        width = int(side * (1 - random.uniform(0.62, 0.95)) / 2)
        bezel = np.full_like(photo, random.uniform(0, 0.1))
        inner = slice(width, side - width)
        bezel[inner, inner] = photo[inner, inner]
        photo = bezel
    photo = photo + random.normal(0, random.uniform(0, 0.015), photo.shape)
    return (photo.clip(0, 1) * 255).astype(np.uint8)


def other_camera(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same scene developed by another camera: tone, colour, sharpness, JPEG."""
    photo = (image.astype(np.float32) / 255) ** random.uniform(0.65, 1.4)
    gains = np.array([random.uniform(0.85, 1.18) for _ in range(3)], np.float32)
    photo = (photo * gains * random.uniform(0.75, 1.25)).clip(0, 1).astype(np.float32)
    hsv = cv2.cvtColor(photo, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = (hsv[..., 1] * random.uniform(0.6, 1.4)).clip(0, 1)
    photo = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if random.random() < 0.5:
        photo = cv2.GaussianBlur(photo, (0, 0), random.uniform(0.3, 0.9))
    else:
        photo = photo + random.uniform(0, 0.8) * (photo - cv2.GaussianBlur(photo, (0, 0), 1.2))
    return recompress((photo.clip(0, 1) * 255).astype(np.uint8), int(random.integers(55, 95)))


def recompress(image: np.ndarray, quality: int) -> np.ndarray:
    """JPEG and back; the order of the channels does not matter here."""
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))


def _perspective(panel: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """The panel on the sensor, sampled at twice its resolution and averaged."""
    sensor, size = 2 * side, panel.shape[0]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    moved = corners * sensor + random.uniform(-0.04, 0.04, (4, 2)).astype(np.float32) * sensor
    if size > sensor:
        panel = cv2.GaussianBlur(panel, (0, 0), 0.45 * size / sensor)
    matrix = cv2.getPerspectiveTransform(corners * size, moved.astype(np.float32))
    seen = cv2.warpPerspective(
        panel, matrix, (sensor, sensor), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return cv2.resize(seen, (side, side), interpolation=cv2.INTER_AREA)


def _spot(side: int, random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side] / side
    dx = (x - random.uniform(0, 1)) / random.uniform(0.1, 0.4)
    dy = (y - random.uniform(0, 1)) / random.uniform(0.1, 0.4)
    return np.exp(-(dx**2 + dy**2))[..., None]
