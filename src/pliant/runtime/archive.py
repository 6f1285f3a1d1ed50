"""The files of a bundle, a folder or a zip, read as if an enemy had made it.

A zip's entries are stored and not compressed, lie one behind the other from the first byte on and
are described twice in the same words, without comments or extra fields (one kind of which names a
file anew), so there is nothing to unpack, to hide or to overlap, and two readers see the same files
in it. In a folder no link is followed. Names are at most one folder deep.

Zip: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.16 (its end).
"""

import os
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pliant.errors import UserError
from pliant.runtime.contract import FILE_NAME, MAX_FILES, META_FILES
from pliant.runtime.fields import path_of

MAX_BYTES = 512 * 2**20
"""Of all files together."""
AGAIN = "copy or download it again, or export it again"
"""What helps against damage."""

_END = struct.Struct("<4s4H2IH")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_UTF8 = 0x800  # the only flag that is allowed: names are ASCII anyway
_LINK = 0o120000


@dataclass(frozen=True)
class Archive:
    """What lies in a bundle; nothing has been read but the list."""

    sizes: Mapping[str, int]
    """Bytes of each file, by its path inside the bundle."""
    _read: Callable[[str], bytes]

    def read(self, name: str, *, most: int = MAX_BYTES) -> bytes:
        """The bytes of a file.

        Args:
            name: Path inside the bundle.
            most: Largest size in bytes that is read.

        Raises:
            UserError: if there is no such file, it is larger, or it cannot be read.
        """
        if name not in self.sizes:
            raise UserError(
                f"the bundle has no {name}; it is damaged, or no bundle of pliant: give the file "
                "or the folder that pliant export wrote, whole"
            )
        if self.sizes[name] > most:
            raise UserError(f"{name} has {self.sizes[name]} bytes, at most {most} are read")
        data = self._read(name)
        if len(data) != self.sizes[name]:
            raise UserError(f"{name} changed while the bundle was read")
        return data


def open_archive(path: Path | str) -> Archive:
    """The files of a bundle.

    Raises:
        UserError: if it is named by no path, does not exist, is neither a folder nor a zip of
            stored entries, or holds something that no bundle holds: a link, a forbidden or repeated
            name, too many bytes.
    """
    path = path_of(path, "a bundle")
    try:
        archive = _folder(path) if path.is_dir() else _zip(path)
    except FileNotFoundError as problem:
        raise UserError(
            f"no such bundle: {path}; give the file or the folder that pliant export wrote"
        ) from problem
    except (OSError, ValueError) as problem:
        if isinstance(problem, UserError):
            raise
        raise UserError(f"{path} cannot be read: {problem}") from problem
    _check_total(archive.sizes, str(path))
    return archive


def archive_of(files: Mapping[str, bytes]) -> Archive:
    """The same of files in memory, by path inside the bundle.

    Raises:
        UserError: if no bundle may hold one of the names, or so much.
    """
    sizes: dict[str, int] = {}
    for name, data in files.items():
        _check_name(name, sizes)
        sizes[name] = len(data)
    _check_total(sizes, "the bundle")
    return Archive(sizes, files.__getitem__)


def _check_total(sizes: Mapping[str, int], what: str) -> None:
    if sum(sizes.values()) > MAX_BYTES:
        raise UserError(f"{what} holds more than {MAX_BYTES // 2**20} MiB; no bundle does")


def stored_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip as `open_archive` reads it: every entry stored, in the order given, readable by all
    (0644), with one fixed date, so that equal files give equal bytes.
    """
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, on Windows too
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _folder(path: Path) -> Archive:
    sizes: dict[str, int] = {}
    todo = [(path, "")]
    while todo:
        folder, prefix = todo.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and not prefix:
                    todo.append((folder / entry.name, f"{entry.name}/"))
                    continue
                if not stat.S_ISREG(status.st_mode):
                    raise UserError(f"{path}: {name!r} is no plain file; a bundle holds no others")
                _check_name(name, sizes)
                sizes[name] = status.st_size
                if len(todo) > MAX_FILES:
                    raise UserError(f"{path} holds more than {MAX_FILES} folders; no bundle does")
    return Archive(sizes, lambda name: _read_file(path / name, sizes[name]))


def _read_file(path: Path, size: int) -> bytes:
    # the file may have been replaced by a link or a pipe since it was listed
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{path} is no plain file")
            return file.read(size + 1)
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}") from problem


def _zip(path: Path) -> Archive:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(f"{path} has more than {MAX_BYTES // 2**20} MiB; no bundle has")
    data = _read_file(path, size)
    if data[:4] not in (b"PK\x03\x04", b""):
        raise UserError(
            f"{path} is no bundle (it does not begin as one does); give the file or the folder "
            f"that pliant export wrote, or, if it was one, {AGAIN}"
        )
    if len(data) < _END.size or not data.startswith(b"PK\x05\x06", len(data) - _END.size):
        how = "it does not end as a bundle does" if data else "it is empty"
        raise UserError(f"{path} is no whole bundle ({how}): {AGAIN}")
    try:
        places = _places(data)
    except (struct.error, IndexError, UnicodeDecodeError) as problem:
        raise UserError(f"{path} is damaged: its directory is cut off; {AGAIN}") from problem
    except _Repacked as problem:
        raise UserError(
            f"{path} was packed by another tool: {problem}; unpack it and use the folder as it is, "
            "or write the file again with pliant export"
        ) from problem
    except _Refused as problem:
        raise UserError(f"{path} is damaged: {problem}; {AGAIN}") from problem
    sizes = {name: length for name, (_, length) in places.items()}

    def read(name: str) -> bytes:
        start, length = places[name]
        return data[start : start + length]

    return Archive(sizes, read)


class _Refused(Exception):
    """Why a zip is not taken; the path is added by the caller."""


class _Repacked(Exception):
    """The same where the zip may be sound, and pliant did not write it."""


def _places(data: bytes) -> dict[str, tuple[int, int]]:
    """(first byte, length) of each entry."""
    magic, *disks, number, directory_size, directory, comment = _END.unpack_from(
        data, max(0, len(data) - _END.size)
    )
    if magic != b"PK\x05\x06" or comment:
        raise _Refused("it must end as a zip without comment does")
    if disks[:2] != [0, 0] or disks[2] != number or not 0 < number <= MAX_FILES:
        raise _Refused(f"it must be one disk with at most {MAX_FILES} files")
    if directory + directory_size + _END.size != len(data):
        raise _Refused("its directory is not where its end says")
    places: dict[str, tuple[int, int]] = {}
    place, start = directory, 0
    for _ in range(number):
        (magic, _, _, flags, method, _, _, checksum, packed, length, name_length, extra_length,
         comment, disk, _, attributes, offset) = _CENTRAL.unpack_from(data, place)  # fmt: skip
        place += _CENTRAL.size
        name = data[place : place + name_length].decode("ascii")
        place += name_length
        if magic != b"PK\x01\x02" or disk:
            raise _Refused("its directory is damaged")
        if name.endswith("/"):
            raise _Repacked(f"{name!r} is a folder's entry, and files alone must be stored")
        if flags & ~_UTF8 or method or packed != length:
            raise _Repacked(f"{name!r} must be stored, not compressed or encrypted")
        if extra_length or comment:
            raise _Repacked(f"{name!r} must be stored plainly; it has an extra field or a comment")
        if attributes >> 16 & 0o170000 == _LINK:
            raise _Refused(f"{name!r} is a link")
        if offset != start:
            raise _Refused(f"{name!r} does not begin where the file before it ends")
        local = _LOCAL.unpack_from(data, offset)
        name_at = offset + _LOCAL.size
        (again,) = (data[name_at : name_at + local[9]].decode("ascii"),)
        if (local[0], local[2], local[3], *local[6:9], again) != (
            b"PK\x03\x04", flags, method, checksum, packed, length, name
        ):  # fmt: skip
            raise _Refused(f"{name!r} is described in two ways")
        if local[10]:
            raise _Repacked(f"{name!r} must be stored plainly; it has an extra field or a comment")
        start = name_at + local[9] + length
        if start > directory:
            raise _Refused(f"{name!r} is larger than the file")
        _check_name(name, places)
        places[name] = start - length, length
    if start != directory or place != len(data) - _END.size:
        raise _Refused("it holds bytes that belong to no file")
    return places


def _check_name(name: str, known: Mapping[str, object]) -> None:
    if not (FILE_NAME.fullmatch(name) or name in META_FILES):
        raise UserError(f"a bundle cannot hold a file named {name[:80]!r}; remove it")
    if name in known:
        raise UserError(f"the bundle holds {name} twice")
    if len(known) >= MAX_FILES:
        raise UserError(f"the bundle holds more than {MAX_FILES} files")
