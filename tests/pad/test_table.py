import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.pad.scores import Scores, pool_presentations
from pliant.pad.table import ScoreTable, read_table, write_table

HEAD = "subject,presentation,bona_fide,species,score,reason,device"
ROWS = [
    "a,live,true,,0.9,,old",
    "a,p1,false,print,0.2,,old",
    "b,live,true,,,no face found,new",
    "b,p1,false,print,,time-out,new",
    "b,m1,false,,0.4,,new",
]


def put(tmp_path, rows, head=HEAD, name="scores.csv"):
    path = tmp_path / name
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def test_nonresponses_and_slices_are_kept(tmp_path):
    table = read_table(put(tmp_path, ROWS))
    assert len(table) == 5
    assert table.responded.tolist() == [True, True, False, False, True]
    assert table.scores.score.tolist() == [0.9, 0.2, 0.4]
    assert table.reason.tolist() == ["", "", "no face found", "time-out", ""]
    assert table.species.tolist() == ["", "print", "", "print", "unnamed"]
    assert table.extra["device"].tolist() == ["old", "old", "new", "new", "new"]
    assert (table.source, table.num_frames, len(table.sha256 or "")) == ("scores.csv", 0, 64)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c,x,true,,,,old", r"line 7: score is ''; it must be a number in \[0, 1\], or empty with"),
        ("c,x,true,,0.5,no face,old", "line 7: score is '0.5' and yet a reason"),
        ("c,x,maybe,,0.5,,old", "line 7: bona_fide is 'maybe'"),
        ("c,x,true,,0.5", "line 7: 5 cells where the header has 7"),
        ("c,x,true,print,0.5,,old", "'x' is bona fide and yet names the attack species 'print'"),
        ("a,live,true,,0.5,,old", "'live' of subject 'a' occurs more than once.*frames=mean"),
    ],
)
def test_bad_rows_are_refused(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        read_table(put(tmp_path, [*ROWS, row]))


def test_lines_inside_quotes_count(tmp_path):
    rows = ['a,"two\nlines",true,,0.5,,old', "a,x,true,,2,,old"]
    with pytest.raises(UserError, match="line 4: score is '2'"):
        read_table(put(tmp_path, rows))


def test_frames_are_pooled_by_hand(tmp_path):
    rows = [
        "a,live,true,,0.9,,old,12",
        "a,live,true,,0.6,,new,14",
        "a,live,true,,,blurred,old,16",
        "b,live,true,,,no face,old,1",
        "b,live,true,,,too dark,old,2",
    ]
    path = put(tmp_path, rows, head=f"{HEAD},total_ms")
    table = read_table(path, frames="mean")
    assert table.score[0] == 0.75
    assert np.isnan(table.score[1])
    assert table.reason.tolist() == ["", "no face"]
    assert table.extra["device"].tolist() == ["mixed", "old"]
    assert table.extra["total_ms"].tolist() == ["14.0", "1.5"]
    assert table.num_frames == 5


def test_a_frame_column_says_that_rows_are_frames(tmp_path):
    head, rows = f"{HEAD},frame", ["a,live,true,,0.9,,old,1", "a,live,true,,0.6,,old,2"]
    assert read_table(put(tmp_path, rows, head)).score.tolist() == [0.75]
    with pytest.raises(UserError, match="frame '2' of presentation 'live' occurs twice"):
        read_table(put(tmp_path, [*rows, rows[1]], head))
    other = "a,live,false,print,0.6,,old,3"
    with pytest.raises(UserError, match="frames of different label"):
        read_table(put(tmp_path, [*rows, other], head))


@given(st.permutations(range(6)))
def test_pooling_equals_that_of_scores_in_any_order(order):
    scores = Scores.of(
        [0.1, 0.2, 0.7, 0.4, 0.5, 0.9],
        [True, True, True, False, False, True],
        subject=list("aabaab"),
        presentation=["x", "x", "x", "y", "y", "z"],
    )
    pooled = ScoreTable.of(scores[np.array(order)]).pool("mean").scores
    assert pooled.sha256 == pool_presentations(scores).sha256


def test_both_spellings_come_back_whole(tmp_path):
    table = read_table(put(tmp_path, ROWS))
    write_table(table, tmp_path / "own.csv")
    write_table(table, tmp_path / "bob.csv", bob=True)
    own, bob = read_table(tmp_path / "own.csv"), read_table(tmp_path / "bob.csv")
    assert own.scores.sha256 == bob.scores.sha256 == table.scores.sha256
    assert own.reason.tolist() == table.reason.tolist()
    assert bob.reason.tolist() == ["", "", *["no score in the file"] * 2, ""]
    assert bob.extra["device"].tolist() == own.extra["device"].tolist()
    with open(tmp_path / "bob.csv", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert first == {
        "claimed_id": "a",
        "test_label": "live",
        "is_bonafide": "True",
        "attack_type": "",
        "score": "0.9",
        "device": "old",
    }


def test_a_file_of_bob(tmp_path):
    head = "claimed_id,test_label,is_bonafide,attack_type,score"
    rows = ["1,real/a,True,,0.8", "1,attack/b,False,print,nan", "2,attack/c,False,replay,0.1"]
    table = read_table(put(tmp_path, rows, head))
    assert table.scores.species_names == ["replay"]
    assert table.responded.tolist() == [True, False, True]
    with pytest.raises(UserError, match=r"line 5: score is '-3\.2'"):
        read_table(put(tmp_path, [*rows, "2,x,True,,-3.2"], head))


def test_many_chunks_are_one_file(tmp_path, monkeypatch):
    path = put(tmp_path, ROWS)
    whole = read_table(path)
    monkeypatch.setattr("pliant.pad.score_csv.ROWS_PER_CHUNK", 2)
    assert read_table(path).scores.sha256 == whole.scores.sha256
    with pytest.raises(UserError, match="line 7: score is '7'"):
        read_table(put(tmp_path, [*ROWS, "c,x,true,,7,,old"]))


@pytest.mark.parametrize("cell", ["", "nan", "inf", "1e999", "alike"])
def test_match_scores_are_finite_numbers(tmp_path, cell):
    rows = ["a,live,true,,0.9,,old,-3.5", f"a,x,false,print,0.2,,old,{cell}"]
    with pytest.raises(UserError, match=f"line 3: match_score is '{cell}'; it must be a finite"):
        read_table(put(tmp_path, rows, head=f"{HEAD},match_score"))


def test_match_scores_of_frames_are_pooled_where_there_is_a_response(tmp_path):
    rows = [
        "a,live,true,,0.9,,old,10",
        "a,live,true,,0.6,,old,11.5",
        "a,live,true,,,blurred,old,900",
        "b,live,true,,,no face,old,",
        "b,live,true,,,too dark,old,",
    ]
    table = read_table(put(tmp_path, rows, head=f"{HEAD},match_score"), frames="mean")
    assert table.extra["match_score"].tolist() == ["10.75", ""]


def test_unknown_way_to_pool_is_refused():
    with pytest.raises(UserError, match="frames must be one of refuse, mean, got 'median'"):
        ScoreTable.of(Scores.of([0.1, 0.9], [False, True])).pool("median")  # pyright: ignore[reportArgumentType]


def test_white_space_names_nobody_else(tmp_path):
    rows = ["a,p ,true,,0.9,,old", " a,p,true,,0.7,,old", "b, ,false,print ,0.2,,old"]
    table = read_table(put(tmp_path, rows), frames="mean")
    assert table.subject.tolist() == ["a", "b"]
    assert table.presentation.tolist() == ["p", "line 4"]
    assert table.score.tolist() == [0.8, 0.2]


def test_empty_durations_are_left_out_of_the_mean(tmp_path):
    head = "presentation,bona_fide,score,frame,face_ms"
    rows = ["p,true,0.9,0,10", "p,true,0.8,1,", "p,true,0.7,2,20", "q,false,0.1,0,"]
    table = read_table(put(tmp_path, rows, head))
    assert table.extra["face_ms"].tolist() == ["15.0", ""]
