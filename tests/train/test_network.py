"""Networks and tiers by name."""

from pathlib import Path

import pytest
import torch

from pliant.adaptive.configuration import Configuration
from pliant.errors import UserError
from pliant.train.network import build, check_names, check_shape, named, task_of, tiers_of
from pliant.train.settings import NetworkSettings, TrainSettings
from pliant.train.task import AdaptiveTask

MINE = "HHHHLLLLHHHHLLLL"


def test_a_tier_of_ones_own():
    assert named(["low", f"mine={MINE}"], 16) == {
        "low": Configuration("L" * 16),
        "mine": Configuration(MINE),
    }


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        (("lwo",), 'did you mean "low"'),
        ((MINE,), f'such as "mine={MINE}"'),
        ((f"low={MINE}",), "name of a preset"),
        (("a b=low",), "cannot name a tier"),
        (("mine=HH",), "has 2 letters"),
        ((f"mine={MINE}", "mine=low"), "different names"),
    ],
)
def test_refusals(tiers: tuple[str, ...], said: str):
    with pytest.raises(UserError, match=said):
        check_names("pta_mobilenet_v2", TrainSettings(tiers=tiers))


def test_the_teacher_is_trained_and_the_cheapest_tier_drawn_twice_as_often():
    network = build("pta_mobilenet_v2", NetworkSettings(width=0.1), num_classes=2)
    settings = TrainSettings(tiers=("mid", "low"), sampler="presets", distill_weight=0.5)
    task = task_of(network, settings)
    assert isinstance(task, AdaptiveTask)
    assert task.heaviest == Configuration.from_text("mid")
    drawn = [str(task.sampler(step)[0]) for step in range(600)]
    assert set(drawn) == {"L" * 16, str(task.heaviest)}
    assert 340 < drawn.count("L" * 16) < 460  # two of three


def test_a_resnet_is_a_plain_network():
    network = build("resnet20", NetworkSettings(), num_classes=3)
    assert list(tiers_of(network, ("low", "high"))) == ["plain"]
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "init", "said"),
    [
        (NetworkSettings(width=0.5), None, "leave them out for resnet20"),
        (NetworkSettings(), Path("start.safetensors"), "--init holds a MobileNetV2"),
    ],
)
def test_what_shapes_a_mobilenet_is_refused_for_a_resnet(settings, init, said):
    with pytest.raises(UserError, match=said):
        check_shape(["resnet20"], settings, init)
    check_shape(["resnet20", "mobilenet_v2"], settings, init)
