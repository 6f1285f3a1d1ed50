"""Mean and spread of a measure over the folds of a protocol, saying which spread.

Papers write mean ± std and rarely say which: over three folds the two differ by a fifth. The folds
0.42, 0.53, 1.06 give ±0.28 (population, divided by n) or ±0.34 (sample, divided by n - 1).
"""

import statistics
from collections.abc import Sequence


def fold_summary(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, and both standard deviations; the sample's is None for one fold.

    Raises:
        ValueError: without a fold.
    """
    if not values:
        raise ValueError("a summary over folds needs at least one of them")
    return {
        "folds": len(values),
        "mean": statistics.fmean(values),
        "std_population": statistics.pstdev(values),
        "std_sample": statistics.stdev(values) if len(values) > 1 else None,
    }
