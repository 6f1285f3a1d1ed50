"""WMCA: the list, the names, the modalities' folders."""

import pytest

from pliant.data.wmca import SPECIES, read_wmca
from pliant.errors import UserError

HEADER = ",client_id,video,group,label"


@pytest.fixture
def tree(put):
    lines = [HEADER]
    for k, group in enumerate(("train", "dev", "eval")):
        for kind in (0, 3, 5):
            clip = f"01.02.18/00{k}_01_000_{kind}_08"
            for j in range(3):
                for folder in ("color", "depth", "infrared", "thermal"):
                    put(f"{clip}/{folder}/{j}.jpg")
            lines.append(f"{len(lines)},{k},{clip},{group},{'attack' if kind else 'bonafide'}")
    return put("WMCA_Grandtest.txt", *lines), lines


def test_fields(tree, brief):
    root, _ = tree
    reading = read_wmca(root, frames="1")
    assert brief(reading)["01.02.18/002_01_000_5_08/color/1.jpg"] == (
        False, "rigid mask", "2", "01", None, "test",
    )  # fmt: skip
    live = next(s for s in reading.samples if s.bona_fide)
    assert live.depth_path == root / "01.02.18/000_01_000_0_08/depth/1.jpg"
    assert live.ir_path == root / "01.02.18/000_01_000_0_08/infrared/1.jpg"
    assert live.clip == "01.02.18/000_01_000_0_08"
    assert len(reading.samples) == 9
    assert len(SPECIES) == 8


def test_skips(tree, put):
    root, lines = tree
    (root / "01.02.18/000_01_000_3_08/depth/1.jpg").unlink()
    put("01.02.18/009_01_000_0_00.hdf5")
    extra = ["20,9,01.02.18/009_01_000_0_00.hdf5,dev,bonafide", "21,8,x/008_01_000_4_00,dev,attack"]
    put("WMCA_Grandtest.txt", *lines, *extra)
    assert [(s.path.name, s.reason) for s in read_wmca(root, frames="1").skipped] == [
        ("009_01_000_0_00", "HDF5: extract its frames first"),
        ("008_01_000_4_00", "its frames are missing"),
        ("1.jpg", "its depth image is missing"),
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "1,2,x/001_01_000_0_00,train,attack",
            "the label says 'attack', the type in the name",
        ),
        ("1,2,x/001_01_000_3_00,train,bonafide", "the type in the name print"),
        ("1,2,x/001_01_000_9_00,train,attack", "with a type below 8"),
        ("1,2,x/001_01_000_3_00,other,attack", "a group of train, dev, eval"),
        ("1,2", "is not 'number,client,video,group,label'"),
    ],
)
def test_malformed(tree, put, line, sentence):
    root, _ = tree
    put("WMCA_Grandtest.txt", HEADER, line)
    with pytest.raises(UserError, match=f"line 2: .*{sentence}"):
        read_wmca(root)
