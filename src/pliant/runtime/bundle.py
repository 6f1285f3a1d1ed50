"""A bundle on the device: opened safely, switched between tiers, asked for verdicts."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.errors import UserError
from pliant.runtime.checked import Checked, read_checked
from pliant.runtime.crop import Box, to_input
from pliant.runtime.faces import FaceFinder, Undecided, choose_face
from pliant.runtime.fields import path_of
from pliant.runtime.given import (
    Image,
    check_box,
    check_image,
    frames_of,
    largest_side,
    network_crop,
)
from pliant.runtime.images import BadImage, read_image
from pliant.runtime.quality import DEFAULT_LIMITS, QualityLimits, poor_quality
from pliant.runtime.selftest import SelfTest, run_self_test
from pliant.runtime.session import MAX_THREADS, Loaded, create_session
from pliant.runtime.verdict import NO_FACE, Prediction, no_threshold, undecided

MAX_SESSIONS = 4
"""Configurations that are kept ready; the one unused for longest makes room."""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What one image gave."""

    reason: str | None
    """Why it cannot be judged; None: it can."""
    probabilities: NDArray[np.float64] | None = None
    """(classes,); None: there was nothing to score."""
    box: Box | None = None


class Bundle:
    """One model with all its tiers; made by `Bundle.open`.

    `predict`, `run` and `use` may be called from several threads: what runs is one immutable
    object, which a prediction reads once, so it never mixes two tiers, and switching locks nobody
    out.
    """

    def __init__(
        self,
        checked: Checked,
        *,
        threads: int,
        detector: Path | str | None,
        quality: QualityLimits | None,
    ) -> None:
        self.contract = checked.contract
        """bundle.json, checked."""
        self.sha256 = checked.sha256
        """Of bundle.json, which holds the hash of every other file: the model's identity."""
        self.signed_by = checked.signed_by
        """The Ed25519 public key whose signature was checked, 64 hexadecimal digits."""
        self.quality = quality
        """What a face must keep to be judged; None: nothing is asked."""
        self._files, self._threads, self._detector = checked.files, threads, detector
        self._kept: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()  # of what is kept; a prediction does not take it
        self._loaded = self.load(self.contract.default_tier)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        tier: str | None = None,
        threads: int = 1,
        self_test: bool = True,
        public_key: Path | str | None = None,
        detector: Path | str | None = None,
        quality: QualityLimits | None = DEFAULT_LIMITS,
    ) -> "Bundle":
        """The bundle in a file or a folder, ready to predict.

        Args:
            path: As `pliant export` wrote it.
            tier: What runs first, a tier's name or letters; None: the bundle's default.
            threads: Used inside an operator, 1 to 256.
            self_test: Compare the scores of every tier with the promised ones before any other.
            public_key: Whose Ed25519 signature the bundle must carry, 64 hexadecimal digits or a
                file that holds them; None: a signature is not demanded.
            detector: A YuNet ONNX file; None: the face cascade inside OpenCV.
            quality: From where on a face is too dark, overexposed, blurred or cut off for a
                verdict; None: any face is judged. For other tasks than pad it means nothing.

        Raises:
            UserError: if the bundle is missing, damaged, not signed as demanded, of another format
                or for another runtime, or its self-test fails.
        """
        if isinstance(threads, bool) or not isinstance(threads, int):
            raise UserError(f"threads must be a whole number, got {threads!r}")
        if not 1 <= threads <= MAX_THREADS:
            raise UserError(f"threads must lie in [1, {MAX_THREADS}], got {threads}")
        if not isinstance(self_test, bool):
            raise UserError(f"self_test must be True or False, got {self_test!r:.60}")
        if detector is not None:
            detector = path_of(detector, "a detector")
        if quality is not None and not isinstance(quality, QualityLimits):
            raise UserError(f"quality must be QualityLimits or None, got {quality!r:.60}")
        checked = read_checked(path, public_key)
        bundle = cls(checked, threads=threads, detector=detector, quality=quality)
        if bundle.contract.task == "pad" and detector is not None:
            _ = bundle._finder  # a wrong file is refused now, not at the first face
        if self_test:
            bundle.self_test().require()
        if tier is not None:
            bundle.use(tier)
        return bundle

    @property
    def tier(self) -> str | None:
        """The tier in use; None: a configuration that is no tier."""
        return self._loaded.tier

    @property
    def configuration(self) -> str:
        """The configuration in use, one letter per adaptive block."""
        return self._loaded.configuration

    @property
    def threshold(self) -> float | None:
        """Of the tier in use: accept iff score >= threshold."""
        return self._loaded.threshold

    def use(self, name: str) -> None:
        """From now on run this tier or configuration; predictions under way finish in the old one.

        Args:
            name: A tier's name, or one letter per adaptive block (the statistics that training
                kept are used, and there is a score but no verdict).

        Raises:
            UserError: if it is neither.
        """
        self._loaded = self.load(name)

    def load(self, name: str) -> Loaded:
        """A tier or configuration, ready to run, without changing what is in use.

        The last `MAX_SESSIONS` are kept, so that going back to one takes no time.

        Raises:
            UserError: if it is neither, or ONNX Runtime refuses it.
        """
        if not isinstance(name, str):
            raise UserError(f"a tier is named by a text, got {type(name).__name__}")
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
            loaded = self._create(name)
            self._kept[name] = loaded
            while len(self._kept) > MAX_SESSIONS:
                self._kept.popitem(last=False)
            return loaded

    def _create(self, name: str) -> Loaded:
        contract, selection = self.contract, self.contract.selection
        assert selection is not None
        tier = contract.tier(name)
        if tier is None and not (name.isupper() and name.isalpha()):
            names = ", ".join(one.name for one in contract.tiers)
            raise UserError(
                f'unknown tier "{name[:80]}"; this bundle has {names}, or give one letter of '
                f"{selection.letters} for each of its {selection.num_blocks} adaptive blocks"
            )
        configuration = tier.configuration if tier else name
        flags = selection.bytes_for(configuration, tier and tier.name)
        model = self._files[contract.model_file]
        end = selection.offset + selection.length
        model = b"".join((model[: selection.offset], flags, model[end:]))
        return Loaded(
            session=create_session(model, contract, self._threads),
            tier=tier and tier.name,
            configuration=configuration,
            threshold=tier and tier.threshold,
            input_name=contract.input_name,
            output_name=contract.output_name,
            num_classes=len(contract.classes),
        )

    def pick(self, budget_ms: float, **keywords: Any) -> str:
        """Measure the tiers on this device and use the best one that keeps the budget.

        Args:
            budget_ms: For one image, in milliseconds.
            **keywords: As `pliant.runtime.pick.pick` takes them.

        Returns:
            The tier's name.

        Raises:
            UserError: if the budget is no number above 0, or no tier fits.
        """
        if isinstance(budget_ms, bool) or not isinstance(budget_ms, Real):
            raise UserError(f"a budget is a number of milliseconds, got {budget_ms!r:.60}")
        from pliant.runtime.pick import pick

        return pick(self, budget_ms, **keywords)

    def run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 (B, classes), of inputs (B, 3, size, size) as `to_input` makes them.

        Raises:
            UserError: if the inputs have another shape or type.
        """
        return self._loaded.run(inputs)

    def self_test(self) -> SelfTest:
        """The golden images through every tier; what is in use stays.

        Raises:
            UserError: if a golden image or a tier cannot be used at all.
        """
        return run_self_test(self.contract, self._files.__getitem__, self.load)

    @cached_property
    def _finder(self) -> FaceFinder:
        return FaceFinder(self._detector)

    def predict(
        self,
        image: Image | Sequence[Image],
        *,
        box: Sequence[float] | Sequence[Sequence[float] | None] | None = None,
    ) -> Prediction:
        """The verdict on an image, or on the frames of one presentation.

        Frames are scored one by one and their scores averaged, as thresholds are fitted; those
        without one usable face, or with a face of poor quality, are left out. An image of poor
        quality is `undecided(reason)`; its score is there to look at.

        Args:
            image: uint8 (H, W, 3), RGB, upright; or the path of an image file; or several of them
                that show one presentation.
            box: The face: x, y, width, height in pixels; for frames one box or None for each;
                None: it is looked for (pad), or the whole image is taken (other tasks).

        Raises:
            UserError: if an array is no image, or a box does not fit. A file that cannot be read
                gives `undecided(reason)`.
        """
        begun = time.perf_counter()
        loaded = self._loaded  # read once: tiers may be switched meanwhile
        frames, single = frames_of(image, box)
        results = [self._score(loaded, *frame) for frame in frames]
        used = [one for one in results if one.reason is None]
        reason = None if used else Counter(one.reason for one in results).most_common(1)[0][0]
        if single:  # its score is shown beside the reason
            used = [one for one in results if one.probabilities is not None]
        verdict, reason, score, probabilities = self._judge(loaded, used, reason)
        return Prediction(
            verdict=verdict,
            reason=reason,
            score=score,
            threshold=loaded.threshold,
            tier=loaded.tier,
            configuration=loaded.configuration,
            box=used[0].box if used and single else None,
            num_frames=len(used),
            latency_ms=1000 * (time.perf_counter() - begun),
            synthetic=self.contract.synthetic,
            probabilities=probabilities,
        )

    def _score(self, loaded: Loaded, image: Any, box: Any) -> _Frame:
        pre = self.contract.preprocessing
        if isinstance(image, str | Path):
            try:
                image = read_image(image)
            except BadImage as problem:
                return _Frame(reason=str(problem))
        image = check_image(image)
        if box is not None:
            box = check_box(box)
        elif self.contract.task == "pad":
            face = choose_face(self._finder.find(image))
            if isinstance(face, Undecided):
                return _Frame(reason=NO_FACE[face.reason])
            if face.side > largest_side(image, pre):
                return _Frame(reason="the face is too large")
            box = face.box
        crop = network_crop(image, box, pre)
        probabilities = loaded.probabilities(to_input(crop, pre)[None])[0]
        if not np.isfinite(probabilities).all():
            return _Frame(reason="the model gave no finite score")
        reason = None
        if self.quality is not None and box is not None and self.contract.task == "pad":
            reason = poor_quality(
                crop, box, image.shape, crop_scale=pre.crop_scale, limits=self.quality
            )
        return _Frame(reason=reason, probabilities=probabilities, box=box)

    def _judge(
        self, loaded: Loaded, used: Sequence[_Frame], reason: str | None
    ) -> tuple[str, str | None, float | None, tuple[float, ...] | None]:
        """(verdict, reason, score, probabilities of the classes)."""
        scores = [one.probabilities for one in used if one.probabilities is not None]
        if not scores:
            return undecided(str(reason)), reason, None, None
        mean = np.sort(np.stack(scores), axis=0).mean(axis=0)  # sorted: any order, the same bits
        if self.contract.task != "pad":
            best = int(mean.argmax())
            return self.contract.classes[best], None, float(mean[best]), tuple(mean.tolist())
        score = float(mean[1])
        if reason is None and loaded.threshold is not None:
            return "bona_fide" if score >= loaded.threshold else "attack", None, score, None
        reason = reason or no_threshold(loaded.name)
        return undecided(reason), reason, score, None
