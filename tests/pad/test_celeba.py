import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.pad import metrics
from pliant.pad.celeba import LIMITS, celeba_official, celeba_record, celeba_tpr_at_fpr
from pliant.pad.scores import Scores


def slow_official(attack_scores, is_attack, limit):
    """The benchmark's rule, step by step on sorted lists."""
    live = sorted((s for s, a in zip(attack_scores, is_attack, strict=True) if not a), reverse=True)
    threshold = live[max(1, int(limit * len(live))) - 1]
    attacks = [s for s, a in zip(attack_scores, is_attack, strict=True) if a]
    caught = 0
    for score in sorted(attacks, reverse=True):
        if score <= threshold:
            break
        caught += 1
    return caught * 1.0 / len(attacks)


def test_by_hand():
    """Of ten bona fide, x = 0.2 takes the second highest P(attack), 0.7; a tie is not caught."""
    attack_score = np.array([0.9, 0.7, *[0.1] * 8, 0.95, 0.7, 0.8, 0.2])
    is_attack = np.arange(14) >= 10
    assert celeba_official(attack_score, is_attack, 0.2) == (0.5, 0.7)
    assert celeba_official(attack_score, is_attack, 0.001) == (0.25, 0.9)  # never rank 0


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: 0 < sum(attack for _, attack in rows) < len(rows)
    ),
    st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 1.0]),
)
def test_bit_for_bit(rows, limit):
    score = np.array([value / 9 for value, _ in rows])
    attack = np.array([a for _, a in rows])
    assert celeba_official(score, attack, limit)[0] == slow_official(score, attack, limit)
    scores = Scores.of(1 - score, ~attack)
    assert celeba_tpr_at_fpr(scores, limit) == slow_official(1 - scores.score, attack, limit)


def test_trap_its_fpr_is_a_bpcer():
    """TPR@FPR=x is 1 - pooled APCER at a BPCER of at most x; the twin allows one reject more."""
    rng = np.random.default_rng(0)
    live = np.arange(3000) < 2000
    scores = Scores.of(1 / (1 + np.exp(-rng.normal(np.where(live, 2, -2)))), live)
    for limit, record in zip(LIMITS, celeba_record(scores), strict=True):
        assert record["limit"] == limit
        assert record["tpr_at_fpr"] == celeba_tpr_at_fpr(scores, limit)
        assert record["bpcer_there"] == (int(limit * 2000) - 1) / 2000
        twin = metrics.apcer_at_bpcer(scores, limit, pooled=True)
        assert record["twin"]["apcer_pooled"] == twin <= record["apcer_pooled_there"]
        exact = metrics.apcer_at_bpcer(scores, record["bpcer_there"], pooled=True)
        assert record["apcer_pooled_there"] == pytest.approx(exact, abs=1e-12)


def test_refusals():
    with pytest.raises(UserError, match="both classes are needed"):
        celeba_tpr_at_fpr(Scores.of([0.5], [True]), 0.01)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        celeba_tpr_at_fpr(Scores.of([0.5, 0.5], [True, False]), 2)
