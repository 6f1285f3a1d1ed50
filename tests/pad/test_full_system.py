import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.pad.assess import evaluate
from pliant.pad.full_system import accepted_end_to_end, full_system_record
from pliant.pad.intervals import clopper_pearson, cluster_draws
from pliant.pad.metrics import apcer, bpcer
from pliant.pad.scores import Scores
from pliant.pad.table import ScoreTable

NAN = float("nan")


def table_of(rows, subject=None):
    """Rows of (species or None, score, match_score)."""
    kinds, score, match = zip(*rows, strict=True)
    silent = np.isnan(score)
    return ScoreTable(
        subject=np.array(subject or [""] * len(rows)),
        presentation=np.arange(len(rows)).astype(str),
        bona_fide=np.array([kind is None for kind in kinds]),
        species=np.array([kind or "" for kind in kinds]),
        score=np.array(score, dtype=float),
        reason=np.where(silent, "no face", ""),
        extra={"match_score": np.array([str(one) for one in match])},
    )


BY_HAND = table_of(
    [
        (None, 0.9, 40.0),
        (None, 0.5, 30.0),  # both on their thresholds: accepted
        (None, 0.9, 29.9),  # the comparator rejects
        (None, 0.4, 99.0),  # attack detection rejects
        (None, NAN, 99.0),  # no response
        ("print", 0.1, 99.0),
        ("print", 0.9, 10.0),
        ("mask", 0.9, 35.0),
        ("mask", NAN, ""),
        ("mask", 0.9, -5),
    ]
)


def test_by_hand():
    record = full_system_record(BY_HAND, 0.5, 30.0, draws=0)
    accepted = accepted_end_to_end(BY_HAND, 0.5, 30.0)
    assert accepted.tolist() == [True, True, False, False, False, False, False, True, False, False]
    low, high = clopper_pearson(1, 3)
    assert record["iapar"]["mask"] == {
        "errors": 1, "n": 3, "rate": 1 / 3, "low": low, "high": high,
        "cluster_low": None, "cluster_high": None,
    }  # fmt: skip
    assert record["iapar"]["print"]["errors"] == 0
    assert record["iapar_worst"] == record["iapar"]["mask"] | {"species": "mask"}
    assert (record["frr"]["errors"], record["frr"]["n"]) == (3, 5)
    assert record["riapar"]["value"] == pytest.approx(1 / 3 + 3 / 5)
    assert record["riapar"]["value"] == pytest.approx(1 + 1 / 3 - 2 / 5)  # 1 + IAPAR - TAR
    assert record["riapar"]["species"] == "mask"
    assert record["num_without_response"] == 2


def some_table(seed, n=240):
    rng = np.random.default_rng(seed)
    live = np.arange(n) % 3 == 0
    kinds = [None if i % 3 == 0 else ("print", "mask")[i % 2] for i in range(n)]
    score = 1 / (1 + np.exp(-rng.normal(np.where(live, 1, -0.5))))
    score[::40] = NAN
    match = rng.normal(np.where(live, 1, 0))
    return table_of(
        list(zip(kinds, score, match, strict=True)), subject=[f"s{i // 12}" for i in range(n)]
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_bootstrap_against_a_slow_loop(seed):
    table = some_table(seed)
    record = full_system_record(table, 0.5, 0.2, draws=60, seed=4)
    accepted = accepted_end_to_end(table, 0.5, 0.2)
    rows = Scores.of(accepted.astype(float), table.bona_fide, subject=table.subject)
    found = []
    for _, times in cluster_draws(rows, draws=60, seed=4):
        for weights in times:
            weight = weights[rows.clusters]
            rates = []
            for kind in ("print", "mask"):
                of_kind = table.species == kind
                rates.append((weight * of_kind * accepted).sum() / (weight * of_kind).sum())
            live = weight * table.bona_fide
            found.append(max(rates) + (live * ~accepted).sum() / live.sum())
    low, high = np.quantile(found, [0.025, 0.975])
    assert record["riapar"]["low"] == pytest.approx(low)
    assert record["riapar"]["high"] == pytest.approx(high)
    assert record["riapar"]["low"] < record["riapar"]["value"] < record["riapar"]["high"]
    assert record["frr"]["cluster_low"] <= record["frr"]["rate"] <= record["frr"]["cluster_high"]


@given(st.floats(0, 1), st.floats(-3, 3))
def test_a_comparator_only_takes_away(threshold, match_threshold):
    table = some_table(1)
    record = full_system_record(table, threshold, match_threshold, draws=0)
    for name, rate in apcer(table.scores, threshold).items():
        assert record["iapar"][name]["errors"] <= rate.errors
    assert record["frr"]["errors"] >= bpcer(table.scores, threshold).errors
    stricter = full_system_record(table, threshold, match_threshold + 0.5, draws=0)
    assert stricter["frr"]["rate"] >= record["frr"]["rate"]
    assert stricter["iapar_worst"]["rate"] <= record["iapar_worst"]["rate"]


def test_one_that_lets_everybody_pass_leaves_the_errors_over_all_presentations():
    tier = evaluate(some_table(2), policy="fixed=0.5", match_threshold=-1e9, draws=0)["tiers"][0]
    of_all, record = tier["nonresponse"]["of_all"], tier["full_system"]
    assert record["frr"].items() >= of_all["bpcer_or_no_response"].items()
    for name, rate in of_all["apcer"].items():
        assert record["iapar"][name].items() >= rate.items()


def test_only_where_it_is_asked_for():
    record = evaluate(BY_HAND, policy="fixed=0.5", draws=0)
    assert record["tiers"][0]["full_system"] is None
    assert "match_score is there and no match threshold is given" in record["limits"][-1]
    record = evaluate(BY_HAND, policy="fixed=0.5", match_threshold=30, draws=0)
    assert "both of its thresholds for fixed" in record["limits"][-1]
    assert record["settings"]["match_threshold"] == 30


def test_refusals():
    plain = ScoreTable.of(BY_HAND.scores)
    with pytest.raises(UserError, match="memory has no column 'match_score', and a match threshol"):
        evaluate(plain, policy="fixed=0.5", match_threshold=1, draws=0)
    with pytest.raises(UserError, match="no threshold of attack detection"):
        evaluate(BY_HAND, match_threshold=1, draws=0)
    for number in (NAN, float("inf")):
        with pytest.raises(UserError, match="must be a finite number, got"):
            evaluate(BY_HAND, policy="fixed=0.5", match_threshold=number, draws=0)
    empty = table_of([(None, 0.9, 1), ("print", 0.1, "")])
    with pytest.raises(UserError, match="match_score of presentation '1' is ''; it must be a fini"):
        evaluate(empty, policy="fixed=0.5", match_threshold=1, draws=0)
