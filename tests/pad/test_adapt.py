"""The head against a slow reference; folds, weights and thresholds by hand."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from pliant.errors import UserError
from pliant.pad.adapt import (
    Head,
    balanced_weights,
    check_captures,
    deal,
    fit_head,
    fit_on_captures,
    log_loss,
    threshold_value,
)
from pliant.pad.scores import Scores
from pliant.pad.thresholds import fit_threshold, parse_policy

OLD = Head(weight=np.array([1.0, -0.5, 0.0]), bias=0.3)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    live = np.arange(40) % 2 == 0
    return rng.normal(np.where(live, 0.6, -0.2)[:, None], [1, 2, 0.5], (40, 3)), live


def objective(change, x, live, weights, strength):
    """The docstring's words, one row after the other."""
    centre = sum(w * row for w, row in zip(weights, x, strict=True))
    scale = sum(w * np.sum((r - centre) ** 2) for w, r in zip(weights, x, strict=True)) ** 0.5
    loss = strength / 2 * np.sum(change**2)
    for row, bona_fide, weight in zip(x, live, weights, strict=True):
        logit = OLD.weight @ row + OLD.bias + change[:3] @ (row - centre) / scale + change[3]
        p = 1 / (1 + np.exp(-logit))
        loss -= weight * np.log(p if bona_fide else 1 - p)
    return loss, centre, scale


@pytest.mark.parametrize("strength", [0.01, 0.3])
def test_head_is_the_minimum_of_a_slow_reference(rows, strength):
    x, live = rows
    weights = np.random.default_rng(1).uniform(size=40)
    weights /= weights.sum()
    head = fit_head(OLD, x, live, weights, strength=strength)
    _, centre, scale = objective(np.zeros(4), x, live, weights, strength)
    change = np.append((head.weight - OLD.weight) * scale, 0.0)
    change[3] = head.bias - OLD.bias + (head.weight - OLD.weight) @ centre

    def value(change):
        return objective(change, x, live, weights, strength)[0]

    assert np.abs(approx_fprime(change, value, 1e-6)).max() < 1e-5
    found = minimize(value, np.ones(4), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 0})
    assert value(change) <= found.fun + 1e-10
    np.testing.assert_allclose(change, found.x, atol=1e-4)


def test_an_infinite_strength_is_the_old_head(rows):
    x, live = rows
    weights = np.full(40, 1 / 40)
    moved = [
        float(np.linalg.norm(fit_head(OLD, x, live, weights, strength=s).weight - OLD.weight))
        for s in (0.1, 10, 1e9)
    ]
    assert moved[0] > moved[1] > moved[2]
    head = fit_head(OLD, x, live, weights, strength=1e9)
    np.testing.assert_allclose(head.score(x), OLD.score(x), atol=1e-8)
    for strength in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match="strength must be a finite number > 0"):
            fit_head(OLD, x, live, weights, strength=strength)


def test_the_scale_of_the_features_does_not_matter(rows):
    x, live = rows
    weights = np.full(40, 1 / 40)
    one = fit_head(OLD, x, live, weights, strength=0.1)
    bigger = Head(weight=OLD.weight / 7, bias=OLD.bias)
    other = fit_head(bigger, 7 * x, live, weights, strength=0.1)
    np.testing.assert_allclose(other.score(7 * x), one.score(x), atol=1e-6)


def test_separable_and_constant_features_have_a_minimum_too():
    x, live = np.array([[0.0], [1.0]]), np.array([False, True])
    half = np.full(2, 0.5)
    assert np.isfinite(
        fit_head(Head(weight=np.zeros(1), bias=0), x, live, half, strength=1e-3).bias
    )
    same = fit_head(Head(weight=np.ones(1), bias=2.0), np.ones((2, 1)), live, half, strength=1e-6)
    assert same.score(np.ones((1, 1)))[0] == pytest.approx(0.5, abs=1e-4)


def test_weights_by_hand():
    rows = Scores.of(
        np.full(6, 0.5),
        [True, True, True, False, False, False],
        species=["", "", "", "print", "replay", "replay"],
        presentation=["a", "a", "b", "c", "d", "e"],
    )
    weights = balanced_weights(rows)
    np.testing.assert_allclose(weights, [1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 8, 1 / 8])
    assert log_loss(rows) == pytest.approx(np.log(2))


def test_folds_keep_groups_whole_and_classes_on_both_sides():
    subjects = np.array([f"s{k}" for k in range(7) for _ in range(6)])
    live = np.tile([True, False, False], 14)
    fold = deal(subjects, live, seed=3)
    assert fold is not None
    assert sorted(set(fold)) == [0, 1, 2, 3, 4]
    assert all(len(set(fold[subjects == s])) == 1 for s in set(subjects))
    np.testing.assert_array_equal(fold, deal(subjects, live, seed=3))
    assert deal(["a"] * 4, np.array([True, False] * 2), seed=0) is None
    assert deal(["a", "a", "b"], np.array([True, False, True]), seed=0) is None  # attacks of one
    for seed in range(20):  # live clips of two, attacks of many
        groups = ["l0", "l1", *(f"a{k}" for k in range(9))]
        live = np.array([True, True] + [False] * 9)
        fold = deal(groups, live, seed=seed)
        assert fold is not None
        assert set(fold[live]) == set(fold[~live]) == {0, 1}


def test_bona_fide_alone_by_hand():
    live = Scores.of(np.arange(1, 61) / 100, [True] * 60, subject=[f"s{k // 6}" for k in range(60)])
    fitted = fit_on_captures(live, "bpcer<=0.05", source="captures", draws=50)
    assert fitted.value == pytest.approx(0.035)  # rejects 0.01, 0.02, 0.03: the middle of the gap
    assert fitted.interval is not None
    assert fitted.interval[0] <= fitted.value <= fitted.interval[1]
    assert (fitted.num_bona_fide, fitted.num_attack, fitted.num_subjects) == (60, 0, 10)
    assert fitted.dev_sha256 == live.sha256


def test_both_classes_are_fitted_as_ever():
    rng = np.random.default_rng(0)
    live = np.arange(80) % 2 == 0
    scores = Scores.of(1 / (1 + np.exp(-rng.normal(np.where(live, 1, -1)))), live)
    for policy in ("min_acer", "eer", "bpcer<=0.1"):
        fitted = fit_on_captures(scores, policy, source="x", draws=20)
        assert fitted == fit_threshold(scores, policy, source="x", draws=20)
        assert threshold_value(scores, parse_policy(policy)) == fitted.value


def test_what_the_captures_cannot_support_is_refused():
    live = Scores.of(np.full(20, 0.5), [True] * 20)
    for policy in ("min_acer", "eer", "apcer<=0.1"):
        with pytest.raises(UserError, match="needs attacks and the captures hold none"):
            check_captures(live, parse_policy(policy))
    with pytest.raises(UserError, match=r"at least 60 are needed \(rule of three\)"):
        check_captures(live, parse_policy("bpcer<=0.05"))
    with pytest.raises(UserError, match="fits nothing"):
        check_captures(live, parse_policy("fixed=0.5"))
    with pytest.raises(UserError, match="no bona fide presentations"):
        check_captures(Scores.of([0.5], [False]), parse_policy("eer"))
