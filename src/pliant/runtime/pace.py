"""Stay within a budget while a device warms up and cools down: step to a cheaper tier, and back.

A warm device slows every tier by about the same factor, so

    slow-down = recent median / expected ms of the running tier
    expected now = expected ms x slow-down

- down, when the recent median exceeds the budget by the margin: to the best tier that is expected
  to fit now, else to the fastest;
- up by one, when the next better tier is expected to fit now with the margin to spare.

Between the two lies a band where nothing happens, and between two switches at least `dwell` images.
Where a better tier fails soon after it was tried (it heats the device itself, or the factor is not
the same for all), the wait before the next try doubles, up to `MAX_PATIENCE` times the dwell.

`Paced` does this for an open bundle. What it observes is the time from a face's box to its score:
the latency of a prediction without a box holds the search for the face too, which is the same in
every tier and must not be given to a `Pacer`.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pliant.errors import UserError
from pliant.runtime.faces import Undecided, choose_face
from pliant.runtime.given import Image, check_image, largest_side
from pliant.runtime.images import BadImage, read_image
from pliant.runtime.pick import best_within, check_budget, choose
from pliant.runtime.pick import worth as worth_of
from pliant.runtime.verdict import NO_FACE, Prediction, undecided

if TYPE_CHECKING:
    from pliant.runtime.bundle import Bundle

MAX_PATIENCE = 64


class Pacer:
    """Says which tier to use for the next image; no clock of its own, so it can be simulated.

    Args:
        expected_ms: Each tier's latency on the rested device, as `latencies` measures it.
        worth: What makes a tier better than another, as `worth` of `pick.py` returns it.
        budget_ms: Most milliseconds for one image.
        margin: Width of the band around the budget in which nothing happens, in (0, 1].
        window: Images whose median counts, >= 1; a single slow one changes nothing.
        dwell: Least images between two switches, >= window.

    Raises:
        UserError: if a number is out of range, or no tier fits the budget.
    """

    def __init__(
        self,
        expected_ms: Mapping[str, float],
        worth: Mapping[str, float],
        budget_ms: float,
        *,
        margin: float = 0.15,
        window: int = 15,
        dwell: int = 60,
    ) -> None:
        check_budget(budget_ms)
        if not 0 < margin <= 1 or not 1 <= window <= dwell:
            raise UserError(
                "a pacer needs margin in (0, 1] and 1 <= window <= dwell, got "
                f"{margin}, {window}, {dwell}"
            )
        self.expected_ms, self.budget_ms = dict(expected_ms), budget_ms
        self.margin, self.dwell = margin, dwell
        self.ladder = ladder(expected_ms, worth)
        """The tiers worth using, fastest first."""
        self.tier = best_within(expected_ms, worth, budget_ms)
        """What to use for the next image."""
        self._recent: deque[float] = deque(maxlen=window)
        self._since = dwell
        """Images since the last switch; the first one needs no wait."""
        self._patience = dwell
        """Images before a better tier is tried."""
        self._trying = False
        """Whether the last switch was up, and not yet proven right."""

    def observe(self, latency_ms: float) -> str:
        """The tier for the next image.

        Args:
            latency_ms: What the last image took in the tier that was said before, from its
                face's box to its score.

        Raises:
            UserError: if it is negative or not finite.
        """
        if not 0 <= latency_ms < math.inf:
            raise UserError(f"a latency must be a number of milliseconds, got {latency_ms}")
        self._recent.append(latency_ms)
        self._since += 1
        if len(self._recent) == self._recent.maxlen and self._since >= self.dwell:
            self._decide(median(self._recent))
        return self.tier

    def _decide(self, recent_ms: float) -> None:
        slow_down = recent_ms / self.expected_ms[self.tier]
        place = self.ladder.index(self.tier)
        if recent_ms > self.budget_ms * (1 + self.margin):
            cheaper = self.ladder[:place]
            fitting = [t for t in cheaper if self.expected_ms[t] * slow_down <= self.budget_ms]
            if cheaper:
                self._switch([cheaper[0], *fitting][-1], up=False)
        elif self._since >= self._patience:
            if self._trying:
                self._trying, self._patience = False, self.dwell
            better = self.ladder[place + 1 : place + 2]
            if better and self.expected_ms[better[0]] * slow_down * (1 + self.margin) <= (
                self.budget_ms
            ):
                self._switch(better[0], up=True)

    def _switch(self, tier: str, *, up: bool) -> None:
        if self._trying and not up:
            self._patience = min(2 * self._patience, MAX_PATIENCE * self.dwell)
        self.tier, self._trying, self._since = tier, up, 0
        self._recent.clear()  # they were the other tier's


def ladder(expected_ms: Mapping[str, float], worth: Mapping[str, float]) -> tuple[str, ...]:
    """The tiers, fastest first, without those that are no better than a faster one."""
    kept: list[str] = []
    for name in sorted(expected_ms, key=lambda name: (expected_ms[name], -worth[name])):
        if not kept or worth[name] > worth[kept[-1]]:
            kept.append(name)
    return tuple(kept)


class Paced:
    """A bundle that steps between its tiers to stay within a budget; it alone switches them.

    Several threads may call `predict`; the search for the face runs in all of them at once, and
    scores are taken in turns, so that none makes the other look slow.

    Args:
        bundle: Open; it is switched to the best tier within the budget.
        budget_ms: Most milliseconds for one image, from its face's box to its score.
        expected_ms: Milliseconds of each tier on the rested device, where they are known; None, or
            none within the budget: they are remembered or measured.
        worth: What makes a tier better than another; None: as for `Bundle.pick`.
        remeasure: Measure, whatever is remembered.
        **keywords: `margin`, `window` and `dwell` of `Pacer`.

    Raises:
        UserError: if no tier fits, or a number is out of range.
    """

    def __init__(
        self,
        bundle: "Bundle",
        *,
        budget_ms: float,
        expected_ms: Mapping[str, float] | None = None,
        worth: Mapping[str, float] | None = None,
        remeasure: bool = False,
        **keywords: Any,
    ) -> None:
        check_budget(budget_ms)
        if expected_ms is None or min(expected_ms.values()) > budget_ms:
            expected_ms = choose(bundle, budget_ms, remeasure=remeasure).ms
        self.bundle = bundle
        self.pacer = Pacer(
            expected_ms,
            worth_of(bundle.contract) if worth is None else worth,
            budget_ms,
            **keywords,
        )
        self._lock = threading.Lock()
        bundle.use(self.pacer.tier)

    @property
    def tier(self) -> str:
        """What the next image is judged by."""
        return self.pacer.tier

    def predict(self, image: Image, box: Sequence[float] | None = None) -> Prediction:
        """The verdict on one image or frame; the next one may be judged by another tier.

        Args:
            image: As `Bundle.predict` takes one.
            box: As `Bundle.predict` takes it.

        Returns:
            As of `Bundle.predict`; its latency is that of the whole call.

        Raises:
            UserError: as `Bundle.predict` does.
        """
        begun = time.perf_counter()
        if isinstance(image, str | Path):
            try:
                image = read_image(image)
            except BadImage as problem:
                return self._undecided(str(problem), begun)
        if box is None and self.bundle.contract.task == "pad":
            image = check_image(image)
            face = choose_face(self.bundle._finder.find(image))
            if isinstance(face, Undecided):
                return self._undecided(NO_FACE[face.reason], begun)
            if face.side > largest_side(image, self.bundle.contract.preprocessing):
                return self._undecided("the face is too large", begun)
            box = face.box
        with self._lock:
            if self.bundle.tier != self.pacer.tier:
                self.bundle.use(self.pacer.tier)
            found = self.bundle.predict(image, box=box)
            self.bundle.use(self.pacer.observe(found.latency_ms))
        return replace(found, latency_ms=_ms_since(begun))

    def _undecided(self, reason: str, begun: float) -> Prediction:
        bundle = self.bundle
        return Prediction(
            verdict=undecided(reason), reason=reason, score=None, threshold=bundle.threshold,
            tier=bundle.tier, configuration=bundle.configuration, box=None, num_frames=0,
            latency_ms=_ms_since(begun), synthetic=bundle.contract.synthetic,
        )  # fmt: skip


def _ms_since(begun: float) -> float:
    return 1000 * (time.perf_counter() - begun)
