"""One file, every configuration: equal to PyTorch, small, patched by bytes, folded by a session."""

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pliant.adaptive.calibration import calibrate
from pliant.adaptive.network import AdaptiveNetwork, make_adaptive, pta_mobilenet_v2
from pliant.adaptive.statistics import tiered_norms
from pliant.errors import UserError
from pliant.export.onnx import SELECTION, AdaptiveOnnx, adaptive_onnx
from pliant.export.parity import check_parity, configurations, logits, session, softmax
from pliant.export.static import INPUT, OUTPUT, static_onnx
from pliant.models.cifar_resnet import resnet20
from pliant.models.mobilenet_v2 import mobilenet_v2

SIDE = 32


@pytest.fixture(scope="module")
def exported(network: AdaptiveNetwork) -> AdaptiveOnnx:
    """Of the network, which it leaves as it was."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    selection = network.switch.selection
    made = adaptive_onnx(network, (1, 3, SIDE, SIDE), default="high")
    assert network.switch.selection is selection
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    return made


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (6, 3, SIDE, SIDE)).astype(np.float32)


def run(data: bytes, images: np.ndarray) -> np.ndarray:
    return np.asarray(session(data).run([OUTPUT], {INPUT: images})[0])


def test_every_tier_every_preset_and_fifty_random_configurations_equal_pytorch(
    network: AdaptiveNetwork, exported: AdaptiveOnnx, images: np.ndarray
) -> None:
    names = configurations(network)
    assert len(set(names)) >= 4 + 7 + 45  # a random one may be a preset
    found = check_parity(network, exported, images, thresholds=dict.fromkeys(network.tiers, 0.5))
    assert list(found) == names
    assert max(one.max_abs_logits for one in found.values()) < 1e-4
    # the tiers are different things, so agreement means something
    outputs = [
        run(exported.configured(str(t.configuration), n), images) for n, t in network.tiers.items()
    ]
    for i, first in enumerate(outputs):
        for second in outputs[i + 1 :]:
            assert np.abs(first - second).max() > 1e-3


def test_a_tiers_configuration_without_the_tier_runs_on_the_statistics_of_training(
    network: AdaptiveNetwork, exported: AdaptiveOnnx, images: np.ndarray
) -> None:
    letters = str(network.tiers["low"].configuration)
    own = run(exported.configured(letters), images)
    assert np.abs(own - logits(network, letters, images)).max() < 1e-4
    assert np.abs(own - run(exported.configured(letters, "low"), images)).max() > 1e-3


def test_the_file_as_it_is_runs_the_default_tier(
    network: AdaptiveNetwork, exported: AdaptiveOnnx, images: np.ndarray
) -> None:
    assert np.abs(run(exported.data, images) - logits(network, "high", images)).max() < 1e-4


def test_any_batch_size(
    network: AdaptiveNetwork, exported: AdaptiveOnnx, images: np.ndarray
) -> None:
    whole = run(exported.data, images)
    for size in (1, 2, 5):
        np.testing.assert_allclose(run(exported.data, images[:size]), whole[:size], atol=1e-5)


def test_the_selection_lies_where_it_says(exported: AdaptiveOnnx) -> None:
    model = onnx.load_from_string(exported.data)
    (tensor,) = [t for t in model.graph.initializer if t.name == SELECTION]
    start, length = exported.selection.offset, exported.selection.length
    assert exported.data[start : start + length] == tensor.raw_data
    assert tensor.data_type == onnx.TensorProto.BOOL
    assert length == 16 * 2 + 1 + 4
    # HHH... of tier high: "is H" set and "is B" not, sixteen times; then row 3 of five
    assert tensor.raw_data == b"\x01\x00" * 16 + b"\x00\x00\x00\x01\x00"


def test_patching_changes_the_selection_alone(exported: AdaptiveOnnx) -> None:
    patched = exported.configured("LHB" * 5 + "L", "mid")
    start, end = exported.selection.offset, exported.selection.offset + exported.selection.length
    assert len(patched) == len(exported.data)
    assert patched[:start] == exported.data[:start]
    assert patched[end:] == exported.data[end:]
    assert patched[start:end] == bytes([0, 0, 1, 0, 0, 1] * 5 + [0, 0]) + bytes([0, 0, 1, 0, 0])


def test_weights_are_stored_once(network: AdaptiveNetwork, exported: AdaptiveOnnx) -> None:
    weights = sum(p.numel() for p in network.parameters())
    channels = sum(norm.num_features for _, norm in tiered_norms(network.net))
    least = 4 * (weights + 2 * channels * (1 + len(network.tiers)))
    assert len(exported.data) <= 1.05 * least


def test_the_model_is_valid_onnx(exported: AdaptiveOnnx) -> None:
    onnx.checker.check_model(onnx.load_from_string(exported.data), full_check=True)


def test_a_session_folds_every_if_and_every_batch_norm(
    network: AdaptiveNetwork, exported: AdaptiveOnnx, tmp_path: Path
) -> None:
    """What ONNX Runtime really runs has the operators of a static export of that configuration."""

    def operators(data: bytes, name: str) -> dict[str, int]:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / name)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        counts: dict[str, int] = {}
        for node in onnx.load(tmp_path / name).graph.node:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        return counts

    letters = "LHB" * 5 + "L"
    ours = operators(exported.configured(letters), "ours.onnx")
    static = static_onnx(network.extract(letters), (1, 3, SIDE, SIDE)).SerializeToString()
    assert not ours.keys() & {"If", "BatchNormalization", "Gather", "Clip", "Div"}
    theirs = operators(static, "static.onnx")
    del theirs["Div"]  # B's mean, which ours has in its batch norms
    assert ours == theirs


def test_three_branches_and_a_sum(with_tiers, images: np.ndarray) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = mobilenet_v2(width=0.35, padding="symmetric", num_classes=5)
        adaptive = with_tiers(
            make_adaptive(
                net, branches={"light": 1, "medium": 3}, merge="sum", light_start="random"
            )
        )
    assert adaptive.letters == "LMHB"
    exported = adaptive_onnx(adaptive, (1, 3, SIDE, SIDE))
    assert exported.selection.length == 16 * 3 + 1 + 4
    for what in ("low", "max", "LMHB" * 4, "M" * 16, "MB" * 8):
        tier = what if what in adaptive.tiers else None
        letters = str(adaptive.configuration_of(what))
        there = run(exported.configured(letters, tier), images)
        expected = logits(adaptive, what, images)
        assert np.abs(there - expected).max() < 1e-4 * max(1, np.abs(expected).max())


def test_a_network_without_blocks_has_tiers_too(images: np.ndarray) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = AdaptiveNetwork(mobilenet_v2(width=0.35).eval())
    calibrate(plain, "plain", [torch.from_numpy(images)], name="plain")
    exported = adaptive_onnx(plain, (1, 3, SIDE, SIDE))
    assert exported.selection.length == 2
    assert np.abs(run(exported.data, images) - logits(plain, "plain", images)).max() < 1e-4


def test_a_resnet_equals_pytorch(images: np.ndarray) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = AdaptiveNetwork(resnet20(num_classes=3))
    calibrate(plain, "plain", [torch.from_numpy(images)], name="plain")
    exported = adaptive_onnx(plain, (1, 3, SIDE, SIDE))
    assert np.abs(run(exported.data, images) - logits(plain, "plain", images)).max() < 1e-4


def test_a_file_that_differs_is_refused(
    network: AdaptiveNetwork, exported: AdaptiveOnnx, images: np.ndarray
) -> None:
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.net.classifier[1].bias += 2e-4
    with pytest.raises(UserError, match="the export of low differs from the network: logits by up"):
        check_parity(other, exported, images, thresholds=dict.fromkeys(network.tiers, 0.5))


def test_a_flipped_decision_is_refused(
    network: AdaptiveNetwork, exported: AdaptiveOnnx, images: np.ndarray
) -> None:
    """A threshold between the two scores of one image: logits agree, verdicts do not."""
    here = softmax(logits(network, "low", images))[:, 1]
    letters = str(network.tiers["low"].configuration)
    there = softmax(run(exported.configured(letters, "low"), images))[:, 1]
    place = int(np.abs(here - there).argmax())
    assert here[place] != there[place]
    threshold = float(max(here[place], there[place]))
    with pytest.raises(UserError, match="1 other decisions on 6 images"):
        check_parity(network, exported, images, thresholds={"low": threshold}, what=["low"])


def test_refusals(network: AdaptiveNetwork, exported: AdaptiveOnnx) -> None:
    with pytest.raises(UserError, match="no tiers to export"):
        adaptive_onnx(pta_mobilenet_v2(width=0.35), (1, 3, SIDE, SIDE))
    with pytest.raises(UserError, match="16 adaptive blocks with letters L, H, B"):
        exported.configured("LLL")

    class Unexportable(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(UserError, match="torch cannot export this network to ONNX"):
        static_onnx(Unexportable(), (1, 3, SIDE, SIDE))
