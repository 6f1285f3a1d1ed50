"""ISO/IEC 30107-3 error rates of one set of scores, and the curve measures beside them.

APCER: share of attacks of one species that are accepted; APCER_AP: that of the worst species.
BPCER: share of bona fide presentations that are rejected. Accepted means score >= threshold.
Rows count as presentations here: pool frames first (`pool_presentations`).

EER, AUC and BPCER10/20/100 choose their threshold on the very scores they are computed on; they
rank models and are optimistic about any one of them. HTER takes a threshold from other data.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri

from pliant.errors import UserError
from pliant.pad import curves
from pliant.pad.intervals import clopper_pearson
from pliant.pad.scores import Scores

if TYPE_CHECKING:
    from pliant.pad.thresholds import Threshold


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of errors with its Clopper-Pearson interval (95 %)."""

    errors: int
    n: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, errors: int, n: int) -> "Rate":
        """The rate of `errors` among `n`, n > 0."""
        low, high = clopper_pearson(errors, n)
        return cls(errors=errors, n=n, rate=errors / n, low=low, high=high)

    def to_json(self) -> dict[str, int | float]:
        return asdict(self)


def apcer(scores: Scores, threshold: float) -> dict[str, Rate]:
    """Share of attacks accepted, per species.

    Raises:
        UserError: if there is no attack.
    """
    if not scores.species_names:
        raise UserError("APCER needs attacks, got bona fide presentations only")
    accepted = scores.score >= threshold
    attacks = ~scores.bona_fide
    num = len(scores.species_names)
    n = np.bincount(scores.classes[attacks], minlength=num).tolist()
    errors = np.bincount(scores.classes[attacks & accepted], minlength=num).tolist()
    return {name: Rate.of(errors[i], n[i]) for i, name in enumerate(scores.species_names)}


def worst_species(rates: dict[str, Rate]) -> str:
    """The species of APCER_AP; of several, the one with most presentations."""
    return max(rates, key=lambda species: (rates[species].rate, rates[species].n))


def apcer_pooled(scores: Scores, threshold: float) -> Rate:
    """Share of all attacks accepted, species mixed: never the headline."""
    rates = apcer(scores, threshold).values()
    return Rate.of(sum(rate.errors for rate in rates), sum(rate.n for rate in rates))


def bpcer(scores: Scores, threshold: float) -> Rate:
    """Share of bona fide presentations rejected.

    Raises:
        UserError: if there is no bona fide presentation.
    """
    if not scores.bona_fide.any():
        raise UserError("BPCER needs bona fide presentations, got attacks only")
    rejected = scores.score[scores.bona_fide] < threshold
    return Rate.of(int(rejected.sum()), len(rejected))


def acer(scores: Scores, threshold: float) -> float:
    """(APCER_AP + BPCER) / 2, so with the worst species; for comparison with the literature."""
    rates = apcer(scores, threshold)
    return (rates[worst_species(rates)].rate + bpcer(scores, threshold).rate) / 2


def hter(scores: Scores, threshold: "Threshold") -> float:
    """(pooled APCER + BPCER) / 2 at a threshold fitted on other data.

    Raises:
        ValueError: if the threshold was not fitted, or was fitted on these very scores.
    """
    if not is_dev_threshold(scores, threshold):
        raise ValueError(
            f"HTER needs a threshold fitted on a dev set, got one of policy {threshold.policy!r} "
            f"from {threshold.source!r} that was set by hand or fitted on these very scores"
        )
    at = threshold.value
    return (apcer_pooled(scores, at).rate + bpcer(scores, at).rate) / 2


def is_dev_threshold(scores: Scores, threshold: "Threshold") -> bool:
    """Whether the threshold was fitted, and on other scores than these."""
    if threshold.dev_sha256 is None:
        return False
    num_bona_fide = int(scores.bona_fide.sum())
    sizes = (num_bona_fide, len(scores) - num_bona_fide)
    if threshold.num_attack and sizes != (threshold.num_bona_fide, threshold.num_attack):
        return True  # a hash of millions of rows takes a while
    return threshold.dev_sha256 != scores.sha256


def auc(scores: Scores) -> float:
    """P(score of a bona fide > score of an attack), ties half; attacks pooled."""
    return float(curves.auc(curves.ThresholdGrid(scores).curves())[0])


def eer(scores: Scores) -> float:
    """Rate where pooled APCER = BPCER on the convex hull of the error curve."""
    return float(curves.eer(curves.ThresholdGrid(scores).curves())[0])


def bpcer_at_apcer(scores: Scores, limit: float) -> float:
    """Smallest BPCER over thresholds with APCER_AP <= limit: 0.10, 0.05, 0.01 give BPCER10/20/100.

    Every score is tried as a threshold, so no limit is too fine.
    """
    check_limit(limit)
    return float(curves.bpcer_at_apcer(curves.ThresholdGrid(scores).curves(), limit)[0])


def apcer_at_bpcer(scores: Scores, limit: float, *, pooled: bool = False) -> float:
    """Smallest APCER_AP (or pooled APCER) over thresholds with BPCER <= limit."""
    check_limit(limit)
    counts = curves.ThresholdGrid(scores).curves()
    return float(curves.apcer_at_bpcer(counts, limit, pooled=pooled)[0])


def check_limit(limit: float) -> None:
    """Refuses what is no rate.

    Raises:
        ValueError: for a limit outside [0, 1].
    """
    if not 0 <= limit <= 1:
        raise ValueError(f"the limit is an error rate and must lie in [0, 1], got {limit}")


@dataclass(frozen=True, kw_only=True)
class DetCurve:
    """Points of an error trade-off, threshold rising: APCER falls from 1 to 0, BPCER rises."""

    apcer: Float64[np.ndarray, " P"]
    bpcer: Float64[np.ndarray, " P"]

    def to_json(self) -> dict[str, list[float]]:
        return {"apcer": self.apcer.tolist(), "bpcer": self.bpcer.tolist()}


def det_curve(scores: Scores, *, species: str | None = None, max_points: int = 200) -> DetCurve:
    """The error trade-off of one species, or of the worst species at each threshold.

    Args:
        scores: Both classes.
        species: One of `scores.species_names`; None takes APCER_AP.
        max_points: At least 2. A longer curve keeps points spread evenly along its path on the
            DET's probit axes, its first and last among them; the points kept are exact.

    Raises:
        ValueError: for a species that the scores do not have.
    """
    if species is not None and species not in scores.species_names:
        raise ValueError(f"no attack of species {species!r}; got {scores.species_names}")
    return det_points(curves.ThresholdGrid(scores).curves(), species=species, max_points=max_points)


def det_points(counts: curves.ErrorCounts, *, species: str | None, max_points: int) -> DetCurve:
    """`det_curve` from counts of one set, so that all species share one sorting of the scores."""
    if max_points < 2:
        raise ValueError(f"max_points must be at least 2, got {max_points}")
    x = (counts.apcer_ap if species is None else counts.apcer(species))[0]
    y = counts.bpcer[0]
    moves_x, moves_y = x[1:] != x[:-1], y[1:] != y[:-1]
    corner = (moves_x[:-1] | moves_x[1:]) & (moves_y[:-1] | moves_y[1:])
    keep = np.flatnonzero(np.r_[True, corner, True])  # between corners the line is straight
    x, y = x[keep], y[keep]
    if len(x) > max_points:
        num_attack = sum(int(n[0]) for n in counts.num_attack.values())
        floor = 0.5 / (num_attack + int(counts.num_bona_fide[0]))
        steps = [np.diff(ndtri(np.clip(rate, floor, 1 - floor))) for rate in (x, y)]
        path = np.r_[0.0, np.cumsum(np.hypot(*steps))]
        wanted = np.linspace(0, path[-1], max_points)
        keep = np.unique(np.r_[np.searchsorted(path, wanted[:-1]), len(x) - 1])
        x, y = x[keep], y[keep]
    return DetCurve(apcer=x, bpcer=y)
