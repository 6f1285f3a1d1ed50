"""`pliant predict RUN image...`: find the face, score it, say the verdict and what it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from pliant.errors import UserError

DEFAULT_TIERS = ("high", "max", "mid", "low")
"""The first of these that the run has is used where none is named."""

SENTENCES = {
    "no_face": "no face found",
    "several_faces": "several faces found",
    "face_too_small": "the face is too small",
}


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one image got."""

    image: Path
    """As it was given."""
    verdict: str
    """`bona_fide`, `attack` or `undecided(reason)`; for other tasks the class name."""
    score: float | None
    """In [0, 1], higher = more bona fide; for other tasks the class's probability."""
    threshold: float | None
    """Accepted iff score >= threshold; None: this tier has none, so there is no verdict."""
    tier: str
    """The tier, or configuration, that ran."""
    box: tuple[float, float, float, float] | None
    """The face: x, y, width, height in pixels of the image."""
    synthetic: bool = False
    """Whether the model has seen synthetic faces alone."""


def predict(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    images: Annotated[tuple[Path, ...], Positional, arg(metavar="IMAGE...")],
    *,
    tier: str | None = None,
    detector: Path | None = None,
) -> list[Prediction]:
    """Score each image with one tier of a run; a verdict only where that tier has a threshold.

    Args:
        run: A run folder of `pliant train`.
        images: Photos as they come from a camera.
        tier: A tier's name or a configuration such as HHLL...; None: high, or the best the run has.
        detector: A YuNet ONNX file; None: the face cascade inside OpenCV.

    Raises:
        UserError: if the run, an image file or the tier does not exist.
    """
    if not images:
        raise UserError("no images were given; name at least one: pliant predict RUN image.jpg")
    folders = [str(path) for path in images if path.is_dir()]
    if folders:
        raise UserError(f"{folders[0]} is a folder; name the images, such as {folders[0]}/*.jpg")
    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise UserError(f"no such image: {', '.join(missing)}")

    from pliant.runtime.faces import FaceFinder
    from pliant.train.run_folder import RunFolder

    opened = RunFolder.open(run)
    name = tier or next((t for t in DEFAULT_TIERS if t in opened.tiers), next(iter(opened.tiers)))
    finder = FaceFinder(detector) if opened.task == "pad" else None
    opened.model.eval()
    with opened.model.use(name):
        return [_one(opened, path, name, finder) for path in images]


def _one(opened: Any, path: Path, tier: str, finder: Any) -> Prediction:
    from pliant.runtime.faces import Undecided, choose_face
    from pliant.runtime.images import BadImage, read_image

    def answer(verdict: str, score: float | None = None, box: Any = None) -> Prediction:
        return Prediction(
            image=path, verdict=verdict, score=score, threshold=threshold, tier=tier, box=box,
            synthetic=bool(opened.settings["data"].get("synthetic")),
        )  # fmt: skip

    stored = opened.tiers[tier].threshold if tier in opened.tiers else None
    threshold = stored.value if stored else None
    try:
        image = read_image(path)
    except BadImage as error:
        return answer(f"undecided({error})")
    if finder is None:
        probabilities = _probabilities(opened, image, None)
        best = int(probabilities.argmax())
        return answer(opened.classes[best], float(probabilities[best]))
    face = choose_face(finder.find(image))
    if isinstance(face, Undecided):
        return answer(f"undecided({SENTENCES.get(face.reason, face.reason)})")
    score = float(_probabilities(opened, image, face.box)[1])
    if threshold is None:
        return answer(f"undecided(no threshold is stored for {tier})", score, face.box)
    return answer("bona_fide" if score >= threshold else "attack", score, face.box)


def _probabilities(opened: Any, image: np.ndarray, box: Any) -> np.ndarray:
    import torch

    from pliant.runtime.crop import crop_square, to_input

    pre = opened.preprocessing
    crop = crop_square(image, box, scale=pre.crop_scale, size=pre.size, border=pre.border)
    with torch.inference_mode():
        logits = opened.model(torch.from_numpy(to_input(crop, pre))[None])
    return logits.double().softmax(dim=1)[0].numpy()


def summary(predictions: Sequence[Prediction]) -> list:
    """The table for the terminal, and a way out where a threshold is missing."""
    from rich.table import Column, Table

    table = Table(Column("image", overflow="fold"), "verdict", "score", "threshold", "tier")
    for p in predictions:
        score, threshold = ("" if x is None else f"{x:.4f}" for x in (p.score, p.threshold))
        table.add_row(str(p.image), p.verdict, score, threshold, p.tier)
    said = []
    if any("no threshold" in p.verdict for p in predictions):
        said.append(
            "Only a tier has a threshold: pliant evaluate fits a missing one on a dev split; "
            "pliant tiers --search --name makes a configuration a tier"
        )
    if any(p.synthetic for p in predictions):
        said.append("This model has seen synthetic faces alone: it is no judge of real ones.")
    return [table, *said]
