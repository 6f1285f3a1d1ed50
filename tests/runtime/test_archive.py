"""Folders and zips that nobody vouches for."""

import os
import shutil
import struct
import zipfile
import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.runtime import archive as module
from pliant.runtime.archive import open_archive, stored_zip

FILES = {"bundle.json": b"{}", "model.onnx": b"weights", "golden/0.png": b"\x89PNG", "a.bin": b""}


def write(path, data: bytes):
    path.write_bytes(data)
    return path


@pytest.fixture
def packed(tmp_path):
    """A zip, made from (name, bytes) pairs and changes to each entry's header."""

    def make(entries, **header):
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in entries:
                info = zipfile.ZipInfo(name)
                for key, value in header.items():
                    setattr(info, key, value)
                archive.writestr(info, data)
        return write(tmp_path / "a.pliant", buffer.getvalue())

    return make


def test_a_zip_and_a_folder_hold_the_same(tmp_path):
    packed = open_archive(write(tmp_path / "a.pliant", stored_zip(FILES)))
    for name, data in FILES.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    folder = open_archive(tmp_path / "folder")
    for archive in (packed, folder):
        assert {name: archive.read(name) for name in archive.sizes} == FILES
        assert archive.sizes["model.onnx"] == 7


def test_reading_more_than_allowed_or_what_is_not_there(tmp_path):
    archive = open_archive(write(tmp_path / "a.pliant", stored_zip(FILES)))
    with pytest.raises(UserError, match="has 7 bytes, at most 6"):
        archive.read("model.onnx", most=6)
    with pytest.raises(UserError, match=r"has no weights.bin"):
        archive.read("weights.bin")


@pytest.mark.parametrize(
    "name",
    ["../a.bin", "/a.bin", "a\\b.bin", "C:a.bin", "x/../a.bin", "x/y/z.bin", "A.BIN", ".a.bin",
     "a.bin/", "", "a bin.png", "con", "a.bin\n", "\u00e4.bin"],
)  # fmt: skip
def test_names_that_lead_out_or_hide(packed, name):
    with pytest.raises(
        UserError, match=r"cannot hold a file named|directory is cut off|folder's entry"
    ):
        open_archive(packed([("bundle.json", b"{}"), (name, b"x")]))


def test_a_repeated_name(packed):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = packed([("a.bin", b"1"), ("a.bin", b"2")])
    with pytest.raises(UserError, match=r"holds a\.bin twice"):
        open_archive(path)


def test_compressed_and_encrypted_entries(packed):
    with pytest.raises(UserError, match="must be stored, not compressed or encrypted"):
        open_archive(packed([("a.bin", b"0" * 100)], compress_type=zipfile.ZIP_DEFLATED))
    data = bytearray(stored_zip({"a.bin": b"1"}))
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + place] |= 1
    with pytest.raises(UserError, match="must be stored"):
        open_archive(write(packed([]).parent / "b.pliant", bytes(data)))


def test_extra_fields_and_comments(packed, tmp_path):
    other = b"evil.onnx"  # Info-ZIP Unicode Path: unzip and Java take this name
    path = struct.pack("<HHBI", 0x7075, 5 + len(other), 1, zlib.crc32(b"a.bin")) + other
    for header in ({"extra": path}, {"comment": b"hidden"}):
        with pytest.raises(UserError, match=r"'a\.bin' must be stored plainly; it has an extra"):
            open_archive(packed([("a.bin", b"1")], **header))
    data = bytearray(stored_zip({"a.bin": b"1"}))
    data[35:35] = path  # in the local header alone
    struct.pack_into("<H", data, 28, len(path))
    struct.pack_into("<I", data, len(data) - 6, data.index(b"PK\x01\x02"))
    with pytest.raises(UserError, match="it has an extra field or a comment"):
        open_archive(write(tmp_path / "b.pliant", bytes(data)))


def test_a_bundle_that_a_standard_tool_packed_again(tmp_path):
    for name, data in FILES.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    path = shutil.make_archive(str(tmp_path / "again"), "zip", tmp_path / "folder")
    with pytest.raises(UserError) as refusal:
        open_archive(path)
    said = str(refusal.value)
    assert said.startswith(f"{path} was packed by another tool: 'golden/' is a folder's entry")
    assert said.endswith("use the folder as it is, or write the file again with pliant export")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", r"is no whole bundle \(it is empty\): copy or download it again, or export it again"),
        (stored_zip(FILES)[:-40], r"is no whole bundle \(it does not end as a bundle does\): copy"),
        (b"\x89PNG\r\n\x1a\n", r"is no bundle \(it does not begin as one does\); give the file or"),
        (b"\x08\x09\x12\x06pliant", "is no bundle .* give the file or the folder that pliant"),
        (b"hi\n", "is no bundle .* or, if it was one, copy or download it again"),
    ],
)  # fmt: skip
def test_the_commonest_damage_and_the_wrong_file(tmp_path, data, said):
    with pytest.raises(UserError, match=said):
        open_archive(write(tmp_path / "a.pliant", data))


def test_a_stored_zip_is_the_same_everywhere():
    data = stored_zip(FILES)
    assert data == stored_zip(dict(FILES))
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.namelist() == list(FILES)
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr >> 16 == 0o100644
            assert (entry.create_system, entry.compress_type) == (3, zipfile.ZIP_STORED)


def test_a_link_in_a_zip(packed):
    with pytest.raises(UserError, match="is a link"):
        open_archive(packed([("a.bin", b"/etc/passwd")], external_attr=0o120777 << 16))


def test_bytes_before_behind_and_between(tmp_path):
    data = stored_zip(FILES)
    for changed in (b"x" + data, data + b"x", data[:-1], data[:10], b"", b"PK\x05\x06" + bytes(18)):
        with pytest.raises(UserError, match=r"is no bundle|is no whole bundle|is damaged"):
            open_archive(write(tmp_path / "a.pliant", changed))
    directory = data.index(b"PK\x01\x02")
    end = bytearray(data[-22:])
    struct.pack_into("<I", end, 16, directory + 3)
    gap = data[:directory] + b"gap" + data[directory:-22] + bytes(end)
    with pytest.raises(UserError, match="bytes that belong to no file"):
        open_archive(write(tmp_path / "a.pliant", gap))


def test_a_zip_that_lies(tmp_path):
    data = stored_zip({"a.bin": b"123456", "b.bin": b"7"})
    central, local = data.index(b"PK\x01\x02"), data.index(b"PK\x03\x04")
    for size in (0, 5, 7, 2**31, 2**32 - 1):
        for both in (True, False):
            changed = bytearray(data)
            struct.pack_into("<II", changed, central + 20, size, size)
            if both:
                struct.pack_into("<II", changed, local + 18, size, size)
            with pytest.raises(UserError, match="damaged"):
                open_archive(write(tmp_path / "a.pliant", bytes(changed)))


def test_two_entries_over_the_same_bytes(tmp_path):
    data = bytearray(stored_zip({"a.bin": b"1", "b.bin": b"1"}))
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, 0)
    with pytest.raises(UserError, match="does not begin where the file before it ends"):
        open_archive(write(tmp_path / "a.pliant", bytes(data)))


def test_links_pipes_and_deep_folders(tmp_path):
    outside = write(tmp_path / "secret.bin", b"secret")
    for number, make in enumerate(
        (
            lambda folder: (folder / "a.bin").symlink_to(outside),
            lambda folder: (folder / "golden").symlink_to(tmp_path),
            lambda folder: os.mkfifo(folder / "a.bin"),
            lambda folder: (folder / "x" / "y").mkdir(parents=True),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder)
        with pytest.raises(UserError, match="is no plain file; a bundle holds no others"):
            open_archive(folder)


def test_a_file_that_becomes_a_link_after_it_was_listed(tmp_path):
    outside = write(tmp_path / "secret.bin", b"secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    file = write(folder / "a.bin", b"public")
    archive = open_archive(folder)
    file.unlink()
    file.symlink_to(outside)
    with pytest.raises(UserError, match="cannot be read"):
        archive.read("a.bin")


def test_a_file_that_grows_after_it_was_listed(tmp_path):
    write(tmp_path / "a.bin", b"1")
    archive = open_archive(tmp_path)
    write(tmp_path / "a.bin", b"12")
    with pytest.raises(UserError, match="changed while"):
        archive.read("a.bin")


def test_too_much_and_too_many(tmp_path, monkeypatch):
    many = stored_zip({f"golden/{k}.png": b"" for k in range(201)})
    with pytest.raises(UserError, match="at most 200 files"):
        open_archive(write(tmp_path / "a.pliant", many))
    monkeypatch.setattr(module, "MAX_BYTES", 2**20)
    with pytest.raises(UserError, match="more than 1 MiB"):
        open_archive(write(tmp_path / "a.pliant", bytes(2**20 + 1)))
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.bin", "b.bin"):
        write(folder / name, bytes(600_000))
    with pytest.raises(UserError, match="holds more than 1 MiB"):
        open_archive(folder)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no such bundle: .*; give the file or the folder"):
        open_archive(tmp_path / "none.pliant")
    with pytest.raises(UserError, match=r"no such bundle|cannot be read"):
        open_archive(str(tmp_path / ("x" * 300)))
    with pytest.raises(UserError, match="cannot be read"):
        open_archive("a\0b")


@given(place=st.integers(0, 10**6), value=st.integers(1, 255))
def test_any_changed_byte_is_refused_or_changes_no_other_file(tmp_path_factory, place, value):
    data = bytearray(stored_zip(FILES))
    data[place % len(data)] ^= value
    path = write(tmp_path_factory.mktemp("zip") / "a.pliant", bytes(data))
    try:
        archive = open_archive(path)
    except UserError:
        return
    found = {name: archive.read(name) for name in archive.sizes}
    same = [name for name in FILES if found.get(name) == FILES[name]]
    assert len(same) >= len(FILES) - 1
    assert {len(data) for data in found.values()} == {len(data) for data in FILES.values()}
