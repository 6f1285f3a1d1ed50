import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.pad import columns
from pliant.pad.columns import all_distinct, factorise, hashes, row_names, texts

words = st.lists(st.text(st.sampled_from("ab\u00e9 1"), max_size=5), min_size=1, max_size=30)


@pytest.fixture(params=["sorted", "hashed"])
def way(request, monkeypatch):
    monkeypatch.setattr(columns, "FEW_ROWS", 0 if request.param == "hashed" else 10**9)
    monkeypatch.setattr(columns, "ROWS_PER_CHUNK", 7)


@pytest.mark.usefixtures("way")
def test_factorise_by_hand():
    names, codes = factorise(texts(["b", "", "a", "b", None]))
    assert names.tolist() == ["", "a", "b"]
    assert codes.tolist() == [2, 0, 1, 2, 0]


@given(words)
def test_hashed_and_sorted_agree(values):
    column = texts(values)
    names, codes = np.unique(column, return_inverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "FEW_ROWS", 0)
        found, places = factorise(column)
    assert found.tolist() == names.tolist()
    assert places.tolist() == codes.tolist()
    assert all_distinct(column) == (len(names) == len(column))


def test_a_clash_of_hashes_changes_nothing(monkeypatch):
    monkeypatch.setattr(columns, "FEW_ROWS", 0)
    monkeypatch.setattr(columns, "hashes", lambda column: np.zeros(len(column), dtype=np.uint64))
    names, codes = factorise(texts(["b", "a", "b"]))
    assert (names.tolist(), codes.tolist()) == (["a", "b"], [1, 0, 1])


def test_hashes_see_every_letter_and_column():
    rows = texts([f"{a}{b}" for a in range(200) for b in "xyz"])
    assert len(np.unique(hashes(rows))) == 600
    assert all_distinct(texts(["a", "a"]), texts(["b", "c"]))
    assert not all_distinct(texts(["a", "a"]), texts(["b", "b"]))
    assert all_distinct(texts(["ab", "a"]), texts(["c", "bc"]))


@pytest.mark.parametrize("num", [0, 1, 10, 11, 1001])
def test_row_names(num):
    assert row_names(num).tolist() == [str(row) for row in range(num)]


def test_texts_of_an_array_of_texts_is_that_array():
    column = np.array(["a", "b"])
    assert texts(column) is column
    assert texts(np.array([1, 2])).tolist() == ["1", "2"]
