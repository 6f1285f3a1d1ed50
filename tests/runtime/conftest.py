"""A small bundle built by hand: 32 px, two blocks, two tiers; no torch, and its scores twice.

The network: convolution, batch norm whose statistics the tier's row chooses, two blocks that are
each a 1x1 (L) or a 3x3 convolution (H), mean over the image, one linear layer. `expected` computes
it in numpy from the same weights; the golden scores come from there.
"""

import hashlib
import json
import math
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

SIZE, WIDTH, BLOCKS = 32, 8, 2
TIERS = {"low": "LL", "high": "HH"}
THRESHOLDS = {"low": 0.5, "high": 0.4}
SCORES = {
    "pad": "softmax probability of bona_fide, in [0, 1]; accept iff score >= threshold",
    "classify": "softmax probability of the most probable class, in [0, 1]",
}
FORGED = b"\x01\x01\x00\x00\x00"  # what the file holds before a tier is written into it


def make_weights(num_classes: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(380)  # both verdicts in both tiers, no two scores alike

    def draw(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32)

    found = {"stem": draw(WIDTH, 3, 3, 3)}
    found |= {f"light{k}": draw(WIDTH, WIDTH, 1, 1) for k in range(BLOCKS)}
    found |= {f"heavy{k}": draw(WIDTH, WIDTH, 3, 3) for k in range(BLOCKS)}
    found |= {"gain": np.ones(WIDTH, np.float32), "shift": draw(WIDTH, 1)[:, 0]}
    found |= {"means": draw(3, WIDTH), "variances": np.abs(draw(3, WIDTH)) + np.float32(0.5)}
    return found | {"linear": 2 * draw(num_classes, WIDTH), "bias": draw(num_classes, 1)[:, 0]}


def make_onnx(weights: dict[str, np.ndarray], num_classes: int) -> bytes:
    """Static but for the selection, which `If`s and gathers read."""
    numbers = {f"at{k}": np.array(k, np.int64) for k in range(BLOCKS)}
    numbers |= {"begin": np.array([BLOCKS]), "end": np.array([BLOCKS + 3])}
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights | numbers).items()]
    selection = TensorProto(name="selection", data_type=TensorProto.BOOL, dims=[BLOCKS + 3])
    selection.raw_data = FORGED
    nodes = [
        helper.make_node("Slice", ["selection", "begin", "end"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["rows_int"], to=TensorProto.INT32),
        helper.make_node("ArgMax", ["rows_int"], ["row"], axis=0, keepdims=0),
        helper.make_node("Gather", ["means", "row"], ["mean"]),
        helper.make_node("Gather", ["variances", "row"], ["variance"]),
        helper.make_node("Conv", ["image", "stem"], ["s"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["s", "gain", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["x0"]),
    ]
    for k in range(BLOCKS):
        branches = {
            f"{kind}_branch": helper.make_graph(
                [
                    helper.make_node(
                        "Conv", [f"x{k}", f"{name}{k}"], [f"{name}_y{k}"], pads=[pad] * 4
                    )
                ],
                f"{name}{k}_graph",
                [],
                [helper.make_tensor_value_info(f"{name}_y{k}", TensorProto.FLOAT, None)],
            )
            for kind, name, pad in (("then", "heavy", 1), ("else", "light", 0))
        }
        nodes += [
            helper.make_node("Gather", ["selection", f"at{k}"], [f"is_heavy{k}"]),
            helper.make_node("If", [f"is_heavy{k}"], [f"y{k}"], **branches),
            helper.make_node("Add", [f"x{k}", f"y{k}"], [f"sum{k}"]),
            helper.make_node("Relu", [f"sum{k}"], [f"x{k + 1}"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{BLOCKS}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "linear", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", num_classes])],
        [selection, *tensors],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9, producer_name="pliant")
    onnx.checker.check_model(model)
    return model.SerializeToString()


def expected(
    weights: dict[str, np.ndarray], inputs: np.ndarray, configuration: str, row: int
) -> np.ndarray:
    """Probabilities (B, classes) of inputs (B, 3, size, size), in float64."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def convolve(x: np.ndarray, kernel: np.ndarray, stride: int = 1) -> np.ndarray:
        pad = kernel.shape[2] // 2
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = sliding_window_view(x, kernel.shape[2:], (2, 3))[:, :, ::stride, ::stride]
        return np.einsum("bchwij,ocij->bohw", windows, kernel)

    x = convolve(inputs.astype(np.float64), w["stem"], 2)
    scale = w["gain"] / np.sqrt(w["variances"][row] + 1e-5)
    x = (x - w["means"][row][:, None, None]) * scale[:, None, None] + w["shift"][:, None, None]
    x = np.maximum(x, 0)
    for k, letter in enumerate(configuration):
        x = np.maximum(x + convolve(x, w[f"{'heavy' if letter == 'H' else 'light'}{k}"]), 0)
    logits = x.mean(axis=(2, 3)) @ w["linear"].T + w["bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def draw_image(seed: int) -> np.ndarray:
    """48x40 px, RGB: a disc on a slope."""
    random = np.random.default_rng(seed)
    image = np.zeros((48, 40, 3), np.uint8)
    slope = np.linspace(0, 1, 48)[:, None, None]
    image[:] = slope * random.integers(0, 255, 3) + (1 - slope) * random.integers(0, 255, 3)
    centre = (int(random.integers(12, 28)), int(random.integers(14, 34)))
    colour = tuple(random.integers(0, 255, 3).tolist())
    return cv2.circle(image, centre, 9, colour, -1).astype(np.uint8)


@dataclass
class TinyBundle:
    """Its parts, which a test may change before it writes them; the hashes follow."""

    record: dict[str, Any]
    """bundle.json."""
    files: dict[str, bytes]
    """Everything that bundle.json lists."""
    weights: dict[str, np.ndarray]
    images: list[np.ndarray]
    boxes: list[tuple[float, float, float, float] | None]
    extra: dict[str, bytes] = field(default_factory=dict)
    """Written after all else: what nobody listed, or what stands in place of a true file."""

    def parts(self, *, hashes: bool = True) -> dict[str, bytes]:
        if hashes:
            digests = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
            self.record["files"] = digests
        text = json.dumps(self.record).encode()
        digest = f"{hashlib.sha256(text).hexdigest()}\n".encode()
        return {"bundle.json": text, "bundle.sha256": digest, **self.files, **self.extra}

    def zip(self, path: Path, **how: Any) -> Path:
        path.write_bytes(zipped(self.parts(**how)))
        return path

    def folder(self, path: Path, **how: Any) -> Path:
        for name, data in self.parts(**how).items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    def expected(self, inputs: np.ndarray, configuration: str, row: int) -> np.ndarray:
        """Probabilities in numpy, by row of statistics: 0, or 1 + the tier's number."""
        return expected(self.weights, inputs, configuration, row)

    def score(self, tier: str, image: int) -> float:
        """Promised for class 1."""
        return self.record["golden"][image]["probabilities"][tier][1]


def zipped(parts: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def make_threshold(tier: str) -> dict[str, Any]:
    value = THRESHOLDS[tier]
    return {
        "policy": "min_acer",
        "value": value,
        "source": "drawn",
        "dev_sha256": "0" * 64,
        "num_bona_fide": 2,
        "num_attack": 2,
        "num_subjects": 4,
        "interval": [value - 0.1, value + 0.1],
        "draws": 2000,
        "seed": 0,
    }


def make_bundle(task: str = "pad") -> TinyBundle:
    from pliant.runtime import Preprocessing, crop_square, to_input

    classes = ["attack", "bona_fide"] if task == "pad" else ["cat", "dog", "owl"]
    weights = make_weights(len(classes))
    model = make_onnx(weights, len(classes))
    pre = Preprocessing(size=SIZE)
    images = [draw_image(seed) for seed in range(4)]
    boxes = [(10.0, 9.0, 18.0, 24.5)] * 3 + [None]
    crops = [
        crop_square(image, box, scale=pre.crop_scale, size=SIZE)
        for image, box in zip(images, boxes, strict=True)
    ]
    inputs = np.stack([to_input(crop, pre) for crop in crops])
    scores = {
        tier: expected(weights, inputs, configuration, 1 + row).tolist()
        for row, (tier, configuration) in enumerate(TIERS.items())
    }
    files = {"model.onnx": model}
    for k, image in enumerate(images):
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        files[f"golden/{k}.png"] = cv2.imencode(".png", bgr)[1].tobytes()
    assert model.count(FORGED) == 1
    record = {
        "format": 1,
        "name": "tiny",
        "pliant": "0.1.0",
        "created": "2026-01-02T03:04:05Z",
        "target": "onnx",
        "precision": "fp32",
        "task": task,
        "classes": classes,
        "score": SCORES[task],
        "box": "x, y, width, height in pixels; YuNet's rule: forehead to chin",
        "preprocessing": pre.to_json(),
        "model_file": "model.onnx",
        "input_name": "image",
        "output_name": "logits",
        "selection": {
            "offset": model.index(FORGED),
            "length": len(FORGED),
            "num_blocks": BLOCKS,
            "letters": "LH",
            "tiers": list(TIERS),
        },
        "tiers": [
            {
                "name": name,
                "configuration": configuration,
                "macs": 1000,
                "params": 100,
                "size_bytes": 400,
                "threshold": make_threshold(name) if task == "pad" else None,
                "dev": None,
                "parity": {"max_abs_logits": 0.0, "images": 4},
            }
            for name, configuration in TIERS.items()
        ],
        "default_tier": "high",
        "golden": [
            {
                "file": f"golden/{k}.png",
                "box": None if box is None else list(box),
                "probabilities": {tier: scores[tier][k] for tier in TIERS},
            }
            for k, box in enumerate(boxes)
        ],
        "tolerance": 1e-4,
        "licence": "Apache-2.0",
        "provenance": {"data": {"name": "drawn", "synthetic": True}},
        "files": {},
    }
    return TinyBundle(record=record, files=files, weights=weights, images=images, boxes=boxes)


@pytest.fixture
def tiny() -> TinyBundle:
    """Task pad, each test its own."""
    return make_bundle()


@pytest.fixture
def tiny_classes() -> TinyBundle:
    """Task classify, three classes, no thresholds."""
    return make_bundle("classify")


@pytest.fixture
def bundle_file(tiny, tmp_path) -> Path:
    """The zip on disk."""
    return tiny.zip(tmp_path / "tiny.pliant")
