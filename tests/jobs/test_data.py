"""`pliant data inspect`: counts, reasons, warnings, and the same as JSON."""

import json

import cv2
import numpy as np
import pytest

from pliant import cli


@pytest.fixture
def tree(tmp_path):
    """NUAA as released: six people, one picture in training and in test, one listed but missing."""
    random = np.random.default_rng(0)
    pictures = {}
    for word, folder in (("client", "ClientRaw"), ("imposter", "ImposterRaw")):
        for split, people in (("train", (1, 2, 3)), ("test", (4, 5, 6))):
            lines = []
            for who in people:
                name = f"{who:04d}/{who:04d}_00_00_01_0.png".replace(".png", ".jpg")
                path = tmp_path / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                small = random.integers(0, 256, (10, 10, 3), np.uint8)
                pictures[folder, who] = cv2.resize(small, (96, 96), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(path), pictures[folder, who])
                lines.append(name.replace("/", "\\"))
            (tmp_path / f"{word}_{split}_raw.txt").write_text("\n".join(lines))
    cv2.imwrite(str(tmp_path / "ClientRaw/0004/0004_00_00_01_0.jpg"), pictures["ClientRaw", 1])
    (tmp_path / "ImposterRaw/0006/0006_00_00_01_0.jpg").unlink()
    (tmp_path / "ImposterRaw/0005/0005_00_00_01_0.jpg").write_bytes(b"")
    return tmp_path


def test_json(tree, capsys):
    assert cli.main(["data", "inspect", "nuaa", str(tree), "--decode", "100", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["name"], result["num_samples"]) == ("nuaa", 11)
    assert result["splits"][-1] == {
        "split": "test", "bona_fide": False, "images": 2, "presentations": 2, "subjects": 2,
    }  # fmt: skip
    assert [row["split"] for row in result["splits"]] == ["train"] * 2 + ["dev"] * 2 + ["test"] * 2
    assert {row["pai_species"] for row in result["species"] if not row["bona_fide"]} == {"print"}
    assert sum(row["images"] for row in result["devices"]) == 11
    assert result["subject_overlap"] == {}
    assert {row["reason"]: row["count"] for row in result["skipped"]} == {
        "no such file": 1, "zero bytes": 1,
    }  # fmt: skip
    assert result["duplicates"]["decoded"] == 10
    assert result["duplicates"]["pairs"] == 1
    (pair,) = result["duplicates"]["examples"]
    assert {pair["a"], pair["b"]} == {
        "ClientRaw/0001/0001_00_00_01_0.jpg", "ClientRaw/0004/0004_00_00_01_0.jpg",
    }  # fmt: skip


def test_tables(tree, capsys):
    assert cli.main(["data", "inspect", "nuaa", str(tree), "--protocol", "official"]) == 0
    out = capsys.readouterr().out
    assert "nuaa: 11 samples" in out
    assert "skipped: 1 x no such file" in out
    assert "note: the set ships no dev split" in out
    assert "--decode 2000 looks for near-duplicates" in out
    assert cli.main(["data", "inspect", "nuaa", str(tree), "--decode", "9"]) == 0
    assert "near-duplicates across splits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nuua"], "unknown data set 'nuua'; did you mean 'nuaa'?"),
        (["nuaa", "--decode", "-1"], "decode must lie in [0, 20,000], got -1"),
        (["nuaa", "--protocol", "9"], "nuaa has no protocol '9'; allowed: disjoint, official"),
        (["nuaa", "--frames", "3"], "nuaa has no option 'frames'; allowed: protocol, dev_share"),
        (["siw"], "is not laid out as siw: it needs Train or Test"),
    ],
)
def test_refusals(tree, capsys, words, sentence):
    assert cli.main(["data", "inspect", words[0], str(tree), *words[1:]]) == 2
    assert sentence in capsys.readouterr().err
