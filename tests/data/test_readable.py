"""Threads keep the order, stop at an error, and a small share of bad files is allowed."""

from pathlib import Path

import pytest

from pliant.data.manifest import Skipped
from pliant.data.progress import map_threads, watched
from pliant.data.readable import refuse_too_many
from pliant.errors import UserError


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 5, 100])
def test_map_threads_equals_map(workers, number):
    assert list(map_threads(lambda n: n * n, range(number), workers=workers)) == [
        n * n for n in range(number)
    ]


def test_an_error_ends_the_work():
    done = []

    def work(n: int) -> int:
        done.append(n)
        if n == 3:
            raise OSError("disk full")
        return n

    with pytest.raises(OSError, match="disk full"):
        list(map_threads(work, range(10_000), workers=2))
    assert len(done) < 100


def test_watched_is_silent_without_a_terminal(capsys):
    assert list(watched(iter("abc"), 3, "title")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_the_limit_is_5_percent():
    skipped = [Skipped(Path("a.jpg"), "zero bytes")]
    refuse_too_many(skipped, 20)
    with pytest.raises(UserError, match="1 of 19 images cannot be used"):
        refuse_too_many(skipped, 19)
