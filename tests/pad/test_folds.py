import pytest

from pliant.pad.folds import fold_summary


def test_trap_which_std():
    summary = fold_summary([0.42, 0.53, 1.06])
    assert round(summary["std_population"], 2) == 0.28
    assert round(summary["std_sample"], 2) == 0.34
    assert (summary["folds"], round(summary["mean"], 2)) == (3, 0.67)


def test_one_fold_and_none():
    assert fold_summary([0.4]) == {
        "folds": 1,
        "mean": 0.4,
        "std_population": 0,
        "std_sample": None,
    }
    with pytest.raises(ValueError, match="at least one"):
        fold_summary([])
