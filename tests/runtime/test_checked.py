"""Bundles that are refused, each before anything in it is run; and bundles that are only read."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pliant.errors import UserError
from pliant.runtime import Bundle, checked
from pliant.runtime import bundle as module


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        (
            "model.onnx",
            b"other",
            "model.onnx does not match its hash: .* copy or download it again",
        ),
        ("golden/0.png", b"", "golden/0.png does not match its hash"),
        ("bundle.sha256", b"0" * 64 + b"\n", "does not match bundle.sha256"),
        ("bundle.sha256", b"", "does not match bundle.sha256"),
        ("bundle.sha256", b"0" * 66, "at most 65"),
        ("bundle.json", b"{}", "does not match bundle.sha256"),
        ("bundle.json", bytes(5 * 2**20), "at most 4194304"),
        ("unlisted.bin", b"1", "holds unlisted.bin, which bundle.json does not list"),
        ("signature.json", b"{}", "signature.json: algorithm must be ed25519"),
        ("signature.json", b"[" * 100, "signature.json"),
        ("signature.json", b" " * 5000, "at most 4096"),
    ],
)
def test_files_that_do_not_fit(tiny, tmp_path, name, data, said):
    tiny.extra[name] = data
    for path in (tiny.zip(tmp_path / "a.pliant"), tiny.folder(tmp_path / "folder")):
        with pytest.raises(UserError, match=said):
            Bundle.open(path, self_test=False)


def test_nothing_is_parsed_before_every_hash_was_checked(tiny, tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(checked, "check_model", lambda *_: parsed.append("model"))
    monkeypatch.setattr(module, "create_session", lambda *_: parsed.append("session"))
    tiny.extra["golden/3.png"] = b"damaged"
    with pytest.raises(UserError, match=r"golden/3.png does not match its hash"):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))
    assert parsed == []


def test_missing_files(tiny, tmp_path):
    parts = tiny.parts()
    for name in ("bundle.json", "bundle.sha256", "model.onnx", "golden/2.png"):
        folder = tmp_path / name.replace("/", "_")
        for other, data in parts.items():
            if other != name:
                (folder / other).parent.mkdir(parents=True, exist_ok=True)
                (folder / other).write_bytes(data)
        with pytest.raises(UserError, match=f"the bundle has no {name}"):
            Bundle.open(folder)
    with pytest.raises(UserError, match="no such bundle"):
        Bundle.open(tmp_path / "none.pliant")


@pytest.mark.parametrize("target", ["executorch", "litert"])
def test_other_targets_name_what_runs_them(tiny, tmp_path, target):
    tiny.record |= {"target": target, "selection": None}
    with pytest.raises(UserError, match=rf"this bundle is for {target}; run it in .*install"):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))


def edit_model(tiny, edit):
    model = onnx.load_from_string(tiny.files["model.onnx"])
    edit(model)
    tiny.files["model.onnx"] = model.SerializeToString()


def test_external_weights_are_refused_and_not_read(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.bin").write_bytes(bytes(4096))

    def outside(model):
        tensor = next(t for t in model.graph.initializer if t.name == "linear")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")

    edit_model(tiny, outside)
    with pytest.raises(UserError, match="the model is refused"):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))


def rename(model):
    model.graph.input[0].name = "pixels"
    model.graph.node[5].input[0] = "pixels"


def fix_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def add_output(model):
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "flat"


def misspell(model):
    model.graph.node[7].input[0] = "no such value"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (rename, r"input must be image tensor\(float\) \[batch, 3, 32, 32\]"),
        (fix_batch, r"it is \[\('image', 'tensor\(float\)', \[1, 3, 32, 32\]\)\]"),
        (add_output, r"output must be logits tensor\(float\) \[batch, 2\]"),
        (misspell, "cannot open the model: "),
    ],
)
def test_models_that_are_not_what_the_contract_says(tiny, tmp_path, edit, said):
    edit_model(tiny, edit)
    tiny.record["selection"]["offset"] = tiny.files["model.onnx"].index(b"\x01\x01\x00\x00\x00")
    with pytest.raises(UserError, match=said):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))


def test_logits_of_another_shape(bundle_file):
    loaded = replace(Bundle.open(bundle_file).load("high"), num_classes=3)
    with pytest.raises(UserError, match=r"gives \(4, 2\) numbers for 4 images and 3 classes"):
        loaded.run(np.zeros((4, 3, 32, 32), np.float32))


def test_names_that_are_no_text(tiny, tmp_path):
    edit_model(tiny, rename)
    model = tiny.files["model.onnx"].replace(b"pixels", b"pix\xe3ls")
    tiny.files["model.onnx"] = model
    tiny.record["selection"]["offset"] = model.index(b"\x01\x01\x00\x00\x00")
    with pytest.raises(UserError, match=r"names that are no text|cannot open the model"):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))


def test_a_selection_at_another_place(tiny, tmp_path):
    tiny.record["selection"]["offset"] += 1
    with pytest.raises(UserError, match=r"does not lie where bundle.json says"):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.files.update({"golden/0.png": b"\xff\xd8\xff"}), "golden/0.png is no PNG"),
        (
            lambda t: t.files.update({"golden/0.png": t.files["golden/0.png"][:40]}),
            "cannot be used",
        ),
        (lambda t: t.record["golden"][0].update(box=[500, 0, 5, 5]), "does not touch the image"),
        (lambda t: t.record["golden"][0].update(box=[0, 0, 5, 0]), "width and height > 0"),
        (lambda t: t.record["golden"][0].update(box=[0, 0, 1e5, 5]), "is too large"),
    ],
)
def test_golden_images_that_cannot_be_used(tiny, tmp_path, change, said):
    change(tiny)
    with pytest.raises(UserError, match=said):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))


def for_phones(tiny, target):
    """The same bundle as if its model were for another runtime."""
    tiny.record |= {"target": target, "selection": None, "model_file": "model.pte"}
    tiny.files["model.pte"] = tiny.files.pop("model.onnx")
    return tiny


@pytest.mark.parametrize("target", ["executorch", "litert"])
def test_bundles_for_other_runtimes_are_read_but_not_opened(tiny, tmp_path, target):
    path = for_phones(tiny, target).zip(tmp_path / "a.pliant")
    with pytest.raises(UserError, match=f"this bundle is for {target}; run it in"):
        Bundle.open(path)
    with pytest.raises(UserError, match=f"this bundle is for {target}; run it in"):
        checked.read_checked(path)
    found = checked.read_checked(path, any_target=True)
    assert (found.contract.target, found.contract.selection) == (target, None)
    assert found.files == tiny.files
    tiny.extra["model.pte"] = b"other"
    with pytest.raises(UserError, match=r"model.pte does not match its hash"):
        checked.read_checked(tiny.zip(path), any_target=True)


def test_files_in_memory_are_checked_as_on_disk(tiny):
    parts = tiny.parts()
    assert checked.check_files(parts).name == "tiny"
    for change, said in (
        ({"model.onnx": b"other"}, "model.onnx does not match its hash"),
        ({"unlisted.bin": b""}, "does not list"),
        ({"../a.bin": b""}, "cannot hold a file named"),
        ({"bundle.json": b"{}"}, "does not match bundle.sha256"),
        ({"signature.json": b"{}"}, "algorithm must be ed25519"),
    ):
        with pytest.raises(UserError, match=said):
            checked.check_files(parts | change)
    del parts["golden/0.png"]
    with pytest.raises(UserError, match=r"has no golden/0.png"):
        checked.check_files(parts)
    tiny.record["selection"]["offset"] += 1
    with pytest.raises(UserError, match="the selection does not lie"):
        checked.check_files(tiny.parts())
    parts = for_phones(tiny, "litert").parts()
    assert checked.check_files(parts).target == "litert"
