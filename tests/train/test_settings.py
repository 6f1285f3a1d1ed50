"""Settings refuse what no run can use, and say what is allowed."""

import json
from dataclasses import asdict, replace

import pytest

from pliant.errors import UserError
from pliant.train.settings import Machine, NetworkSettings, TrainSettings


@pytest.mark.parametrize("settings", [TrainSettings(), NetworkSettings(), Machine()])
def test_settings_survive_json(settings):
    back = json.loads(json.dumps(asdict(settings)))
    back = {k: tuple(v) if isinstance(v, list) else v for k, v in back.items()}
    assert type(settings)(**back) == settings


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"optimiser": "adam"}, "sgd or adamw, got 'adam'"),
        ({"lr": 0.0}, "lr must be > 0"),
        ({"momentum": 1.0}, "momentum must be in [0, 1)"),
        ({"ema": 1.0}, "ema must be in [0, 1)"),
        ({"distill_weight": 1.1}, "distill_weight must be in [0, 1]"),
        ({"tiers": ()}, "tiers must be at least one preset"),
        ({"tiers": ("low", "low")}, "tiers must be different presets"),
    ],
)
def test_bad_recipe(change, sentence):
    with pytest.raises(UserError) as refusal:
        replace(TrainSettings(), **change)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("devices", ["two", "", "0", "1.5"])
def test_bad_devices(devices):
    with pytest.raises(UserError, match="devices must be a number, a list"):
        Machine(devices=devices)


@pytest.mark.parametrize("devices", ["1", "2", "auto", "-1", "0,", "0,1"])
def test_good_devices(devices):
    assert Machine(devices=devices).devices == devices


def test_bad_network():
    with pytest.raises(UserError, match="light_expand must be 1, 2 or 3, got 4"):
        NetworkSettings(light_expand=4)
