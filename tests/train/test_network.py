"""Networks and tiers by name."""

import pytest

from pliant.adaptive.configuration import Configuration
from pliant.errors import UserError
from pliant.train.network import build, check_names, named, task_of
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
