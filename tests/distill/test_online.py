"""What every online method keeps to, built from its defaults."""

import dataclasses
import json

import pytest
import torch

from pliant.distill.online import ONLINE
from pliant.distill.peers import Networks, SharedTrunk
from pliant.models.cifar_resnet import cifar_resnet

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 1, 0, 2])


def build(name: str, seed: int = 0):
    torch.manual_seed(seed)
    nets = [cifar_resnet(8, num_classes=3) for _ in range(1 if name == "oskd" else 3)]
    peers = SharedTrunk(nets, upto="layer2", example=IMAGES)
    return ONLINE[name]().build(peers, total_steps=10)


@pytest.mark.parametrize("name", ONLINE)
def test_one_step(name: str):
    task = build(name)
    random, modes = torch.get_rng_state(), [m.training for m in task.modules()]
    losses = task(IMAGES, TARGETS, 0)
    assert all(part.ndim == 0 and part.isfinite() for part in losses.values())
    losses["loss"].backward()
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in task.modules()] == modes
    assert not any(m._forward_hooks for m in task.modules())
    assert task.configurations(0) == []
    assert task.model is task.peers
    assert all(hasattr(task, path) for path in task.decay_scales)


@pytest.mark.parametrize("name", ONLINE)
def test_same_seed_same_bits_and_the_state_dict_holds_all(name: str):
    one, same, other = build(name), build(name), build(name, seed=1)
    expected = one(IMAGES, TARGETS, 3)
    assert all(torch.equal(v, expected[k]) for k, v in same(IMAGES, TARGETS, 3).items())
    other.load_state_dict(build(name).state_dict())
    assert all(torch.equal(v, expected[k]) for k, v in other(IMAGES, TARGETS, 3).items())


@pytest.mark.parametrize("name", ONLINE)
def test_every_predictor_of_its_own_can_be_taken_out(name: str):
    task = build(name).eval()
    with torch.inference_mode():
        for what, logits in task.predictors(IMAGES).items():
            assert logits.shape == (6, 3)
            if what != "ensemble":
                assert torch.equal(task.extract(what)(IMAGES), logits)


@pytest.mark.parametrize("name", ONLINE)
def test_settings_survive_json(name: str):
    settings = ONLINE[name]()
    record = json.loads(json.dumps(dataclasses.asdict(settings)))
    assert ONLINE[name](**record) == settings
    with pytest.raises(ValueError, match="weight must be >= 0, got nan"):
        ONLINE[name](weight=float("nan"))


@pytest.mark.parametrize("name", ONLINE)
def test_in_bfloat16_autocast(name: str):
    with torch.autocast("cpu", torch.bfloat16):
        losses = build(name)(IMAGES, TARGETS, 5)
    assert all(part.isfinite() for part in losses.values())


@pytest.mark.parametrize("name", [name for name in ONLINE if name != "one"])
def test_networks_apart(name: str):
    torch.manual_seed(0)
    nets = [cifar_resnet(8, num_classes=3) for _ in range(1 if name == "oskd" else 3)]
    task = ONLINE[name]().build(Networks(nets, example=IMAGES), total_steps=10)
    assert task(IMAGES, TARGETS, 0)["loss"].isfinite()
