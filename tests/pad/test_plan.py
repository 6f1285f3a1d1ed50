import csv
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.pad.intervals import clopper_pearson
from pliant.pad.plan import Claim, plan_record, presentations_needed, write_checklist


def test_rule_of_three_by_hand():
    assert presentations_needed(0.01) == math.ceil(math.log(0.05) / math.log(0.99)) == 299
    assert presentations_needed(0.05) == 59
    assert presentations_needed(0.01, errors=1) == 473
    assert presentations_needed(0.99) == 1


@given(st.floats(0.005, 0.5), st.integers(0, 3), st.sampled_from([0.9, 0.95, 0.99]))
def test_smallest_n_whose_upper_end_is_at_or_below_the_target(target, errors, confidence):
    n = presentations_needed(target, errors=errors, confidence=confidence)
    alpha = 2 * (1 - confidence)
    assert clopper_pearson(errors, n, alpha=alpha)[1] <= target + 1e-9
    if n - 1 > errors:
        assert clopper_pearson(errors, n - 1, alpha=alpha)[1] > target - 1e-9


def test_plan_by_hand():
    rows = plan_record(Claim(target=0.01))
    assert [row["presentations"] for row in rows] == [299, 473, 628, 773]
    assert rows[0]["chance_at_half"] == pytest.approx(0.995**299)
    assert rows[0]["chance_at_fifth"] == pytest.approx(0.998**299)
    alike = plan_record(Claim(target=0.01, per_subject=5, correlation=0.5))[0]
    assert alike["presentations"] == 900  # 299 x (1 + 4 x 0.5) = 897, in whole subjects
    assert alike["subjects"] == 180
    assert plan_record(Claim(target=0.01, per_subject=5))[0]["subjects"] == 60


def test_checklist(tmp_path):
    path = write_checklist([("print", 2, 3), ("bona fide", 1, 3)], tmp_path / "list.csv")
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["kind"], r["subject"], r["presentations"]) for r in rows] == [
        ("print", "0001", "3"),
        ("print", "0002", "3"),
        ("bona fide", "0001", "3"),
    ]
    assert rows[0]["captured"] == ""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target": 0}, "between 0 and 1, got 0"),
        ({"target": 0.1, "confidence": 0.4}, "between 0.5 and 1"),
        ({"target": 0.1, "per_subject": 0}, "at least 1"),
        ({"target": 0.1, "correlation": 2}, "correlation must lie in"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message):
        Claim(**wrong)
