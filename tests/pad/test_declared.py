import numpy as np
import pytest

from pliant.errors import UserError
from pliant.pad.assess import evaluate
from pliant.pad.declared import declared_species, undeclared_row, untested
from pliant.pad.scores import Scores

ROWS = [
    "bona_fide,species,score,presentation",
    "true,,0.9,a",
    "false,print,0.1,b",
    "false,replay,0.2,c",
]


def put(path, *more):
    path.write_text("\n".join([*ROWS, *more]) + "\n", encoding="utf-8")
    return path


def test_a_list_and_a_text_say_the_same():
    assert declared_species("print, replay,mask") == ("print", "replay", "mask")
    assert declared_species(["print", "replay", "mask"]) == ("print", "replay", "mask")
    assert declared_species(["a, b"]) == ("a, b",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "must be names, e.g. print,replay,mask"),
        ([], "must be names"),
        ("print,,mask", "must be names"),
        ("print,mask,print", "'print' is declared twice"),
        ("print,unnamed", "'unnamed' cannot be declared"),
    ],
)
def test_lists_that_are_none(given, said):
    with pytest.raises(UserError, match=said):
        declared_species(given)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("false,pirnt,0.1,d", r"line 5: species 'pirnt' is not declared; did you mean \"print\"\?"),
        ("false,MASK,0.1,d", r"line 5: species 'MASK' is not declared; did you mean \"mask\"\?"),
        ("false,zzz,0.1,d", r"line 5: species 'zzz' is not declared \(declared: print, replay"),
        ("false,,0.1,d", "line 5: an attack names no species; name one of those declared: print"),
    ],
)
def test_other_species_are_refused_with_their_line(tmp_path, row, said):
    path = put(tmp_path / "scores.csv", row)
    with pytest.raises(UserError, match=said):
        evaluate(path, species="print,replay,mask", draws=0)
    good = put(tmp_path / "good.csv")
    with pytest.raises(UserError, match=f"scores.csv, {said}"):
        evaluate(good, dev=path, species="print,replay,mask", draws=0)


def test_in_memory_the_presentation_is_named():
    scores = Scores.of([0.9, 0.1, 0.2], [True, False, False], species=[None, "print", None])
    with pytest.raises(UserError, match="memory: presentation '2': an attack names no species"):
        evaluate(scores, species=["print"], draws=0)


def test_what_was_declared_and_not_captured_was_not_tested(tmp_path):
    record = evaluate(put(tmp_path / "scores.csv"), species="print,replay,mask", draws=0)
    sentence = "species mask was not tested: it was declared, and no presentation is of it"
    assert [limit for limit in record["limits"] if "declared" in limit] == [sentence]
    assert record["data"]["declared_species"] == ["print", "replay", "mask"]
    undeclared = evaluate(tmp_path / "scores.csv", draws=0)
    assert undeclared["data"]["declared_species"] is None
    assert undeclared["tiers"][0]["metrics"] == record["tiers"][0]["metrics"]


def test_a_slow_second_version_agrees():
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c", "d"])
    for _ in range(50):
        live = rng.random(6) < 0.4
        species = np.where(live, "", names[rng.integers(4, size=6)])
        declared = [name for name in names if rng.random() < 0.7] or ["a"]
        wrong = [i for i in range(6) if not live[i] and species[i] not in declared]
        found = undeclared_row(live, species, declared)
        assert (found and found[0]) == (wrong[0] if wrong else None)
        assert len(untested(species, declared)) == sum(n not in species for n in declared)
