"""The adaptive network: what runs, what is switched, what is extracted."""

import copy
import os
import pickle
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pliant.adaptive.block import PTABlock
from pliant.adaptive.calibration import calibrate
from pliant.adaptive.configuration import PRESETS, Configuration
from pliant.adaptive.network import AdaptiveNetwork, load_start, make_adaptive, pta_mobilenet_v2
from pliant.errors import UserError
from pliant.models.mobilenet_v2 import InvertedResidual, load_mobilenet_v2, mobilenet_v2


def test_sixteen_blocks_and_a_plain_first_one(network: AdaptiveNetwork):
    assert network.num_blocks == len(network.blocks()) == 16
    assert isinstance(network.net.features[1], InvertedResidual)
    assert all(isinstance(m, PTABlock) for m in network.net.features[2:18])
    assert [b.index for b in network.blocks()] == list(range(16))
    assert sum(b.residual for b in network.blocks()) == 10
    inside = [m for b in network.blocks() for m in b.modules() if isinstance(m, InvertedResidual)]
    assert len(inside) == 32
    assert not any(m.use_res_connect for m in inside)
    assert network.configuration == Configuration("H" * 16)


@pytest.mark.parametrize("padding", ["same_tf", "symmetric"])
def test_high_is_the_plain_network_bit_for_bit(padding, images: torch.Tensor):
    torch.manual_seed(0)
    plain = mobilenet_v2(width=0.35, num_classes=3, padding=padding)
    adaptive = pta_mobilenet_v2(width=0.35, num_classes=3, padding=padding)
    load_start(adaptive, plain.state_dict())
    for train in (True, False):
        plain.train(train)
        adaptive.train(train)
        torch.manual_seed(5)
        a = plain(images)
        torch.manual_seed(5)
        with adaptive.use("high"):
            assert torch.equal(adaptive(images), a)
    loss, other = plain(images).square().sum(), adaptive(images).square().sum()
    loss.backward()
    other.backward()
    key = "features.5.conv.1.0.weight"
    own = key.replace("5.", "5.branches.heavy.", 1)
    grads = [dict(m.named_parameters())[k].grad for m, k in ((plain, key), (adaptive.net, own))]
    assert torch.equal(grads[0], grads[1])  # pyright: ignore[reportArgumentType]


def test_high_is_imagenets_mobilenet_bit_for_bit():
    if "PLIANT_DATA" not in os.environ:
        pytest.skip("PLIANT_DATA is not set")
    weights = Path(os.environ["PLIANT_DATA"]) / "weights" / "mobilenet_v2_imagenet.safetensors"
    plain = mobilenet_v2(num_classes=1000).eval()
    assert load_mobilenet_v2(plain, weights) == []
    adaptive = pta_mobilenet_v2(num_classes=1000).eval()
    load_start(adaptive, weights)
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adaptive(x), plain(x))
    high = adaptive.extract("high")
    assert list(high.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(v, high.state_dict()[k]) for k, v in plain.state_dict().items())


@given(st.text("LHB", min_size=16, max_size=16), st.sampled_from(["mean", "sum"]))
@settings(max_examples=8)
def test_extracted_equals_switched_bit_for_bit(letters: str, merge):
    torch.manual_seed(0)
    network = pta_mobilenet_v2(width=0.1, merge=merge)
    images = torch.randn(2, 3, 32, 32)
    network(images)  # statistics that are not trivial
    network.eval()
    plain = network.extract(letters)
    with network.use(letters):
        assert torch.equal(network(images), plain(images))
    kinds = {type(m).__name__ for m in plain.modules()}
    assert not kinds & {"PTABlock", "TieredBatchNorm2d", "AdaptiveNetwork"}
    assert ("AllBranches" in kinds) == ("B" in letters)
    own = {p.data_ptr() for p in network.parameters()}
    assert not own & {p.data_ptr() for p in plain.parameters()}


def test_extracted_state(network: AdaptiveNetwork):
    plain = mobilenet_v2(width=0.1, num_classes=3)
    high, low = network.extract("high"), network.extract("low")
    assert list(high.state_dict()) == list(plain.state_dict())  # torchvision's keys
    assert list(low.state_dict()) == list(
        mobilenet_v2(width=0.1, num_classes=3, expand=1).state_dict()
    )
    assert len(low.state_dict()) < len(high.state_dict()) < len(network.state_dict())
    assert set(network.extract("max").state_dict()) == set(network.net.state_dict())
    assert [m.use_res_connect for m in high.modules() if isinstance(m, InvertedResidual)] == [
        m.use_res_connect for m in plain.modules() if isinstance(m, InvertedResidual)
    ]
    # the network itself is as it was
    assert not any(b.branches["heavy"].use_res_connect for b in network.blocks())


def test_extracted_tier_has_its_own_statistics(network: AdaptiveNetwork, images: torch.Tensor):
    before = network.extract("low")(images)
    calibrate(network, "low", [images], name="low")
    plain = network.extract("low")
    with network.use("low"):
        assert torch.equal(network(images), plain(images))
    assert not torch.equal(plain(images), before)
    with network.use(Configuration("L" * 16)):  # no tier: the statistics that training keeps
        assert torch.equal(network(images), before)
    assert type(plain.get_submodule("features.0.1")) is nn.BatchNorm2d


def test_use_touches_the_switch_alone(network: AdaptiveNetwork):
    def state() -> dict:
        found = {id(m): dict(vars(m)) for m in network.modules()}
        return {key: {k: id(v) for k, v in attributes.items()} for key, attributes in found.items()}

    calls: list[str] = []
    hooks = [m.register_forward_pre_hook(lambda *_: calls.append("")) for m in network.modules()]
    before, selection = state(), network.switch.selection
    network.use("low")
    assert state() == before
    assert calls == []
    assert network.switch.selection is not selection
    for hook in hooks:
        hook.remove()


def test_contexts_nest_and_survive_errors(network: AdaptiveNetwork):
    with network.use("low") as inside:
        assert inside is network
        with network.use("max"):
            network.use("mid")
            assert str(network.configuration) == "HLHLLHLLLHLLHLLH"
        assert network.configuration == Configuration("L" * 16)
        with pytest.raises(RuntimeError, match="planned"), network.use("HL" * 8):
            raise RuntimeError("planned")
        assert network.configuration == Configuration("L" * 16)
        with pytest.raises(UserError):
            network.use("quick")
        assert network.configuration == Configuration("L" * 16)
    assert network.configuration == Configuration("H" * 16)


def test_copies_switch_for_themselves(network: AdaptiveNetwork, images: torch.Tensor):
    calibrate(network, "low", [images], name="low")
    network.use("low")
    other = copy.deepcopy(network)
    thawed = pickle.loads(pickle.dumps(network))
    network.use("max")
    for one in (other, thawed):
        assert one.configuration == Configuration("L" * 16)
        assert one.blocks()[3].switch is one.switch is not network.switch
        assert one.switch.selection.statistics is one.tiers["low"].statistics
    with network.use("low"):
        assert torch.equal(network(images), other(images))
        assert torch.equal(network(images), thawed(images))


def test_threads_with_their_own_copies_do_not_meet(network: AdaptiveNetwork):
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        wanted = {name: network.extract(name)(x) for name in ("low", "mid", "high", "max")}
    wrong: list[str] = []

    def work(name: str, own: AdaptiveNetwork) -> None:
        with torch.no_grad():
            for _ in range(10):
                with own.use(name):
                    if not torch.equal(own(x), wanted[name]):
                        wrong.append(name)

    threads = [threading.Thread(target=work, args=(n, copy.deepcopy(network))) for n in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_channels_last(network: AdaptiveNetwork):
    x = torch.randn(2, 3, 33, 32)
    plain = {name: network.extract(name)(x) for name in PRESETS}
    network = network.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    for name, wanted in plain.items():
        with network.use(name):
            torch.testing.assert_close(network(x), wanted, atol=1e-4, rtol=1e-4)
    inside = network.net.features[:9](x)
    assert inside.is_contiguous(memory_format=torch.channels_last)


def test_tiers_move_with_the_network(network: AdaptiveNetwork, images: torch.Tensor):
    calibrate(network, "low", [images], name="low")
    network.use("low")
    network.double()
    assert network(images.double()).dtype == torch.float64
    pair = network.tiers["low"].statistics.values[0]
    assert pair is not None
    assert pair[0].dtype == torch.float64


def test_a_network_without_blocks(images: torch.Tensor):
    plain = mobilenet_v2(width=0.1).eval()
    wanted = plain(images)
    network = AdaptiveNetwork(plain).eval()
    with network.use("plain"):
        assert torch.equal(network(images), wanted)
    calibrate(network, "plain", [images], name="plain")
    calibrated = network.extract("plain")(images)
    assert not torch.equal(calibrated, wanted)
    with network.use("plain"):
        assert torch.equal(network(images), calibrated)
    assert network.features_of(images).shape == (4, 1280)


def test_three_branches(images: torch.Tensor):
    torch.manual_seed(0)
    network = make_adaptive(mobilenet_v2(width=0.35), branches={"light": 1, "medium": 3}).eval()
    assert network.letters == "LMHB"
    outputs = []
    for letters in ("LMHB" * 4, "M" * 16, "high", "max", "low"):
        plain = network.extract(letters)
        with network.use(letters):
            outputs.append(network(images))
        assert torch.equal(outputs[-1], plain(images))
    assert len({tuple(out.flatten().tolist()) for out in outputs}) == 5


@pytest.mark.parametrize("expand", [1, 2, 3])
def test_light_expansion(expand: int):
    network = pta_mobilenet_v2(width=0.35, light_expand=expand)
    shape = mobilenet_v2(width=0.35, expand=expand)
    light, wanted = network.extract("low").state_dict(), shape.state_dict()
    assert {k: v.shape for k, v in light.items()} == {k: v.shape for k, v in wanted.items()}


def test_refusals(network: AdaptiveNetwork):
    with pytest.raises(UserError, match="does not fit"):
        network.use(Configuration("HH"))
    with pytest.raises(UserError, match="does not fit"):
        network.use(Configuration("M" * 16))
    with pytest.raises(UserError, match="no inverted residual"):
        make_adaptive(nn.Sequential(nn.Conv2d(3, 4, 1)))
    with pytest.raises(ValueError, match="1, 2 or 3"):
        pta_mobilenet_v2(light_expand=6)
    with pytest.raises(ValueError, match="below the heavy"):
        make_adaptive(mobilenet_v2(), light_expand=6)
    with pytest.raises(UserError, match="adaptive already"):
        make_adaptive(network)
    with pytest.raises(UserError, match=r"first .layer1.weight"):
        load_start(network, {"layer1.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    "wrong",
    [
        {"branches": {"light": 3, "medium": 1}},
        {"branches": {"light": 1, "heavy": 2}},
        {"branches": {"1x": 1}},
        {"branches": {"light": 1.5}},
        {"branches": {"light": 1, "large": 2}},
        {"branches": {}},
        {"light_expand": 6},
        {"merge": "max"},
        {"light_start": "bogus"},
    ],
)
def test_a_refused_model_is_left_as_it_was(wrong, images: torch.Tensor):
    plain = mobilenet_v2(width=0.1).eval()
    before = plain(images)
    with pytest.raises(ValueError, match=r"branches needs|must be"):
        make_adaptive(plain, **wrong)
    assert torch.equal(plain(images), before)
    assert not any(isinstance(m, PTABlock) for m in plain.modules())
