import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.pad import metrics
from pliant.pad.curves import ThresholdGrid
from pliant.pad.scores import Scores
from pliant.pad.thresholds import Threshold, fit_threshold

# Four bona fide, five attacks: at 0.5 one bona fide (0.4) is rejected, of three prints one (0.5, a
# tie) is accepted, of two replays one (0.8).
HAND = Scores.of(
    [0.9, 0.8, 0.7, 0.4, 0.5, 0.2, 0.1, 0.8, 0.3],
    [True] * 4 + [False] * 5,
    species=[None] * 4 + ["print"] * 3 + ["replay"] * 2,
)


def test_by_hand():
    rates = metrics.apcer(HAND, 0.5)
    assert (rates["print"].errors, rates["print"].n, rates["print"].rate) == (1, 3, 1 / 3)
    assert (rates["replay"].errors, rates["replay"].n, rates["replay"].rate) == (1, 2, 1 / 2)
    assert metrics.worst_species(rates) == "replay"
    assert metrics.apcer_pooled(HAND, 0.5).rate == 2 / 5
    assert metrics.bpcer(HAND, 0.5).rate == 1 / 4
    assert metrics.acer(HAND, 0.5) == (1 / 2 + 1 / 4) / 2
    # of 20 pairs lose 0.7/0.8, 0.4/0.5, 0.4/0.8; 0.8/0.8 is a tie
    assert metrics.auc(HAND) == (20 - 3 - 0.5) / 20
    # APCER_AP <= 10 % means none: thresholds above 0.8 keep one bona fide of four
    assert metrics.bpcer_at_apcer(HAND, 0.10) == 3 / 4
    assert metrics.bpcer_at_apcer(HAND, 0.50) == 0
    assert metrics.apcer_at_bpcer(HAND, 0.0) == 1 / 2
    assert metrics.apcer_at_bpcer(HAND, 0.0, pooled=True) == 2 / 5
    # hull of (pooled APCER, BPCER): (2/5, 0), (1/5, 1/4), (0, 3/4); its first edge meets x = y
    assert metrics.eer(HAND) == pytest.approx(2 / 9)


def test_perfect_and_hopeless():
    perfect = Scores.of([0.6, 0.7, 0.2, 0.5], [True, True, False, False])
    assert (metrics.auc(perfect), metrics.eer(perfect)) == (1, 0)
    assert metrics.bpcer_at_apcer(perfect, 0.01) == 0
    blind = Scores.of([0.5] * 6, [True, False] * 3)
    assert (metrics.auc(blind), metrics.eer(blind)) == (0.5, 0.5)
    assert metrics.bpcer_at_apcer(blind, 0.1) == 1
    inverted = Scores.of([0.2, 0.6], [True, False])
    assert (metrics.auc(inverted), metrics.eer(inverted)) == (0, 0.5)


labelled = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from(["", "", "print", "replay", "mask"])),
    min_size=2,
    max_size=40,
).filter(lambda rows: 0 < sum(name == "" for _, name in rows) < len(rows))


def to_scores(rows):
    return Scores.of(
        [value / 8 for value, _ in rows],
        [name == "" for _, name in rows],
        species=[name for _, name in rows],
    )


def slow_points(scores):
    """(APCER per species, pooled APCER, BPCER) at every threshold, by loops."""
    points = []
    for threshold in [*sorted(set(scores.score.tolist())), 2.0]:
        per_species = []
        for name in scores.species_names:
            values = [s for s, k in zip(scores.score, scores.species, strict=True) if k == name]
            per_species.append(sum(s >= threshold for s in values) / len(values))
        attacks = [s for s, b in zip(scores.score, scores.bona_fide, strict=True) if not b]
        live = [s for s, b in zip(scores.score, scores.bona_fide, strict=True) if b]
        pooled = sum(s >= threshold for s in attacks) / len(attacks)
        points.append((per_species, pooled, sum(s < threshold for s in live) / len(live)))
    return points


def slow_eer(scores):
    """The lowest crossing of x = y by any line between two points of the curve."""
    points = [(x, y) for _, x, y in slow_points(scores)]
    best = 1.0
    for x0, y0 in points:
        for x1, y1 in points:
            d0, d1 = x0 - y0, y1 - x1
            if d0 >= 0 and d1 >= 0:
                share = d0 / (d0 + d1) if d0 + d1 else 0.0
                best = min(best, x0 + share * (x1 - x0))
    return best


@given(labelled)
def test_equal_to_the_slow_reference(rows):
    scores = to_scores(rows)
    live, attacks = scores.score[scores.bona_fide], scores.score[~scores.bona_fide]
    wins = sum((b > a) + 0.5 * (b == a) for b in live for a in attacks)
    assert metrics.auc(scores) == pytest.approx(wins / (len(live) * len(attacks)), abs=1e-12)
    assert metrics.eer(scores) == pytest.approx(slow_eer(scores), abs=1e-12)
    points = slow_points(scores)
    for limit in (0.0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 1.0):
        allowed = [y for per_species, _, y in points if max(per_species) <= limit]
        assert metrics.bpcer_at_apcer(scores, limit) == min(allowed)
        allowed = [max(per_species) for per_species, _, y in points if y <= limit]
        assert metrics.apcer_at_bpcer(scores, limit) == min(allowed)
    det = metrics.det_curve(scores)
    known = {(max(per_species), y) for per_species, _, y in points}
    assert set(zip(det.apcer.tolist(), det.bpcer.tolist(), strict=True)) <= known


@given(labelled, st.randoms(use_true_random=False))
def test_row_order_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    for measure in (metrics.auc, metrics.eer):
        assert measure(to_scores(rows)) == measure(to_scores(shuffled))


@given(labelled)
def test_swapping_labels_and_scores_changes_nothing(rows):
    scores = to_scores(rows)
    swapped = Scores.of(1 - scores.score, ~scores.bona_fide)
    assert metrics.auc(swapped) == pytest.approx(metrics.auc(scores), abs=1e-12)
    assert metrics.eer(swapped) == pytest.approx(metrics.eer(scores), abs=1e-12)
    assert metrics.auc(Scores.of(scores.score, ~scores.bona_fide)) == pytest.approx(
        1 - metrics.auc(scores), abs=1e-12
    )


@given(labelled)
def test_only_the_order_of_scores_matters(rows):
    scores = to_scores(rows)
    bent = Scores.of(scores.score**3 / 2 + 0.1, scores.bona_fide, species=scores.species)
    assert metrics.auc(bent) == metrics.auc(scores)
    assert metrics.eer(bent) == metrics.eer(scores)
    assert metrics.bpcer_at_apcer(bent, 0.1) == metrics.bpcer_at_apcer(scores, 0.1)


@given(labelled, st.floats(0, 1), st.floats(0, 1))
def test_monotone_in_the_threshold(rows, one, other):
    scores = to_scores(rows)
    low, high = sorted((one, other))
    assert metrics.bpcer(scores, low).rate <= metrics.bpcer(scores, high).rate
    at_low, at_high = metrics.apcer(scores, low), metrics.apcer(scores, high)
    assert all(at_low[name].rate >= at_high[name].rate for name in at_low)
    assert all(rate.low <= rate.rate <= rate.high for rate in at_low.values())


@given(labelled, st.floats(0, 1))
def test_grid_counts_equal_plain_counts(rows, threshold):
    scores = to_scores(rows)
    counts = ThresholdGrid(scores).at(np.array([threshold]))
    assert counts.bpcer[0, 0] == metrics.bpcer(scores, threshold).rate
    for name, rate in metrics.apcer(scores, threshold).items():
        assert counts.apcer(name)[0, 0] == rate.rate


def test_trap_columns_are_not_swapped():
    """Two attacks of two pass and no bona fide of eight is rejected: APCER 1, BPCER 0."""
    scores = Scores.of([0.9] * 10, [True] * 8 + [False] * 2)
    assert metrics.apcer_pooled(scores, 0.5).rate == 1
    assert metrics.bpcer(scores, 0.5).rate == 0
    assert (metrics.apcer_pooled(scores, 0.5).n, metrics.bpcer(scores, 0.5).n) == (2, 8)


def test_trap_pooled_is_not_worst_species():
    scores = Scores.of(
        [0.9] * 10 + [0.1] * 98 + [0.9] * 2,
        [True] * 10 + [False] * 100,
        species=[None] * 10 + ["print"] * 98 + ["mask"] * 2,
    )
    assert metrics.apcer_pooled(scores, 0.5).rate == 0.02
    assert metrics.acer(scores, 0.5) == 0.5
    assert metrics.bpcer_at_apcer(scores, 0.05) == 1


def test_trap_no_grid_of_thresholds():
    """Steps of 0.001 cannot see a rate of 1e-4, nor scores that differ by less."""
    attacks = np.linspace(0.5, 0.5001, 10_000)
    live = np.linspace(attacks[-2], 0.5002, 100)
    scores = Scores.of(np.r_[live, attacks], np.r_[np.ones(100, bool), np.zeros(10_000, bool)])
    assert metrics.bpcer_at_apcer(scores, 1e-4) == 0.01  # one attack may pass; a tie is rejected
    assert metrics.bpcer_at_apcer(scores, 2e-4) == 0
    assert metrics.eer(scores) < 2e-4


def test_trap_hter_needs_other_data():
    dev = Scores.of([0.9, 0.6, 0.1, 0.3], [True, True, False, False])
    fitted = fit_threshold(dev)
    test = Scores.of([0.9, 0.2, 0.1, 0.3], [True, True, False, False])
    assert metrics.hter(test, fitted) == 0.25
    with pytest.raises(ValueError, match="fitted on these very scores"):
        metrics.hter(dev, fitted)
    by_hand = Threshold(policy="fixed=0.5", value=0.5, source="given by hand")
    with pytest.raises(ValueError, match="HTER needs a threshold fitted on a dev set"):
        metrics.hter(test, by_hand)


def test_long_det_is_thinned_and_keeps_its_shape():
    rng = np.random.default_rng(0)
    bona_fide = rng.random(20_000) < 0.5
    scores = Scores.of(1 / (1 + np.exp(-rng.normal(np.where(bona_fide, 1, -1)))), bona_fide)
    whole, thin = metrics.det_curve(scores, max_points=10**6), metrics.det_curve(scores)
    assert len(whole.apcer) > 4000
    assert 100 < len(thin.apcer) <= 200
    for curve in (whole, thin):
        assert (curve.apcer[0], curve.bpcer[0]) == (1, 0)
        assert (curve.apcer[-1], curve.bpcer[-1]) == (0, 1)
        assert (np.diff(curve.apcer) <= 0).all()
        assert (np.diff(curve.bpcer) >= 0).all()
    aside = np.abs(np.interp(whole.bpcer, thin.bpcer, thin.apcer) - whole.apcer)
    above = np.abs(np.interp(-whole.apcer, -thin.apcer, thin.bpcer) - whole.bpcer)
    assert np.minimum(aside, above).max() < 0.005


def test_det_of_one_species():
    det = metrics.det_curve(HAND, species="replay")
    assert det.to_json() == {"apcer": [1, 0.5, 0.5, 0.0, 0.0], "bpcer": [0, 0, 0.5, 0.75, 1]}


def test_refusals():
    only_live, only_attacks = Scores.of([0.5], [True]), Scores.of([0.5], [False])
    for measure in (metrics.auc, metrics.eer, metrics.det_curve):
        for scores in (only_live, only_attacks):
            with pytest.raises(UserError, match=r"both classes are needed, got [01] bona fide"):
                measure(scores)
    with pytest.raises(UserError, match="APCER needs attacks"):
        metrics.apcer(only_live, 0.5)
    with pytest.raises(UserError, match="BPCER needs bona fide"):
        metrics.bpcer(only_attacks, 0.5)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 5"):
        metrics.bpcer_at_apcer(HAND, 5)
    with pytest.raises(ValueError, match="no attack of species 'masks'"):
        metrics.det_curve(HAND, species="masks")
    with pytest.raises(ValueError, match="max_points"):
        metrics.det_curve(HAND, max_points=1)
