"""The manifest: read back what was written, and refuse what is wrong by file and line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.data.manifest import COLUMNS, Sample, read_manifest, write_manifest
from pliant.errors import UserError


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_by_hand(tmp_path):
    path = manifest(
        tmp_path,
        "path,subject,bona_fide,pai_species,session,glasses,split,clip,box_x,box_y,box_w,box_h",
        "live/a.jpg,0001,1,,01,00,train,,61.6,48.1,69.3,96.0",
        "spoof/./b.jpg,0002,false,print,,00,val,c7,,,,",
    )
    live, attack = read_manifest(path)
    assert live == Sample(
        path=tmp_path.resolve() / "live" / "a.jpg",
        name="live/a.jpg",
        bona_fide=True,
        subject="0001",
        session="01",
        split="train",
        box=(61.6, 48.1, 69.3, 96.0),
    )
    assert (attack.bona_fide, attack.pai_species, attack.split) == (False, "print", "dev")
    assert (attack.box, attack.landmarks, attack.session) == (None, None, None)
    assert (live.presentation, attack.presentation) == ("live/a.jpg", "c7")


def test_labels_of_other_tasks(tmp_path):
    (sample,) = read_manifest(manifest(tmp_path, "path,label", "a.jpg,owl"))
    assert (sample.label, sample.bona_fide) == ("owl", None)


numbers = st.floats(0.5, 999, allow_nan=False)
words = st.one_of(st.none(), st.text("abcäö ,;'\"-_", min_size=1).map(str.strip).filter(bool))


@st.composite
def samples(draw):
    bona_fide = draw(st.booleans())
    return {
        "bona_fide": bona_fide,
        "pai_species": None if bona_fide else draw(words),
        "subject": draw(words),
        "session": draw(words),
        "split": draw(st.sampled_from([None, "train", "dev", "test"])),
        "clip": draw(words),
        "device": draw(words),
        "label": draw(words),
        "box": draw(st.one_of(st.none(), st.tuples(*[numbers] * 4))),
        "landmarks": draw(st.one_of(st.none(), st.tuples(*[st.tuples(numbers, numbers)] * 5))),
    }


@settings(max_examples=30)
@given(fields=st.lists(samples(), min_size=1, max_size=3))
def test_written_and_read_back(tmp_path_factory, fields):
    folder = tmp_path_factory.mktemp("set").resolve()
    listed = [
        Sample(
            path=folder / "a b" / f"{k}.jpg",
            name=f"a b/{k}.jpg",
            depth_path=folder / f"{k}-depth.png" if k % 2 else None,
            **values,
        )
        for k, values in enumerate(fields)
    ]
    write_manifest(listed, folder / "manifest.csv")
    assert read_manifest(folder / "manifest.csv") == listed


def test_writing_refuses_files_elsewhere(tmp_path):
    with pytest.raises(ValueError, match="elsewhere"):
        write_manifest([Sample(path=Path("/elsewhere/a.jpg"))], tmp_path / "manifest.csv")


@pytest.mark.parametrize("where", ["../a.jpg", "/etc/passwd", "b/../../a.jpg", "..\\a.jpg", "."])
def test_paths_may_not_leave_the_folder(tmp_path, where):
    path = manifest(tmp_path, "path,bona_fide", "ok.jpg,1", f"{where},1")
    with pytest.raises(UserError, match=r"manifest.csv, line 3: .* leads out of"):
        read_manifest(path)


@pytest.mark.parametrize("column", ["depth_path", "ir_path"])
def test_neither_may_other_paths(tmp_path, column):
    with pytest.raises(UserError, match="leads out of"):
        read_manifest(manifest(tmp_path, f"path,bona_fide,{column}", "ok.jpg,1,../a.png"))


def test_links_are_resolved(tmp_path):
    outside = tmp_path / "outside"
    inside = tmp_path / "set"
    outside.mkdir()
    inside.mkdir()
    (outside / "a.jpg").touch()
    (inside / "file.jpg").symlink_to(outside / "a.jpg")
    (inside / "folder").symlink_to(outside)
    (inside / "real.jpg").touch()
    (inside / "near.jpg").symlink_to(inside / "real.jpg")
    for name in ("file.jpg", "folder/a.jpg"):
        with pytest.raises(UserError, match="leads out of"):
            read_manifest(manifest(inside, "path,bona_fide", f"{name},1"))
    (sample,) = read_manifest(manifest(inside, "path,bona_fide", "near.jpg,1"))
    assert sample.path == inside.resolve() / "real.jpg"


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,bona_fide", "a.jpg,2", "line 2: bona_fide is '2'; allowed: 1, 0, true, false"),
        ("path,bona_fide", "a.jpg,", "line 2: neither bona_fide"),
        ("path,bona_fide", ",1", "line 2: path is empty"),
        ("path,bona_fide", "a.jpg,1,3", "line 2: the row has more or fewer values"),
        ("path,bona_fide,split", "a.jpg,1", "line 2: the row has more or fewer values"),
        ("path,bona_fide,split", "a.jpg,1,tset", "split is 'tset'; allowed: train, dev, test"),
        ("path,bona_fide,pai_species", "a.jpg,1,print", "bona fide, and yet pai_species is"),
        ("path,bona_fide,box_x,box_y,box_w,box_h", "a.jpg,1,1,2,,4", "box_w is ''; needed: a num"),
        (
            "path,bona_fide,box_x,box_y,box_w,box_h",
            "a.jpg,1,1,2,0,4",
            "box_w and box_h must be > 0",
        ),
        ("path,bona_fide,box_x,box_y,box_w,box_h", "a.jpg,1,nan,2,3,4", "box_x is 'nan'"),
        ("path,bonafide", "a.jpg,1", "unknown column 'bonafide'; did you mean 'bona_fide'"),
        ("path,bona_fide,subjct", "a.jpg,1,7", "unknown column 'subjct'; did you mean 'subject'"),
        ("path,live", "a.jpg,1", "needs the columns path and bona_fide"),
        ("path,path,bona_fide", "a.jpg,b.jpg,1", "column path more than once"),
        ("path,bona_fide", '"a.jpg,1', "not a CSV row"),
        ("path,bona_fide", "a\0b.jpg,1", "zero byte|not a CSV row"),
    ],
)
def test_refusals(tmp_path, header, row, message):
    with pytest.raises(UserError, match=message):
        read_manifest(manifest(tmp_path, header, row))


def test_the_same_file_twice(tmp_path):
    path = manifest(tmp_path, "path,bona_fide", "a.jpg,1", "b.jpg,1", "x/../a.jpg,0")
    with pytest.raises(UserError, match=r"line 4: 'x/../a.jpg' is listed on line 2 already"):
        read_manifest(path)


def test_missing_empty_and_strange_files(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv")
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="is empty; it needs a header"):
        read_manifest(path)
    path.write_text("path,bona_fide\n")
    with pytest.raises(UserError, match="lists no samples"):
        read_manifest(path)
    path.write_bytes(b"path,bona_fide\n\xff\xfe,1\n")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_manifest(path)
    path.write_text("path,bona_fide\n" + "a" * 200_000 + ",1\n")
    with pytest.raises(UserError, match="near line 2: not a CSV row"):
        read_manifest(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path)
    path.write_text("path,bona_fide\na.jpg,1\nb.jpg,0\n")
    monkeypatch.setattr("pliant.data.manifest.MAX_ROWS", 1)
    with pytest.raises(UserError, match="more than 1 rows"):
        read_manifest(path)
    monkeypatch.setattr("pliant.data.manifest.MAX_BYTES", 10)
    with pytest.raises(UserError, match="is larger than"):
        read_manifest(path)


def test_columns_are_those_of_the_design():
    assert {"path", "subject", "bona_fide", "clip", "depth_path", "mouth_left_y"} <= set(COLUMNS)
