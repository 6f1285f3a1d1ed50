"""8-bit tiers in one file: each as its own quantised graph, the filters stored once."""

import copy

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError
from pliant.export.int8 import _close, first_block, int8_onnx, quantised
from pliant.export.onnx import SELECTION, AdaptiveOnnx
from pliant.export.parity import logits, session
from pliant.export.static import INPUT, OUTPUT, static_onnx

SIDE = 32
TIERS = ("low", "high")


@pytest.fixture(scope="module")
def two(network: AdaptiveNetwork) -> AdaptiveNetwork:
    """The network with two of its tiers."""
    fewer = copy.deepcopy(network)
    for name in set(fewer.tiers) - set(TIERS):
        del fewer.tiers[name]
    return fewer


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (8, 3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(two: AdaptiveNetwork, images: np.ndarray) -> AdaptiveOnnx:
    return int8_onnx(two, images, default="high")


def run(data: bytes, images: np.ndarray) -> np.ndarray:
    return np.asarray(session(data).run([OUTPUT], {INPUT: images})[0])


def test_every_tier_is_its_own_quantised_graph(
    two: AdaptiveNetwork, exported: AdaptiveOnnx, images: np.ndarray
) -> None:
    for tier in TIERS:
        static = static_onnx(two.extract(tier), images.shape)
        alone = quantised(static, images, first=first_block(two))
        expected = run(alone.SerializeToString(), images)
        found = run(exported.configured("", tier), images)
        # filters may differ by a tie of rounding, one step of 255
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
        own, other = (logits(two, name, images) for name in (tier, *set(TIERS) - {tier}))
        # a network of random weights is coarse in 8 bits, but it is still this tier
        assert np.abs(found - own).mean() < 0.6 * np.abs(found - other).mean()


def test_filters_are_stored_once(two: AdaptiveNetwork, exported: AdaptiveOnnx) -> None:
    model = onnx.load_from_string(exported.data)
    filters = [
        numpy_helper.to_array(tensor).size
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert first_block(two) == "features.2"
    before = ("features.0.", "features.1.")  # these stay float32
    used = [p for name, p in two.net.named_parameters() if not name.startswith(before)]
    assert sum(filters) == sum(p.numel() for p in used if p.ndim > 1)
    assert all(not node.attribute[0].g.initializer for node in model.graph.node if node.attribute)


def test_the_selection_is_one_flag_per_tier(exported: AdaptiveOnnx, images: np.ndarray) -> None:
    assert exported.selection.num_blocks == 0
    assert exported.selection.length == 1 + len(TIERS)
    start = exported.selection.offset
    assert exported.data[start : start + 3] == b"\x00\x00\x01"  # as it is: high
    (tensor,) = [
        t for t in onnx.load_from_string(exported.data).graph.initializer if t.name == SELECTION
    ]
    assert tensor.raw_data == b"\x00\x00\x01"
    np.testing.assert_array_equal(
        run(exported.data, images), run(exported.configured("", "high"), images)
    )
    assert np.abs(run(exported.data, images) - run(exported.configured("", "low"), images)).max()


def test_ties_of_rounding_are_one_filter_and_other_differences_are_not() -> None:
    value = np.array([[-128, 0, 127]], np.int8)
    assert _close(value, np.array([[-127, 1, 126]], np.int8))
    assert not _close(value, np.array([[-126, 0, 127]], np.int8))
    assert not _close(value, np.array([[127, 0, -128]], np.int8))  # no wrapping around


def test_refusals(network: AdaptiveNetwork, two: AdaptiveNetwork, images: np.ndarray) -> None:
    with pytest.raises(UserError, match="need calibration images"):
        int8_onnx(two, images[:0], default="high")
    bare = copy.deepcopy(two)
    bare.tiers.clear()
    with pytest.raises(UserError, match="no tiers to export"):
        int8_onnx(bare, images, default="high")
