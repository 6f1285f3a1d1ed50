import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.metrics.accuracy import (
    accuracy,
    binomial_interval,
    classification_metrics,
    expected_calibration_error,
    negative_log_likelihood,
)

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 1, 1, 0])


def test_by_hand():
    record = classification_metrics(PROBABILITIES, LABELS, bins=2)
    assert record["accuracy"]["rate"] == 0.5
    assert (record["accuracy"]["errors"], record["accuracy"]["n"]) == (2, 4)
    assert record["nll"] == pytest.approx(-math.log(0.7 * 0.6 * 0.5 * 0.2) / 4)
    # (0, 0.5]: one sample, confidence 0.5, wrong; (0.5, 1]: 0.7, 0.6 right and 0.6 wrong
    assert record["ece"] == pytest.approx((0.5 + abs(2 - 1.9)) / 4)


def test_binomial_interval_known_values():
    assert binomial_interval(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)), abs=1e-12)
    assert binomial_interval(20, 20) == pytest.approx((0.025 ** (1 / 20), 1), abs=1e-12)
    assert binomial_interval(5, 10) == pytest.approx((0.187086, 0.812914), abs=1e-6)
    low, high = binomial_interval(9012, 10_000)
    assert (round(low, 4), round(high, 4)) == (0.8952, 0.9070)


@given(st.lists(st.tuples(st.integers(0, 2), *[st.floats(0.01, 1)] * 3), min_size=1, max_size=30))
def test_equal_to_the_slow_reference(rows):
    labels = np.array([row[0] for row in rows])
    p = np.array([row[1:] for row in rows])
    p /= p.sum(axis=1, keepdims=True)
    ece, right = 0.0, 0
    for b in range(15):
        inside = [
            (row[label] == row.max() and row.argmax() == label, row.max())
            for row, label in zip(p, labels, strict=True)
            if b / 15 < row.max() <= (b + 1) / 15
        ]
        right += sum(hit for hit, _ in inside)
        ece += abs(sum(hit for hit, _ in inside) - sum(c for _, c in inside)) / len(rows)
    assert accuracy(p, labels)["rate"] == right / len(rows)
    assert accuracy(p, labels)["low"] <= right / len(rows) <= accuracy(p, labels)["high"]
    assert expected_calibration_error(p, labels) == pytest.approx(ece, abs=1e-9)
    slow = sum(-math.log(row[label]) for row, label in zip(p, labels, strict=True)) / len(rows)
    assert negative_log_likelihood(p, labels) == pytest.approx(slow)


def test_honest_and_sure():
    sure = np.eye(3)
    assert expected_calibration_error(sure, np.arange(3)) == 0
    assert negative_log_likelihood(sure, np.arange(3)) == 0
    assert negative_log_likelihood(sure, np.array([1, 1, 2])) == pytest.approx(
        12 * math.log(10) / 3
    )


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((2, 2)), np.array([0, 1]), "sum to 1 in every row; logits are not"),
        (np.array([[np.nan, 1.0]]), np.array([0]), "sum to 1 in every row"),
        (np.eye(2), np.array([0]), r"got \(2, 2\) and \(1,\)"),
        (np.eye(2), np.array([0, 2]), r"labels must lie in 0\.\.1, got 2"),
        (np.eye(2), np.array([-1, 0]), r"labels must lie in 0\.\.1, got -1"),
        (np.empty((0, 2)), np.empty(0, int), "N > 0"),
    ],
)
def test_refusals(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        accuracy(probabilities, labels)


def test_interval_refusal():
    with pytest.raises(ValueError, match=r"0\.\.n, got 5 of 4"):
        binomial_interval(5, 4)
