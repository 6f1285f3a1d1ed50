"""Presentations without a response: APNRR per species, BPNRR, and what they do to the errors.

ISO/IEC 30107-3: APNRR is the share of attack presentations of one species, BPNRR that of bona fide
presentations, that cause no response. They are counted apart: APCER and BPCER are shares of the
presentations that got one, because an attack before which the system falls silent must not make
its APCER smaller. `of_all` has the same errors over every presentation made: an attack without
a response was not accepted, a bona fide presentation without one was not let in either.
"""

from collections import Counter
from typing import Any

import numpy as np

from pliant.pad.metrics import Rate
from pliant.pad.table import ScoreTable


def nonresponse_record(table: ScoreTable, threshold: float | None) -> dict[str, Any]:
    """The `nonresponse` record; `of_all` is None without a threshold, a rate None without a class.

    Args:
        table: Presentations (pooled).
        threshold: Accept iff score >= threshold.
    """
    silent = ~table.responded
    names = [str(name) for name in np.unique(table.species[~table.bona_fide])]
    groups = {name: table.species == name for name in names}
    with np.errstate(invalid="ignore"):
        accepted = table.score >= (np.inf if threshold is None else threshold)
    shut_out = table.bona_fide & ~accepted
    return {
        "num": int(silent.sum()),
        "apnrr": {name: _rate(silent, rows) for name, rows in groups.items()},
        "bpnrr": _rate(silent, table.bona_fide),
        "reasons": dict(Counter(table.reason[silent].tolist()).most_common()),
        "of_all": None
        if threshold is None
        else {
            "apcer": {name: _rate(accepted, rows) for name, rows in groups.items()},
            "bpcer_or_no_response": _rate(shut_out, table.bona_fide),
        },
    }


def _rate(events: np.ndarray, rows: np.ndarray) -> dict[str, int | float] | None:
    n = int(rows.sum())
    return Rate.of(int((events & rows).sum()), n).to_json() if n else None
