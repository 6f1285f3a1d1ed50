"""The whole way in small: rig, training, evaluation, report."""

from dataclasses import replace
from pathlib import Path

import pytest

from pliant.errors import UserError
from pliant.jobs import demo as job
from pliant.jobs.demo import MARK, DemoSettings, demo, summary

TINY = DemoSettings(subjects=6, clips_per_subject=1, frames=1, size=32, width=0.35, epochs=1)


def test_a_tiny_demo_leaves_all_it_promises(tmp_path: Path):
    out = tmp_path / "demo"
    result = demo(out, settings=TINY)
    names = {p.name for p in out.iterdir()}
    assert names == {"data-synthetic", "run", "evaluation", "report.html", "face.pliant"}
    assert {row["tier"] for row in result["evaluation"]["tiers"]} >= {"low", "high", "max"}
    page = (out / "report.html").read_text()
    assert "synthetic" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert f"pliant web {out / 'face.pliant'}" in str(summary(result)[-1])
    with pytest.raises(UserError, match="exists already"):
        demo(out, settings=TINY)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 1}, "size must lie in"),
        ({"width": 0.0}, "width must be in"),
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"subjects": 1}, "the rig's subjects is 1"),
    ],
)
def test_bad_numbers_are_refused_before_rendering(tmp_path: Path, change, said: str):
    with pytest.raises(UserError, match=said):
        demo(tmp_path / "demo", settings=replace(TINY, **change))
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_demo_leaves_nothing(tmp_path: Path, monkeypatch):
    def stop(out: Path, settings: DemoSettings) -> dict:
        (out / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "_steps", stop)
    with pytest.raises(KeyboardInterrupt, match="was removed"):
        demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_demo_may_be_started_again(tmp_path: Path, monkeypatch):
    out = tmp_path / "demo"
    out.mkdir()
    (out / MARK).touch()
    (out / "half").touch()
    monkeypatch.setattr(job, "_steps", lambda out, settings: {"seconds": 0})
    assert demo(out) == {"seconds": 0}
    assert list(out.iterdir()) == []


def test_a_folder_of_the_user_is_not_touched(tmp_path: Path):
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="exists already"):
        demo(tmp_path)
    assert (tmp_path / "mine").exists()
