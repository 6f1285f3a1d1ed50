"""A log whose every change, cut and crash is seen."""

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.runtime import audit
from pliant.runtime.audit import AuditLog, chained, checked
from pliant.runtime.audit_report import verify
from pliant.runtime.verdict import Prediction

MODEL = "ab" * 32
NOON = datetime(2030, 1, 2, 12, 0, 0, 5000, tzinfo=UTC)


def answer(**changed) -> Prediction:
    made = Prediction(
        verdict="bona_fide", reason=None, score=0.75, threshold=0.5, tier="mid",
        configuration="HL", box=(1, 2, 3, 4), num_frames=1, latency_ms=3.14159, synthetic=True,
    )  # fmt: skip
    return replace(made, **changed)


def write(path: Path, count: int = 3, **options) -> list[str]:
    with AuditLog(path, model=MODEL, now=lambda: NOON, **options) as log:
        return [log.append(answer(score=i / 10)) for i in range(count)]


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_line_by_hand(tmp_path: Path):
    heads = write(tmp_path / "log", 1)
    header, verdict = map(json.loads, lines(tmp_path / "log"))
    assert header["kind"] == "header"
    assert header["previous"] == "0" * 64
    assert header["model"] == MODEL
    text = lines(tmp_path / "log")[1].decode()
    assert verdict == {
        "kind": "verdict",
        "model": MODEL,
        "tier": "mid",
        "configuration": "HL",
        "threshold": 0.5,
        "score": 0.0,
        "verdict": "bona_fide",
        "reason": None,
        "frame": None,
        "num_frames": 1,
        "latency_ms": 3.142,
        "reference": None,
        "time": "2030-01-02T12:00:00.005+00:00",
        "previous": header["hash"],
        "hash": heads[0],
    }
    without = text.replace(f',"hash":"{heads[0]}"', "").rstrip("\n")
    assert hashlib.sha256(without.encode()).hexdigest() == heads[0]


def test_a_log_is_continued(tmp_path: Path):
    path = tmp_path / "log"
    first = write(path, 2)
    second = write(path, 3, fsync=True)
    report = verify(path, head=first[-1])
    assert report.intact
    assert (report.num_lines, report.num_verdicts, report.num_sealed) == (6, 5, 0)
    assert report.head == second[-1]
    assert report.num_after_head == 3
    assert report.model == MODEL
    assert report.require_intact() is report
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600


def test_frames_and_models_are_counted(tmp_path: Path):
    path = tmp_path / "log"
    with AuditLog(path, model=MODEL) as log:
        for frame in range(3):
            log.append(answer(), frame=frame)
        log.append(answer(num_frames=3))
    with AuditLog(path, model="cd" * 32) as log:
        log.append(answer())
    report = verify(path)
    assert (report.num_verdicts, report.num_frames) == (5, 3)
    assert (report.model, report.models) == (MODEL, (MODEL, "cd" * 32))
    assert [json.loads(line).get("frame") for line in lines(path)] == [None, 0, 1, 2, None, None]


def test_a_reference_is_kept_and_bounded(tmp_path: Path):
    with AuditLog(tmp_path / "log", model=MODEL) as log:
        log.append(answer(score=None, threshold=None, tier=None), reference="gate 3\n☺")
        with pytest.raises(UserError, match="at most 200 characters, got 201"):
            log.append(answer(), reference="x" * 201)
        with pytest.raises(UserError, match="at most 4096 bytes"):
            log.append(answer(tier="t" * 5000))
        log.append(answer())
        for wrong in (5, b"gate", ["gate"]):
            with pytest.raises(UserError, match="an audit reference is a text, got"):
                log.append(answer(), reference=wrong)
    assert json.loads(lines(tmp_path / "log")[1])["reference"] == "gate 3\n☺"
    assert verify(tmp_path / "log").num_verdicts == 2


@pytest.mark.parametrize("model", [3, "x", "AB" * 32, "ab" * 33, None, b"ab" * 32])
def test_a_model_that_is_no_hash(tmp_path: Path, model):
    with pytest.raises(UserError, match=r"SHA-256 of a bundle, 64 hexadecimal digits .*, got "):
        AuditLog(tmp_path / "log", model=model)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_prediction_and_no_frame(tmp_path: Path):
    with AuditLog(tmp_path / "log", model=MODEL) as log:
        for wrong in (None, "bona_fide", {"score": 1}):
            with pytest.raises(UserError, match=r"keeps a Prediction, as .*, got "):
                log.append(wrong)
        for frame in ("x", -1, 1.0, True, [0]):
            with pytest.raises(UserError, match="an audit frame is a whole number from 0 on, got"):
                log.append(answer(), frame=frame)
        for changed in ({"score": math.nan}, {"tier": b"mid"}):
            with pytest.raises(UserError, match="cannot hold this prediction"):
                log.append(answer(**changed))
        log.append(answer(), frame=0)
    assert verify(tmp_path / "log").num_verdicts == 1


def test_places_that_cannot_be_opened(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none" / "log", str(tmp_path / "a\0b")):
        with pytest.raises(UserError, match=r"cannot be opened: .*; give it another place or name"):
            AuditLog(path, model=MODEL)
        with pytest.raises(UserError, match="no such audit log"):
            verify(path)
    for path in (5, None, b"log"):
        with pytest.raises(UserError, match="an audit log is named by a path, got"):
            AuditLog(path, model=MODEL)
        with pytest.raises(UserError, match="an audit log is named by a path, got"):
            verify(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", [5, b"ab" * 32, "ab", ["ab" * 32]])
def test_a_head_that_is_none(tmp_path: Path, head):
    write(tmp_path / "log")
    with pytest.raises(UserError, match="a head is 64 hexadecimal digits, got"):
        verify(tmp_path / "log", head=head)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 3), ("model", "x"), ("tier", 5), ("configuration", None), ("threshold", "0.5"),
        ("score", [0.5]), ("score", True), ("verdict", None), ("reason", 5), ("frame", -1),
        ("frame", "x"), ("num_frames", 1.5), ("latency_ms", None), ("reference", {}),
    ],
)  # fmt: skip
def test_fields_of_another_type_are_seen(tmp_path: Path, name, value):
    path = tmp_path / "log"
    head = write(path)[-1]
    record = json.loads(lines(path)[1])
    del record["previous"], record["hash"]
    path.write_bytes(path.read_bytes() + chained(record | {name: value}, head)[0])
    report = verify(path)
    assert report.broken_line == 5
    assert f"its {name} is not what a {name} can be" in (report.why or "")


@given(st.data())
def test_any_changed_byte_is_seen(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "log"
    write(path)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    number = bytes(path.read_bytes())[:at].count(b"\n") + 1
    if number == 1:
        with pytest.raises(UserError, match="not an audit log"):
            verify(path)
    elif at == len(content) - 1:  # the last line feed: as after a crash
        assert verify(path).torn_bytes > 0
    else:
        # a line may be cut in two or glued to the next: still that line is the first broken one
        assert verify(path).broken_line == number


@given(st.permutations(range(5)))
def test_moved_lines_are_seen(tmp_path_factory, order):
    path = tmp_path_factory.mktemp("log") / "log"
    write(path, 4)
    before = lines(path)
    path.write_bytes(b"".join(before[i] for i in order))
    if order == list(range(5)):
        assert verify(path).intact
    elif order[0] != 0:
        with pytest.raises(UserError):
            verify(path)
    else:
        wrong = next(i for i, place in enumerate(order) if i != place)
        assert verify(path).broken_line == wrong + 1
        with pytest.raises(UserError, match=f"line {wrong + 1}: the line before it is not"):
            verify(path).require_intact()


@given(st.integers(1, 3))
def test_a_cut_at_the_end_is_seen_with_a_noted_head(tmp_path_factory, kept):
    path = tmp_path_factory.mktemp("log") / "log"
    head = write(path, 4)[-1]
    path.write_bytes(b"".join(lines(path)[: 1 + kept]))
    assert verify(path).intact
    report = verify(path, head=head)
    assert report.broken_line == kept + 2
    assert "lines are missing at the end" in (report.why or "")


@given(st.data())
def test_a_torn_line_is_said_and_sealed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "log"
    heads = write(path)
    whole = path.read_bytes()
    torn = data.draw(st.integers(1, len(lines(path)[-1]) - 1))
    path.write_bytes(whole[:-torn])
    report = verify(path)
    assert report.intact
    assert report.torn_bytes == len(lines(path)[-1])
    assert report.head == heads[1]

    with AuditLog(path, model=MODEL) as log:
        assert log.num_torn_bytes == report.torn_bytes
        log.append(answer())
    report = verify(path, head=heads[1])
    assert (report.intact, report.torn_bytes) == (True, 0)
    assert path.read_bytes().startswith(whole[:-torn])
    if torn == 1:  # the line feed alone was missing: the line counts
        assert (report.num_sealed, report.num_verdicts, report.num_after_head) == (0, 4, 2)
        return
    assert (report.num_sealed, report.num_verdicts, report.num_after_head) == (1, 3, 2)

    # the seal names these bytes and no others
    content = bytearray(path.read_bytes())
    content[len(whole) - torn - 1] ^= 1
    path.write_bytes(content)
    assert verify(path).broken_line == 4


def test_a_seal_without_a_torn_line_is_refused(tmp_path: Path):
    path = tmp_path / "log"
    head = write(path)[-1]
    seal, _ = chained({"kind": "torn", "bytes": 3, "sha256": "0" * 64, "time": "t"}, head)
    path.write_bytes(path.read_bytes() + seal)
    report = verify(path)
    assert (report.broken_line, report.why) == (
        5,
        "it names a torn line, but the line before it is whole",
    )


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"kind": "header", "format": 2, "model": MODEL, "time": "t"}, "in the first line and"),
        ({"kind": "header", "format": 1, "model": MODEL, "time": "t"}, "reads format 2"),
        ({"kind": "photo", "pixels": "..."}, "does not hold what a line"),
        ({"kind": "torn", "bytes": 1, "sha256": "", "time": 5}, "its time or the hash"),
    ],
)
def test_lines_that_have_no_place(tmp_path: Path, record, why):
    path = tmp_path / "log"
    head = write(path)[-1]
    path.write_bytes(path.read_bytes() + chained(record, head)[0])
    report = verify(path)
    assert report.broken_line == 5
    assert why in (report.why or "")


def test_a_hash_over_no_json_is_refused():
    body = b"[1}"
    line = b'[1,"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    with pytest.raises(audit.Damaged, match="not JSON"):
        checked(line, None)


def test_one_writer_at_a_time(tmp_path: Path):
    path = tmp_path / "log"
    with AuditLog(path, model=MODEL) as log:
        log.append(answer())
        with pytest.raises(UserError, match="another process is writing"):
            AuditLog(path, model=MODEL)
        code = f"from pliant.runtime import AuditLog; AuditLog({str(path)!r}, model='ab' * 32)"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process is writing" in other.stderr
    write(path)
    assert verify(path).num_verdicts == 4


def test_a_killed_writer_leaves_no_lock(tmp_path: Path):
    path = tmp_path / "log"
    code = (
        "import os; from pliant.runtime.audit import AuditLog; "
        f"log = AuditLog({str(path)!r}, model='ab' * 32); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    write(path)
    assert verify(path).intact


def test_a_failed_write_closes_the_log(tmp_path: Path, monkeypatch):
    path = tmp_path / "log"
    log = AuditLog(path, model=MODEL)
    log.append(answer())
    whole = os.write

    def half(file: int, data) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return whole(file, bytes(data[:-50]))

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        log.append(answer())
    monkeypatch.undo()
    with pytest.raises(UserError, match="is closed"):
        log.append(answer())
    log.close()
    assert verify(path).torn_bytes > 0
    write(path, 1)
    assert verify(path).num_sealed == 1


def test_files_that_are_no_log(tmp_path: Path):
    for content in (b"hello\n", b"x" * 10_000, b"{}\n", b'{"kind":"header"'):
        path = tmp_path / "other"
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not an audit log"):
            AuditLog(path, model=MODEL)
        with pytest.raises(UserError, match="is not an audit log"):
            verify(path)
        assert path.read_bytes() == content
    path.write_bytes(b"")
    with pytest.raises(UserError, match="it is empty"):
        verify(path)
    with pytest.raises(UserError, match="no such audit log"):
        verify(tmp_path / "missing")


def test_a_damaged_end_is_never_continued(tmp_path: Path):
    path = tmp_path / "log"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"garbage\n")
    with pytest.raises(UserError, match=r"last line of .* is damaged.*start a new log"):
        AuditLog(path, model=MODEL)
    path.write_bytes(whole + b"\0" * 9000)
    with pytest.raises(UserError, match="start a new log"):
        AuditLog(path, model=MODEL)
    assert verify(path).broken_line == 5


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_pipe_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is not a file"):
        AuditLog(tmp_path / "pipe", model=MODEL)
