"""Whether a score of 0.8 means bona fide in 8 of 10: reliability diagram, ECE, Brier score.

Naeini, Cooper, Hauskrecht. "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015
(ECE). Brier. "Verification of forecasts expressed in terms of probability", 1950. ECE is the mean
over presentations of |mean score - share of bona fide| in its bin.

All of it depends on how many attacks the set holds: a set with other shares of the classes moves
the diagram, though the system is the same.
"""

from typing import Any

import numpy as np

from pliant.pad.metrics import Rate
from pliant.pad.scores import Scores

BINS = 15


def reliability_record(scores: Scores, *, bins: int = BINS) -> dict[str, Any]:
    """The `reliability` record: ECE, Brier score and the bins that hold a presentation.

    Args:
        scores: Presentations.
        bins: Of equal width over [0, 1], each open above, the last one closed.
    """
    place = np.minimum((scores.score * bins).astype(np.int64), bins - 1)
    n = np.bincount(place, minlength=bins)
    live = np.bincount(place, weights=scores.bona_fide, minlength=bins).astype(np.int64)
    total = np.bincount(place, weights=scores.score, minlength=bins)
    rows = []
    for index in np.flatnonzero(n):
        share = Rate.of(int(live[index]), int(n[index]))
        rows.append(
            {
                "from": float(index / bins),
                "to": float((index + 1) / bins),
                "n": share.n,
                "mean_score": float(total[index] / n[index]),
                "bona_fide": share.rate,
                "low": share.low,
                "high": share.high,
            }
        )
    error = sum(row["n"] * abs(row["mean_score"] - row["bona_fide"]) for row in rows)
    return {
        "ece": error / len(scores),
        "brier": float(np.mean((scores.score - scores.bona_fide) ** 2)),
        "share_bona_fide": float(scores.bona_fide.mean()),
        "bins": rows,
    }
