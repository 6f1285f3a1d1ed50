"""How sure an error rate is: Clopper-Pearson, and a bootstrap that draws subjects.

Clopper, Pearson. "The use of confidence or fiducial limits illustrated in the case of the
binomial", 1934. Efron, Tibshirani. "An Introduction to the Bootstrap", 1993 (percentile interval).

Several presentations of one subject are no independent trials, so the bootstrap draws whole
subjects with replacement. A row without a subject stands for itself.

Shapes: D = draws, N = rows, S = clusters.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float64, Int32
from scipy.special import betaincinv

from pliant.pad.scores import Scores

CELLS_PER_CHUNK = 1_000_000
"""Draws are worked off in chunks of about this many weights (4 MB)."""


def clopper_pearson(errors: int, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """The exact interval of a binomial rate, at confidence 1 - alpha, two-sided.

    Args:
        errors: How many failed, 0 to n.
        n: How many were tried; without any the interval is (0, 1).
        alpha: 0.05 gives 95 %.
    """
    if not 0 <= errors <= n:
        raise ValueError(f"errors must lie in 0..n, got {errors} of {n}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    low = 0.0 if errors == 0 else float(betaincinv(errors, n - errors + 1, alpha / 2))
    high = 1.0 if errors == n else float(betaincinv(errors + 1, n - errors, 1 - alpha / 2))
    return low, high


def cluster_draws(
    scores: Scores, *, draws: int, seed: int
) -> Iterator[tuple[slice, Int32[np.ndarray, "D S"]]]:
    """Which draws, and how often each cluster (`scores.clusters`) occurs in each, chunk by chunk.

    Args:
        scores: Rows; their subjects are what is drawn.
        draws: Number of resamples in all.
        seed: The same seed gives the same draws.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    rng = np.random.default_rng(seed)
    num_clusters = int(scores.clusters.max()) + 1
    chunk = max(1, CELLS_PER_CHUNK // len(scores))
    for first in range(0, draws, chunk):
        size = min(chunk, draws - first)
        drawn = rng.integers(num_clusters, size=(size, num_clusters))
        drawn += num_clusters * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_clusters)
        yield slice(first, first + size), times.reshape(size, num_clusters).astype(np.int32)


def subject_weights(
    scores: Scores, *, draws: int, seed: int
) -> Iterator[tuple[slice, Int32[np.ndarray, "D N"]]]:
    """Which draws, and how often each row occurs in each of them; see `cluster_draws`."""
    for rows, times in cluster_draws(scores, draws=draws, seed=seed):
        yield rows, np.take(times, scores.clusters, axis=1)


def subject_bootstrap(
    scores: Scores,
    statistic: Callable[[Int32[np.ndarray, "D N"]], dict[str, Float64[np.ndarray, " D"]]],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Float64[np.ndarray, " draws"]]:
    """Values of the named statistics over resamples of the subjects.

    Args:
        scores: What is resampled.
        statistic: Maps weights (how often each row was drawn) to a value per draw and name, e.g.
            `lambda w: {"eer": eer(grid.curves(w))}` with `grid = ThresholdGrid(scores)`.
        draws: Number of resamples.
        seed: The same seed gives the same values.
    """
    chunks = [statistic(weights) for _, weights in subject_weights(scores, draws=draws, seed=seed)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def percentile_interval(
    values: Float64[np.ndarray, " D"], *, alpha: float = 0.05
) -> tuple[float, float] | None:
    """The middle 1 - alpha of bootstrap values; None where none exists.

    A draw that lost a whole class has no value (NaN) and is left out.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def can_resample(scores: Scores) -> bool:
    """Whether there are two subjects or more; drawing from one says nothing about others."""
    return len(scores) > 0 and int(scores.clusters.max()) > 0
