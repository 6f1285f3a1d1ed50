"""A bundle on the device: opened or refused, switched, asked for verdicts."""

import hashlib
import json
import math
import os

import numpy as np
import onnx
import pytest

from pliant.errors import UserError
from pliant.runtime import Bundle, crop_square, to_input
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
    for name in (str(tmp_path / "none.png"), "a\0b", "\ud800.png"):
        assert bundle.predict(name).verdict == "undecided(no such file)"
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
        ("1289", "x, y, width, height, got 1289"),
        (b"1289", "x, y, width, height"),
        (["1", "2", "8", "9"], "x, y, width, height"),
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


def test_arguments_of_other_types(bundle_file):
    for path in (3, None, b"tiny.pliant", [bundle_file]):
        with pytest.raises(UserError, match="a bundle is named by a path, got"):
            Bundle.open(path)
    with pytest.raises(UserError, match="a detector is named by a path, got int"):
        Bundle.open(bundle_file, detector=3)
    for wrong in ("no", 0, None, 1):
        with pytest.raises(UserError, match="self_test must be True or False, got"):
            Bundle.open(bundle_file, self_test=wrong)
    bundle = Bundle.open(bundle_file)
    for inputs in ([[1]], None, "image", 5):
        with pytest.raises(UserError, match=r"high runs on a float32 array .*, got "):
            bundle.run(inputs)
    with pytest.raises(UserError, match="cannot run on object"):
        bundle.run(np.array([None, "x"], object))
    for budget in ("8", None, True, [8], 8j):
        with pytest.raises(UserError, match="a budget is a number of milliseconds, got"):
            bundle.pick(budget)
    with pytest.raises(UserError, match="a cache folder is named by a path, got int"):
        bundle.pick(8, cache=3)
