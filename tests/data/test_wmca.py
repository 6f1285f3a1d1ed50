"""WMCA: the list, the names, the modalities' folders."""

import pytest

from pliant.data.wmca import SPECIES, read_wmca
from pliant.errors import UserError

HEADER = ",client_id,filepath,group,label"


@pytest.fixture
def tree(put):
    lines = [HEADER]
    for k, group in enumerate(("train", "dev", "eval")):
        for kind in ("0_00", "3_08", "2_13"):
            clip = f"face-station/01.02.18/00{k}_01_000_{kind}"
            for j in range(3):
                for folder in ("color", "depth", "infrared", "thermal"):
                    put(f"{clip}/{folder}/{j}.jpg")
            lines.append(
                f"{len(lines)},{k},{clip},{group},{'bonafide' if kind[0] == '0' else 'attack'}"
            )
    return put("WMCA_Grandtest.txt", *lines), lines


def test_fields(tree, brief):
    root, _ = tree
    reading = read_wmca(root, frames="1")
    assert brief(reading)["face-station/01.02.18/002_01_000_2_13/color/1.jpg"] == (
        False, "rigid mask", "2", "01", None, "test",
    )  # fmt: skip
    live = next(s for s in reading.samples if s.bona_fide)
    assert live.depth_path == root / "face-station/01.02.18/000_01_000_0_00/depth/1.jpg"
    assert live.ir_path == root / "face-station/01.02.18/000_01_000_0_00/infrared/1.jpg"
    assert live.clip == "face-station/01.02.18/000_01_000_0_00"
    assert len(reading.samples) == 9


def test_species_are_by_type_and_pai(put):
    lines, wanted = [HEADER], {}
    for name, species in {
        "0_02": None, "1_01": "glasses", "1_16": "glasses", "1_02": "rigid mask",
        "1_13": "rigid mask", "2_07": "fake head", "2_08": "paper mask", "2_11": "paper mask",
        "2_12": "rigid mask", "2_17": "rigid mask", "2_18": "flexible mask",
        "2_75": "flexible mask", "2_99": "flexible mask", "3_04": "print", "3_05": "replay",
        "3_10": "replay", "3_15": "replay", "3_14": "print", "4_18": "replay",
    }.items():  # fmt: skip
        clip = f"face-station/17.01.18/002_01_003_{name}"
        root = put(f"{clip}/color/1.jpg")
        lines.append(f"{len(lines)},2,{clip},train,{'attack' if species else 'bonafide'}")
        wanted[clip] = species
    put("WMCA_Grandtest.txt", *lines)
    assert {s.clip: s.pai_species for s in read_wmca(root).samples} == wanted
    assert len(set(SPECIES.values())) == 8


def test_skips(tree, put):
    root, lines = tree
    (root / "face-station/01.02.18/000_01_000_3_08/depth/1.jpg").unlink()
    put("01.02.18/009_01_000_0_00.hdf5")
    extra = ["20,9,01.02.18/009_01_000_0_00.hdf5,dev,bonafide", "21,8,x/008_01_000_4_01,dev,attack"]
    put("WMCA_Grandtest.txt", *lines, *extra)
    assert [(s.path.name, s.reason) for s in read_wmca(root, frames="1").skipped] == [
        ("009_01_000_0_00", "HDF5: extract its frames first"),
        ("008_01_000_4_01", "its frames are missing"),
        ("1.jpg", "its depth image is missing"),
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "1,2,x/001_01_000_0_00,train,attack",
            "the label says 'attack', the name bona fide",
        ),
        ("1,2,x/001_01_000_3_01,train,bonafide", "the name print"),
        ("1,2,x/001_01_000_5_08,train,attack", "type 5 with pai 08 is no attack of WMCA"),
        ("1,2,x/001_01_000_2_19,train,attack", "type 2 with pai 19 is no attack of WMCA"),
        ("1,2,x/001_01_000_3_01,other,attack", "a group of train, dev, eval"),
        ("1,2", "is not 'number,client,video,group,label'"),
    ],
)
def test_malformed(tree, put, line, sentence):
    root, _ = tree
    put("WMCA_Grandtest.txt", HEADER, line)
    with pytest.raises(UserError, match=f"line 2: .*{sentence}"):
        read_wmca(root)
