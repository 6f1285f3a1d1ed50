import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from pliant.metrics.accuracy import binomial_interval
from pliant.pad import curves
from pliant.pad.intervals import (
    can_resample,
    clopper_pearson,
    percentile_interval,
    subject_bootstrap,
    subject_weights,
)
from pliant.pad.scores import Scores


@pytest.mark.parametrize(
    ("n", "percent"), [(20, 16.8), (50, 7.1), (150, 2.43), (300, 1.22), (750, 0.49), (900, 0.41)]
)
def test_what_zero_errors_prove(n, percent):
    low, high = clopper_pearson(0, n)
    assert low == 0
    assert round(100 * high, 1 if percent > 5 else 2) == percent


@given(st.data(), st.integers(1, 300))
def test_clopper_pearson_equals_its_definitions(data, n):
    k = data.draw(st.integers(0, n))
    low, high = clopper_pearson(k, n)
    assert low <= k / n <= high
    if k:
        assert low == pytest.approx(beta.ppf(0.025, k, n - k + 1), rel=1e-9)
        assert binom.sf(k - 1, n, low) == pytest.approx(0.025, rel=1e-7)
    if k < n:
        assert high == pytest.approx(beta.ppf(0.975, k + 1, n - k), rel=1e-9)
        assert binom.cdf(k, n, high) == pytest.approx(0.025, rel=1e-7)
    assert clopper_pearson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert binomial_interval(k, n) == pytest.approx((low, high), abs=1e-9)


def test_clopper_pearson_edges_and_refusals():
    assert clopper_pearson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match=r"0\.\.n, got 3 of 2"):
        clopper_pearson(3, 2)
    with pytest.raises(ValueError, match="alpha"):
        clopper_pearson(1, 2, alpha=0)


def some_scores(num_subjects=6, per_subject=7, seed=0):
    rng = np.random.default_rng(seed)
    n = num_subjects * per_subject
    bona_fide = np.arange(n) % 3 == 0
    return Scores.of(
        rng.integers(0, 12, n) / 11,
        bona_fide,
        species=np.where(bona_fide, "", np.where(np.arange(n) % 2 == 0, "print", "replay")),
        subject=(np.arange(n) // per_subject).astype(str),
    )


def test_weights_draw_whole_subjects():
    scores = some_scores()
    for _, weights in subject_weights(scores, draws=50, seed=1):
        by_subject = weights.reshape(len(weights), 6, 7)
        assert (by_subject == by_subject[:, :, :1]).all()
        assert (by_subject[:, :, 0].sum(axis=1) == 6).all()


def test_bootstrap_equals_repeating_the_rows():
    scores = some_scores()
    grid = curves.ThresholdGrid(scores)

    def statistic(weights):
        counts = grid.curves(weights)
        return {
            "auc": curves.auc(counts),
            "eer": curves.eer(counts),
            "bpcer20": curves.bpcer_at_apcer(counts, 0.05),
            "apcer": curves.apcer_at_bpcer(counts, 0.1),
        }

    drawn = subject_bootstrap(scores, statistic, draws=40, seed=3)
    [(_, weights)] = subject_weights(scores, draws=40, seed=3)
    for draw in range(40):
        rows = np.repeat(np.arange(len(scores)), weights[draw])  # the slow way: build the sample
        again = curves.ThresholdGrid(scores[rows]).curves()
        assert drawn["auc"][draw] == curves.auc(again)[0]
        assert drawn["eer"][draw] == pytest.approx(curves.eer(again)[0], abs=1e-12)
        assert drawn["bpcer20"][draw] == curves.bpcer_at_apcer(again, 0.05)[0]
        assert drawn["apcer"][draw] == curves.apcer_at_bpcer(again, 0.1)[0]


def test_draws_do_not_depend_on_the_chunk(monkeypatch):
    scores = some_scores()

    def weights():
        return np.concatenate([w for _, w in subject_weights(scores, draws=20, seed=5)])

    whole = weights()
    monkeypatch.setattr("pliant.pad.intervals.CELLS_PER_CHUNK", 1)
    np.testing.assert_array_equal(weights(), whole)


def test_subjects_that_repeat_widen_the_interval():
    """Ten copies of every presentation prove nothing more, though there are ten times the rows."""
    base = some_scores(num_subjects=12, per_subject=3, seed=4)
    copies = base[np.repeat(np.arange(len(base)), 10)]

    def width(scores):
        grid = curves.ThresholdGrid(scores)
        drawn = subject_bootstrap(scores, lambda w: {"auc": curves.auc(grid.curves(w))}, draws=400)
        low, high = percentile_interval(drawn["auc"])
        return high - low

    anonymous = Scores.of(copies.score, copies.bona_fide, species=copies.species)
    assert width(copies) == pytest.approx(width(base))
    assert width(anonymous) < width(base) / 2


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        bona_fide = np.arange(80) % 2 == 0
        scores = Scores.of(
            np.clip(rng.normal(np.where(bona_fide, 0.6, 0.4), 0.1), 0, 1),
            bona_fide,
            subject=(np.arange(80) // 2).astype(str),
        )
        grid = curves.ThresholdGrid(scores)
        drawn = subject_bootstrap(
            scores, lambda w, g=grid: {"auc": curves.auc(g.curves(w))}, draws=200
        )
        low, high = percentile_interval(drawn["auc"])
        covered += low <= 0.92135 <= high  # Phi(0.2 / (0.1 sqrt 2))
    assert 52 <= covered <= 60


def test_draws_without_a_class_have_no_value():
    scores = Scores.of([0.9, 0.8, 0.1], [True, True, False], subject=["a", "b", "c"])
    grid = curves.ThresholdGrid(scores)
    drawn = subject_bootstrap(
        scores,
        lambda w: {"auc": curves.auc(grid.curves(w)), "eer": curves.eer(grid.curves(w))},
        draws=100,
    )
    assert set(drawn["auc"][np.isfinite(drawn["auc"])]) == {1.0}
    assert np.isnan(drawn["auc"]).any()
    np.testing.assert_array_equal(np.isnan(drawn["auc"]), np.isnan(drawn["eer"]))
    assert percentile_interval(drawn["auc"]) == (1, 1)
    assert percentile_interval(np.array([np.nan])) is None


def test_one_subject_cannot_be_resampled():
    assert not can_resample(Scores.of([0.1, 0.9], [False, True], subject=["a", "a"]))
    assert can_resample(Scores.of([0.1, 0.9], [False, True]))
    assert not can_resample(Scores.of([], []))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        next(subject_weights(some_scores(), draws=0, seed=0))
