"""The audit log from the command line: 0 intact, 2 broken, and the line is named."""

import json
from pathlib import Path

import pytest

from pliant import cli
from pliant.runtime.audit import AuditLog
from pliant.runtime.verdict import Prediction

ANSWER = Prediction(
    verdict="attack", reason=None, score=0.25, threshold=0.5, tier="mid", configuration="HL",
    box=None, num_frames=1, latency_ms=3.0, synthetic=False,
)  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    with AuditLog(tmp_path / "log", model="ab" * 32) as opened:
        for _ in range(3):
            opened.append(ANSWER)
    return tmp_path / "log"


def head_of(log: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["audit", "head", str(log)]) == 0
    return capsys.readouterr().out.strip()


def test_intact(log: Path, capsys: pytest.CaptureFixture[str]):
    head = head_of(log, capsys)
    assert json.loads(log.read_bytes().splitlines()[-1])["hash"] == head
    assert cli.main(["audit", "verify", str(log)]) == 0
    out = capsys.readouterr().out
    assert "intact: 4 lines, 3 verdicts (3 on presentations, 0 on single frames)" in out
    assert "only against a head that was noted" in out
    assert cli.main(["audit", "verify", str(log), "--head", head, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_after_head"] == 0


def test_every_model_is_named(log: Path, capsys: pytest.CaptureFixture[str]):
    for i in range(25):
        with AuditLog(log, model=f"{i:064x}") as opened:
            opened.append(ANSWER, frame=i)
    assert cli.main(["audit", "verify", str(log)]) == 0
    out = capsys.readouterr().out
    assert "28 verdicts (3 on presentations, 25 on single frames)" in out
    assert f"model  {'ab' * 32}" in out
    assert f"model  {'0' * 63}1" in out
    assert "and 6 more models" in out


def test_a_changed_line(log: Path, capsys: pytest.CaptureFixture[str]):
    log.write_bytes(log.read_bytes().replace(b'"attack"', b'"bona_fide"', 1))
    for verb in ("verify", "head"):
        assert cli.main(["audit", verb, str(log)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "is broken: line 2: its text does not have the hash" in captured.err


def test_a_cut_shows_against_a_noted_head(log: Path, capsys: pytest.CaptureFixture[str]):
    head = head_of(log, capsys)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    assert cli.main(["audit", "verify", str(log)]) == 0
    assert cli.main(["audit", "verify", str(log), "--head", head]) == 2
    assert "lines are missing at the end" in capsys.readouterr().err
    assert cli.main(["audit", "verify", str(log), "--head", "12ab"]) == 2
    assert "64 hexadecimal digits" in capsys.readouterr().err


def test_what_a_crash_left(log: Path, capsys: pytest.CaptureFixture[str]):
    before = head_of(log, capsys)
    log.write_bytes(log.read_bytes() + b'{"kind":"verd')
    assert cli.main(["audit", "verify", str(log)]) == 0
    assert "13 bytes of a torn line stand at the end" in capsys.readouterr().out
    with AuditLog(log, model="ab" * 32) as opened:
        opened.append(ANSWER)
    assert cli.main(["audit", "verify", str(log), "--head", before.upper()]) == 0
    out = capsys.readouterr().out
    assert "1 torn lines, left by crashes, were ended and named" in out
    assert "2 lines were added since the given head" in out


def test_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["audit", "verify", str(tmp_path / "missing")]) == 2
    assert "no such audit log" in capsys.readouterr().err
