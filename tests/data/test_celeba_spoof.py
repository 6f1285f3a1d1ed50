"""CelebA-Spoof: value 43 is 1 for an attack; gaps, strays and contradictions are listed."""

import json

import pytest

from pliant.data.celeba_spoof import LISTS, SPECIES, read_celeba_spoof
from pliant.errors import UserError


def values(kind=0, light=0, place=0, truth=0, length=44):
    return ([0] * 40 + [kind, light, place, truth])[:length]


@pytest.fixture
def tree(put):
    """Three training subjects with live and spoof, one test subject, every protocol."""
    train, test = {}, {}
    for who in ("1", "2", "3", "9"):
        labels, part = (test, "test") if who == "9" else (train, "train")
        for name, label in {
            f"Data/{part}/{who}/live/00000{who}.png": values(),
            f"Data/{part}/{who}/spoof/00001{who}.jpg": values(9, 2, 1, 1),
        }.items():
            put(name)
            labels[name] = label
    for folder in LISTS.values():
        root = put(f"{folder}/train_label.json", json.dumps(train))
        put(f"{folder}/test_label.json", json.dumps(test))
    return root, train, test


def test_polarity_and_fields(tree, brief):
    root, *_ = tree
    reading = read_celeba_spoof(root)
    found = brief(reading)
    attack = found["Data/test/9/spoof/000019.jpg"]
    assert found["Data/test/9/live/000009.png"] == (True, None, "9", None, None, "test")
    assert attack == (False, "phone replay", "9", "strong light, indoor", None, "test")
    assert len(found) == 8
    assert {s.split for s in reading.samples} == {"train", "dev", "test"}
    dev = {s.subject for s in reading.samples if s.split == "dev"}
    assert len(dev) == 1
    assert dev.isdisjoint(s.subject for s in reading.samples if s.split == "train")
    assert "ships no dev split: 2 training images of 1 subjects" in " ".join(reading.notes)
    assert all(s.box_rule == "celeba_spoof" and s.path.is_file() for s in reading.samples)


def test_every_spoof_type(put):
    kinds = {f"Data/train/{k}/spoof/{k:06d}.jpg": values(k, 1, 1, 1) for k in range(1, 11)}
    kinds |= {"Data/train/1/live/000099.jpg": values()}
    for name in kinds:
        put(name)
    put("metas/intra_test/train_label.json", json.dumps(kinds))
    root = put("metas/intra_test/test_label.json", "{}")
    found = [s.pai_species for s in read_celeba_spoof(root).samples if not s.bona_fide]
    assert sorted(map(str, found)) == sorted(map(str, SPECIES[1:]))


def test_protocols(tree):
    root, *_ = tree
    for protocol in LISTS:
        reading = read_celeba_spoof(root, protocol=protocol)
        assert len(reading.samples) == 8
        devices = {s.device for s in reading.samples if s.split == "test"}
        assert devices == {"low quality"} if protocol == "2.low" else True
    with pytest.raises(UserError, match=r"no protocol '2'; allowed: intra, 1, 2.low"):
        read_celeba_spoof(root, protocol="2")
    (root / LISTS["1"] / "test_label.json").unlink()
    with pytest.raises(UserError, match="no such label file"):
        read_celeba_spoof(root, protocol="1")


def test_skips_with_reasons(tree, put):
    root, train, _ = tree
    train |= {
        "Data/train/3/live/000404.png": values(),
        "Data/train-2/5/live/000005.png": values(),
        "Data/train/3/live/000031.png": values(1, 1, 1, 1),
        "Data/train/3/spoof/000032.png": values(0, 1, 1, 1),
    }
    put("Data/train-2/5/live/000005.png")
    put("metas/intra_test/train_label.json", json.dumps(train))
    reading = read_celeba_spoof(root)
    assert [(s.path.name, s.reason) for s in reading.skipped] == [
        ("000005.png", "it lies in the stray folder Data/train-2"),
        ("000031.png", "its label (value 43) is not that of its folder"),
        ("000032.png", "its spoof type (value 40) does not fit its label"),
        ("000404.png", "no such file"),
    ]
    assert "the stray folder Data/train-2 is ignored" in reading.notes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "must hold one object"),
        ('{"Data/train/1/live/x.jpg": [1]}', "needed: a list of 44 integers"),
        ('{"Data/train/1/x.jpg": []}', "needed: Data/<part>/<subject>/live or spoof/<photo>"),
        ('{"../x.jpg": []}', "no path inside the data set"),
        (json.dumps({"Data/train/1/live/x.jpg": values(truth=7)}), "value 43 is 7"),
    ],
)
def test_malformed(tree, put, text, sentence):
    root, *_ = tree
    put("metas/intra_test/test_label.json", text)
    with pytest.raises(UserError, match=sentence):
        read_celeba_spoof(root)


def test_another_folder(tmp_path):
    with pytest.raises(UserError, match="not laid out as celeba_spoof: it needs metas"):
        read_celeba_spoof(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read_celeba_spoof(tmp_path / "none")
