"""A bundle on the device: opened or refused, switched, asked for verdicts."""

import hashlib
import json
import math
import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pliant.errors import UserError
from pliant.runtime import Bundle, checked, crop_square, to_input
from pliant.runtime import bundle as module

CLOSE = 1e-5


def test_a_zip_and_a_folder_give_the_promised_scores(tiny, tmp_path):
    for path in (tiny.zip(tmp_path / "a.pliant"), tiny.folder(tmp_path / "folder")):
        bundle = Bundle.open(path)
        assert (bundle.tier, bundle.configuration, bundle.threshold) == ("high", "HH", 0.4)
        assert bundle.signed_by is None
        text = tiny.parts()["bundle.json"]
        assert bundle.sha256 == hashlib.sha256(text).hexdigest()
        for tier in ("low", "high"):
            bundle.use(tier)
            for k in range(3):
                found = bundle.predict(tiny.images[k], box=tiny.boxes[k])
                assert found.score == pytest.approx(tiny.score(tier, k), abs=CLOSE)
                accepted = found.score >= found.threshold
                assert found.verdict == ("bona_fide" if accepted else "attack")
                assert (found.tier, found.reason, found.num_frames) == (tier, None, 1)
                assert found.box == tiny.boxes[k]
                assert found.synthetic
                assert 0 < found.latency_ms < 60_000


def test_the_self_test_says_what_it_found(tiny, bundle_file):
    bundle = Bundle.open(bundle_file, self_test=False)
    found = bundle.self_test()
    assert found.passed
    assert (found.num_images, found.tolerance) == (4, 1e-4)
    assert [tier.tier for tier in found.tiers] == ["low", "high"]
    assert all(tier.flips == 0 and tier.max_difference < CLOSE for tier in found.tiers)
    assert bundle.tier == "high"


def test_the_self_test_refuses_other_scores(tiny, tmp_path):
    low = tiny.record["golden"][0]["probabilities"]["low"]
    low[0], low[1] = low[0] + 0.01, low[1] - 0.01
    path = tiny.zip(tmp_path / "a.pliant")
    with pytest.raises(UserError, match=r"tier low: .* differ by 0.01 .* 0 verdicts flip"):
        Bundle.open(path)
    assert not Bundle.open(path, self_test=False).self_test().passed


def test_the_self_test_refuses_a_flip_within_the_tolerance(tiny, tmp_path):
    tiny.record["tolerance"] = 0.05
    row = tiny.record["golden"][1]["probabilities"]["low"]
    tiny.record["tiers"][0]["threshold"]["value"] = row[1] - 0.01
    row[0], row[1] = row[0] + 0.02, row[1] - 0.02
    with pytest.raises(UserError, match="1 verdicts flip"):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))


def test_a_changed_weight_is_refused_by_the_self_test(tiny, tmp_path):
    model = onnx.load_from_string(tiny.files["model.onnx"])
    weight = next(t for t in model.graph.initializer if t.name == "linear")
    values = np.frombuffer(weight.raw_data, np.float32).copy()
    values[3] += 0.05
    weight.raw_data = values.tobytes()
    tiny.files["model.onnx"] = model.SerializeToString()
    with pytest.raises(UserError, match="self-test failed"):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))
    values[3] = np.nan
    weight.raw_data = values.tobytes()
    tiny.files["model.onnx"] = model.SerializeToString()
    with pytest.raises(UserError, match="differ by nan"):
        Bundle.open(tiny.zip(tmp_path / "a.pliant"))


def test_a_configuration_has_a_score_but_no_verdict(tiny, bundle_file):
    bundle = Bundle.open(bundle_file, tier="HL")
    found = bundle.predict(tiny.images[0], box=tiny.boxes[0])
    assert (found.tier, found.configuration, found.threshold) == (None, "HL", None)
    assert found.verdict == "undecided(no threshold is stored for HL)"
    assert 0 < found.score < 1


def test_row_zero_serves_plain_configurations(tiny, bundle_file):
    bundle = Bundle.open(bundle_file)
    crop = crop_square(tiny.images[0], tiny.boxes[0], scale=1.5, size=32)
    inputs = to_input(crop, bundle.contract.preprocessing)[None]
    for letters in ("LL", "LH", "HL", "HH"):
        bundle.use(letters)
        found = bundle.predict(tiny.images[0], box=tiny.boxes[0]).score
        assert found == pytest.approx(tiny.expected(inputs, letters, 0)[0, 1], abs=CLOSE)


def test_names_that_are_no_tier(bundle_file):
    bundle = Bundle.open(bundle_file)
    for name in ("max", "", "Low", "hh", "../x"):
        with pytest.raises(UserError, match=r"unknown tier .*this bundle has low, high"):
            bundle.use(name)
    for name in ("H", "HHH", "HX"):
        with pytest.raises(UserError, match="2 adaptive blocks with letters L, H"):
            bundle.use(name)
    with pytest.raises(UserError, match="named by a text, got int"):
        bundle.use(5)
    with pytest.raises(UserError, match="unknown tier"):
        Bundle.open(bundle_file, tier="max")
    assert bundle.tier == "high"


def test_sessions_are_kept_and_bounded(bundle_file, monkeypatch):
    bundle = Bundle.open(bundle_file)
    low = bundle.load("low")
    assert bundle.load("low") is low
    for name in ("LL", "HL", "LH"):
        bundle.load(name)
    assert bundle.load("low") is low  # it was used after high
    bundle.load("HH")
    bundle.load("HL")
    bundle.load("high")
    assert len(bundle._kept) == module.MAX_SESSIONS
    assert bundle.load("low") is low


def test_run_takes_a_batch(tiny, bundle_file):
    bundle = Bundle.open(bundle_file)
    random = np.random.default_rng(0)
    inputs = random.normal(size=(3, 3, 32, 32)).astype(np.float32)
    logits = bundle.run(inputs)
    assert (logits.shape, logits.dtype) == ((3, 2), np.float32)
    assert np.allclose(bundle.load("high").run(inputs[:1]), logits[:1], atol=1e-6)
    for wrong in (inputs[:, :2], inputs.astype(np.float64), inputs[0], inputs[..., :16]):
        with pytest.raises(UserError, match="high cannot run on float"):
            bundle.run(wrong)


def test_other_tasks_name_a_class(tiny_classes, tmp_path):
    bundle = Bundle.open(tiny_classes.zip(tmp_path / "a.pliant"))
    for k in range(4):
        promised = tiny_classes.record["golden"][k]["probabilities"]["high"]
        found = bundle.predict(tiny_classes.images[k], box=tiny_classes.boxes[k])
        assert found.verdict == ["cat", "dog", "owl"][int(np.argmax(promised))]
        assert found.score == pytest.approx(max(promised), abs=CLOSE)
        assert (found.threshold, found.reason) == (None, None)
    assert bundle.predict(tiny_classes.images[0]).box is None


def test_frames_are_averaged(tiny, bundle_file):
    bundle = Bundle.open(bundle_file, tier="low")
    scores = [tiny.score("low", k) for k in range(3)]
    found = bundle.predict(tiny.images[:3], box=tiny.boxes[:3])
    assert found.score == pytest.approx(sum(scores) / 3, abs=CLOSE)
    assert (found.num_frames, found.box, found.verdict) == (3, None, "bona_fide")
    turned = bundle.predict(tiny.images[2::-1], box=tiny.boxes[2::-1])
    assert turned.score == found.score
    stacked = bundle.predict(np.stack(tiny.images[:3]), box=tiny.boxes[:3])
    assert stacked.score == found.score


def test_frames_without_a_face_are_left_out(tiny, bundle_file, tmp_path):
    bundle = Bundle.open(bundle_file, tier="low")
    blank = np.zeros((100, 100, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(b"no image")
    found = bundle.predict(
        [blank, tiny.images[0], tmp_path / "a.png"], box=[None, tiny.boxes[0], None]
    )
    assert found.num_frames == 1
    assert found.score == pytest.approx(tiny.score("low", 0), abs=CLOSE)
    none = bundle.predict([tmp_path / "a.png", blank, blank])
    assert none.verdict == "undecided(no face found)"
    assert (none.reason, none.score, none.num_frames) == ("no face found", None, 0)


def test_faces_are_looked_for(tiny, bundle_file, monkeypatch):
    from pliant.runtime.faces import Face, FaceFinder

    faces = []
    monkeypatch.setattr(FaceFinder, "find", lambda self, image: faces)
    bundle = Bundle.open(bundle_file)
    image = np.full((200, 200, 3), 90, np.uint8)
    near = Face(box=(20.0, 30.0, 80.0, 100.0), landmarks=None, confidence=1.0)
    other = Face(box=(120.0, 30.0, 70.0, 90.0), landmarks=None, confidence=1.0)
    small = Face(box=(20.0, 30.0, 20.0, 24.0), landmarks=None, confidence=1.0)
    large = Face(box=(0.0, 0.0, 2500.0, 2500.0), landmarks=None, confidence=1.0)
    for found, said in (
        ([], "undecided(no face found)"),
        ([near, other], "undecided(several faces found)"),
        ([small], "undecided(the face is too small)"),
        ([large], "undecided(the face is too large)"),
    ):
        faces[:] = found
        assert bundle.predict(image).verdict == said
    faces[:] = [near]
    assert bundle.predict(image).box == near.box
    assert bundle.predict(image).score == bundle.predict(image, box=near.box).score


def test_paths_that_cannot_be_read_are_undecided(tiny, bundle_file, tmp_path):
    bundle = Bundle.open(bundle_file)
    (tmp_path / "a.png").write_bytes(tiny.files["golden/0.png"][:-20])
    assert bundle.predict(tmp_path / "a.png").verdict == "undecided(truncated PNG)"
    assert bundle.predict(str(tmp_path / "none.png")).verdict == "undecided(no such file)"
    (tmp_path / "b.png").write_bytes(tiny.files["golden/0.png"])
    found = bundle.predict(tmp_path / "b.png", box=tiny.boxes[0])
    assert found.score == pytest.approx(tiny.score("high", 0), abs=CLOSE)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((8, 8, 3), np.float32), r"must be uint8 \(H, W, 3\), .* got float32 \(8, 8, 3\)"),
        (np.zeros((8, 8), np.uint8), "must be uint8"),
        (np.zeros((8, 8, 4), np.uint8), "must be uint8"),
        (np.zeros((0, 8, 3), np.uint8), "must be uint8"),
        (np.zeros((1, 2, 8, 8, 3), np.uint8), "must be uint8"),
        (np.broadcast_to(np.uint8(0), (1, 40_000, 3)), "40000x1 px; shrink it"),
        (np.broadcast_to(np.uint8(0), (10_000, 10_000, 3)), "50 megapixels"),
        (None, "or a list of frames, got NoneType"),
        (b"bytes", "or a list of frames, got bytes"),
        (5, "or a list of frames, got int"),
        ([], "got no frames"),
        (np.zeros((0, 8, 8, 3), np.uint8), "got no frames"),
        ([5], "an image must be uint8"),
    ],
)
def test_images_that_are_none(bundle_file, image, said):
    with pytest.raises(UserError, match=said):
        Bundle.open(bundle_file, self_test=False).predict(image, box=None)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((1, 2, 3), "x, y, width, height"),
        ("abcd", "x, y, width, height"),
        (5, "x, y, width, height"),
        ((0, 0, 10**400, 5), "x, y, width, height"),
        ((0, 0, math.nan, 5), "finite numbers"),
        ((0, 0, math.inf, 5), "finite numbers"),
        ((0, 0, 0, 5), "width and height > 0"),
        ((0, 0, 5, -5), "width and height > 0"),
        ((40, 0, 5, 5), "does not touch the image, 40x48 px"),
        ((-5, 0, 5, 5), "does not touch the image"),
        ((0, 0, 500, 5), "its longer side may be 427 px"),
    ],
)
def test_boxes_that_are_none(tiny, bundle_file, box, said):
    with pytest.raises(UserError, match=said):
        Bundle.open(bundle_file, self_test=False).predict(tiny.images[0], box=box)


def test_one_box_per_frame(tiny, bundle_file):
    with pytest.raises(UserError, match="or None, for each of 2 frames"):
        Bundle.open(bundle_file).predict(tiny.images[:2], box=tiny.boxes[0])
    with pytest.raises(UserError, match="one box, or None"):
        Bundle.open(bundle_file).predict(tiny.images[:2], box=5)


def test_an_image_that_is_a_view(tiny, bundle_file):
    bundle = Bundle.open(bundle_file)
    image = np.concatenate([tiny.images[0]] * 2, axis=1)[:, :40]
    assert not image.flags["C_CONTIGUOUS"]
    found = bundle.predict(image, box=tiny.boxes[0])
    assert found.score == pytest.approx(tiny.score("high", 0), abs=CLOSE)
    mirrored = bundle.predict(tiny.images[0][:, ::-1][:, ::-1], box=tiny.boxes[0])
    assert mirrored.score == found.score


def test_logits_that_are_not_finite(tiny, tmp_path):
    model = onnx.load_from_string(tiny.files["model.onnx"])
    bias = next(t for t in model.graph.initializer if t.name == "bias")
    bias.raw_data = np.array([0, np.inf], np.float32).tobytes()
    tiny.files["model.onnx"] = model.SerializeToString()
    bundle = Bundle.open(tiny.zip(tmp_path / "a.pliant"), self_test=False)
    found = bundle.predict(tiny.images[0], box=tiny.boxes[0])
    assert found.verdict == "undecided(the model gave no finite score)"
    assert found.score is None


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("model.onnx", b"other", "model.onnx does not match its hash"),
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
    tiny.record["target"] = target
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


@pytest.mark.parametrize("threads", [0, -1, 257, True, 1.5, "2"])
def test_numbers_of_threads(bundle_file, threads):
    with pytest.raises(UserError, match="threads must"):
        Bundle.open(bundle_file, threads=threads)


def test_a_detector_that_is_none_is_refused_on_opening(bundle_file, tmp_path):
    with pytest.raises(UserError, match="no such face detector"):
        Bundle.open(bundle_file, detector=tmp_path / "none.onnx")


def test_nothing_is_written_or_changed(tiny, tmp_path):
    folder = tiny.folder(tmp_path / "folder")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    bundle = Bundle.open(folder)
    for tier in ("low", "high", "LH"):
        bundle.use(tier)
        bundle.predict(tiny.images[0], box=tiny.boxes[0])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert os.listdir(tmp_path) == ["folder"]
    json.dumps(bundle.contract.to_json())
