"""One verdict from many frames: the mean of their scores against the tier's threshold.

Frames of a presentation are not independent trials, so more of them make the mean steadier and not
the verdict surer. Scores of two tiers do not mix, their thresholds differ: where tiers were
switched on the way, the tier that scored most frames decides. For other tasks the probabilities of
each class are averaged and the largest mean wins, whatever tiers ran. A frame of poor quality
counts by its reason alone, as one without a face does, though it has a score to look at.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pliant.runtime.verdict import Prediction, undecided


class Presentation:
    """Takes frames one by one; what it keeps does not grow with them.

    Args:
        task: `pad` or `classify`.
        classes: The names behind a frame's probabilities.
    """

    def __init__(self, task: str, classes: Sequence[str] = ()) -> None:
        self.task, self.classes = task, classes
        self.latency_ms = 0.0
        """Of all frames together."""
        self._sums: dict[str, float] = {}
        self._classes_sum = np.zeros(len(classes))
        self._counts: Counter[str] = Counter()
        self._last: dict[str, Prediction] = {}
        self._reasons: Counter[str | None] = Counter()
        self._newest: Prediction | None = None

    def add(self, found: Prediction) -> None:
        """One more frame; without a score that counts, its reason alone does."""
        self._newest = found
        self.latency_ms += found.latency_ms
        if found.score is None or not found.responded:
            self._reasons[found.reason] += 1
            return
        if found.probabilities is not None:
            self._classes_sum += found.probabilities
        group = (found.tier or found.configuration) if self.task == "pad" else ""
        self._sums[group] = self._sums.get(group, 0.0) + found.score
        self._counts[group] += 1
        self._last[group] = found

    def verdict(self) -> Prediction | None:
        """On all frames so far; None: there were none."""
        if self._newest is None:
            return None
        whole: dict[str, Any] = {"box": None, "latency_ms": self.latency_ms}
        if not self._counts:
            reason = self._reasons.most_common(1)[0][0]
            return replace(
                self._newest,
                verdict=undecided(str(reason)),
                reason=reason,
                score=None,
                num_frames=0,
                **whole,
            )
        group, count = self._counts.most_common(1)[0]
        last, score = self._last[group], self._sums[group] / count
        verdict = last.verdict  # undecided for want of a threshold
        if self.task != "pad":
            mean = self._classes_sum / count
            best = int(mean.argmax())
            verdict, score = self.classes[best], float(mean[best])
            whole["probabilities"] = tuple(mean.tolist())
        elif last.threshold is not None:
            verdict = "bona_fide" if score >= last.threshold else "attack"
        return replace(last, verdict=verdict, score=score, num_frames=count, **whole)
