"""Verdicts one by one, as they come: of images, or of the frames of a video or camera."""

import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from pliant.jobs.judges import Judge
from pliant.runtime.verdict import Prediction
from pliant.runtime.video import Footage


@dataclass(frozen=True, kw_only=True)
class Judged(Prediction):
    """A verdict, and on what."""

    source: str
    """The image, the video or the camera, as it was given."""
    frame: int | None
    """Number of the frame, from 0; None: an image, or the verdict on all frames."""
    time_s: float | None
    """Seconds from the start of the video or camera, where they are known."""


def judged(
    found: Prediction, source: str, frame: int | None = None, time_s: float | None = None
) -> Judged:
    """The prediction with what it is about."""
    values = {field.name: getattr(found, field.name) for field in fields(Prediction)}
    return Judged(**values, source=source, frame=frame, time_s=time_s)


def judged_images(
    judge: Judge, images: Sequence[Path], *, shown: bool
) -> Generator[Judged, None, None]:
    """The verdict on each image.

    Args:
        judge: An opened model.
        images: Files; one that cannot be read is undecided.
        shown: Draw a bar on stderr.
    """
    with _bar(len(images), shown) as show:
        for path in images:
            row = judged(judge(path), str(path))
            show(row)
            yield row


def judged_frames(
    judge: Judge,
    footage: Footage,
    *,
    shown: bool,
    told: bool = False,
    every: int,
    seconds: float | None,
    most: int | None,
) -> Generator[Judged, None, None]:
    """The verdict on each frame; the footage is closed at the end.

    Args:
        judge: An opened model.
        footage: A video or camera.
        shown: Draw a bar on stderr.
        told: Instead of a bar, print a line on stderr when the verdict changes, and each second.
        every: As `Footage.frames` takes it.
        seconds: As `Footage.frames` takes it.
        most: As `Footage.frames` takes it.

    Raises:
        UserError: if no frame can be read, or there are too many.
    """
    total = footage.num_frames and -(-footage.num_frames // every)
    with footage, _bar(total, shown) as show:
        if told:
            show = _lines()
        for frame in footage.frames(every=every, seconds=seconds, most=most):
            row = judged(judge(frame.image), footage.name, frame.index, frame.time_s)
            show(row)
            yield row


def brief(row: Judged) -> str:
    """Verdict, score, tier and milliseconds in a few words."""
    score = "" if row.score is None else f" {row.score:.4f}"
    return f"{row.verdict}{score} {row.tier or row.configuration} {row.latency_ms:.0f} ms"


def _lines() -> Callable[[Judged], None]:
    last: tuple[str, float] = "", 0.0

    def show(row: Judged) -> None:
        nonlocal last
        now = time.monotonic()
        if row.verdict != last[0] or now - last[1] >= 1:
            last = row.verdict, now
            print(f"{row.source} frame {row.frame}: {brief(row)}", file=sys.stderr, flush=True)

    return show


@contextmanager
def _bar(total: int | None, shown: bool) -> Iterator[Callable[[Judged], None]]:
    """On a terminal a bar with the newest verdict and the time left."""
    if not shown:
        yield lambda row: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    words = TextColumn("{task.description}", markup=False)
    columns = words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # stdout stays as it is: rich would move JSON lines to stderr, above its bar
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
    ) as progress:
        task = progress.add_task("judging", total=total)

        def show(row: Judged) -> None:
            progress.update(task, advance=1, description=brief(row))

        yield show
