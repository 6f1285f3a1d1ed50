"""Work over many files: spread over threads, with a bar on stderr where that is a terminal."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def watched(steps: Iterable[A], total: int, title: str, *, progress: bool = True) -> Iterator[A]:
    """The same steps, with a bar and the time left."""
    if not (progress and sys.stderr.isatty()):
        yield from steps
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(steps, description=title, total=total, console=console, transient=True)


def map_threads(
    work: Callable[[A], B], items: Iterable[A], *, workers: int | None = None
) -> Iterator[B]:
    """work(item) for every item, in order; OpenCV and file reads leave the interpreter free.

    Only a few items are under way at a time, so that an error or Ctrl-C ends it soon.

    Args:
        work: Must be safe to call from several threads.
        items: What it is called with.
        workers: Threads; None for one per core.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield from map(work, items)
        return
    rest = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(work, item) for item in islice(rest, 8 * workers))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)
