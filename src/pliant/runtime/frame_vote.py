"""Limited Frame Vote: from the scores of a clip's frames to one score, with outliers left out.

Yang, Zhu, Fwu, Ye, You, Zhu. "PipeNet: Selective Modal Pipeline of Fusion Network for Multi-Modal
Face Anti-Spoofing", CVPR Workshops 2020. https://arxiv.org/abs/2004.11744. The five rules are those
of the authors' code; the paper's text names none of them.

Departures: outliers are a mask over all frames (the published loop removes while it walks and so
skips the frame after each removal); fewer frames than `min_frames` give no score; with a MAD of
zero, `medstd` keeps the frames that equal the median.

Frames of one clip are one presentation: voting lowers the noise of a score, and never counts as
more evidence about error rates.

Shapes: n = frames.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pliant.errors import UserError

Rule = Literal["mean", "median", "trimmed", "meanstd", "medstd"]
MAD_TO_STD = 1.4826
"""Of a normal distribution: its standard deviation over its median absolute deviation."""


@dataclass(frozen=True, kw_only=True)
class VoteSettings:
    """How frames become one score."""

    rule: Rule = "meanstd"
    """mean and median keep all frames; trimmed drops the lowest and highest tenth; meanstd and
    medstd drop what lies further than k deviations from the mean, or from the median."""
    k: float = 3.0
    """Deviations, > 0."""
    trim: float = 0.1
    """Share that trimmed drops at each end, 0 to below 0.5."""
    min_frames: int = 1
    """With fewer there is no score, >= 1."""

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise UserError(
                f"VoteSettings.rule must be {', '.join(get_args(Rule))}, got {self.rule!r}"
            )
        if not (math.isfinite(self.k) and self.k > 0):
            raise UserError(f"VoteSettings.k must be > 0, got {self.k}")
        if not 0 <= self.trim < 0.5:
            raise UserError(f"VoteSettings.trim must lie in [0, 0.5), got {self.trim}")
        if self.min_frames < 1:
            raise UserError(f"VoteSettings.min_frames must be >= 1, got {self.min_frames}")


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What a clip got."""

    score: float | None
    """In [0, 1]; None: fewer frames than were asked for."""
    num_frames: int
    """With a score."""
    num_rejected: int
    """Of them, left out as outliers."""


def kept(scores: NDArray[np.float64], settings: VoteSettings) -> NDArray[np.bool_]:
    """Which frames count, (n,).

    With the population's standard deviation a lone outlier among n equal scores lies
    sqrt(n - 1) deviations from the mean: meanstd with k = 3 drops nothing below n = 11.
    """
    n = len(scores)
    if settings.rule == "trimmed":
        dropped = math.floor(settings.trim * n)
        mask = np.zeros(n, bool)
        mask[np.argsort(scores, kind="stable")[dropped : n - dropped]] = True
        return mask
    if settings.rule == "meanstd":
        distance = np.abs(scores - scores.mean())
        return distance <= settings.k * scores.std() + 1e-12  # equal scores: nothing is dropped
    if settings.rule == "medstd":
        distance = np.abs(scores - np.median(scores))
        return distance <= settings.k * MAD_TO_STD * np.median(distance)
    return np.ones(n, bool)


def vote(scores: ArrayLike, settings: VoteSettings = VoteSettings()) -> Vote:
    """One score for a clip.

    Args:
        scores: Of its frames, (n,) in [0, 1]; frames without a usable face are not among them.
        settings: The rule.

    Raises:
        UserError: if a score is NaN or outside [0, 1].
    """
    values = np.asarray(scores, np.float64).ravel()
    if not ((values >= 0) & (values <= 1)).all():  # also catches NaN
        raise UserError("frame scores must be numbers in [0, 1]; leave out frames without a score")
    if len(values) < settings.min_frames:
        return Vote(score=None, num_frames=len(values), num_rejected=0)
    mask = kept(values, settings)
    middle = np.median if settings.rule == "median" else np.mean
    # summed in sorted order, so the order of the frames cannot change the last digit
    return Vote(
        score=float(np.clip(middle(np.sort(values[mask])), 0.0, 1.0)),
        num_frames=len(values),
        num_rejected=int((~mask).sum()),
    )


class FrameVote:
    """The same vote while frames arrive; `score` equals `vote` of all frames so far.

    Args:
        settings: The rule.
        window: Most frames that count, the latest ones; None: all.
    """

    def __init__(
        self, settings: VoteSettings = VoteSettings(), *, window: int | None = None
    ) -> None:
        if window is not None and window < settings.min_frames:
            raise UserError(
                f"a window of {window} frames can never hold the {settings.min_frames} that "
                "VoteSettings.min_frames asks for"
            )
        self.settings = settings
        self._scores: deque[float] = deque(maxlen=window)

    def add(self, score: float) -> Vote:
        """Takes one frame's score in [0, 1], and votes.

        Raises:
            UserError: if it is NaN or outside [0, 1]; the frame is not taken.
        """
        if not 0 <= score <= 1:
            raise UserError(f"a frame's score must be a number in [0, 1], got {score}")
        self._scores.append(float(score))
        return vote(list(self._scores), self.settings)


@dataclass(frozen=True, kw_only=True)
class EarlyStop:
    """Wald's sequential test on frame decisions: stop as soon as enough frames agree.

    Wald. "Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics 16, 1945.
    Frame i says bona fide (score >= threshold) with probability p1 in a bona fide clip and p0 in an
    attack. The sum of log likelihood ratios is compared with log((1 - b) / a) and log(b / (1 - a));
    then the shares of wrong stops are about a and b, were the frames independent. Frames of a clip
    are not, so a and b are what is asked for, not what is proven: measure both on a dev set.
    """

    attack_accepted: float = 0.01
    """a: wanted share of attacks that are stopped on as bona fide, in (0, 0.5)."""
    bona_fide_rejected: float = 0.01
    """b: wanted share of bona fide clips that are stopped on as attacks, in (0, 0.5)."""
    frame_bpcer: float = 0.2
    """1 - p1: share of a bona fide clip's frames below the threshold, in (0, 0.5)."""
    frame_apcer: float = 0.2
    """p0: share of an attack's frames at or above the threshold, in (0, 0.5)."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < 0.5:
                raise UserError(f"EarlyStop.{name} must lie in (0, 0.5), got {value}")

    def decide(self, scores: ArrayLike, threshold: float) -> tuple[bool | None, int]:
        """(bona fide, attack or not decided yet; frames that were needed).

        Args:
            scores: Of the frames in their order, in [0, 1].
            threshold: Of the tier; a frame says bona fide iff score >= threshold.
        """
        says_live = np.asarray(scores, np.float64).ravel() >= threshold
        p1, p0 = 1 - self.frame_bpcer, self.frame_apcer
        steps = np.where(says_live, math.log(p1 / p0), math.log((1 - p1) / (1 - p0)))
        total = np.cumsum(steps)
        upper = math.log((1 - self.bona_fide_rejected) / self.attack_accepted)
        lower = math.log(self.bona_fide_rejected / (1 - self.attack_accepted))
        done = np.flatnonzero((total >= upper) | (total <= lower))
        if not len(done):
            return None, len(total)
        return bool(total[done[0]] >= upper), int(done[0]) + 1
