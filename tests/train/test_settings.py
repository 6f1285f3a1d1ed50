"""Settings refuse what no run can use, and say what is allowed."""

import json
from dataclasses import asdict, replace

import pytest

from pliant.errors import UserError
from pliant.train.settings import Machine, NetworkSettings, TrainSettings


@pytest.mark.parametrize(
    "settings",
    [TrainSettings(sample_weights=(1, 2, 3, 4)), NetworkSettings(), Machine()],
)
def test_settings_survive_json(settings):
    assert type(settings)(**json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"optimiser": "adam"}, "sgd or adamw, got 'adam'"),
        ({"lr": 0.0}, "lr must be > 0"),
        ({"momentum": 1.0}, "momentum must be in [0, 1)"),
        ({"calibration_images": 1}, "calibration_images must be >= 2, got 1"),
        ({"dev_images": 1}, "dev_images must be >= 2, or 0 for all, got 1"),
        ({"sample_weights": (1.0, 1.0, 1.0, float("nan"))}, "one weight >= 0 for each tier"),
        ({"seed": 2**63}, "seed must be in [0, 2^63)"),
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


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "name",
    ["lr", "light_lr", "weight_decay", "warmup_epochs", "clip_gradient", "distill_temperature"],
)
def test_numbers_must_be_finite(name, value):
    with pytest.raises(UserError, match=f"{name} must be a finite number, >=? 0, got {value}"):
        replace(TrainSettings(), **{name: value})


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", "16"])
def test_bad_precision(precision):
    with pytest.raises(UserError, match="precision must be 32-true, 16-mixed, bf16-mixed"):
        Machine(precision=precision)


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
    with pytest.raises(UserError, match=r"width must be in \[0.05, 8\], got 1000"):
        NetworkSettings(width=1000.0)
