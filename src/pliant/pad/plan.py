"""How many presentations prove a claim: "APCER is at most 1 %", before anyone has been captured.

The claim holds if the upper end of the one-sided Clopper-Pearson interval lies at or below the
target, with `errors` errors allowed: the smallest n with P(at most `errors` errors | n, target) <=
1 - confidence. Without errors that is the rule of three, n = 3 / target at 95 %. For APCER_AP each
species must show it by itself, and then the worst one has too: no correction for their number.

Presentations of one subject are alike. With m of them from each and correlation r between two, n
grows by the design effect 1 + (m - 1) r.
Kish. "Survey Sampling", 1965 (design effect).
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binom

from pliant.pad.intervals import clopper_pearson
from pliant.runtime.files import write_atomic

MOST_ERRORS = 3


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What shall be shown."""

    target: float
    """The highest error rate, between 0 and 1."""
    confidence: float = 0.95
    """Of the one-sided interval, between 0.5 and 1."""
    per_subject: int = 1
    """Presentations of one kind from each subject, >= 1."""
    correlation: float = 0.0
    """Between the errors of two presentations of one subject, 0 (independent) to 1 (copies)."""

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"the target is a rate between 0 and 1, got {self.target}")
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0.5 and 1, got {self.confidence}")
        if self.per_subject < 1:
            raise ValueError(f"per_subject must be at least 1, got {self.per_subject}")
        if not 0 <= self.correlation <= 1:
            raise ValueError(f"correlation must lie in [0, 1], got {self.correlation}")

    @property
    def design_effect(self) -> float:
        """How many times more presentations than independent ones."""
        return 1 + (self.per_subject - 1) * self.correlation


def presentations_needed(target: float, *, errors: int = 0, confidence: float = 0.95) -> int:
    """The smallest n of independent presentations whose `errors` errors still prove the target."""
    alpha = 1 - confidence
    low, high = errors, max(1, errors)
    while binom.cdf(errors, high, target) > alpha:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binom.cdf(errors, middle, target) > alpha else (low, middle)
    return high


def plan_record(claim: Claim) -> list[dict[str, Any]]:
    """Per number of errors allowed: presentations, subjects, and the chance to pass.

    `chance_at_fifth` and `chance_at_half` are the probabilities that a system whose true rate is
    a fifth, or half, of the target makes no more errors than allowed (independent presentations).
    `report_high` is the upper end of the two-sided 95 % interval that a report would show.
    """
    rows = []
    for errors in range(MOST_ERRORS + 1):
        n = presentations_needed(claim.target, errors=errors, confidence=claim.confidence)
        captured = math.ceil(n * claim.design_effect - 1e-9)
        subjects = math.ceil(captured / claim.per_subject)
        rows.append(
            {
                "errors_allowed": errors,
                "independent": n,
                "presentations": subjects * claim.per_subject,
                "subjects": subjects,
                "chance_at_fifth": float(binom.cdf(errors, n, claim.target / 5)),
                "chance_at_half": float(binom.cdf(errors, n, claim.target / 2)),
                "report_high": clopper_pearson(errors, n)[1],
            }
        )
    return rows


def write_checklist(kinds: Sequence[tuple[str, int, int]], path: Path | str) -> Path:
    """The capture list as CSV: a row per kind and subject, with empty cells to tick off.

    Args:
        kinds: (name of the species or `bona fide`, subjects, presentations of each).
        path: Where to.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "subject", "presentations", "captured", "no_response", "note"])
    for kind, subjects, each in kinds:
        writer.writerows([kind, f"{i + 1:04d}", each, "", "", ""] for i in range(subjects))
    write_atomic(path, text.getvalue())
    return Path(path)
