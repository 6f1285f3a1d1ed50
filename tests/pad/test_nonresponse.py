import numpy as np

from pliant.pad.metrics import Rate, apcer
from pliant.pad.nonresponse import nonresponse_record
from pliant.pad.table import ScoreTable


def table(rows):
    bona_fide, species, score, reason = zip(*rows, strict=True)
    names = np.arange(len(rows)).astype(str)
    return ScoreTable(
        subject=names,
        presentation=names,
        bona_fide=np.array(bona_fide),
        species=np.array(species),
        score=np.array(score),
        reason=np.array(reason),
    )


NAN = float("nan")
ROWS = [
    (True, "", 0.9, ""),
    (True, "", 0.3, ""),
    (True, "", NAN, "no face"),
    (True, "", NAN, "time-out"),
    (False, "print", 0.8, ""),
    (False, "print", NAN, "no face"),
    (False, "mask", 0.1, ""),
    (False, "only silent", NAN, "no face"),
]


def test_by_hand():
    record = nonresponse_record(table(ROWS), 0.5)
    assert record["num"] == 4
    assert record["reasons"] == {"no face": 3, "time-out": 1}
    assert record["bpnrr"] == Rate.of(2, 4).to_json()
    assert {k: r["rate"] for k, r in record["apnrr"].items()} == {
        "print": 0.5,
        "mask": 0,
        "only silent": 1,
    }
    assert {k: r["errors"] for k, r in record["of_all"]["apcer"].items()} == {
        "print": 1,
        "mask": 0,
        "only silent": 0,
    }
    assert record["of_all"]["apcer"]["print"]["rate"] == 0.5
    assert record["of_all"]["bpcer_or_no_response"]["errors"] == 3  # one rejected, two unheard


def test_silence_does_not_flatter_apcer():
    rates = apcer(table(ROWS).scores, 0.5)
    assert (rates["print"].rate, rates["print"].n) == (1, 1)


def test_without_threshold_or_silence():
    record = nonresponse_record(table([ROWS[0], ROWS[4]]), None)
    assert (record["num"], record["reasons"], record["of_all"]) == (0, {}, None)
    assert nonresponse_record(table(ROWS[:4]), 0.5)["apnrr"] == {}
    assert nonresponse_record(table(ROWS[4:]), 0.5)["bpnrr"] is None
