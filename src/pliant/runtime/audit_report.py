"""Is an audit log whole? Every line is read once and checked against the one before it.

`audit.py` says what a line is, what a chain proves and what it cannot.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pliant.errors import UserError
from pliant.runtime.audit import MAX_LINE, START, Damaged, checked
from pliant.runtime.fields import path_of


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What a log holds, and where it is broken first."""

    path: Path
    """Of the log."""
    num_lines: int
    """Whole lines that verify, from the first one on."""
    num_verdicts: int
    """Of those, verdicts."""
    num_frames: int
    """Of those, verdicts on single frames; the others are on whole presentations."""
    num_sealed: int
    """Torn lines that a crash left and a later writer ended and named."""
    torn_bytes: int
    """Of a torn line at the end, which the next writer will seal; it counts for nothing."""
    model: str
    """SHA-256 of the bundle that the log began with."""
    models: tuple[str, ...]
    """SHA-256 of every bundle whose verdicts it holds, in the order of their first ones."""
    first: str
    """Time of the first line, UTC."""
    last: str
    """Time of the last line that verifies, UTC."""
    head: str
    """Hash of the last line that verifies: note it elsewhere to detect a later cut."""
    num_after_head: int | None
    """Lines after the one whose hash was given; None: none was given, or it was not found."""
    broken_line: int | None
    """Number of the first line that does not verify, from 1; None: none."""
    why: str | None
    """What is wrong there."""

    @property
    def intact(self) -> bool:
        """Whether every line verifies and the given head was found."""
        return self.broken_line is None

    def require_intact(self) -> "AuditReport":
        """The same report.

        Raises:
            UserError: if the log is broken; line and reason are named.
        """
        if not self.intact:
            raise UserError(
                f"the audit log {self.path} is broken: line {self.broken_line}: {self.why}"
            )
        return self


def verify(path: Path | str, *, head: str | None = None) -> AuditReport:
    """Check a log from its first line to its last; its size does not matter.

    Args:
        path: The log.
        head: A hash that was noted while the log was written. It must be that of some line, or
            lines are missing at the end.

    Raises:
        UserError: if the file does not exist, cannot be read or does not begin as an audit log, or
            the head is none.
    """
    path = path_of(path, "an audit log")
    if head is not None:
        if not isinstance(head, str):
            raise UserError(f"a head is 64 hexadecimal digits, got {type(head).__name__}")
        head = head.strip().lower()
        if not re.fullmatch("[0-9a-f]{64}", head):
            raise UserError(f"a head is 64 hexadecimal digits, got {head[:80]!r}")
    if not os.path.isfile(path):  # unlike Path's, it raises nothing
        raise UserError(f"no such audit log: {path}")
    found = {"header": 0, "verdict": 0, "torn": 0}
    models: dict[str, None] = {}
    num_of_frames = 0
    header, last, torn_bytes, num_after_head = {}, {}, 0, None
    broken: _Broken | None = None
    try:
        for record in _records(path):
            if record["kind"] == "open":
                torn_bytes = record["bytes"]
                break
            found[record["kind"]] += 1
            header, last = header or record, record
            if record["kind"] == "verdict":
                models[str(record["model"])] = None
                num_of_frames += record["frame"] is not None
            if record["hash"] == head:
                num_after_head = 0
            elif num_after_head is not None:
                num_after_head += 1
    except _Broken as problem:
        broken = problem
    except OSError as problem:
        raise UserError(f"the audit log {path} cannot be read: {problem.strerror}") from problem
    if not header:
        raise UserError(f"{path} is not an audit log: {broken.why if broken else 'it is empty'}")
    num_lines = sum(found.values())
    if broken is None and head is not None and num_after_head is None:
        broken = _Broken(
            num_lines + found["torn"] + 1,
            f"no line before it has the hash {head[:64]}: lines are missing at the end, or the "
            "log was rewritten",
        )
    return AuditReport(
        path=path,
        num_lines=num_lines,
        num_verdicts=found["verdict"],
        num_frames=num_of_frames,
        num_sealed=found["torn"],
        torn_bytes=torn_bytes,
        model=str(header["model"]),
        models=tuple(models),
        first=header["time"],
        last=last["time"],
        head=last["hash"],
        num_after_head=num_after_head,
        broken_line=broken and broken.line,
        why=broken and broken.why,
    )


class _Broken(Exception):
    def __init__(self, line: int, why: str) -> None:
        super().__init__(line, why)
        self.line, self.why = line, why


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Every line that verifies, in order; for a torn last line a record of the kind `open`.

    Raises:
        _Broken: at the first line that neither verifies nor is named by a `torn` line after it.
    """
    previous = START
    number = 0
    with open(path, "rb") as file:
        while line := file.readline(MAX_LINE):
            number += 1
            try:
                record = checked(line, previous)
                _check_place(record, number)
            except Damaged as problem:
                seal = file.readline(MAX_LINE)
                if not seal and number > 1 and not line.endswith(b"\n") and len(line) < MAX_LINE:
                    yield {"kind": "open", "bytes": len(line)}
                    return
                if not _seals(seal, previous, line):
                    raise _Broken(number, str(problem)) from None
                number += 1
                record = json.loads(seal)
            yield record
            previous = record["hash"]


def _check_place(record: dict[str, Any], number: int) -> None:
    if (record["kind"] == "header") != (number == 1):
        raise Damaged("a header stands in the first line and nowhere else")
    if record["kind"] == "torn":
        raise Damaged("it names a torn line, but the line before it is whole")


def _seals(line: bytes, previous: str, torn: bytes) -> bool:
    """Whether the line is one that a writer appends to name the torn line before it."""
    torn = torn.removesuffix(b"\n")
    try:
        record = checked(line, previous)
    except Damaged:
        return False
    named = record["kind"], record.get("bytes"), record.get("sha256")
    return named == ("torn", len(torn), hashlib.sha256(torn).hexdigest())
