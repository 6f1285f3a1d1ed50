"""Whose bundle is it?"""

import json
import stat
import sys
import zipfile

import pytest

from pliant.errors import UserError
from pliant.runtime import Bundle, new_key, sign, verify
from pliant.runtime.archive import open_archive, stored_zip
from pliant.runtime.fields import Fields
from pliant.runtime.signature import check_signature, read_private_key, signature_record

pytest.importorskip("cryptography")


@pytest.fixture
def key(tmp_path):
    return new_key(tmp_path / "maker.pem"), tmp_path / "maker.pem"


@pytest.fixture(params=["zip", "folder"])
def bundle_path(request, tiny, tmp_path):
    return getattr(tiny, request.param)(tmp_path / "tiny.pliant")


def test_signed_and_demanded(key, bundle_path, tmp_path):
    public, private_file = key
    before = open_archive(bundle_path)
    files = {name: before.read(name) for name in before.sizes}
    assert sign(bundle_path, private_file) == public
    after = open_archive(bundle_path)
    assert {name: after.read(name) for name in files} == files
    for demanded in (None, public, public.upper(), tmp_path / "maker.pem.pub"):
        assert Bundle.open(bundle_path, public_key=demanded).signed_by == public


def test_demanded_and_missing(key, bundle_path):
    with pytest.raises(UserError, match=r"is not signed; a signature of key .* is demanded"):
        Bundle.open(bundle_path, public_key=key[0])


def test_nothing_is_signed_unchecked(key, tiny, tmp_path):
    def act(path):
        before = path.read_bytes() if path.is_file() else sorted(path.rglob("*"))
        with pytest.raises(UserError) as refusal:
            sign(path, key[1])
        after = path.read_bytes() if path.is_file() else sorted(path.rglob("*"))
        assert before == after
        return str(refusal.value)

    tiny.extra["golden/0.png"] = b"other"
    for make in (tiny.zip, tiny.folder):
        assert "golden/0.png does not match its hash" in act(make(tmp_path / make.__name__))
    tiny.extra = {"unlisted.bin": b"x"}
    assert "does not list" in act(tiny.zip(tmp_path / "b.pliant"))
    tiny.extra, tiny.record["tolerance"] = {}, 7
    assert "tolerance must be" in act(tiny.zip(tmp_path / "c.pliant"))
    tiny.record["tolerance"] = 1e-4
    tiny.record["selection"]["offset"] += 1
    assert "selection does not lie" in act(tiny.zip(tmp_path / "d.pliant"))
    (tmp_path / "e.pliant").write_bytes(stored_zip({"bundle.json": b"{}"}))
    assert "no bundle.sha256" in act(tmp_path / "e.pliant")


def test_signing_changes_nothing_else(key, tiny, tmp_path):
    parts = tiny.parts()
    path = tmp_path / "a.pliant"
    path.write_bytes(stored_zip(parts))
    sign(path, key[1])
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [*parts, "signature.json"]
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}
    signed = path.read_bytes()
    sign(path, key[1])
    assert path.read_bytes() == signed


def test_a_changed_bundle_may_be_signed_anew(key, tiny, tmp_path):
    folder = tiny.folder(tmp_path / "folder")
    sign(folder, key[1])
    tiny.record["licence"] = "MIT"
    tiny.folder(folder)
    sign(folder, key[1])
    assert Bundle.open(folder).signed_by == key[0]


def test_paths_that_are_none(key, bundle_path):
    for act in (
        lambda: sign(3, key[1]),
        lambda: sign(bundle_path, None),
        lambda: new_key(None),
    ):
        with pytest.raises(UserError, match="is named by a path, got"):
            act()


def test_signed_by_another(key, bundle_path, tmp_path):
    other = new_key(tmp_path / "other.pem")
    sign(bundle_path, tmp_path / "other.pem")
    with pytest.raises(UserError, match=f"signed by key {other}, a signature of {key[0]}"):
        Bundle.open(bundle_path, public_key=key[0])
    assert sign(bundle_path, key[1]) == key[0]  # takes the older one's place
    assert Bundle.open(bundle_path, public_key=key[0]).signed_by == key[0]


def test_changed_after_it_was_signed(key, tiny, tmp_path):
    folder = tiny.folder(tmp_path / "folder")
    sign(folder, key[1])
    tiny.record["tiers"][0]["threshold"]["value"] = 0.0
    tiny.folder(folder)  # with hashes that fit
    for demanded in (None, key[0]):
        with pytest.raises(UserError, match=r"does not fit bundle.json: the bundle was changed"):
            Bundle.open(folder, public_key=demanded)


def test_every_changed_digit_is_refused(key, tiny, tmp_path):
    folder = tiny.folder(tmp_path / "folder")
    sign(folder, key[1])
    text = (folder / "bundle.json").read_bytes()
    record = json.loads((folder / "signature.json").read_bytes())
    for name in ("public_key", "signature"):
        for place in range(0, len(record[name]), 7):
            digits = list(record[name])
            digits[place] = "0" if digits[place] != "0" else "1"
            changed = json.dumps(record | {name: "".join(digits)}).encode()
            with pytest.raises(UserError):
                verify(text, changed, key[0])
            with pytest.raises(UserError):
                verify(text, changed, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algorithm": "none"}, "algorithm must be ed25519"),
        ({"signature": ""}, "64 and 128 hexadecimal digits"),
        ({"public_key": "é" * 64}, "64 and 128 hexadecimal digits"),
        ({"public_key": None}, "public_key must be a text"),
    ],
)
def test_records_that_are_none(key, tiny, tmp_path, change, said):
    folder = tiny.folder(tmp_path / "folder")
    sign(folder, key[1])
    record = json.loads((folder / "signature.json").read_bytes()) | change
    (folder / "signature.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UserError, match=said):
        Bundle.open(folder)


def test_keys_are_kept_to_their_owner_and_never_overwritten(tmp_path):
    public = new_key(tmp_path / "a.pem")
    assert (tmp_path / "a.pem.pub").read_text() == public + "\n"
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "a.pem").stat().st_mode) == 0o600
    before = (tmp_path / "a.pem").read_bytes()
    with pytest.raises(UserError, match="never overwritten"):
        new_key(tmp_path / "a.pem")
    (tmp_path / "a.pem.pub").unlink()
    with pytest.raises(UserError, match="never overwritten"):
        new_key(tmp_path / "a.pem")
    assert (tmp_path / "a.pem").read_bytes() == before
    with pytest.raises(UserError, match="cannot be written"):
        new_key(tmp_path / "none" / "a.pem")


def test_files_that_are_no_keys(tiny, tmp_path):
    bundle = tiny.zip(tmp_path / "tiny.pliant")
    with pytest.raises(UserError, match="cannot be read"):
        sign(bundle, tmp_path / "none.pem")
    (tmp_path / "a.pem").write_bytes(b"no key")
    with pytest.raises(UserError, match="holds no private key"):
        sign(bundle, tmp_path / "a.pem")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import x25519

    other = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "b.pem").write_bytes(other)
    with pytest.raises(UserError, match="a key of another kind; Ed25519 is needed"):
        sign(bundle, tmp_path / "b.pem")
    for wrong in ("abc", tmp_path / "none.pub", tmp_path / "a.pem", tmp_path, "a\0b"):
        with pytest.raises(UserError, match="64 hexadecimal digits"):
            Bundle.open(bundle, public_key=wrong)


def test_without_the_package(key, tiny, tmp_path, monkeypatch):
    folder = tiny.folder(tmp_path / "folder")
    sign(folder, key[1])
    for name in [name for name in sys.modules if name.startswith("cryptography.hazmat")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    assert Bundle.open(tiny.zip(tmp_path / "unsigned.pliant")).signed_by is None
    with pytest.raises(UserError, match=r"the bundle is signed, and checking that needs .*sign"):
        Bundle.open(folder)
    for act in (
        lambda: Bundle.open(folder, public_key=key[0]),
        lambda: sign(folder, key[1]),
        lambda: new_key(tmp_path / "b.pem"),
    ):
        with pytest.raises(UserError, match=r'pip install "pliant\[sign\]"'):
            act()


def test_anything_else_is_signed_by_the_same_two_functions(key):
    record = signature_record(b"words", read_private_key(key[1]))
    fields, words = Fields(record, "a.sig"), {"thing": "letter", "signed": "its words"}
    for wanted in (None, key[0]):
        assert check_signature(b"words", fields, wanted, **words) == key[0]
    assert check_signature(b"words", None, None, **words) is None
    with pytest.raises(UserError, match="does not fit its words: the letter was changed"):
        check_signature(b"other", fields, None, **words)
    with pytest.raises(UserError, match="the letter is not signed; a signature of key"):
        check_signature(b"words", None, key[0], **words)
    short = Fields(record | {"signature": "0"}, "a.sig")
    with pytest.raises(UserError, match=r"a.sig must hold 64 and 128 hexadecimal digits"):
        check_signature(b"words", short, None, **words)


def test_a_record_that_is_null_is_no_missing_one(key):
    with pytest.raises(UserError, match=r"signature.json must be a JSON object"):
        verify(b"{}", b"null", None)
