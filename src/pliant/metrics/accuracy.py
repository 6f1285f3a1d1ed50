"""How right a classifier is (accuracy, negative log-likelihood) and how honest (ECE).

Guo, Pleiss, Sun, Weinberger. "On Calibration of Modern Neural Networks", 2017, for the ECE.
https://arxiv.org/abs/1706.04599

Shapes: N = samples, K = classes.
"""

import math

import numpy as np
from jaxtyping import Float, Int


def binomial_interval(successes: int, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Clopper-Pearson limits of a binomial share, at confidence 1 - alpha, two-sided.

    Solved by bisection on the binomial distribution itself: low is the share at which `successes`
    or more have probability alpha/2, high the one at which `successes` or fewer have.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n, got {successes} of {n}")
    counts = np.arange(n + 1)
    log_factorial = np.r_[0.0, np.cumsum(np.log(np.arange(1, n + 1)))]
    log_choose = log_factorial[n] - log_factorial - log_factorial[::-1]

    def probability(share: float, first: int, last: int) -> float:
        k = counts[first : last + 1]
        log_terms = log_choose[k] + k * math.log(share) + (n - k) * math.log1p(-share)
        return float(np.exp(log_terms).sum())

    def solve(rising: bool) -> float:
        low, high = 0.0, 1.0
        for _ in range(52):
            middle = (low + high) / 2
            first, last = (successes, n) if rising else (0, successes)
            too_small = probability(middle, first, last) < alpha / 2
            low, high = (middle, high) if too_small == rising else (low, middle)
        return (low + high) / 2

    return (
        0.0 if successes == 0 else solve(rising=True),
        1.0 if successes == n else solve(rising=False),
    )


def accuracy(
    probabilities: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]
) -> dict[str, int | float]:
    """Share of samples whose most probable class is the label, with its 95 % interval.

    Returns `errors` and `n` (counts), `rate` (the accuracy), `low`, `high` (Clopper-Pearson). Of
    equally probable classes the first is taken.
    """
    _check(probabilities, labels)
    right = int((probabilities.argmax(axis=1) == labels).sum())
    low, high = binomial_interval(right, len(labels))
    return {
        "errors": len(labels) - right,
        "n": len(labels),
        "rate": right / len(labels),
        "low": low,
        "high": high,
    }


def negative_log_likelihood(
    probabilities: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]
) -> float:
    """Mean -log of the label's probability, in nats; a probability of 0 counts as 1e-12."""
    _check(probabilities, labels)
    of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, 1e-12)).mean())


def expected_calibration_error(
    probabilities: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], *, bins: int = 15
) -> float:
    """Mean over samples of |accuracy - confidence| of their bin, in [0, 1].

    Confidence is the largest probability; the bins cut (0, 1] evenly, right ends included.
    """
    _check(probabilities, labels)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    cell = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(cell, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))  # eq. 3


def classification_metrics(
    probabilities: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], *, bins: int = 15
) -> dict[str, dict[str, int | float] | float]:
    """The `metrics` record of a classification tier: accuracy, nll and ece."""
    return {
        "accuracy": accuracy(probabilities, labels),
        "nll": negative_log_likelihood(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels, bins=bins),
    }


def _check(probabilities: np.ndarray, labels: np.ndarray) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"need probabilities (N, K) and labels (N,), N > 0, got {probabilities.shape} and "
            f"{labels.shape}"
        )
    if not ((probabilities >= 0).all() and np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)):
        raise ValueError("probabilities must be >= 0 and sum to 1 in every row; logits are not")
    wrong = labels[(labels < 0) | (labels >= probabilities.shape[1])]
    if len(wrong):
        raise ValueError(f"labels must lie in 0..{probabilities.shape[1] - 1}, got {wrong[0]}")
