"""Writers of files for the tests of readers."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def put(tmp_path) -> Callable[..., Path]:
    """put("a/b.txt", *lines) writes a file under the data set's folder; returns the folder."""

    def write(name: str, *lines: str) -> Path:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return tmp_path / "set"

    return write


@pytest.fixture
def brief() -> Callable:
    """Name, truth, species, subject, session, device and split of a reading's samples."""

    def rows(reading) -> dict[str, tuple]:
        return {
            s.name: (s.bona_fide, s.pai_species, s.subject, s.session, s.device, s.split)
            for s in reading.samples
        }

    return rows
