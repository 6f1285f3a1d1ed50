"""Calibration: by hand, forward-only, kept per tier, stale ones said."""

import copy
import warnings

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from pliant.adaptive.calibration import calibrate, fingerprint, load_tiers, tier_state
from pliant.adaptive.configuration import Configuration
from pliant.adaptive.network import AdaptiveNetwork, pta_mobilenet_v2
from pliant.adaptive.statistics import StaleCalibrationWarning, tiered_norms
from pliant.errors import UserError


def test_by_hand():
    network = AdaptiveNetwork(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()))
    batches = [torch.tensor([0.0, 2.0]), torch.tensor([4.0, 4.0, 8.0, 8.0])]
    found = calibrate(network, "plain", [b.view(-1, 1, 1, 1) for b in batches], name="plain")
    assert found.values[0] is not None
    mean, variance = (v.item() for v in found.values[0])
    assert mean == pytest.approx((2 * 1 + 4 * 6) / 6)  # batches count by their images
    assert variance == pytest.approx((2 * 2 + 4 * 16 / 3) / 6)


def test_one_batch_makes_eval_what_train_was(network: AdaptiveNetwork, images: torch.Tensor):
    calibrate(network, "mid", [images], name="mid")
    one = network.net.features[:3]
    with network.use("mid"):
        tier = one(images)
        for norm in (n for _, n in tiered_norms(one)):
            norm.training = True
        batch = one(images)
    # running variances are unbiased, a batch's own is not
    torch.testing.assert_close(tier, batch, atol=0.05, rtol=0.05)


def test_changes_nothing_else(network: AdaptiveNetwork, images: torch.Tensor):
    network.train()
    network.net.features[3].eval()
    network(images).sum().backward()
    network.net.features[0].requires_grad_(False)
    network.use("mid")

    def snapshot() -> list:
        found: list = [network.configuration, network.switch.version]
        for module in network.modules():
            found += [module.training, len(module._forward_pre_hooks), vars(module).get("momentum")]
        return found

    def tensors() -> list[torch.Tensor]:
        found = [t.clone() for t in network.state_dict().values()]
        return found + [p.grad.clone() for p in network.parameters() if p.grad is not None]

    shape, values, state = snapshot(), tensors(), torch.get_rng_state()
    pointers = [t.data_ptr() for t in network.state_dict().values()]
    calibrate(network, "low", [images], name="low")

    def broken():
        yield images
        raise RuntimeError("planned")

    with pytest.raises(RuntimeError, match="planned"):
        calibrate(network, "max", broken(), name="max")
    assert list(network.tiers) == ["low"]
    assert snapshot() == shape
    assert all(torch.equal(a, b) for a, b in zip(values, tensors(), strict=True))
    assert [t.data_ptr() for t in network.state_dict().values()] == pointers
    assert torch.equal(torch.get_rng_state(), state)


def test_idle_branches_have_no_statistics(network: AdaptiveNetwork, images: torch.Tensor):
    found = calibrate(network, "low", [images], name="low")
    for (path, _), value in zip(tiered_norms(network.net), found.values, strict=True):
        assert (value is None) == (".heavy." in path)


def test_stored_and_read_again(network: AdaptiveNetwork, images: torch.Tensor):
    calibrate(network, "low", [images, images * 2], name="low")
    calibrate(network, "HL" * 8, [images], name="kiosk-2")
    stored = load(save({**network.state_dict(), **tier_state(network)}))
    records = {name: tier.to_json() for name, tier in network.tiers.items()}
    assert records["kiosk-2"]["configuration"] == "HL" * 8
    assert records["low"]["images"] == 8
    assert "tier.low.features.0.1.running_mean" in stored

    torch.manual_seed(9)
    other = pta_mobilenet_v2(width=0.1, num_classes=3).eval()
    other.load_state_dict({k: v for k, v in stored.items() if not k.startswith("tier.")})
    load_tiers(other, stored, records)
    for name in records:
        with network.use(name), other.use(name):
            assert network.configuration == other.configuration
            assert torch.equal(network(images), other(images))
    assert fingerprint(network) == fingerprint(other)


def test_stale_after_training_is_said_once(network: AdaptiveNetwork, images: torch.Tensor):
    calibrate(network, "low", [images], name="low")
    with network.use("low"):
        network(images)
    network.train()(images)
    with pytest.warns(StaleCalibrationWarning, match='tier "low".*calibrate it again'):
        network.use("low")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.use("low")
        calibrate(network, "low", [images], name="low")
        network.use("low")
    network.load_state_dict(network.state_dict())
    with pytest.warns(StaleCalibrationWarning):
        network.extract("low")
    calibrate(network, "low", [images], name="low")
    network.net.load_state_dict(network.net.state_dict())
    with pytest.warns(StaleCalibrationWarning):
        network.use("low")


def test_loading_through_a_parent_marks_stale_too(network: AdaptiveNetwork, images: torch.Tensor):
    parent = nn.ModuleDict({"model": network})
    copied = copy.deepcopy(parent)
    calibrate(network, "low", [images], name="low")
    parent.load_state_dict(copied.state_dict())
    with pytest.warns(StaleCalibrationWarning):
        network.use("low")


def test_weights_changed_behind_the_networks_back(network: AdaptiveNetwork, images: torch.Tensor):
    calibrate(network, "low", [images], name="low")
    records = {name: tier.to_json() for name, tier in network.tiers.items()}
    state = tier_state(network)
    with torch.no_grad():
        network.net.classifier[1].bias += 1
    with pytest.warns(StaleCalibrationWarning, match="other weights"):
        tier_state(network)
    other = copy.deepcopy(network)
    with pytest.warns(StaleCalibrationWarning, match="other weights"):
        load_tiers(other, state, records)


def test_refusals(network: AdaptiveNetwork, images: torch.Tensor):
    with pytest.raises(UserError, match="is no name for a tier"):
        calibrate(network, "low", [images], name="Low.1")
    with pytest.raises(UserError, match="needs images, got none"):
        calibrate(network, "low", [], name="low")
    with pytest.raises(ValueError, match="two images or more"):
        calibrate(network, "low", [images[:1]], name="low")
    calibrate(network, "low", [images], name="low")
    state, record = tier_state(network), {"low": network.tiers["low"].to_json()}
    load_tiers(network, state, {})  # statistics without a record are passed over
    lost = {k: v for k, v in state.items() if "features.18" not in k}
    with pytest.raises(UserError, match=r'no statistics for "features\.18\.1"'):
        load_tiers(network, lost, record)
    state["tier.low.features.0.1.running_mean"] = torch.zeros(3)
    with pytest.raises(UserError, match="do not fit"):
        load_tiers(network, state, record)
    record["low"]["configuration"] = "LL"
    with pytest.raises(UserError, match="does not fit"):
        load_tiers(network, state, record)
    assert network.configuration == Configuration("H" * 16)
