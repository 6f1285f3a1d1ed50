"""Error counts at every threshold, for one set of scores or thousands of reweighted copies of it.

Scores are sorted once. A copy is a whole-number weight per row (how often its subject was drawn),
and a cumulative sum of sorted weights gives every error count at every threshold, so a bootstrap
never sorts again. Between two neighbouring scores of one class no threshold is better than one at
the end of the run, and the error curve is straight there: such thresholds are left out, which
changes no result below.

Shapes: D = draws (copies), N = rows, T = thresholds.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from pliant.errors import UserError
from pliant.pad.scores import Scores


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """Errors of D copies at T thresholds, thresholds rising."""

    accepted: dict[str, Int[np.ndarray, "D T"]]
    """Attacks accepted, per species."""
    num_attack: dict[str, Int[np.ndarray, " D"]]
    """Attacks, per species."""
    rejected: Int[np.ndarray, "D T"]
    """Bona fide presentations rejected."""
    num_bona_fide: Int[np.ndarray, " D"]
    """Bona fide presentations."""

    @cached_property
    def bpcer(self) -> Float64[np.ndarray, "D T"]:
        """Share of bona fide presentations rejected; NaN in a copy that has none."""
        return _share(self.rejected, self.num_bona_fide)

    def apcer(self, species: str) -> Float64[np.ndarray, "D T"]:
        """Share of the species' attacks accepted; NaN in a copy that has none."""
        return _share(self.accepted[species], self.num_attack[species])

    @cached_property
    def apcer_ap(self) -> Float64[np.ndarray, "D T"]:
        """APCER of the worst species that the copy has."""
        first, *others = self.accepted
        worst = self.apcer(first)
        for species in others:
            np.fmax(worst, self.apcer(species), out=worst)
        return worst

    @cached_property
    def apcer_pooled(self) -> Float64[np.ndarray, "D T"]:
        """Share of all attacks accepted, species mixed."""
        return _share(*self.pooled)

    @cached_property
    def pooled(self) -> tuple[Int[np.ndarray, "D T"], Int[np.ndarray, " D"]]:
        """Attacks accepted and attacks, species mixed."""
        accepted, num = list(self.accepted.values()), list(self.num_attack.values())
        return (sum(accepted[1:], accepted[0]), sum(num[1:], num[0]))


def _share(errors: np.ndarray, n: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return errors / n[:, None]


class ThresholdGrid:
    """Every threshold that separates two scores of one set, from accept-all to reject-all.

    Attributes:
        score: (N,) scores, rising.
        start: (T,) threshold number j accepts exactly the sorted rows from `start[j]` on.

    Raises:
        UserError: if a class is missing.
    """

    def __init__(self, scores: Scores) -> None:
        check_both_classes(scores)
        self.order: Int64[np.ndarray, " N"] = np.argsort(scores.score, kind="stable")
        self.score: Float64[np.ndarray, " N"] = scores.score[self.order]
        classes = scores.classes[self.order]
        self.start: Int64[np.ndarray, " T"] = _run_starts(self.score, classes < 0)
        self._rows_of = {
            name: np.flatnonzero(classes == code) for code, name in enumerate(scores.species_names)
        }
        self._bona_fide_rows = np.flatnonzero(classes < 0)

    def curves(self, weights: Int[np.ndarray, "D N"] | None = None) -> ErrorCounts:
        """Counts at every threshold of the grid; without weights, of the scores as they are."""
        return self._counts(self.start, weights)

    def at(
        self,
        thresholds: Float64[np.ndarray, " D"],
        weights: Int[np.ndarray, "D N"] | None = None,
    ) -> ErrorCounts:
        """Counts at one given threshold per copy (T = 1)."""
        return self._counts(np.searchsorted(self.score, thresholds)[:, None], weights)

    def sorted_weights(self, weights: Int[np.ndarray, "D N"] | None) -> Int[np.ndarray, "D N"]:
        """Weights in the order of `score`; ones if there are none."""
        if weights is None:
            return np.ones((1, len(self.score)), dtype=np.int32)
        return np.take(weights, self.order, axis=1)

    def _counts(self, start: np.ndarray, weights: np.ndarray | None) -> ErrorCounts:
        accepted, num_attack = {}, {}
        for name, rows in self._rows_of.items():
            below, num_attack[name] = self._below(rows, start, weights)
            accepted[name] = np.subtract(num_attack[name][:, None], below, out=below)
        rejected, num_bona_fide = self._below(self._bona_fide_rows, start, weights)
        return ErrorCounts(
            accepted=accepted,
            num_attack=num_attack,
            rejected=rejected,
            num_bona_fide=num_bona_fide,
        )

    def _below(
        self, rows: np.ndarray, start: np.ndarray, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weight of the given rows (of one class) before each start, and their whole weight.

        `start` is (T,) for all copies, or (D, 1) with one of its own for each.
        """
        before = np.searchsorted(rows, start)
        if weights is None:
            return np.atleast_2d(before).astype(np.int32), np.array([len(rows)], dtype=np.int32)
        total = np.zeros((len(weights), len(rows) + 1), dtype=np.int32)
        np.cumsum(np.take(weights, self.order[rows], axis=1), axis=1, out=total[:, 1:])
        if before.ndim == 1:
            return np.take(total, before, axis=1), total[:, -1]
        return np.take_along_axis(total, before, axis=1), total[:, -1]


def _run_starts(
    score: Float64[np.ndarray, " N"], bona_fide: Bool[np.ndarray, " N"]
) -> Int64[np.ndarray, " T"]:
    """Where a threshold may cut the sorted rows: before each run of one class or of tied scores."""
    first = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
    num_bona_fide = np.add.reduceat(bona_fide, first, dtype=np.int32)
    size = np.diff(first, append=len(score))
    kind = (num_bona_fide > 0).astype(np.int8) + (num_bona_fide == size)
    same_run = (kind[1:] == kind[:-1]) & (kind[1:] != 1)  # 1: both classes share the score
    return np.r_[0, first[1:][~same_run], len(score)]


def check_both_classes(scores: Scores) -> None:
    """Refuses scores that lack bona fide presentations or attacks.

    Raises:
        UserError: naming the class that is missing.
    """
    num_bona_fide = int(scores.bona_fide.sum())
    if num_bona_fide == 0 or num_bona_fide == len(scores):
        raise UserError(
            f"both classes are needed, got {num_bona_fide} bona fide presentations and "
            f"{len(scores) - num_bona_fide} attacks"
        )


def auc(counts: ErrorCounts) -> Float64[np.ndarray, " D"]:
    """P(bona fide score > attack score), ties half, over all pairs; NaN without a class.

    In whole numbers until the last division, so a perfect separation is exactly 1.
    """
    accepted, num_attack = counts.pooled
    lost = accepted[:, :-1] - accepted[:, 1:]
    twice_rejected = counts.rejected[:, :-1] + counts.rejected[:, 1:]
    twice_below = np.einsum("dt,dt->d", lost, twice_rejected, dtype=np.int64)
    pairs = num_attack.astype(np.int64) * counts.num_bona_fide
    with np.errstate(invalid="ignore"):
        return (2 * pairs - twice_below) / (2 * pairs)


def eer(counts: ErrorCounts) -> Float64[np.ndarray, " D"]:
    """Where the convex hull of the error curve (pooled APCER, BPCER) meets APCER = BPCER.

    The hull's edge over the diagonal is found from its two ends: the point furthest below the
    line through the current ends replaces the end on its side of the diagonal, until no point is
    below. Comparisons are between whole numbers, so the edge is exact. NaN without a class.
    """
    x, num_x = counts.pooled
    y, num_y = counts.rejected, counts.num_bona_fide
    left = np.zeros(len(x), dtype=np.int64)  # accept all: x = num_x, y = 0
    right = np.full(len(x), x.shape[1] - 1)  # reject all: x = 0, y = num_y
    active = np.arange(len(x))
    while len(active):
        row = np.arange(len(active))
        a, b = left[active], right[active]
        offset = int(a.min())  # no point outside the two ends lies below their line
        window = slice(offset, int(b.max()) + 1)
        xs, ys = (values[active, window].astype(np.int64) for values in (x, y))
        rise = y[active, b].astype(np.int64) - y[active, a]
        run = x[active, a].astype(np.int64) - x[active, b]
        at_end = rise * x[active, a] + run * y[active, a]
        below = xs * rise[:, None]
        below += ys * run[:, None]
        lowest = np.argmin(below, axis=1)
        lower = below[row, lowest] < at_end
        before = xs[row, lowest] * num_y[active] >= ys[row, lowest] * num_x[active]
        left[active] = np.where(lower & before, lowest + offset, a)
        right[active] = np.where(lower & ~before, lowest + offset, b)
        active = active[lower]
    row = np.arange(len(x))
    with np.errstate(invalid="ignore", divide="ignore"):
        x_left, x_right = x[row, left] / num_x, x[row, right] / num_x
        above = x_left - y[row, left] / num_y  # >= 0
        under = y[row, right] / num_y - x_right  # > 0
        return x_left + above / (above + under) * (x_right - x_left)


def bpcer_at_apcer(counts: ErrorCounts, limit: float) -> Float64[np.ndarray, " D"]:
    """Smallest BPCER over thresholds whose worst-species APCER is at most `limit`."""
    allowed = counts.apcer_ap <= limit  # APCER falls and BPCER rises: the first one is it
    return _at_index(counts.bpcer, np.argmax(allowed, axis=1), allowed)


def apcer_at_bpcer(
    counts: ErrorCounts, limit: float, *, pooled: bool = False
) -> Float64[np.ndarray, " D"]:
    """Smallest APCER (worst species, or pooled) over thresholds whose BPCER is at most `limit`."""
    allowed = counts.bpcer <= limit
    last = allowed.shape[1] - 1 - np.argmax(allowed[:, ::-1], axis=1)
    rates = counts.apcer_pooled if pooled else counts.apcer_ap
    return _at_index(rates, last, allowed)


def _at_index(rates: np.ndarray, index: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    chosen = np.take_along_axis(rates, index[:, None], axis=1)[:, 0]
    return np.where(allowed.any(axis=1), chosen, np.nan)
