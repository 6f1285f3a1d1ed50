"""A new camera: move the classifier as far as few captures justify, and refit thresholds on them.

The head is the last linear layer, read as one function: logit of bona fide minus logit of attack,
w.x + b. It is fitted by logistic regression with a Gaussian prior around the old head: Chelba,
Acero. "Adaptation of Maximum Entropy Capitalizer: Little Data Can Help a Lot", 2004. The problem is
convex and has one minimum, which L-BFGS finds to many digits without a learning rate, epochs or a
seed; Lightning's loop would add all three and stop short of it.

The features are centred and divided by their root mean square distance from the centre, so that
`strength` means the same for every network: 1/strength is the prior's variance of a logit's change
along one typical feature vector.

Thresholds never see a score from a head that was fitted on the same presentation: such scores lie
too far apart. `deal` makes the folds for that; it keeps what belongs together in one of them.

Shapes: N = rows (frames, in every tier), F = features, D = draws, G = groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.optimize import minimize
from scipy.special import expit

from pliant.errors import UserError
from pliant.pad.curves import ThresholdGrid
from pliant.pad.intervals import can_resample, percentile_interval, subject_bootstrap
from pliant.pad.scores import Scores, pool_presentations
from pliant.pad.thresholds import (
    Policy,
    Threshold,
    best_thresholds,  # the value alone: folds are smaller than what a policy asks for
    check_support,
    fit_threshold,
    parse_policy,
)

STRENGTHS = (1.0, 0.1, 0.01, 1e-3, 1e-4)
"""What is tried where no strength is given: from hardly moved to nearly free."""
NUM_FOLDS = 5
NUM_DEALS = 64
"""Attempts to deal groups so that no fold holds all of a class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """w.x + b: the logit of bona fide minus that of attack."""

    weight: Float64[np.ndarray, " F"]
    """w."""
    bias: float
    """b."""

    def score(self, features: Float[np.ndarray, "N F"]) -> Float64[np.ndarray, " N"]:
        """The probability of bona fide of each row."""
        return expit(np.asarray(features, dtype=np.float64) @ self.weight + self.bias)


def fit_head(
    old: Head,
    features: Float[np.ndarray, "N F"],
    bona_fide: Bool[np.ndarray, " N"],
    weights: Float64[np.ndarray, " N"],
    *,
    strength: float,
) -> Head:
    """The head of least weighted log loss plus strength/2 times its squared distance to the old.

    Args:
        old: Where it starts, and what it is held to.
        features: What the head sees.
        bona_fide: The labels.
        weights: >= 0, summing to 1; see `balanced_weights`.
        strength: > 0 and finite; large values leave the old head as it is.

    Raises:
        ValueError: for another strength (without any, separable captures have no minimum).
    """
    if not 0 < strength < np.inf:
        raise ValueError(f"strength must be a finite number > 0, got {strength}")
    u = np.array(features, dtype=np.float64)  # a copy, changed in place: captures may be many
    before = u @ old.weight + old.bias
    centre = weights @ u
    u -= centre
    scale = float(np.sqrt(weights @ np.einsum("nf,nf->n", u, u))) or 1.0
    u /= scale
    sign = np.where(bona_fide, 1.0, -1.0)

    def loss_and_gradient(change: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (before + u @ change[:-1] + change[-1])
        pull = -weights * sign * expit(-margin)
        loss = weights @ np.logaddexp(0, -margin) + strength / 2 * (change @ change)
        return float(loss), np.append(pull @ u, pull.sum()) + strength * change

    found = minimize(
        loss_and_gradient,
        np.zeros(u.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "gtol": 1e-8, "ftol": 1e-14},
    )
    moved = found.x[:-1] / scale
    return Head(weight=old.weight + moved, bias=float(old.bias + found.x[-1] - centre @ moved))


def balanced_weights(rows: Scores) -> Float64[np.ndarray, " N"]:
    """Weights that sum to 1: classes alike, in attacks the species, in these the presentations."""
    _, clip = np.unique(np.stack([rows.subject, rows.presentation]), axis=1, return_inverse=True)
    weights = 1 / np.bincount(clip.ravel())[clip.ravel()]
    for code in np.unique(rows.classes):
        mine = rows.classes == code
        share = 1.0 if code < 0 else 1 / len(rows.species_names)
        weights[mine] *= share / weights[mine].sum()
    return weights / weights.sum()


def log_loss(rows: Scores) -> float:
    """The balanced mean of -log(probability of the true class), in nats."""
    right = np.where(rows.bona_fide, rows.score, 1 - rows.score)
    return float(balanced_weights(rows) @ -np.log(np.maximum(right, 1e-12)))


def deal(
    groups: Sequence[str] | np.ndarray, bona_fide: Bool[np.ndarray, " N"], *, seed: int
) -> Int[np.ndarray, " N"] | None:
    """The fold of each row, 0 to at most `NUM_FOLDS` - 1; rows of one group share it.

    Whichever fold is taken away, every class remains. None where the groups do not allow that.

    Args:
        groups: What must not be torn apart: subjects, sessions, clips.
        bona_fide: Labels.
        seed: Of the deal.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    holds = np.stack([np.bincount(group[bona_fide == c], minlength=len(names)) > 0
                      for c in np.unique(bona_fide)])  # fmt: skip
    number = min(NUM_FOLDS, int(holds.sum(axis=1).min()))
    if number < 2:
        return None
    kinds = np.unique(holds, axis=1).T
    random = np.random.default_rng(seed)
    fold = np.empty(len(names), dtype=np.int64)
    for _ in range(NUM_DEALS):
        order = [
            random.permutation(np.flatnonzero((kind == holds.T).all(axis=1)))
            for kind in random.permutation(kinds)  # groups that hold the same classes
        ]
        fold[np.concatenate(order)] = np.arange(len(names)) % number
        if all(len(set(fold[has])) > 1 for has in holds):
            return fold[group]
    return None


def check_captures(captures: Scores, policy: Policy) -> None:
    """Refuses a policy that the captures cannot support.

    Raises:
        UserError: with what is missing.
    """
    if policy.name == "fixed=":
        raise UserError(f'policy "{policy}" fits nothing; take min_acer, eer, apcer<=x or bpcer<=x')
    if not captures.bona_fide.any():
        raise UserError("the captures hold no bona fide presentations; add some of real people")
    if captures.bona_fide.all() and policy.name != "bpcer<=":
        raise UserError(
            f'policy "{policy}" needs attacks and the captures hold none; add prints or replays of '
            'your own (simulated ones are no evidence), or take --policy "bpcer<=0.05"'
        )
    check_support(pool_presentations(captures), policy)


def fit_on_captures(
    captures: Scores, policy: str, *, source: str, draws: int = 2000, seed: int = 0
) -> Threshold:
    """`fit_threshold`, which bona fide captures alone serve too where the policy is bpcer<=x.

    Without attacks APCER is not known, but no rise of the threshold raises it: taken is the last
    gap between two scores that keeps the limit, and of it the middle.

    Args:
        captures: Frames are pooled into presentations.
        policy: See `parse_policy`.
        source: What they are, in words.
        draws: Resamples of the subjects for the interval; 0: none.
        seed: Of the resampling.

    Raises:
        UserError: if the captures cannot support the policy.
    """
    parsed = parse_policy(policy)
    captures = pool_presentations(captures)
    check_captures(captures, parsed)
    if not captures.bona_fide.all():
        return fit_threshold(captures, policy, source=source, draws=draws, seed=seed)
    interval = None
    if draws and can_resample(captures):
        drawn = subject_bootstrap(
            captures,
            lambda weights: {"threshold": _highest(captures, parsed, weights)},
            draws=draws,
            seed=seed,
        )
        interval = percentile_interval(drawn["threshold"])
    return Threshold(
        policy=str(parsed),
        value=threshold_value(captures, parsed),
        source=source,
        dev_sha256=captures.sha256,
        num_bona_fide=len(captures),
        num_subjects=captures.num_subjects,
        interval=interval,
        draws=draws if interval else 0,
        seed=seed,
    )


def threshold_value(captures: Scores, policy: Policy) -> float:
    """The policy's threshold alone, for a part of the captures: its support is not checked."""
    captures = pool_presentations(captures)
    if captures.bona_fide.all():
        return float(_highest(captures, policy, None)[0])
    return float(best_thresholds(ThresholdGrid(captures), policy, None)[0])


def _highest(
    live: Scores, policy: Policy, weights: Int[np.ndarray, "D N"] | None
) -> Float64[np.ndarray, " D"]:
    """Per draw, the middle of the last gap between two scores with BPCER within the limit."""
    assert policy.number is not None
    order = np.argsort(live.score, kind="stable")
    score = live.score[order]
    times = np.ones((1, len(live)), dtype=np.int64) if weights is None else weights[:, order]
    below = times.cumsum(axis=1) - times
    fits = (times > 0) & (below <= policy.number * times.sum(axis=1, keepdims=True) + 1e-9)
    last = len(live) - 1 - np.argmax(fits[:, ::-1], axis=1)
    drawn = np.maximum.accumulate(np.where(times > 0, score, 0.0), axis=1)
    high = score[last]
    low = np.where(last > 0, drawn[np.arange(len(drawn)), last - 1], 0.0)
    middle = low + (high - low) / 2
    return np.where(middle > low, middle, high)
