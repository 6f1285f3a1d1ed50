import json
import sys

import pytest

from pliant.errors import UserError
from pliant.pad.scores import Scores
from pliant.pad.threshold_file import load_threshold, save_threshold
from pliant.pad.thresholds import Threshold, fit_threshold
from pliant.runtime.signature import new_key

DEV = Scores.of([0.9, 0.7, 0.1, 0.3], [True, True, False, False], subject=list("abab"))


@pytest.mark.parametrize(
    "threshold",
    [fit_threshold(DEV, draws=20), Threshold(policy="fixed=0.1", value=0.1, source="by hand")],
)
def test_it_comes_back_whole(tmp_path, threshold):
    path = save_threshold(threshold, tmp_path / "threshold.json")
    assert load_threshold(path) == threshold
    content = json.loads(path.read_text())
    assert content["threshold"]["policy"] == threshold.policy
    assert "accept iff score >= value" in content["convention"]


def test_refusals(tmp_path):
    path = save_threshold(fit_threshold(DEV, draws=0), tmp_path / "threshold.json")
    content = json.loads(path.read_text())
    content["threshold"]["value"] = 0.1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="changed after it was written"):
        load_threshold(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="no threshold file"):
        load_threshold(path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"the threshold file .* is damaged"):
        load_threshold(path)
    with pytest.raises(UserError, match="cannot read"):
        load_threshold(tmp_path / "nowhere.json")


@pytest.fixture
def key(tmp_path):
    pytest.importorskip("cryptography")
    return new_key(tmp_path / "maker.pem"), tmp_path / "maker.pem"


FITTED = fit_threshold(DEV, draws=0)


def test_signed_and_demanded(key, tmp_path):
    path = save_threshold(FITTED, tmp_path / "threshold.json", key=key[1])
    for demanded in (None, key[0], key[0].upper(), tmp_path / "maker.pem.pub"):
        assert load_threshold(path, public_key=demanded) == FITTED
    laid_out = json.dumps(dict(reversed(json.loads(path.read_text()).items())))
    path.write_text(laid_out)  # another order, other spaces, the same content
    assert load_threshold(path, public_key=key[0]) == FITTED


def test_an_older_file_needs_no_signature_unless_one_is_demanded(key, tmp_path):
    path = save_threshold(FITTED, tmp_path / "threshold.json")
    assert "signature" not in json.loads(path.read_text())
    assert load_threshold(path) == FITTED
    with pytest.raises(UserError, match=r"threshold.json is not signed; a signature of key"):
        load_threshold(path, public_key=key[0])
    other = new_key(tmp_path / "other.pem")
    save_threshold(FITTED, path, key=tmp_path / "other.pem")
    with pytest.raises(UserError, match=f"signed by key {other}, a signature of {key[0]}"):
        load_threshold(path, public_key=key[0])


def test_every_changed_field_is_noticed(key, tmp_path):
    path = save_threshold(FITTED, tmp_path / "threshold.json", key=key[1])
    content = json.loads(path.read_text())
    other = json.loads(
        save_threshold(
            Threshold(policy="fixed=0.1", value=0.1, source="by hand"), tmp_path / "other.json"
        ).read_text()
    )
    forged = {name: other[name] for name in ("threshold", "sha256")}  # its hash fits
    for change in (forged, {"created": "1999"}, {"pliant": "9"}, {"convention": ""}, {"new": 1}):
        path.write_text(json.dumps(content | change))
        for demanded in (None, key[0]):
            with pytest.raises(UserError, match="does not fit its content: the threshold file"):
                load_threshold(path, public_key=demanded)
    del content["created"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="does not fit its content"):
        load_threshold(path)


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (None, "signature must be a JSON object"),
        ({}, "algorithm must be ed25519"),
        ({"algorithm": "ed25519", "public_key": "00", "signature": ""}, "64 and 128 hexadecimal"),
    ],
)
def test_signatures_that_are_none(tmp_path, signature, said):
    path = save_threshold(FITTED, tmp_path / "threshold.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"signature": signature}))
    with pytest.raises(UserError, match=said):
        load_threshold(path)


def test_keys_that_are_none(tmp_path):
    pytest.importorskip("cryptography")
    path = save_threshold(FITTED, tmp_path / "threshold.json")
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        load_threshold(path, public_key="abc")
    with pytest.raises(UserError, match=r"none.pem cannot be read"):
        save_threshold(FITTED, tmp_path / "b.json", key=tmp_path / "none.pem")
    assert not (tmp_path / "b.json").exists()


def test_without_the_package(key, tmp_path, monkeypatch):
    signed = save_threshold(FITTED, tmp_path / "signed.json", key=key[1])
    plain = save_threshold(FITTED, tmp_path / "plain.json")
    for name in [name for name in sys.modules if name.startswith("cryptography.hazmat")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    assert load_threshold(plain) == FITTED
    with pytest.raises(UserError, match=r"signed.json is signed, and checking that needs .*sign"):
        load_threshold(signed)
    with pytest.raises(UserError, match="signatures need the package cryptography"):
        save_threshold(FITTED, tmp_path / "b.json", key=key[1])
