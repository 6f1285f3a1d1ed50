"""Frames to presentations: by hand, as training pools them, and what gets no response."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.data.manifest import Sample
from pliant.errors import UserError
from pliant.jobs.clip_vote import vote_clips, vote_record, write_votes
from pliant.jobs.scoring import to_scores
from pliant.pad.scores import pool_presentations, read_scores
from pliant.pad.table import read_table
from pliant.runtime.frame_vote import VoteSettings, vote


def frame(clip: str | None, k: int, *, live: bool = True, subject: str = "s1") -> Sample:
    return Sample(
        path=Path(f"/data/{subject}-{clip}-{k}.png"),
        name=f"{subject}-{clip}-{k}.png",
        bona_fide=live,
        pai_species=None if live else "print",
        subject=subject,
        clip=clip,
    )


FRAMES = [
    *(frame("a", k) for k in range(3)),
    *(frame("b", k, live=False) for k in range(2)),
    *(frame("a", k, subject="s2") for k in range(1)),
]
SCORES = np.array([0.9, 0.8, 0.1, 0.2, 0.4, 0.7])


def test_votes_by_hand() -> None:
    table = vote_clips(FRAMES, SCORES, VoteSettings(rule="median"))
    assert table.presentation.tolist() == ["a", "b", "a"]
    assert table.subject.tolist() == ["s1", "s1", "s2"]
    assert table.score.tolist() == pytest.approx([0.8, 0.3, 0.7])
    assert table.extra["num_frames"].tolist() == ["3", "2", "1"]
    record = vote_record(table, VoteSettings(rule="median"))
    assert (record["presentations"], record["num_frames"], record["num_rejected"]) == (3, 6, 0)


def test_outliers_are_counted() -> None:
    samples = [frame("a", k) for k in range(5)] + [frame("b", 0, live=False)]
    scores = np.array([0.81, 0.8, 0.79, 0.8, 0.1, 0.3])
    table = vote_clips(samples, scores, VoteSettings(rule="medstd"))
    assert table.extra["num_rejected"].tolist() == ["1", "0"]
    assert table.score[0] == pytest.approx(0.8)


def test_a_frame_that_lacks_a_modality_has_no_say() -> None:
    missing = [[], [], ["depth"], ["depth"], ["depth", "infrared"], []]
    table = vote_clips(FRAMES, SCORES, VoteSettings(rule="mean"), missing=missing)
    assert table.score[[0, 2]].tolist() == pytest.approx([0.85, 0.7])
    assert np.isnan(table.score[1])
    assert table.reason.tolist() == ["", "modality missing: depth, infrared", ""]
    assert table.extra["num_missing"].tolist() == ["1", "2", "0"]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.sampled_from(["mean", "median", "trimmed", "meanstd", "medstd"]),
)
def test_every_clip_is_its_own_vote(frames: list[tuple[int, float, bool]], rule: str) -> None:
    samples = [frame(f"c{clip}", k) for k, (clip, _, _) in enumerate(frames)]
    missing = [["depth"] if lacks else [] for *_, lacks in frames]
    scores = np.array([score for _, score, _ in frames])
    settings = VoteSettings(rule=rule)  # type: ignore[arg-type]
    table = vote_clips(samples, scores, settings, missing=missing)
    assert len(table) == len({clip for clip, *_ in frames})
    for name, score in zip(table.presentation, table.score, strict=True):
        mine = [s for c, s, lacks in frames if f"c{c}" == name and not lacks]
        expected = vote(mine, settings).score
        assert score == pytest.approx(expected, nan_ok=True) or expected is None
        assert np.isnan(score) == (not mine)


def test_the_mean_is_trainings_to_the_last_digit() -> None:
    random = np.random.default_rng(0)
    samples = [frame(f"c{k % 7}", k) for k in range(60)]
    scores = random.random(60)
    table = vote_clips(samples, scores, VoteSettings(rule="mean"))
    assert table.scores.sha256 == pool_presentations(to_scores(samples, scores)).sha256


def test_the_file_keeps_non_responses(tmp_path: Path) -> None:
    table = vote_clips(FRAMES, SCORES, VoteSettings(), missing=[[]] * 3 + [["depth"]] * 2 + [[]])
    write_votes(table, tmp_path / "scores.csv")
    read = read_table(tmp_path / "scores.csv")
    assert read.reason.tolist() == table.reason.tolist()
    np.testing.assert_array_equal(read.score, table.score)
    photos = [frame(None, k) for k in range(3)]
    write_votes(vote_clips(photos, SCORES[:3], VoteSettings()), tmp_path / "photos.csv")
    assert "num_frames" not in (tmp_path / "photos.csv").read_text()
    assert len(read_scores(tmp_path / "photos.csv")) == 3


def test_a_clip_of_two_labels_is_refused() -> None:
    with pytest.raises(UserError, match="different label"):
        vote_clips([frame("a", 0), frame("a", 1, live=False)], SCORES[:2], VoteSettings())
