"""The contact sheet: small pictures of decisions, the mistakes first, for a person to look at.

Shapes: N = presentations, H W = a crop's sides in pixels.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

ACCEPTED = "attack accepted"
REJECTED = "bona fide rejected"
HIT = "hit"
OUTCOMES = (ACCEPTED, REJECTED, HIT)


def choose_decisions(
    *,
    score: Float[np.ndarray, " N"],
    threshold: float,
    bona_fide: Bool[np.ndarray, " N"],
    species: Sequence[str],
    most: int = 8,
) -> list[tuple[int, str]]:
    """(index, outcome) of what is worth seeing: the grossest mistakes, then the closest hits.

    At most `most` of each outcome. Within an outcome classes and species take turns, so that one
    species cannot fill the sheet. Mistakes: furthest from the threshold first; hits: nearest first.

    Raises:
        ValueError: if the lengths differ.
    """
    score, bona_fide = np.asarray(score, dtype=float), np.asarray(bona_fide, dtype=bool)
    if not len(score) == len(bona_fide) == len(species):
        raise ValueError(
            "choose_decisions needs equal lengths, got "
            f"{len(score)} scores, {len(bona_fide)} labels and {len(species)} species"
        )
    accepted = score >= threshold
    distance = np.abs(score - threshold)
    outcome = np.where(accepted == bona_fide, HIT, np.where(accepted, ACCEPTED, REJECTED))
    chosen: list[tuple[int, str]] = []
    for name in OUTCOMES:
        rows = np.flatnonzero(outcome == name)
        rows = rows[np.argsort(distance[rows] * (1 if name == HIT else -1), kind="stable")]
        kinds: dict[str, list[int]] = {}
        for row in rows:
            kinds.setdefault("" if bona_fide[row] else f"attack {species[row]}", []).append(row)
        turns = [
            (turn, order, row)
            for order, queue in enumerate(kinds.values())
            for turn, row in enumerate(queue)
        ]
        chosen += [(int(row), name) for _, _, row in sorted(turns)[:most]]
    return chosen


def make_sheet(
    *,
    tier: str,
    score: Float[np.ndarray, " N"],
    threshold: float,
    bona_fide: Bool[np.ndarray, " N"],
    species: Sequence[str],
    presentation: Sequence[str],
    image_of: Callable[[int], UInt8[np.ndarray, "H W 3"]],
    most: int = 8,
    side: int = 96,
) -> list[dict[str, Any]]:
    """The `sheet` block of evaluation.json for one tier.

    Args:
        tier: Its name.
        score: In [0, 1].
        threshold: Accept iff score >= threshold.
        bona_fide: What each presentation is.
        species: Of attacks; ignored for bona fide presentations.
        presentation: Their names.
        image_of: Index -> crop in RGB; called for the chosen ones alone.
        most: Pictures per outcome.
        side: Of a picture, pixels.
    """
    chosen = choose_decisions(
        score=score, threshold=threshold, bona_fide=bona_fide, species=species, most=most
    )
    return [
        {
            "image": to_data_uri(image_of(row), side=side),
            "tier": tier,
            "score": float(score[row]),
            "threshold": float(threshold),
            "bona_fide": bool(bona_fide[row]),
            "species": None if bona_fide[row] else str(species[row]),
            "presentation": str(presentation[row]),
            "outcome": outcome,
        }
        for row, outcome in chosen
    ]


def to_data_uri(image: UInt8[np.ndarray, "H W 3"], *, side: int = 96, quality: int = 82) -> str:
    """The RGB image, fitted into a square of `side` pixels, as a JPEG data URI (2 to 6 kB at 96).

    Raises:
        ValueError: if the image is not uint8 with three channels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"needs a uint8 (H, W, 3) image, got {image.dtype} {image.shape}")
    scale = side / max(image.shape[:2])
    width, height = (max(1, round(n * scale)) for n in (image.shape[1], image.shape[0]))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(image, (width, height), interpolation=how)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done, "OpenCV has a JPEG writer"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
