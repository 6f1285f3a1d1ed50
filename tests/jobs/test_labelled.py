"""From verdicts to error rates: predict, its score file, pad evaluate; refusals are counted."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from runpy import run_path

import cv2
import numpy as np
import pytest

from pliant import cli
from pliant.errors import UserError
from pliant.jobs.labelled import labelled_images
from pliant.jobs.predict import predict
from pliant.runtime import faces
from pliant.runtime.faces import Face

make_bundle = run_path(str(Path(__file__).parents[1] / "runtime" / "conftest.py"))["make_bundle"]
BOX = (10.0, 9.0, 18.0, 24.5)  # of the golden images


@pytest.fixture
def tiny():
    """The small bundle of the run time's tests."""
    return make_bundle()


@pytest.fixture
def bundle_file(tiny, tmp_path: Path) -> Path:
    return tiny.zip(tmp_path / "tiny.pliant")


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a face into every image but white ones."""

    def find(self, image: np.ndarray) -> list[Face]:
        return [] if image.min() == 255 else [Face(box=BOX, landmarks=None, confidence=1.0)]

    monkeypatch.setattr(faces.FaceFinder, "find", find)
    monkeypatch.setitem(faces.choose_face.__kwdefaults__, "min_side", 10)


@pytest.fixture
def write(tiny, tmp_path: Path) -> Callable[..., Path]:
    """Writes a golden image, darkened, or a white one, under this name."""

    def put(name: str, k: int | None, darker: int = 1) -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((48, 40, 3), 255, np.uint8) if k is None else tiny.images[k] // darker
        cv2.imwrite(str(path), np.ascontiguousarray(image[:, :, ::-1]))
        return path

    return put


@pytest.fixture
def folder(write, tmp_path: Path) -> Path:
    """live/ and spoof/ of two people: of 4 live one too dark, of 6 attacks one dark, two white."""
    for k, subject in enumerate(("anna", "ben")):
        write(f"live/{subject}/a.png", k)
        write(f"live/{subject}/b.png", k + 1, 12 if k else 1)
        for species in ("print", "replay"):
            write(f"spoof/{species}/{subject}/a.png", k)
    write("spoof/print/anna/b.png", 0, 12)
    write("spoof/print/ben/b.png", None)
    write("spoof/replay/ben/b.png", None)
    return tmp_path / "photos"


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_predict_then_pad_evaluate(bundle_file, tiny, folder, finds, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert cli.main(["predict", str(bundle_file), str(folder), "--scores", str(out)]) == 0
    assert "scores.csv: 11 images, 4 without a response" in capsys.readouterr().err
    rows = {row["presentation"]: row for row in rows_of(out)}
    assert len(rows) == 11
    first = rows["live/anna/a.png"]
    assert (first["subject"], first["bona_fide"], first["species"]) == ("anna", "true", "")
    assert float(first["score"]) == pytest.approx(tiny.score("high", 0), abs=1e-5)
    assert (first["reason"], float(first["latency_ms"]) > 0) == ("", True)
    dark = rows["spoof/print/anna/b.png"]
    assert (dark["score"], dark["reason"]) == ("", "the face is too dark")
    assert (dark["bona_fide"], dark["species"]) == ("false", "print")
    assert rows["spoof/replay/ben/b.png"]["reason"] == "no face found"

    words = ["pad", "evaluate", str(out), "--out", str(tmp_path / "report"), "--policy"]
    assert cli.main([*words, "fixed=0.4", "--draws", "0"]) == 0
    record = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    (tier,) = record["tiers"]
    found = tier["nonresponse"]
    assert (found["num"], record["data"]["counts"]["without_response"]) == (4, 4)
    counts = {name: (rate["errors"], rate["n"]) for name, rate in found["apnrr"].items()}
    assert counts == {"print": (2, 4), "replay": (1, 3)}
    assert (found["bpnrr"]["errors"], found["bpnrr"]["n"]) == (1, 4)


def test_a_manifest_with_clips_and_a_missing_threshold(bundle_file, write, finds, tmp_path):
    for name, k, darker in (("a", 0, 1), ("b", 1, 1), ("c", 2, 12), ("d", 1, 12), ("e", 2, 1)):
        write(f"{name}.png", k, darker)
    manifest = tmp_path / "photos" / "manifest.csv"
    manifest.write_text(
        "path,bona_fide,pai_species,subject,clip,box_x,box_y,box_w,box_h\n"
        "a.png,1,,anna,one,0,0,9,9\nb.png,1,,anna,one,,,,\nc.png,1,,anna,one,,,,\n"
        "d.png,0,print,anna,two,,,,\ne.png,0,,anna,,,,,\n"
    )
    out = tmp_path / "scores.csv"
    found = predict(bundle_file, (tmp_path / "photos",), scores=out, tier="HL")
    assert found[0].box == BOX  # the manifest's own is not used
    rows = rows_of(out)
    assert [(row["presentation"], row["frame"]) for row in rows] == [
        ("one", "0"), ("one", "1"), ("one", "2"), ("two", "0"), ("e.png", "0"),
    ]  # fmt: skip
    silent = [row["reason"] for row in rows]
    assert silent == ["", "", "the face is too dark", "the face is too dark", ""]
    from pliant.pad.table import read_table

    table = read_table(out)
    assert sorted(table.presentation.tolist()) == ["e.png", "one", "two"]
    assert int(table.responded.sum()) == 2


def test_json_lines_and_a_score_file(bundle_file, folder, finds, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert predict(bundle_file, (folder,), scores=out, json_lines=True, quality=False) == []
    assert len(capsys.readouterr().out.splitlines()) == len(rows_of(out)) == 11
    assert {row["reason"] for row in rows_of(out)} == {"", "no face found"}


def test_a_run_folder_writes_one_too(make_run, rig, tmp_path):
    out = tmp_path / "scores.csv"
    found = predict(make_run(), (rig,), scores=out)
    rows = rows_of(out)
    assert len(rows) == len(found) == len(labelled_images((rig,)))
    assert all(bool(row["score"]) != bool(row["reason"]) for row in rows)


def test_what_is_no_labelled_data(bundle_file, folder, tmp_path):
    def refused(sentence: str, *sources: Path, scores: Path = tmp_path / "scores.csv") -> None:
        with pytest.raises(UserError, match=sentence):
            predict(bundle_file, sources, scores=scores)
        assert not (tmp_path / "scores.csv").exists()

    photo = folder / "live" / "anna" / "a.png"
    refused("one folder of live/ and spoof/, got 2 sources", folder, folder)
    refused("neither a folder nor a .csv manifest", photo)
    refused("neither a folder nor a .csv manifest", tmp_path / "missing")
    refused("lies outside live/ and spoof/", folder / "live" / "anna")
    refused("must end with .csv, got scores.txt", folder, scores=tmp_path / "scores.txt")
    refused("exists already; give --scores another name", folder, scores=_made(tmp_path / "x.csv"))
    refused("must be a file in a folder that exists", folder, scores=tmp_path / "no" / "x.csv")
    lists = {
        "label": "path,label\nlive/anna/a.png,cat\n",
        "film": "path,bona_fide,frame\nfilm.avi,1,3of8\n",
    }
    for name, text in lists.items():
        (folder / f"{name}.csv").write_text(text)
    refused("live/anna/a.png is neither bona fide nor an attack", folder / "label.csv")
    refused("is a frame of a video; --scores takes images", folder / "film.csv")


def test_a_classifier_writes_none(folder, tmp_path):
    pets = make_bundle("classify").zip(tmp_path / "pets.pliant")
    with pytest.raises(UserError, match="this model names classes"):
        predict(pets, (folder,), scores=tmp_path / "scores.csv")


def test_a_reader_by_its_name(folder):
    assert len(labelled_images((Path(f"folder:{folder}"),))) == 11


def test_it_needs_no_torch(bundle_file, folder, tmp_path):
    code = (
        "import sys\nfrom pliant import cli\n"
        "assert cli.main(sys.argv[1:]) == 0\n"
        "assert not {'torch', 'scipy', 'jaxtyping'} & set(sys.modules)\n"
    )
    words = ["predict", str(bundle_file), str(folder), "--scores", str(tmp_path / "s.csv")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _made(path: Path) -> Path:
    path.write_text("")
    return path
