"""A verdict only where a face is found and the tier has a threshold."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pliant import cli
from pliant.data.manifest import read_manifest
from pliant.errors import UserError
from pliant.jobs.predict import predict, summary
from pliant.runtime import faces, video
from pliant.runtime.faces import Face
from pliant.runtime.video import Footage

TEXTURE = np.random.default_rng(1).integers(60, 190, (80, 96, 3)).astype(np.uint8)
"""A frame that is neither dark nor blurred."""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return path


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch):
    """Puts faces with these boxes into every image."""

    def put(*boxes: tuple[float, float, float, float]) -> None:
        found = [Face(box=box, landmarks=None, confidence=1.0) for box in boxes]
        monkeypatch.setattr(faces.FaceFinder, "find", lambda self, image: found)

    return put


def test_score_threshold_and_verdict_agree(make_run, photo: Path, finds):
    finds((100, 50, 80, 100))
    (found,) = predict(make_run(), (photo,))
    assert found.tier == "high"
    assert found.box == (100, 50, 80, 100)
    assert found.score is not None
    assert found.verdict == ("bona_fide" if found.score >= 0.5 else "attack")
    assert found.threshold == 0.5


def test_a_score_is_no_verdict_without_a_threshold(make_run, photo: Path, finds):
    finds((100, 50, 80, 100))
    run = make_run(threshold=None)
    (found,) = predict(run, (photo,), tier="low")
    assert found.verdict == "undecided(no threshold is stored for low)"
    assert found.score is not None
    assert "missing one on a dev split" in str(summary([found])[1])


def test_a_configuration_that_is_no_tier_gets_a_score_alone(make_run, photo: Path, finds):
    finds((100, 50, 80, 100))
    (found,) = predict(make_run(), (photo,), tier="LH" * 8)
    assert found.verdict.startswith("undecided(no threshold")
    assert found.score is not None


def test_faces_that_cannot_be_judged(make_run, photo: Path, finds):
    run = make_run()
    finds()
    assert predict(run, (photo,))[0].verdict == "undecided(no face found)"
    finds((0, 0, 80, 100), (150, 50, 80, 100))
    assert predict(run, (photo,))[0].verdict == "undecided(several faces found)"
    finds((0, 0, 8, 10))
    assert predict(run, (photo,))[0].verdict == "undecided(the face is too small)"


def test_a_run_judges_quality_in_the_words_of_a_bundle(make_run, photo: Path, finds, capsys):
    finds((100, 50, 80, 100))
    run, image = make_run(), cv2.imread(str(photo))
    assert image is not None
    cases = {
        "the face is too dark": image // 12,
        "the face is overexposed": np.full_like(image, 255),
        "the face is blurred": cv2.GaussianBlur(image, (0, 0), 20),
    }
    for reason, spoilt in cases.items():
        cv2.imwrite(str(photo), spoilt)
        (found,) = predict(run, (photo,))
        assert (found.verdict, found.reason) == (f"undecided({reason})", reason)
        (free,) = predict(run, (photo,), quality=False)
        assert (free.reason, free.score) == (None, found.score)
    cv2.imwrite(str(photo), image)
    finds((-40, 50, 80, 100))
    assert predict(run, (photo,))[0].reason == "the face is cut off at the edge of the image"
    finds((0, 0, 2200, 2400))
    assert predict(run, (photo,))[0].verdict == "undecided(the face is too large)"
    finds((-40, 50, 80, 100))
    assert cli.main(["predict", str(run), str(photo), "--no-quality", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["verdict"] in ("bona_fide", "attack")


def test_a_broken_image_stops_no_other(make_run, photo: Path, tmp_path: Path, finds):
    finds((100, 50, 80, 100))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"")
    first, second = predict(make_run(), (broken, photo))
    assert first.verdict.startswith("undecided(")
    assert first.score is None
    assert second.score is not None


def test_the_cascade_runs_on_a_synthetic_photo(make_run, rig: Path):
    sample = next(s for s in read_manifest(rig) if s.bona_fide)
    (found,) = predict(make_run(), (sample.path,))
    assert found.verdict in ("bona_fide", "attack") or found.verdict.startswith("undecided(")


def test_class_names_for_other_tasks(make_run, photo: Path, without_split):
    from dataclasses import replace

    data = without_split("c.csv", lambda s: replace(s, bona_fide=None, label=s.pai_species or "me"))
    run = make_run(classes=("me", "print_flat", "replay"), data=data)
    (found,) = predict(run, (photo,))
    assert found.verdict in ("me", "print_flat", "replay")
    assert 1 / 3 <= (found.score or 0) <= 1


def test_folders_and_videos_with_a_run(make_run, photo: Path, tmp_path: Path, finds):
    finds((10, 5, 50, 60))
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 25, (96, 80))
    for i in range(4):
        writer.write(TEXTURE + np.uint8(15 * i))
    writer.release()
    run = make_run()
    rows = predict(run, (film,))
    assert [row.frame for row in rows] == [0, 1, 2, 3, None]
    assert rows[-1].score == pytest.approx(np.mean([row.score for row in rows[:-1]]))
    assert rows[-1].configuration == "H" * 16
    assert rows[-1].latency_ms == pytest.approx(sum(row.latency_ms for row in rows[:-1]))
    assert [row.source for row in predict(run, (tmp_path,))] == [str(photo)]


class Capture:
    """A camera that gives so many grey frames, and is then unplugged."""

    def __init__(self, count: int) -> None:
        self.left = count

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 96.0, cv2.CAP_PROP_FRAME_HEIGHT: 80.0}.get(key, -1.0)

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, TEXTURE

    def release(self) -> None:
        pass


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch):
    def put(count: int) -> None:
        monkeypatch.setattr(video, "RETRY_S", 0)
        made = Footage(Capture(count), "camera:0", is_camera=True)
        monkeypatch.setattr(Footage, "camera", lambda number: made)

    return put


def test_an_unplugged_camera_gives_its_verdict_and_an_error(
    make_run, plugged, finds, tmp_path: Path, capsys
):
    finds((10, 5, 50, 60))
    run, words = make_run(), ["camera", "--json-lines", "--trace", str(tmp_path / "t.csv")]
    plugged(3)
    assert cli.main(["predict", str(run), *words]) == 2
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, None]
    assert "pliant: camera:0 stopped giving frames after" in said.err
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 4
    plugged(3)
    assert cli.main(["predict", str(run), "camera"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "camera:0, 3 frames: " in said.err
    plugged(0)
    with pytest.raises(UserError, match="gave not one frame"):
        predict(run, (Path("camera"),))


def test_a_camera_says_what_it_sees_and_why_it_ended(make_run, plugged, finds, monkeypatch, capsys):
    finds((10, 5, 50, 60))
    monkeypatch.setattr("pliant.jobs.predict.MAX_FRAMES", 4)
    plugged(9)
    assert len(predict(make_run(), (Path("camera"),))) == 5
    err = capsys.readouterr().err
    assert "camera:0 frame 0: " in err
    assert "camera:0 ended after 4 frames, the most of one presentation" in err


def test_a_model_that_is_neither(photo: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither a bundle nor a run folder"):
        predict(tmp_path / "empty", (photo,))


def test_a_trace_without_a_folder_is_refused_first(photo: Path, make_run, tmp_path: Path):
    with pytest.raises(UserError, match="there is no folder"):
        predict(make_run(), (photo,), trace=tmp_path / "missing" / "t.svg")


def test_the_table_folds_and_shares_its_folder(make_run, photo: Path, finds, capsys, monkeypatch):
    finds()
    monkeypatch.setenv("COLUMNS", "80")
    second = photo.with_name("b" * 20 + ".png")
    second.write_bytes(photo.read_bytes())
    assert cli.main(["predict", str(make_run()), str(photo), str(second)]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert "photo.png" in out
    assert out.replace("\n", "").replace(" ", "").count(str(photo.parent)) == 1


def test_refusals(make_run, photo: Path, tmp_path: Path):
    run = make_run()
    with pytest.raises(UserError, match="no images were given"):
        predict(run, ())
    with pytest.raises(UserError, match="no such image"):
        predict(run, (photo, tmp_path / "missing.jpg"))
    with pytest.raises(UserError, match="--remeasure is for a budget"):
        predict(run, (photo,), remeasure=True)
    with pytest.raises(UserError, match="hihg"):
        predict(run, (photo,), tier="hihg")
