"""One verdict from many frames: the mean of their scores against the tier's threshold.

Frames of a presentation are not independent trials, so more of them make the mean steadier and not
the verdict surer. Scores of two tiers do not mix, their thresholds differ: where tiers were
switched on the way, the tier that scored most frames decides. For other tasks the class that was
named most often wins, with the mean of its own probabilities. A frame of poor quality counts by its
reason alone, as one without a face does, though it has a score to look at.
"""

from collections import Counter
from dataclasses import replace

from pliant.runtime.verdict import Prediction, undecided


class Presentation:
    """Takes frames one by one; what it keeps does not grow with them.

    Args:
        task: `pad` or `classify`.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self.latency_ms = 0.0
        """Of all frames together."""
        self._sums: dict[str, float] = {}
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
        group = (found.tier or found.configuration) if self.task == "pad" else found.verdict
        self._sums[group] = self._sums.get(group, 0.0) + found.score
        self._counts[group] += 1
        self._last[group] = found

    def verdict(self) -> Prediction | None:
        """On all frames so far; None: there were none."""
        if self._newest is None:
            return None
        whole = {"box": None, "latency_ms": self.latency_ms}
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
        verdict = last.verdict  # of a class, or undecided for want of a threshold
        if self.task == "pad" and last.threshold is not None:
            verdict = "bona_fide" if score >= last.threshold else "attack"
        return replace(last, verdict=verdict, score=score, num_frames=count, **whole)
