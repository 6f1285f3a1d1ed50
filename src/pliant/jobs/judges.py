"""Who judges an image: a bundle, or a run folder of training; both answer in the same words.

A bundle is judged by the run time alone; torch is imported for a run folder and not before.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.bundle import Bundle
from pliant.runtime.crop import Box, to_input
from pliant.runtime.faces import FaceFinder, Undecided, choose_face
from pliant.runtime.given import Image, largest_side, network_crop
from pliant.runtime.images import BadImage, read_image
from pliant.runtime.pace import Paced
from pliant.runtime.pick import latencies, worth
from pliant.runtime.quality import DEFAULT_LIMITS, QualityLimits, poor_quality
from pliant.runtime.verdict import NO_FACE, Prediction, no_threshold, undecided

DEFAULT_TIERS = ("high", "max", "mid", "low")
"""The first of these that a run has is used where none is named."""


class Judge(Protocol):
    """An opened model with one tier in use."""

    task: str
    """`pad` or `classify`."""
    classes: tuple[str, ...]
    """Of the model, in its order."""

    def __call__(self, image: Image) -> Prediction: ...


def is_bundle(model: Path) -> bool:
    """Whether this is a bundle, not a run folder.

    Raises:
        UserError: if there is nothing of that name.
    """
    if not model.exists():
        raise UserError(f"no such model: {model}; give a bundle, or a run folder of pliant train")
    return model.is_file() or (model / "bundle.json").is_file()


class BundleJudge:
    """A bundle in the tier it has in use.

    Args:
        bundle: Open.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.task = bundle, bundle.contract.task
        self.classes = bundle.contract.classes

    def __call__(self, image: Image) -> Prediction:
        """The verdict on an image, a path or pixels."""
        return self.bundle.predict(image)


class PacedJudge:
    """A bundle that steps between its tiers to stay within a budget while the device warms up.

    Args:
        bundle: Open; it is switched to the best tier within the budget.
        budget_ms: From a face's box to its score; finding the face is not in it.
        remeasure: Measure the tiers, whatever is remembered.

    Raises:
        UserError: if no tier fits.
    """

    def __init__(self, bundle: Bundle, budget_ms: float, *, remeasure: bool = False) -> None:
        self.task, self.classes = bundle.contract.task, bundle.contract.classes
        known = None if remeasure else latencies(bundle)
        self.paced = Paced(
            bundle,
            budget_ms=budget_ms,
            expected_ms=known,
            worth=worth(bundle.contract),
            remeasure=True,
        )

    def __call__(self, image: Image) -> Prediction:
        """The verdict on a frame; the next one may be judged by another tier."""
        return self.paced.predict(image)


class _Answer(NamedTuple):
    """What is said of one image."""

    verdict: str
    reason: str | None
    """Why there is no verdict."""
    score: float | None = None
    box: Box | None = None
    probabilities: tuple[float, ...] | None = None


class RunJudge:
    """A run folder with a tier in use, in PyTorch.

    Args:
        opened: The run, its model in the tier.
        name: The tier's name, or a configuration.
        detector: A YuNet ONNX file; None: the face cascade inside OpenCV.
        quality: As `Bundle.open` takes it.
    """

    def __init__(
        self,
        opened: Any,
        name: str,
        detector: Path | None,
        quality: QualityLimits | None = DEFAULT_LIMITS,
    ) -> None:
        self.quality = quality
        self.task, self.classes = opened.task, opened.classes
        self._opened, self._name = opened, name
        self._finder = FaceFinder(detector) if opened.task == "pad" else None
        stored = opened.tiers[name].threshold if name in opened.tiers else None
        self._threshold = stored.value if stored else None

    def __call__(self, image: Image) -> Prediction:
        """The verdict on an image, a path or pixels."""
        begun = time.perf_counter()
        verdict, reason, score, box, probabilities = self._answer(image)
        opened = self._opened
        return Prediction(
            verdict=undecided(reason) if reason else verdict,
            reason=reason,
            score=score,
            threshold=self._threshold,
            tier=self._name if self._name in opened.tiers else None,
            configuration=str(opened.model.configuration_of(self._name)),
            box=box,
            num_frames=int(score is not None),
            latency_ms=_ms_since(begun),
            synthetic=bool(opened.settings["data"].get("synthetic")),
            probabilities=probabilities,
        )

    def _answer(self, image: Image) -> _Answer:
        if isinstance(image, str | Path):
            try:
                image = read_image(image)
            except BadImage as problem:
                return _Answer("", str(problem))
        if self._finder is None:
            probabilities = self._probabilities(self._crop(image, None))
            best = int(probabilities.argmax())
            each = tuple(probabilities.tolist())
            return _Answer(self.classes[best], None, each[best], probabilities=each)
        face = choose_face(self._finder.find(image))
        if isinstance(face, Undecided):
            return _Answer("", NO_FACE[face.reason])
        pre, box = self._opened.preprocessing, face.box
        if face.side > largest_side(image, pre):
            return _Answer("", "the face is too large")
        crop, scale = self._crop(image, box), pre.crop_scale
        score = float(self._probabilities(crop)[1])
        if self.quality is not None:
            poor = poor_quality(crop, box, image.shape, crop_scale=scale, limits=self.quality)
            if poor is not None:
                return _Answer("", poor, score, box)
        if self._threshold is None:
            return _Answer("", no_threshold(self._name), score, box)
        return _Answer("bona_fide" if score >= self._threshold else "attack", None, score, box)

    def _crop(self, image: NDArray[np.uint8], box: Box | None) -> NDArray[np.uint8]:
        return network_crop(image, box, self._opened.preprocessing)

    def _probabilities(self, crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        import torch

        pre = self._opened.preprocessing
        with torch.inference_mode():
            logits = self._opened.model(torch.from_numpy(to_input(crop, pre))[None])
        return logits.double().softmax(dim=1)[0].numpy()


@contextmanager
def open_run(
    run: Path,
    tier: str | None,
    detector: Path | None,
    quality: QualityLimits | None = DEFAULT_LIMITS,
) -> Iterator[RunJudge]:
    """A judge in PyTorch.

    Args:
        run: A run folder of `pliant train`.
        tier: A tier's name or a configuration; None: high, or the best the run has.
        detector: A YuNet ONNX file; None: the face cascade inside OpenCV.
        quality: As `Bundle.open` takes it.

    Raises:
        UserError: if the folder is no run, or the tier does not exist.
    """
    if not (run / "settings.json").is_file():
        raise UserError(
            f"{run} is neither a bundle nor a run folder: it holds no bundle.json and no "
            "settings.json; give what pliant export or pliant train wrote"
        )
    from pliant.train.run_folder import RunFolder

    opened = RunFolder.open(run)
    name = tier or next((t for t in DEFAULT_TIERS if t in opened.tiers), next(iter(opened.tiers)))
    opened.model.eval()
    with opened.model.use(name):
        yield RunJudge(opened, name, detector, quality)


def _ms_since(begun: float) -> float:
    return 1000 * (time.perf_counter() - begun)
