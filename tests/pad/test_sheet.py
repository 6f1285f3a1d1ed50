"""The contact sheet: which decisions are shown, and as what pictures."""

import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.pad.sheet import ACCEPTED, HIT, OUTCOMES, REJECTED, choose_decisions, make_sheet
from pliant.pad.sheet import to_data_uri as uri


def test_by_hand():
    chosen = choose_decisions(
        score=np.array([0.9, 0.2, 0.95, 0.6, 0.1, 0.5]),
        threshold=0.5,
        bona_fide=np.array([True, True, False, False, False, True]),
        species=["", "", "print", "replay", "print", ""],
        most=8,
    )
    assert chosen == [
        (2, ACCEPTED),  # furthest above
        (3, ACCEPTED),
        (1, REJECTED),
        (5, HIT),  # at the threshold is accepted, and nearest
        (4, HIT),  # the other kind has its turn before the second bona fide
        (0, HIT),
    ]


def test_one_species_cannot_fill_the_sheet():
    score = np.array([0.99, 0.98, 0.97, 0.6])
    species = ["print", "print", "print", "mask"]
    lie = np.zeros(4, dtype=bool)
    chosen = choose_decisions(score=score, threshold=0.5, bona_fide=lie, species=species, most=2)
    assert chosen == [(0, ACCEPTED), (3, ACCEPTED)]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.sampled_from("ab")), max_size=40),
    st.integers(0, 5),
    st.floats(0, 1),
)
def test_outcomes_agree_with_the_rule(rows, most, threshold):
    score = np.array([row[0] for row in rows])
    live = np.array([row[1] for row in rows], dtype=bool)
    chosen = choose_decisions(
        score=score,
        threshold=threshold,
        bona_fide=live,
        species=[row[2] for row in rows],
        most=most,
    )
    assert len({index for index, _ in chosen}) == len(chosen)
    for index, outcome in chosen:
        accepted = score[index] >= threshold
        wanted = HIT if accepted == live[index] else ACCEPTED if accepted else REJECTED
        assert outcome == wanted
    for outcome in OUTCOMES:
        assert sum(name == outcome for _, name in chosen) <= most


def test_sheet_entries_and_pictures():
    seen: list[int] = []

    def image_of(index: int) -> np.ndarray:
        seen.append(index)
        return np.full((200, 100, 3), (250, 20, 20), dtype=np.uint8)

    entries = make_sheet(
        tier="low",
        score=np.array([0.7, 0.4, 0.9]),
        threshold=0.5,
        bona_fide=np.array([True, True, False]),
        species=["", "", "replay"],
        presentation=["a", "b", "c"],
        image_of=image_of,
        most=1,
    )
    assert sorted(seen) == [0, 1, 2]
    assert [e["outcome"] for e in entries] == [ACCEPTED, REJECTED, HIT]
    first = dict(entries[0])
    image = first.pop("image")
    assert first == {
        "tier": "low", "score": 0.9, "threshold": 0.5, "bona_fide": False, "species": "replay",
        "presentation": "c", "outcome": ACCEPTED,
    }  # fmt: skip
    assert entries[1]["species"] is None
    head, data = image.split(",")
    assert head == "data:image/jpeg;base64"
    raw = np.frombuffer(base64.b64decode(data), dtype=np.uint8)
    pixels = cv2.imdecode(raw, cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (96, 48, 3)
    assert np.allclose(pixels.mean(axis=(0, 1)), (20, 20, 250), atol=8), "red stays red (BGR here)"
    assert len(image) < 8000


def test_refusals():
    with pytest.raises(ValueError, match="equal lengths, got 2 scores, 1 labels and 2 species"):
        choose_decisions(
            score=np.zeros(2), threshold=0.5, bona_fide=np.zeros(1, dtype=bool), species=["a", "b"]
        )
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
        uri(np.zeros((4, 4, 3), dtype=np.float32))
