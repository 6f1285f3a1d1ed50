"""Verdicts of a bundle: images, folders, video, camera, log and trace; no torch."""

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
from pliant.jobs.predict import Judged, predict, summary
from pliant.runtime import faces
from pliant.runtime.audit_report import verify
from pliant.runtime.bundle import Bundle
from pliant.runtime.faces import Face
from pliant.runtime.video import Footage, Frame

make_bundle = run_path(str(Path(__file__).parents[1] / "runtime" / "conftest.py"))["make_bundle"]
BOX = (10.0, 9.0, 18.0, 24.5)  # of the golden images


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))


@pytest.fixture
def tiny():
    """The small bundle of the run time's tests."""
    return make_bundle()


@pytest.fixture
def bundle_file(tiny, tmp_path: Path) -> Path:
    return tiny.zip(tmp_path / "tiny.pliant")


@pytest.fixture
def photos(tiny, tmp_path: Path) -> Path:
    """A folder with the first three golden images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(tiny.files[f"golden/{i}.png"])
    return folder


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a face with this box into every image, or none."""

    def put(box: tuple[float, float, float, float] | None) -> None:
        found = [] if box is None else [Face(box=box, landmarks=None, confidence=1.0)]
        monkeypatch.setattr(faces.FaceFinder, "find", lambda self, image: found)

    # the golden faces are smaller than a face that is judged
    monkeypatch.setitem(faces.choose_face.__kwdefaults__, "min_side", 10)
    return put


@pytest.fixture
def film(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """A video of these images, not compressed: frames are put in the place of decoded ones."""

    def put(images: list[np.ndarray], stop: BaseException | None = None) -> Path:
        path = tmp_path / "film.avi"
        size = images[0].shape[1], images[0].shape[0]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
        for image in images:
            writer.write(image)
        writer.release()

        def frames(self, *, every=1, seconds=None, most=None):
            for i, image in enumerate(images):
                if i % every == 0:
                    yield Frame(i, i / 25, image)
            if stop is not None:
                raise stop

        monkeypatch.setattr(Footage, "frames", frames)
        return path

    return put


@pytest.fixture
def camera(film, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """As `film`, but from a camera."""

    def put(images: list[np.ndarray], stop: BaseException | None = None) -> Path:
        path = film(images, stop)
        opened = Footage.video(path)
        opened.name = "camera:0"
        monkeypatch.setattr(Footage, "camera", lambda number: opened)
        return Path("camera")

    return put


def test_a_folder_of_images(bundle_file, tiny, photos, finds):
    finds(BOX)
    found = predict(bundle_file, (photos,))
    assert [Path(row.source).name for row in found] == ["0.png", "1.png", "2.png"]
    for i, row in enumerate(found):
        assert row.score == pytest.approx(tiny.score("high", i), abs=1e-5)
        assert row.verdict == ("bona_fide" if (row.score or 0) >= 0.4 else "attack")
        assert (row.tier, row.threshold, row.frame) == ("high", 0.4, None)


def test_tier_and_configuration(bundle_file, photos, finds):
    finds(BOX)
    assert predict(bundle_file, (photos / "0.png",), tier="low")[0].tier == "low"
    (row,) = predict(bundle_file, (photos / "0.png",), tier="LH")
    assert (row.tier, row.configuration) == (None, "LH")
    assert row.verdict == "undecided(no threshold is stored for LH)"
    assert "Only a tier has a threshold" in str(summary([row])[1])


def test_a_broken_image_stops_no_other(bundle_file, photos, finds):
    finds(BOX)
    (photos / "1.png").write_bytes(b"")
    rows = predict(bundle_file, (photos,))
    assert [row.reason for row in rows] == [None, "zero bytes", None]


def test_a_folder_bundle_and_a_classifier(photos, tmp_path):
    path = make_bundle("classify").folder(tmp_path / "bundle")
    rows = predict(path, (photos,))
    assert all(row.verdict in ("cat", "dog", "owl") and row.box is None for row in rows)


def test_a_video_ends_with_the_mean(bundle_file, tiny, film, finds):
    finds(BOX)
    rows = predict(bundle_file, (film(tiny.images[:3]),))
    scores = [tiny.score("high", i) for i in range(3)]
    assert [row.frame for row in rows] == [0, 1, 2, None]
    assert [row.time_s for row in rows] == [0, 0.04, 0.08, None]
    assert rows[-1].score == pytest.approx(np.mean(scores), abs=1e-5)
    assert rows[-1].num_frames == 3
    whole = Bundle.open(bundle_file).predict(tiny.images[:3], box=[BOX] * 3)
    assert (rows[-1].verdict, rows[-1].score) == (whole.verdict, pytest.approx(whole.score))
    table, *said = summary(rows)
    assert table.row_count == 1
    assert said[0].startswith("3 frames: ")
    assert "mean of 3" in said[1]


def test_a_real_video(bundle_file, tmp_path, finds):
    finds(BOX)
    path = tmp_path / "real.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for i in range(6):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    writer.release()
    rows = predict(bundle_file, (path,), every=2)
    assert [row.frame for row in rows] == [0, 2, 4, None]


def test_faces_that_are_not_there(bundle_file, tiny, film, finds):
    finds(None)
    rows = predict(bundle_file, (film(tiny.images[:2]),))
    assert {row.verdict for row in rows} == {"undecided(no face found)"}
    assert rows[-1].num_frames == 0


def test_poor_images_and_frames_are_undecided(bundle_file, tiny, photos, film, finds, tmp_path):
    finds(BOX)
    dark = tiny.images[0] // 12
    cv2.imwrite(str(photos / "1.png"), dark)
    rows = predict(bundle_file, (photos,), audit=tmp_path / "log")
    assert [row.reason for row in rows] == [None, "the face is too dark", None]
    assert rows[1].score is not None
    assert (tmp_path / "log").read_text().count('"reason":"the face is too dark"') == 1
    assert [row.reason for row in predict(bundle_file, (photos,), quality=False)] == [None] * 3
    rows = predict(bundle_file, (film([tiny.images[0], dark, dark]),))
    assert [row.reason for row in rows] == [None] + ["the face is too dark"] * 2 + [None]
    assert rows[-1].num_frames == 1
    assert rows[-1].score == pytest.approx(tiny.score("high", 0), abs=1e-5)
    rows = predict(bundle_file, (film([dark, dark]),), trace=tmp_path / "t.svg")
    assert rows[-1].verdict == "undecided(the face is too dark)"
    assert (rows[-1].score, rows[-1].num_frames) == (None, 0)


def test_json_lines_stream_and_nothing_else(bundle_file, photos, finds, capsys):
    finds(BOX)
    assert cli.main(["predict", str(bundle_file), str(photos), "--json-lines"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["source"]).name for line in lines] == ["0.png", "1.png", "2.png"]
    assert {"verdict", "reason", "score", "threshold", "tier", "latency_ms"} <= set(lines[0])
    assert cli.main(["predict", str(bundle_file), str(photos), "--json-lines", "--json"]) == 2
    assert "--json-lines prints JSON already" in capsys.readouterr().err


def test_the_audit_log_names_no_image(bundle_file, photos, finds, tmp_path, capsys):
    finds(BOX)
    log = tmp_path / "log"
    predict(bundle_file, (photos,), audit=log)
    predict(bundle_file, (photos / "0.png",), audit=log, reference="gate 3")
    report = verify(log)
    assert (report.intact, report.num_verdicts) == (True, 4)
    assert report.model == Bundle.open(bundle_file).sha256
    text = log.read_text()
    assert "png" not in text
    assert text.count("gate 3") == 1
    log.write_bytes(log.read_bytes()[:-20])
    predict(bundle_file, (photos / "0.png",), audit=log)
    assert "the line that a crash had torn was ended" in capsys.readouterr().err
    assert verify(log).num_sealed == 1


def test_a_trace_of_a_video_and_of_images(bundle_file, tiny, film, photos, finds, tmp_path):
    finds(BOX)
    predict(bundle_file, (film(tiny.images[:3]),), trace=tmp_path / "t.svg")
    assert "<title>score of film.avi</title>" in (tmp_path / "t.svg").read_text()
    predict(bundle_file, (photos,), trace=tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["place"] for row in rows] == ["0", "1", "2"]
    with pytest.raises(UserError, match="exists already; give --trace another name"):
        predict(bundle_file, (photos,), trace=tmp_path / "t.csv")


def test_a_budget_picks_a_tier(bundle_file, photos, finds):
    finds(BOX)
    assert predict(bundle_file, (photos,), budget_ms=10_000)[0].tier in ("low", "high")
    with pytest.raises(UserError, match=r"no tier fits 0.0001 ms"):
        predict(bundle_file, (photos,), budget_ms=1e-4)


def test_ctrl_c_ends_a_camera_with_a_verdict(bundle_file, tiny, camera, finds, tmp_path):
    finds(BOX)
    source = camera(tiny.images[:2], KeyboardInterrupt())
    rows = predict(bundle_file, (source,), trace=tmp_path / "t.csv", audit=tmp_path / "log")
    assert [row.frame for row in rows] == [0, 1, None]
    assert {row.source for row in rows} == {"camera:0"}
    assert (tmp_path / "t.csv").exists()
    assert verify(tmp_path / "log").num_verdicts == 3


def test_ctrl_c_ends_anything_else_without_one(bundle_file, tiny, film, finds):
    finds(BOX)
    with pytest.raises(KeyboardInterrupt):
        predict(bundle_file, (film(tiny.images[:2], KeyboardInterrupt()),))


def test_a_camera_keeps_its_budget(bundle_file, tiny, camera, finds, monkeypatch):
    """Low and high are said to take 1 and 5 ms; high takes 50, so the camera steps down to low."""
    from dataclasses import replace

    from pliant.jobs import judges

    finds(BOX)
    monkeypatch.setattr(judges, "latencies", lambda bundle: {"low": 1.0, "high": 5.0})
    monkeypatch.setattr(judges, "worth", lambda contract: {"low": 0.0, "high": 1.0})
    true = Bundle.predict

    def slow(self, image, *, box=None):
        assert box == BOX
        found = true(self, image, box=box)
        return replace(found, latency_ms=50.0 if found.tier == "high" else 1.0)

    monkeypatch.setattr(Bundle, "predict", slow)
    rows = predict(bundle_file, (camera([tiny.images[0]] * 40),), budget_ms=6)
    tiers = [row.tier for row in rows[:-1]]
    assert tiers == ["high"] * 15 + ["low"] * 25
    assert (rows[-1].tier, rows[-1].num_frames) == ("low", 25)
    assert rows[-1].threshold == 0.5
    finds(None)
    monkeypatch.setattr(Bundle, "predict", true)
    rows = predict(bundle_file, (camera(tiny.images[:2]),), budget_ms=6)
    assert rows[0].verdict == "undecided(no face found)"
    assert rows[0].tier == "high"


def test_signatures(bundle_file, photos, finds, tmp_path):
    from pliant.runtime.signature import new_key, sign

    finds(BOX)
    key = new_key(tmp_path / "key")
    with pytest.raises(UserError, match="not signed"):
        predict(bundle_file, (photos,), public_key=key)
    sign(bundle_file, tmp_path / "key")
    assert predict(bundle_file, (photos,), public_key=key)


def test_a_failed_self_test_stops_it_unless_waived(tiny, photos, finds, tmp_path):
    finds(BOX)
    tiny.record["golden"][0]["probabilities"]["low"] = [0.5, 0.5]
    path = tiny.zip(tmp_path / "wrong.pliant")
    with pytest.raises(UserError, match="the self-test failed in tier low"):
        predict(path, (photos,))
    assert len(predict(path, (photos,), self_test=False)) == 3


def test_frames_of_a_classifier_are_judged_as_python_judges_them(film, tmp_path: Path):
    classes = make_bundle("classify")
    path = classes.zip(tmp_path / "classes.pliant")
    images = [cv2.resize(image, (64, 64)) for image in classes.images]
    whole = predict(path, film(images))[-1]
    same = Bundle.open(path).predict(images)
    assert whole.verdict == same.verdict
    assert whole.probabilities == pytest.approx(same.probabilities)
    assert whole.num_frames == same.num_frames == len(images)


def test_python_takes_text(bundle_file, photos, finds, tmp_path: Path):
    finds(BOX)
    trace = tmp_path / "t.csv"
    rows = predict(str(bundle_file), str(photos), trace=str(trace))
    assert len(rows) == 3
    assert trace.is_file()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tier": "low", "budget_ms": 5.0}, "give --tier or --budget-ms"),
        ({"tier": "lwo"}, 'unknown tier "lwo"'),
        ({"reference": "x"}, "give --audit FILE too"),
        ({"every": 2}, "--every is for the frames of a video or camera"),
        ({"every": 0}, "--every must be at least 1, got 0"),
        ({"seconds": 2.0}, "--seconds is for a camera; leave it out"),
        ({"trace": Path("x.png")}, "must end with .svg or .csv"),
    ],
)
def test_options_that_do_not_fit(bundle_file, photos, options, sentence):
    with pytest.raises(UserError, match=sentence):
        predict(bundle_file, (photos,), **options)


def test_models_that_do_not_fit(photos, tmp_path):
    with pytest.raises(
        UserError, match=r"no such model: .*missing; give a bundle, or a run folder"
    ):
        predict(tmp_path / "missing", (photos,))
    for name, value in {
        "budget_ms": 5.0,
        "audit": tmp_path / "log",
        "public_key": "0" * 64,
    }.items():
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} needs a bundle"):
            predict(photos, (photos,), **{name: value})
    assert not (tmp_path / "log").exists()


def test_names_in_the_table_are_not_obeyed(bundle_file, photos, finds, capsys):
    finds(BOX)
    (photos / "0.png").rename(photos / "[red].png")
    assert cli.main(["predict", str(bundle_file), str(photos / "[red].png")]) == 0
    assert "[red].png" in capsys.readouterr().out.replace("\n", "").replace("│", "").replace(
        " ", ""
    )


def test_a_terminal_sees_a_bar_and_the_pipe_gets_the_lines(
    bundle_file, photos, finds, capsys, monkeypatch
):
    finds(BOX)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    predict(bundle_file, (photos,), json_lines=True)
    captured = capsys.readouterr()
    assert len([json.loads(line) for line in captured.out.splitlines()]) == 3
    assert "3/3" in captured.err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    predict(bundle_file, (photos,), json_lines=True)
    assert capsys.readouterr().err == ""


def test_an_empty_list_says_nothing():
    assert summary([]) == []


def test_a_row_is_a_prediction(bundle_file, photos, finds):
    finds(BOX)
    row = predict(bundle_file, (photos,))[0]
    assert isinstance(row, Judged)
    assert row.synthetic
    assert "synthetic faces alone" in summary([row])[-1]


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning", "scipy", "matplotlib", "torchmetrics",
                                  "safetensors", "jaxtyping", "onnx", "onnxscript", "cryptography"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
from pliant import cli
bundle, photo, log, film = sys.argv[1:]
for words in (
    ["predict", bundle, photo, "--audit", log, "--trace", log + ".svg"],
    ["predict", bundle, film, "--json"],
    ["predict", bundle, photo, "--json-lines", "--budget-ms", "10000"],
    ["bundle", "info", bundle], ["bundle", "self-test", bundle],
    ["bundle", "bench", bundle, "--runs", "2"],
    ["audit", "verify", log], ["audit", "head", log],
):
    code = cli.main(words)
    assert code == 0, words
"""


def test_a_bundle_needs_no_torch(bundle_file, photos, tmp_path):
    film = tmp_path / "f.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    words = [str(bundle_file), str(photos / "0.png"), str(tmp_path / "log"), str(film)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCK, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
