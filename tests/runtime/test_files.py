"""Files appear whole or not at all."""

import hashlib

import pytest

from pliant.runtime.files import sha256_file, write_atomic


def test_text_and_bytes_replace_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    write_atomic(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_no_draft(tmp_path):
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomic(target, b"new")  # a folder cannot be replaced by a file
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "nowhere" / "a", b"new")


def test_sha256(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"ab" * 700_000)
    assert sha256_file(path) == hashlib.sha256(b"ab" * 700_000).hexdigest()
