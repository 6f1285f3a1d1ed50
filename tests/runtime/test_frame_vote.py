"""The vote of frames: by hand, against slow versions, and the facts about small n."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.runtime.frame_vote import EarlyStop, FrameVote, VoteSettings, kept, vote

SCORES = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=40)
RULES = ("mean", "median", "trimmed", "meanstd", "medstd")


def slow(scores: list[float], rule: str, k: float = 3.0) -> float:
    """The rules in plain words."""
    if rule == "median":
        return statistics.median(scores)
    if rule == "trimmed":
        cut = math.floor(0.1 * len(scores))
        return statistics.fmean(sorted(scores)[cut : len(scores) - cut])
    if rule == "meanstd":
        mean, deviation = statistics.fmean(scores), statistics.pstdev(scores)
        return statistics.fmean([s for s in scores if abs(s - mean) <= k * deviation + 1e-12])
    if rule == "medstd":
        middle = statistics.median(scores)
        mad = statistics.median(abs(s - middle) for s in scores)
        return statistics.fmean([s for s in scores if abs(s - middle) <= k * 1.4826 * mad])
    return statistics.fmean(scores)


@pytest.mark.parametrize("rule", RULES)
@given(scores=SCORES)
def test_every_rule_is_its_slow_version(rule, scores) -> None:
    found = vote(scores, VoteSettings(rule=rule))
    assert found.score == pytest.approx(slow(scores, rule), abs=1e-9)
    assert found.num_frames == len(scores)


@pytest.mark.parametrize("rule", RULES)
@given(scores=SCORES, seed=st.integers(0, 9))
def test_the_order_of_frames_does_not_matter(rule, scores, seed) -> None:
    shuffled = np.random.default_rng(seed).permutation(scores)
    settings = VoteSettings(rule=rule)
    assert vote(shuffled, settings) == vote(scores, settings)


@pytest.mark.parametrize("rule", RULES)
@given(scores=SCORES)
def test_streaming_and_batch_agree(rule, scores) -> None:
    settings = VoteSettings(rule=rule, min_frames=2)
    stream = FrameVote(settings)
    for count, score in enumerate(scores, start=1):
        assert stream.add(score) == vote(scores[:count], settings)


@pytest.mark.parametrize("rule", RULES)
@given(scores=SCORES)
def test_the_vote_lies_among_the_scores(rule, scores) -> None:
    score = vote(scores, VoteSettings(rule=rule)).score
    assert score is not None
    assert min(scores) - 1e-12 <= score <= max(scores) + 1e-12


def test_by_hand() -> None:
    scores = [0.8] * 10 + [0.1]
    assert vote(scores, VoteSettings(rule="mean")).score == pytest.approx(8.1 / 11)
    for rule in ("median", "trimmed", "medstd"):
        assert vote(scores, VoteSettings(rule=rule)).score == pytest.approx(0.8)
    assert vote(scores, VoteSettings(rule="medstd")).num_rejected == 1


@pytest.mark.parametrize(("n", "rejected"), [(9, 0), (10, 0), (11, 1), (30, 1)])
def test_meanstd_drops_a_lone_outlier_from_eleven_frames_on(n: int, rejected: int) -> None:
    """It lies sqrt(n - 1) population deviations from the mean: more than 3 for n > 10."""
    scores = [0.9] * (n - 1) + [0.2]
    assert vote(scores, VoteSettings(rule="meanstd")).num_rejected == rejected


def test_medstd_drops_an_outlier_among_five() -> None:
    scores = [0.88, 0.89, 0.9, 0.91, 0.1]
    assert kept(np.array(scores), VoteSettings(rule="medstd")).tolist() == [True] * 4 + [False]


def test_equal_frames_lose_none() -> None:
    for rule in RULES[:2] + RULES[3:]:
        assert vote([0.3] * 20, VoteSettings(rule=rule)).num_rejected == 0


def test_too_few_frames_give_no_score() -> None:
    settings = VoteSettings(min_frames=3)
    assert vote([0.9, 0.9], settings).score is None
    assert vote([0.9, 0.9, 0.9], settings).score == pytest.approx(0.9)
    assert vote([], VoteSettings()).score is None


def test_a_window_forgets() -> None:
    stream = FrameVote(VoteSettings(rule="mean"), window=2)
    assert [stream.add(s).score for s in (0.0, 1.0, 1.0)] == [0.0, 0.5, 1.0]


class TestEarlyStop:
    def test_by_hand(self) -> None:
        """Each frame moves log 4; the bound is log 99: four frames of one mind, 4^4 = 256."""
        stop = EarlyStop()
        assert stop.decide([0.9] * 9, 0.5) == (True, 4)
        assert stop.decide([0.1] * 9, 0.5) == (False, 4)
        assert stop.decide([0.9, 0.1] * 5, 0.5) == (None, 10)
        assert stop.decide([0.9, 0.9, 0.1, 0.9, 0.9, 0.9], 0.5) == (True, 6)

    def test_a_tie_is_bona_fide(self) -> None:
        assert EarlyStop().decide([0.5] * 4, 0.5)[0] is True

    @pytest.mark.parametrize("wanted", [0.01, 0.05])
    def test_wrong_stops_stay_near_what_was_asked(self, wanted: float) -> None:
        """On independent frames of exactly the assumed rates; Wald's bound on the sum is a + b."""
        random = np.random.default_rng(0)
        stop = EarlyStop(attack_accepted=wanted, bona_fide_rejected=wanted)
        wrong = {True: 0, False: 0}
        for live in (True, False):
            for _ in range(2000):
                frames = random.random(200) < (0.8 if live else 0.2)
                decided, _ = stop.decide(frames.astype(float), 0.5)
                wrong[live] += decided is not live
        noise = 3 * math.sqrt(2 * wanted / 2000)
        assert (wrong[True] + wrong[False]) / 2000 <= 2 * wanted + noise


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: VoteSettings(rule="max"), "rule must be mean, median"),  # type: ignore[arg-type]
        (lambda: VoteSettings(k=0), "k must be > 0"),
        (lambda: VoteSettings(trim=0.5), r"trim must lie in \[0, 0.5\)"),
        (lambda: VoteSettings(min_frames=0), "min_frames must be >= 1"),
        (lambda: vote([0.5, float("nan")]), "must be numbers in"),
        (lambda: vote([1.2]), "must be numbers in"),
        (lambda: FrameVote().add(-0.1), "must be a number in"),
        (lambda: FrameVote(VoteSettings(min_frames=5), window=3), "window of 3 frames"),
        (lambda: EarlyStop(frame_apcer=0.5), r"frame_apcer must lie in \(0, 0.5\)"),
    ],
)
def test_refusals(call, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()
