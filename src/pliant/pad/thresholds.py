"""A decision threshold, fitted on a dev set by a named policy and kept with its evidence.

What each policy makes smallest on dev (APCER_AP is the worst species'): `min_acer` the ACER;
`eer` the larger of pooled APCER and BPCER; `apcer<=x` the BPCER while APCER_AP stays at or below
x; `bpcer<=x` APCER_AP while BPCER stays at or below x; `fixed=t` nothing, t is given.
Among equally good thresholds the one with the least pooled APCER + BPCER is taken, then the one in
the widest gap between two scores, and in a gap its middle: a perfect separation so yields the
middle of the gap and not its edge, which an unseen presentation would cross first.

Rule of three: zero errors in n trials prove a rate below about 3/n at 95 %, so a limit x needs at
least 3/x presentations of every class that it speaks of.

Shapes: D = draws, N = rows, T = thresholds.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from pliant.errors import UserError
from pliant.pad.curves import ErrorCounts, ThresholdGrid
from pliant.pad.intervals import can_resample, percentile_interval, subject_bootstrap
from pliant.pad.scores import Scores, pool_presentations

DEFAULT_POLICY = "min_acer"
POLICIES = ("eer", "min_acer", "apcer<=x", "bpcer<=x", "fixed=t")
REJECT_ALL = float(np.nextafter(1.0, 2.0))
"""A threshold above every score."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy as parsed; `str()` gives the text that parses to it."""

    name: str
    """`eer`, `min_acer`, `apcer<=`, `bpcer<=` or `fixed=`."""
    number: float | None = None
    """The limit or the fixed threshold, in [0, 1]; None where the policy has none."""

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name}{self.number!r}"


def parse_policy(text: str) -> Policy:
    """The policy named by `eer`, `min_acer`, `apcer<=0.05`, `bpcer<=5%` or `fixed=0.5`.

    Raises:
        UserError: for any other text, with the nearest policy.
    """
    squeezed = re.sub(r"\s+", "", text.lower())
    if squeezed in ("eer", "min_acer"):
        return Policy(name=squeezed)
    match = re.fullmatch(r"(apcer<=|bpcer<=|fixed=)(.+)", squeezed)
    if match is None:
        near = difflib.get_close_matches(squeezed, POLICIES, n=1, cutoff=0.5)
        hint = f'; did you mean "{near[0]}"?' if near else ";"
        raise UserError(f'unknown threshold policy "{text}"{hint} ({", ".join(POLICIES)})')
    name, number = match.groups()
    try:
        value = float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        value = math.nan
    if not (0 <= value <= 1) or (value == 0 and name != "fixed="):
        least = "in [0, 1]" if name == "fixed=" else "above 0 and at most 1"
        raise UserError(f'threshold policy "{text}" needs a number {least}, e.g. {name}0.05')
    return Policy(name=name, number=value)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A fitted (or given) threshold with the evidence behind it; accept iff score >= value."""

    policy: str
    """As `parse_policy` reads it."""
    value: float
    """In [0, 1], or just above 1 where nothing may be accepted."""
    source: str
    """Which scores it was fitted on, in words; `given by hand` for a fixed one."""
    dev_sha256: str | None = None
    """Hash of the dev scores; None for a fixed threshold."""
    num_bona_fide: int = 0
    """Bona fide presentations of the dev set."""
    num_attack: int = 0
    """Attacks of the dev set."""
    num_subjects: int = 0
    """Named subjects of the dev set; 0: the resampling was by presentation."""
    interval: tuple[float, float] | None = None
    """95 % of the values that resampled dev subjects give; None without two of them."""
    draws: int = 0
    """Resamples behind the interval."""
    seed: int = 0
    """Seed of the resampling."""

    def __post_init__(self) -> None:
        if not 0 <= self.value <= REJECT_ALL:
            raise ValueError(f"Threshold.value must lie in [0, 1], got {self.value}")
        if self.interval is not None and len(self.interval) != 2:
            raise ValueError(f"Threshold.interval must be (low, high), got {self.interval}")

    def accepts(self, score: np.ndarray) -> np.ndarray:
        """Whether each score is taken for bona fide; equality is."""
        return np.asarray(score) >= self.value

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"interval": self.interval and list(self.interval)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Threshold":
        """The threshold that `to_json` wrote.

        Raises:
            UserError: if the record lacks a field or has an unknown one.
        """
        try:
            interval = record.get("interval")
            return cls(**{**record, "interval": tuple(interval) if interval else None})
        except (TypeError, ValueError) as problem:
            raise UserError(f"this is no threshold record: {problem}") from problem


def fit_threshold(
    dev: Scores | None,
    policy: str = DEFAULT_POLICY,
    *,
    source: str = "dev",
    silent: Sequence[str] = (),
    draws: int = 2000,
    seed: int = 0,
) -> Threshold:
    """The policy's threshold on the dev scores, with its interval over resampled subjects.

    Args:
        dev: Scores of subjects that neither training nor test has seen; only `fixed=t` needs none.
        policy: One of `POLICIES`.
        source: What the dev scores are, in words, for the record.
        silent: Attack species of the dev set of which no presentation got a response.
        draws: Resamples for the interval.
        seed: Of the resampling.

    Raises:
        UserError: if the policy is unknown, dev is empty or lacks a class, or dev is too small to
            support the limit asked for (or a species of it fell silent altogether).
    """
    check_draws(draws, seed, least=0)
    parsed = parse_policy(policy)
    if parsed.name == "fixed=":
        assert parsed.number is not None
        return Threshold(policy=str(parsed), value=parsed.number, source="given by hand")
    if dev is None or not len(dev):
        raise UserError(
            "no dev subjects: a threshold is fitted on dev scores only; give the data a dev split, "
            'or set the threshold by hand with the policy "fixed=t"'
        )
    dev = pool_presentations(dev)
    grid = ThresholdGrid(dev)
    if silent and parsed.name == "apcer<=":
        raise UserError(f'policy "{parsed}" is unsupported by data: {silent_note(silent[0])}')
    check_support(dev, parsed)
    interval = None
    if draws and can_resample(dev):
        interval = percentile_interval(threshold_draws(dev, policy, draws=draws, seed=seed))
    return Threshold(
        policy=str(parsed),
        value=float(best_thresholds(grid, parsed, None)[0]),
        source=source,
        dev_sha256=dev.sha256,
        num_bona_fide=int(dev.bona_fide.sum()),
        num_attack=int((~dev.bona_fide).sum()),
        num_subjects=dev.num_subjects,
        interval=interval,
        draws=draws if interval else 0,
        seed=seed,
    )


def check_draws(draws: int, seed: int, *, least: int) -> None:
    """Refuses a number of resamples, or a seed, that there cannot be.

    Raises:
        UserError: naming the smallest that there can be.
    """
    if draws < least:
        raise UserError(f"draws must be >= {least}, got {draws}")
    if seed < 0:
        raise UserError(f"seed must be >= 0, got {seed}")


def check_threshold(threshold: Threshold | None) -> None:
    """Refuses a bare number, which does not say where it comes from.

    Raises:
        UserError: for anything but a `Threshold` or None.
    """
    if threshold is not None and not isinstance(threshold, Threshold):
        raise UserError(
            f"a threshold must be a pliant.pad.Threshold, got {threshold!r}; to set one by hand, "
            'give policy="fixed=0.5"'
        )


def silent_note(species: str) -> str:
    """What a threshold does not know of a species whose attacks all got no response."""
    return (
        f"no attack of species {species!r} in the dev set got a response, so the threshold knows "
        "nothing of it"
    )


def threshold_draws(
    dev: Scores, policy: str, *, draws: int, seed: int
) -> Float64[np.ndarray, " draws"]:
    """The threshold refitted on each resample of the dev subjects; NaN where it lost a class."""
    dev, parsed = pool_presentations(dev), parse_policy(policy)
    if parsed.number is not None and parsed.name == "fixed=":
        return np.full(draws, parsed.number)
    grid = ThresholdGrid(dev)
    fitted = subject_bootstrap(
        dev,
        lambda weights: {"threshold": best_thresholds(grid, parsed, weights)},
        draws=draws,
        seed=seed,
    )
    return fitted["threshold"]


def check_support(dev: Scores, policy: Policy) -> None:
    """Refuses a limit that so few presentations cannot show (rule of three).

    Raises:
        UserError: with how many are needed.
    """
    if policy.name == "apcer<=":
        counts = {name: int((dev.species == name).sum()) for name in dev.species_names}
        least = min(counts, key=counts.__getitem__)
        n, what = counts[least], f'attacks of species "{least}"'
    elif policy.name == "bpcer<=":
        n, what = int(dev.bona_fide.sum()), "bona fide presentations"
    else:
        return
    assert policy.number is not None
    if n * policy.number < 3 - 1e-9:
        raise UserError(
            f'policy "{policy}" is unsupported by data: {n} {what} in the dev set, at least '
            f"{math.ceil(3 / policy.number - 1e-9)} are needed (rule of three); "
            "collect more, or ask for a rate that the data can show"
        )


def best_thresholds(
    grid: ThresholdGrid, policy: Policy, weights: Int[np.ndarray, "D N"] | None
) -> Float64[np.ndarray, " D"]:
    """The best threshold of each draw, the middle of its gap; NaN where a class is missing."""
    counts = grid.curves(weights)
    both = counts.apcer_pooled + counts.bpcer
    cost = _cost(counts, policy)
    valid = np.isfinite(both[:, 0])
    cost = np.where(valid[:, None], cost, 0.0)
    both = np.where(valid[:, None], both, 0.0)
    low, high = _gaps(grid, weights)
    for key in (both, low - high):  # each breaks the ties that the one before left
        best = cost <= cost.min(axis=1, keepdims=True) + 1e-12
        cost = np.where(best, key, np.inf)
    row, chosen = np.arange(len(cost)), np.argmin(cost, axis=1)
    low, high = low[row, chosen], high[row, chosen]
    middle = low + (high - low) / 2
    return np.where(valid, np.where(middle > low, middle, high), np.nan)


def _cost(counts: ErrorCounts, policy: Policy) -> Float64[np.ndarray, "D T"]:
    """What the policy minimises over thresholds."""
    if policy.name == "eer":
        return np.maximum(counts.apcer_pooled, counts.bpcer)
    if policy.name == "min_acer":
        return (counts.apcer_ap + counts.bpcer) / 2
    if policy.name == "apcer<=":
        return np.where(counts.apcer_ap <= policy.number, counts.bpcer, np.inf)
    assert policy.name == "bpcer<="
    return np.where(counts.bpcer <= policy.number, counts.apcer_ap, np.inf)


def _gaps(
    grid: ThresholdGrid, weights: Int[np.ndarray, "D N"] | None
) -> tuple[Float64[np.ndarray, "D T"], Float64[np.ndarray, "D T"]]:
    """The nearest scores drawn below and at-or-above each threshold: it may move between them."""
    drawn = grid.sorted_weights(weights) > 0
    below = np.maximum.accumulate(np.where(drawn, grid.score, -1.0), axis=1)
    above = np.minimum.accumulate(np.where(drawn, grid.score, 2.0)[:, ::-1], axis=1)[:, ::-1]
    edge = np.ones((len(drawn), 1))
    low = np.concatenate([-edge, below], axis=1)[:, grid.start]
    high = np.concatenate([above, 2 * edge], axis=1)[:, grid.start]
    reject_all = np.where(low < 1, 1.0, REJECT_ALL)
    return np.maximum(low, 0.0), np.where(high > 1, reject_all, high)
