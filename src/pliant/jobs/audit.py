"""`pliant audit verify FILE`, `pliant audit head FILE`: is a log whole, and where does it end?

A broken log is bad input: exit code 2, and the sentence names the first line that does not verify.
"""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from pliant.jobs.bundle import plain
from pliant.runtime import audit_report
from pliant.runtime.audit_report import AuditReport

MAX_MODELS = 20
"""That are listed on the terminal."""
VERBS = {
    "verify": "check every line against the one before it",
    "head": "print the hash of the last line, to be noted elsewhere",
}


def verify(
    file: Annotated[Path, Positional, arg(metavar="FILE")], *, head: str | None = None
) -> AuditReport:
    """Check an audit log: no line was changed, dropped or moved.

    Args:
        file: As `pliant predict --audit FILE` wrote it.
        head: A hash that `pliant audit head` gave earlier: shows whether lines are missing at the
            end, or the log was rewritten.

    Raises:
        UserError: if the log is broken; line and reason are named.
    """
    return audit_report.verify(file, head=head).require_intact()


def head(file: Annotated[Path, Positional, arg(metavar="FILE")]) -> AuditReport:
    """Print the head of an intact audit log: the hash of its last whole line.

    Args:
        file: As `pliant predict --audit FILE` wrote it.

    Raises:
        UserError: if the log is broken: its head would vouch for nothing.
    """
    return audit_report.verify(file).require_intact()


def verify_summary(report: AuditReport) -> list[str]:
    """What the log holds, and what a crash has left in it."""
    whole = report.num_verdicts - report.num_frames
    models = report.models or (report.model,)
    said = [
        f"intact: {report.num_lines} lines, {report.num_verdicts} verdicts ({whole} on "
        f"presentations, {report.num_frames} on single frames), {report.first} to {report.last}",
        *(f"model  {plain(model)}" for model in models[:MAX_MODELS]),
        f"head   {report.head}",
    ]
    if len(models) > MAX_MODELS:
        said.insert(-1, f"and {len(models) - MAX_MODELS} more models; --json lists them")
    if report.num_after_head is not None:
        said.append(f"{report.num_after_head} lines were added since the given head")
    if report.num_sealed:
        said.append(f"{report.num_sealed} torn lines, left by crashes, were ended and named")
    if report.torn_bytes:
        said.append(
            f"{report.torn_bytes} bytes of a torn line stand at the end: a crash while writing, or "
            "a writer at work; the next writer ends and names it"
        )
    if report.num_after_head is None:
        said.append("Lines missing at the end show only against a head that was noted: --head HASH")
    return said


def head_summary(report: AuditReport) -> list[str]:
    """The hash alone."""
    return [report.head]
