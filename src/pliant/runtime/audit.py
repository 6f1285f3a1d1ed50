"""An audit log: one JSON line per verdict, each chained to the one before it by SHA-256.

Never an image, never a path, unless the caller gives a `reference` of its own. A line is

    {"kind":"verdict", ..., "previous":"<hash of the line before>","hash":"<64 hex digits>"}

and its hash is that of its own text without `,"hash":"..."`. So whoever changes, drops or moves a
line must rewrite all that follow, and the last hash (the *head*) no longer is the one that was
noted elsewhere. The chain holds no secret: without a noted head, a log that was rewritten from
some line to its end, or cut off at its end, cannot be told from a true one.

A crash may leave a torn last line. Nothing is ever cut off: the next writer ends that line and
appends a `torn` line with its length and hash, so that it can be told from a damaged one (where
the line feed alone was missing, it adds that).
"""

import hashlib
import json
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

from pliant.errors import UserError
from pliant.runtime.fields import MAX_WHOLE, SHA256, is_number, path_of
from pliant.runtime.verdict import Prediction

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FORMAT = 2
"""Of the log; any other is refused."""
MAX_LINE = 4096
"""Bytes of a line, its line feed included."""
MAX_REFERENCE = 200
"""Characters of a caller's reference."""
START = "0" * 64
"""What the first line names as the hash before it."""
CHAIN = frozenset({"kind", "time", "previous", "hash"})
KINDS: Mapping[str, frozenset[str]] = {
    "header": CHAIN | {"format", "model"},
    "torn": CHAIN | {"bytes", "sha256"},
    "verdict": CHAIN
    | {"model", "tier", "configuration", "threshold", "score", "verdict", "reason"}
    | {"frame", "num_frames", "latency_ms", "reference"},
}
"""What each kind of line holds, no more and no less."""


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_WHOLE


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _or_null(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("kind", "time", "configuration", "verdict"), _is_text),
    **dict.fromkeys(("previous", "hash", "model", "sha256"), _is_sha256),
    **dict.fromkeys(("format", "bytes", "num_frames"), _is_count),
    **dict.fromkeys(("tier", "reason", "reference"), _or_null(_is_text)),
    **dict.fromkeys(("threshold", "score"), _or_null(is_number)),
    "frame": _or_null(_is_count),
    "latency_ms": is_number,
}
"""What each field of a line holds."""
_END = re.compile(rb',"hash":"([0-9a-f]{64})"\}\n')
_END_BYTES = 76


class Damaged(ValueError):
    """A line that does not verify; the text is the reason alone."""


class AuditLog:
    """An open log; one writer at a time, from any of its threads.

    Args:
        path: A new file, or a log that is continued.
        model: SHA-256 of the bundle whose verdicts follow, 64 hexadecimal digits.
        fsync: Whether each line is on the disk before `append` returns (a power cut then loses
            none, at some milliseconds a line); the last one always is when the log is closed.
        now: The time of a line.

    Raises:
        UserError: if `model` is no such hash, or the file cannot be opened, is no audit log, is
            damaged at its end, or is written by another process.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        model: str,
        fsync: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path = path_of(path, "an audit log")
        self.model, self.fsync, self._now = model, fsync, now
        if not _is_sha256(model):
            raise UserError(
                "an audit log's model is the SHA-256 of a bundle, 64 hexadecimal digits "
                f"(Bundle.sha256), got {model!r:.80}"
            )
        self._lock = threading.Lock()
        self.num_torn_bytes = 0
        """Of a torn line that was found, and sealed, when the log was opened."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._file: int | None = None
        try:
            self._file = os.open(self.path, flags, 0o600)
            self._begin(self._file)
        except (OSError, ValueError) as problem:
            self._drop()
            if isinstance(problem, UserError):
                raise
            why = getattr(problem, "strerror", None) or str(problem)
            raise UserError(
                f"the audit log {self.path} cannot be opened: {why}; give it another place or name"
            ) from problem
        except BaseException:
            self._drop()
            raise

    def _begin(self, file: int) -> None:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise UserError(f"{self.path} is not a file; give the audit log another name")
        if not _lock(file):
            raise UserError(
                f"another process is writing the audit log {self.path}; give each its own"
            )
        self.head = START
        if os.fstat(file).st_size == 0:
            self._write({"kind": "header", "format": FORMAT, "model": self.model})
            return
        self.head, torn = last_line(self.path)
        self.num_torn_bytes = len(torn)
        if not torn:
            return
        try:
            self.head = str(checked(torn + b"\n", self.head)["hash"])
            os.write(file, b"\n")  # the line feed alone was missing
        except Damaged:
            digest = hashlib.sha256(torn).hexdigest()
            self._write({"kind": "torn", "bytes": len(torn), "sha256": digest}, ends_torn=True)

    def append(
        self, prediction: Prediction, *, reference: str | None = None, frame: int | None = None
    ) -> str:
        """Write one line; its hash, the log's new head, comes back.

        Args:
            prediction: Of the bundle; its box is not kept.
            reference: What the caller knows the presentation by, at most 200 characters.
            frame: Which frame of a presentation it is about, from 0; None: a whole presentation,
                be it a photo or the frames before it.

        Raises:
            UserError: if the reference is no text or too long, the frame no whole number, the
                prediction none, or the log is closed.
            OSError: if the disk is full; the log is closed then, and its line torn.
        """
        if not isinstance(prediction, Prediction):
            raise UserError(
                "an audit log keeps a Prediction, as Bundle.predict returns one, got "
                f"{type(prediction).__name__}"
            )
        if reference is not None and not isinstance(reference, str):
            raise UserError(f"an audit reference is a text, got {type(reference).__name__}")
        if reference is not None and len(reference) > MAX_REFERENCE:
            raise UserError(
                f"an audit reference has at most {MAX_REFERENCE} characters, got {len(reference)}"
            )
        if frame is not None and not _is_count(frame):
            raise UserError(f"an audit frame is a whole number from 0 on, got {frame!r:.60}")
        record = {
            "kind": "verdict",
            "model": self.model,
            "tier": prediction.tier,
            "configuration": prediction.configuration,
            "threshold": prediction.threshold,
            "score": None if prediction.score is None else float(prediction.score),
            "verdict": prediction.verdict,
            "reason": prediction.reason,
            "frame": frame,
            "num_frames": prediction.num_frames,
            "latency_ms": round(float(prediction.latency_ms), 3),
            "reference": reference,
        }
        with self._lock:
            self._write(record)
            return self.head

    def close(self) -> None:
        """Bring the last line to the disk and let others write."""
        with self._lock:
            if self._file is not None:
                os.fsync(self._file)
                self._drop()

    def _write(self, record: dict[str, Any], *, ends_torn: bool = False) -> None:
        if self._file is None:
            raise UserError(f"the audit log {self.path} is closed")
        moment = self._now().astimezone(UTC).isoformat(timespec="milliseconds")
        line, digest = chained(record | {"time": moment}, self.head)
        try:
            rest = memoryview(b"\n" + line if ends_torn else line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if self.fsync:
                os.fsync(self._file)
        except BaseException:
            self._drop()  # a further line would be glued to half of this one
            raise
        self.head = digest

    def _drop(self) -> None:
        if self._file is not None:
            os.close(self._file)  # and with it the lock
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def chained(record: Mapping[str, Any], previous: str) -> tuple[bytes, str]:
    """The record's line in the log, and its hash."""
    try:
        body = json.dumps({**record, "previous": previous}, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise UserError(f"an audit log cannot hold this prediction: {problem}") from problem
    digest = hashlib.sha256(body.encode("ascii")).hexdigest()
    line = f'{body[:-1]},"hash":"{digest}"}}\n'.encode("ascii")
    if len(line) > MAX_LINE:
        raise UserError(f"a line of an audit log has at most {MAX_LINE} bytes, got {len(line)}")
    return line, digest


def checked(line: bytes, previous: str | None) -> dict[str, Any]:
    """The record in a line whose hash is right and that follows `previous` (None: any).

    Raises:
        Damaged: if it is not; the text says why.
    """
    end = _END.fullmatch(line[-_END_BYTES:])
    if end is None:
        raise Damaged("it does not end with a hash and a line feed")
    body = line[:-_END_BYTES] + b"}"
    if hashlib.sha256(body).hexdigest() != end[1].decode():
        raise Damaged("its text does not have the hash that it names: it was changed")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise Damaged("it is not JSON") from None
    if not isinstance(record, dict) or set(record) != KINDS.get(str(record.get("kind"))):
        raise Damaged("it does not hold what a line of this log holds")
    if not all(isinstance(record[name], str) for name in ("time", "previous")):
        raise Damaged("its time or the hash before it is no text")
    if record["kind"] == "header" and record["format"] != FORMAT:
        raise Damaged(f"this pliant reads format {FORMAT}; use the version that wrote it")
    for name, value in record.items():
        if not _TYPES[name](value):
            raise Damaged(f"its {name} is not what a {name} can be: {str(value)[:60]!r}")
    if previous is not None and record["previous"] != previous:
        raise Damaged("the line before it is not the one it names: lines are missing or moved")
    return record


def last_line(path: Path) -> tuple[str, bytes]:
    """The hash of a log's last whole line, and what a crash left after it (mostly nothing).

    The first and the last line are checked, not those between.

    Raises:
        UserError: if the file is no audit log, or its last whole line is damaged.
    """
    with open(path, "rb") as file:
        first = file.readline(MAX_LINE)
        try:
            header = checked(first, START)
            if header["kind"] != "header":
                raise Damaged("it is no header")
        except Damaged as problem:
            raise UserError(f"{path} is not an audit log: in line 1, {problem}") from None
        tail = _tail(file)
    whole, _, torn = tail.rpartition(b"\n")
    line = whole.rpartition(b"\n")[2] + b"\n"
    try:
        if len(torn) >= MAX_LINE:
            raise Damaged("what follows it is longer than a line can be")
        return str(checked(line, None)["hash"]), torn
    except Damaged as problem:
        raise UserError(
            f"the last line of {path} is damaged: {problem}; keep the file and start a new log"
        ) from None


def _tail(file: BinaryIO) -> bytes:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 2 * MAX_LINE))
    return file.read(2 * MAX_LINE)


def _lock(file: int) -> bool:
    """Whether this process now is the log's only writer; closing the file ends that."""
    try:
        if sys.platform == "win32":
            # Windows locks bytes against readers too, so one far beyond the end is taken.
            os.lseek(file, 2**40, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
