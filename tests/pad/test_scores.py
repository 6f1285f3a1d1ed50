import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.pad.scores import Scores, pool_presentations, read_scores, write_scores

CLIPS = Scores.of(
    [0.9, 0.7, 0.1, 0.4, 0.2],
    [True, True, False, False, False],
    species=[None, None, "print", "print", None],
    subject=["a", "a", "a", "b", None],
    presentation=["live", "live", "p", "p", "q"],
)


def test_pool_by_hand():
    pooled = pool_presentations(CLIPS)
    rows = dict(
        zip(zip(pooled.subject, pooled.presentation, strict=True), pooled.score, strict=True)
    )
    assert rows == {("a", "live"): 0.8, ("a", "p"): 0.1, ("b", "p"): 0.4, ("", "q"): 0.2}
    assert pooled.species_names == ["print", "unnamed"]
    assert pooled.num_subjects == 2
    assert pool_presentations(pooled) is pooled


def test_clusters_are_subjects_and_rows_without_one():
    first, second, third, other, lone = CLIPS.clusters
    assert first == second == third
    assert len({first, other, lone}) == 3


@given(st.permutations(range(5)))
def test_row_order_does_not_matter(order):
    shuffled = CLIPS[np.array(order)]
    assert shuffled.sha256 == CLIPS.sha256
    assert pool_presentations(shuffled).sha256 == pool_presentations(CLIPS).sha256


def test_hash_sees_every_column():
    changed = [
        Scores.of([0.5], [True]),
        Scores.of([0.6], [True]),
        Scores.of([0.5], [False]),
        Scores.of([0.5], [False], species=["print"]),
        Scores.of([0.5], [True], subject=["a"]),
        Scores.of([0.5], [True], presentation=["x"]),
    ]
    assert len({scores.sha256 for scores in changed}) == len(changed)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_csv_keeps_every_digit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "scores.csv"
    scores = Scores.of(
        values,
        [row % 2 == 0 for row in range(len(values))],
        species=["" if row % 2 == 0 else 'a "flat", print' for row in range(len(values))],
        subject=["Zoë"] * len(values),
    )
    write_scores(scores, path)
    assert read_scores(path).sha256 == scores.sha256
    header, first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert header == "subject,presentation,bona_fide,species,score"
    assert first.split(",")[2] == "true"


def test_csv_of_a_spreadsheet_with_two_columns(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(b"\xef\xbb\xbfbona_fide,score\r\nTRUE,0.5\r\nFalse,1\r\n")
    scores = read_scores(path)
    assert scores.bona_fide.tolist() == [True, False]
    assert len(pool_presentations(scores)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score\n0.5\n", "lacks the column 'bona_fide'.*subject, presentation"),
        ("bona_fide,score\n", "holds no scores"),
        ("bona_fide,score\ntrue,0.1\n1,0.5\n", r"line 3: bona_fide is '1'; it must be true"),
        ("bona_fide,score\ntrue,nan\n", r"line 2: score is 'nan'; it must be a number in \[0, 1\]"),
        ("bona_fide,score\ntrue,1.5\n", "line 2: score is '1.5'"),
        ("bona_fide,score\ntrue,high\n", "line 2: score is 'high'"),
        ("bona_fide,score\ntrue\n", "line 2: 1 cells where the header has 2"),
        ("bona_fide,score\ntrue,\n", "line 2: score is ''; .* or empty with the reason"),
        ("bona_fide,score,reason\ntrue,,no face\n", "line 2: no score .no face.; these scores"),
        ('bona_fide,score\ntrue,0.5\ntrue,"0.5\n', "line 3: unexpected end of data"),
        ("bona_fide,score,score\ntrue,0.5,0.5\n", "the column 'score' twice"),
        ("bona_fide,score,\ntrue,0.5,x\n", "a column without a name"),
        ("bona_fide,species,score\ntrue,print,0.5\n", "bona fide and yet names.*'print'"),
    ],
)
def test_bad_csv_is_refused(tmp_path, text, message):
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_scores(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot read the scores file"):
        read_scores(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1, float("inf")])
def test_impossible_scores_are_refused(score):
    with pytest.raises(UserError, match=r"presentation 'b'.*is not a number in \[0, 1\]"):
        Scores.of([0.5, score], [True, False], presentation=["a", "b"])


def test_other_refusals():
    with pytest.raises(ValueError, match="must hold booleans"):
        Scores.of([0.5, 0.5], np.array([0, 1]))
    with pytest.raises(UserError, match="as many rows in every column"):
        Scores.of([0.5, 0.5], [True])
    with pytest.raises(UserError, match="names the attack species 'print'"):
        Scores.of([0.5], [True], species=["print"])
    with pytest.raises(UserError, match="frames of different label or species"):
        pool_presentations(Scores.of([0.5, 0.6], [True, False], presentation=["a", "a"]))
