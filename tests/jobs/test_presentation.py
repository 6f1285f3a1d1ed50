"""Many frames, one verdict: the mean of one tier's scores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.jobs.presentation import Presentation
from pliant.runtime.verdict import Prediction, undecided


def frame(score: float | None, **changed) -> Prediction:
    threshold = changed.get("threshold", 0.5)
    verdict = "attack" if score is None or score < (threshold or 0) else "bona_fide"
    made = Prediction(
        verdict=verdict, reason=None, score=score, threshold=0.5, tier="mid", configuration="HL",
        box=(1, 2, 3, 4), num_frames=1, latency_ms=2.0, synthetic=False,
    )  # fmt: skip
    if score is None:
        made = replace(made, verdict=undecided("no face found"), reason="no face found", box=None)
    return replace(made, **changed)


def pooled(frames: list[Prediction]) -> Prediction:
    presentation = Presentation("pad")
    for one in frames:
        presentation.add(one)
    found = presentation.verdict()
    assert found is not None
    return found


def test_by_hand():
    found = pooled([frame(0.9), frame(None), frame(0.2), frame(0.7)])
    assert found.score == pytest.approx(0.6)
    assert (found.verdict, found.reason, found.num_frames) == ("bona_fide", None, 3)
    assert found.latency_ms == 8
    assert found.box is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 1))
def test_the_mean_against_the_threshold(scores: list[float], threshold: float):
    found = pooled([frame(score, threshold=threshold) for score in scores])
    assert found.score == pytest.approx(np.mean(scores))
    assert found.verdict == ("bona_fide" if (found.score or 0) >= threshold else "attack")


def test_without_one_score_the_most_frequent_reason():
    small = frame(None, reason="the face is too small")
    found = pooled([frame(None), small, small])
    assert found.verdict == "undecided(the face is too small)"
    assert (found.reason, found.score, found.num_frames) == ("the face is too small", None, 0)


def test_a_poor_frame_counts_by_its_reason_alone():
    words = {"reason": "the face is too dark", "verdict": undecided("the face is too dark")}
    dark = frame(0.9, **words)
    found = pooled([dark, frame(0.2), dark, frame(0.4)])
    assert (found.score, found.verdict) == (pytest.approx(0.3), "attack")
    assert (found.num_frames, found.reason) == (2, None)
    found = pooled([frame(None), dark, dark])
    assert (found.verdict, found.score) == ("undecided(the face is too dark)", None)
    assert (found.num_frames, found.reason) == (0, "the face is too dark")
    assert pooled([dark, dark, frame(None), frame(None), frame(None)]).reason == "no face found"


def test_scores_of_two_tiers_do_not_mix():
    low = {"tier": "low", "threshold": 0.95}
    found = pooled([frame(0.6), frame(0.9, **low), frame(0.9, **low), frame(0.6), frame(0.6)])
    assert (found.tier, found.score, found.verdict) == ("mid", pytest.approx(0.6), "bona_fide")
    assert found.num_frames == 3


def test_without_a_threshold_a_score_is_no_verdict():
    words = {"reason": "no threshold is stored for mid", "verdict": undecided("no threshold")}
    found = pooled([frame(0.6, threshold=None, **words), frame(0.8, threshold=None, **words)])
    assert found.score == pytest.approx(0.7)
    assert found.verdict == "undecided(no threshold)"


def test_for_other_tasks_the_largest_mean_probability():
    def named(cat: float, dog: float, cow: float) -> Prediction:
        best = max(cat, dog, cow)
        word = {cat: "cat", dog: "dog", cow: "cow"}[best]
        return frame(best, verdict=word, threshold=None, probabilities=(cat, dog, cow))

    frames = [named(0.51, 0.49, 0.0), named(0.0, 0.48, 0.52), named(0.5, 0.45, 0.05)]
    presentation = Presentation("classify", ("cat", "dog", "cow"))
    for one in frames:
        presentation.add(one)
    found = presentation.verdict()
    assert found is not None
    # no frame names the dog, and yet it is the likeliest of all frames together
    assert (found.verdict, found.num_frames) == ("dog", 3)
    assert found.probabilities == pytest.approx((1.01 / 3, 1.42 / 3, 0.57 / 3))
    assert found.score == pytest.approx(1.42 / 3)


def test_no_frames_no_verdict():
    assert Presentation("pad").verdict() is None
