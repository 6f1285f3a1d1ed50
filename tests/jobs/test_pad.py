"""`pliant pad ...` end to end, on score files alone."""

import csv
import json

import numpy as np
import pytest

from pliant import cli
from pliant.pad.scores import Scores, write_scores
from pliant.pad.table import read_table
from pliant.pad.threshold_file import load_threshold
from pliant.runtime.signature import new_key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    for seed, name in enumerate(("dev", "test", "other")):
        rng = np.random.default_rng(min(seed, 1))
        live = np.arange(300) % 3 == 0
        score = rng.normal(np.where(live, 1.5, -1.5)) + 0.3 * (name == "other")
        scores = Scores.of(
            1 / (1 + np.exp(-score)),
            live,
            species=np.where(live, "", np.where(np.arange(300) % 2 == 0, "print", "replay")),
            subject=[f"{'d' if name == 'dev' else 't'}{i // 15}" for i in range(300)],
        )
        write_scores(scores, folder / f"{name}.csv")
    return folder


def say(capsys, *words):
    """Exit code, stdout, stderr."""
    code = cli.main(["pad", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_evaluate(files, tmp_path, capsys):
    out = tmp_path / "report"
    words = ("evaluate", files / "test.csv", "--dev", files / "dev.csv", "--out", out)
    code, said, _ = say(capsys, *words, "--draws", 50, "--celeba-official")
    assert code == 0
    assert "APCER worst species" in said
    assert f"Report: {out / 'report.html'}" in said
    record = json.loads((out / "evaluation.json").read_text())
    assert record["tiers"][0]["celeba_official"][0]["limit"] == 0.01
    assert "APCER" in (out / "report.html").read_text()
    assert say(capsys, *words)[0] == 2


def test_a_threshold_file_decides_like_the_dev_file(files, tmp_path, capsys):
    file = tmp_path / "threshold.json"
    words = ("threshold", files / "dev.csv", "--policy", "bpcer<=5%", "--out", file)
    code, said, _ = say(capsys, *words, "--draws", 20)
    assert code == 0
    assert "bpcer<=0.05" in said
    assert load_threshold(file).num_attack == 200
    out = tmp_path / "report"
    _, text, _ = say(
        capsys, "evaluate", files / "test.csv", "--threshold", file, "--out", out, "--draws", 0,
        "--json",
    )  # fmt: skip
    assert json.loads(text)["tiers"][0]["threshold"] == load_threshold(file).to_json()


def test_the_full_system_with_declared_species(files, tmp_path, capsys):
    rows = (files / "test.csv").read_text().splitlines()
    scores, out = tmp_path / "scores.csv", tmp_path / "report"
    lines = [f"{rows[0]},match_score", *(f"{row},{i % 7 - 3}" for i, row in enumerate(rows[1:]))]
    scores.write_text("\n".join(lines))
    words = ("evaluate", scores, "--policy", "fixed=0.5", "--draws", 20, "--out", out)
    words += ("--match-threshold", -1.5, "--species")
    code, said, _ = say(capsys, *words, "print,replay,mask")
    assert code == 0
    assert "IAPAR worst species" in said
    assert "RIAPAR" in said
    assert "species mask was not tested" in said
    code, _, error = say(capsys, *words[:-4], tmp_path / "b", *words[-3:], "prnt,replay")
    assert code == 2
    assert "species 'print' is not declared; did you mean \"prnt\"?" in error
    assert "scores.csv, line 4: " in error


def test_a_signed_threshold_file(files, tmp_path, capsys):
    pytest.importorskip("cryptography")
    public = new_key(tmp_path / "maker.pem")
    file, key = tmp_path / "threshold.json", tmp_path / "maker.pem"
    fit = ("threshold", files / "dev.csv", "--draws", 0)
    code, said, _ = say(capsys, *fit, "--out", file, "--key", key)
    assert code == 0
    assert "threshold.json, signed" in said
    judge = ("evaluate", files / "test.csv", "--draws", 0, "--public-key", public)
    assert say(capsys, *judge, "--threshold", file, "--out", tmp_path / "a")[0] == 0
    assert say(capsys, *fit, "--out", tmp_path / "plain.json")[0] == 0
    words = ("--threshold", tmp_path / "plain.json", "--out", tmp_path / "b")
    code, _, error = say(capsys, *judge, *words)
    assert code == 2
    assert f"is not signed; a signature of key {public} is demanded" in error
    code, _, error = say(capsys, *judge, "--out", tmp_path / "b")
    assert code == 2
    assert "no threshold file that it could have signed" in error
    code, _, error = say(capsys, *fit, "--out", tmp_path / "c", "--key", tmp_path / "none.pem")
    assert code == 2
    assert "none.pem cannot be read" in error
    assert not (tmp_path / "c").exists()


def test_a_rate_that_dev_cannot_support_is_refused(files, tmp_path, capsys):
    file = tmp_path / "threshold.json"
    words = ("threshold", files / "dev.csv", "--policy", "apcer<=0.1%", "--out", file)
    code, _, error = say(capsys, *words)
    assert code == 2
    assert "at least 3000 are needed (rule of three)" in error
    assert not file.exists()


def test_compare(files, tmp_path, capsys):
    out = tmp_path / "difference.json"
    words = ("compare", files / "test.csv", files / "other.csv", "--draws", 50)
    code, said, _ = say(capsys, *words, "--policy", "fixed=0.5", "--out", out)
    assert code == 0
    assert "McNemar, bona fide: A alone errs" in said
    assert json.loads(out.read_text())["n"] == 300
    dev = ("--dev-a", files / "dev.csv", "--dev-b", files / "dev.csv")
    code, said, _ = say(capsys, *words, *dev, "--json")
    assert json.loads(said)["thresholds_refitted"]
    assert say(capsys, *words, *dev[:2])[2].count("or neither") == 1
    assert "McNemar" not in say(capsys, *words)[1]


def test_plan(tmp_path, capsys):
    out = tmp_path / "list.csv"
    words = ("plan", "--species", 6, "--target-apcer", 0.01, "--target-bpcer", 0.05)
    code, said, _ = say(capsys, *words, "--out", out)
    assert code == 0
    assert "1853 presentations" in said  # 6 x 299 + 59
    with open(out, encoding="utf-8") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 1853
    _, said, _ = say(capsys, *words, "--errors", 1, "--per-subject", 10, "--json")
    assert json.loads(said)["presentations_in_all"] == 6 * 480 + 100


def test_convert_there_and_back(files, tmp_path, capsys):
    bob, back = tmp_path / "bob.csv", tmp_path / "back.csv"
    assert say(capsys, "convert", files / "test.csv", "--to", "bob", "--out", bob)[0] == 0
    header = bob.read_text().splitlines()[0]
    assert header == "claimed_id,test_label,is_bonafide,attack_type,score"
    assert say(capsys, "convert", bob, "--to", "pliant", "--out", back)[0] == 0
    both = [read_table(path).scores.sha256 for path in (files / "test.csv", back)]
    assert both[0] == both[1]


def put(path, head, *rows):
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def test_convert_keeps_rows_and_their_order(tmp_path, capsys):
    head = "subject,presentation,bona_fide,species,score,reason,frame"
    rows = ("b,p,true,,0.7,,1", "b,p,true,,0.9,,0", "a,q,false,mask,0.25,,0")
    given = put(tmp_path / "frames.csv", head, *rows)
    bob, back = tmp_path / "bob.csv", tmp_path / "back.csv"
    assert "3 rows" in say(capsys, "convert", given, "--to", "bob", "--out", bob)[1]
    assert bob.read_text().splitlines()[1] == "b,p,True,,0.7,1"
    assert say(capsys, "convert", bob, "--to", "pliant", "--out", back)[0] == 0
    assert back.read_text() == given.read_text()


def test_convert_gives_no_name_twice(tmp_path, capsys):
    given = put(tmp_path / "own.csv", "bona_fide,score,claimed_id", "true,0.9,a", "false,0.1,a")
    code, _, error = say(capsys, "convert", given, "--to", "bob", "--out", tmp_path / "bob.csv")
    assert code == 2
    assert "further column 'claimed_id'" in error
    assert not (tmp_path / "bob.csv").exists()


def test_a_species_without_any_response_is_named(tmp_path, capsys):
    """Masks are never seen: no APCER has them, and no threshold may claim to hold for them."""
    head = "presentation,bona_fide,species,score,reason"
    rows = [f"l{i},true,,0.9," for i in range(9)] + [f"p{i},false,print,0.1," for i in range(9)]
    given = put(tmp_path / "s.csv", head, *rows, "m,false,mask,,no face")
    words = ("--policy", "fixed=0.5", "--out", tmp_path / "report", "--draws", 0)
    said = say(capsys, "evaluate", given, *words)[1]
    assert "APNRR mask" in said
    assert "APNRR print" not in said
    assert "no attack of species 'mask' got a response" in said
    fit = ("threshold", given, "--draws", 0, "--out", tmp_path / "t.json", "--policy")
    code, _, error = say(capsys, *fit, "apcer<=0.5")
    assert code == 2
    assert "unsupported by data: no attack of species 'mask'" in error
    code, said, _ = say(capsys, *fit, "min_acer")
    assert code == 0
    assert "the threshold knows nothing of it" in " ".join(said.split())
    both = ("compare", given, given, "--dev-a", given, "--dev-b", given, "--draws", 5, "--json")
    notes = json.loads(say(capsys, *both)[1])["notes"]
    assert any(note.startswith("B: no attack of species 'mask' in the dev set") for note in notes)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("plan",), "no target is given"),
        (("plan", "--target-apcer", 2), "between 0 and 1, got 2"),
        (("plan", "--target-apcer", 0.1, "--species", 0), "species must be >= 1"),
        (("evaluate", "no.csv", "--out", "no", "--draws", -1), "draws must be >= 0"),
        (("evaluate", "no.csv", "--out", "no", "--seed", -1), "seed must be >= 0"),
        (("compare", "a.csv", "b.csv", "--draws", 0), "draws must be >= 1"),
        (("evaluate", "nowhere.csv", "--out", "no"), "cannot read the scores file nowhere.csv"),
    ],
)
def test_bad_words_are_one_sentence(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = say(capsys, *words)
    assert code == 2
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
