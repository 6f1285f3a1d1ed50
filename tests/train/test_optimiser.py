"""Warm-up and cosine by hand; norms and biases never decay."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pliant.adaptive.network import pta_mobilenet_v2
from pliant.train.optimiser import build_optimiser, lr_factor, parameter_groups
from pliant.train.settings import TrainSettings


def test_schedule_by_hand():
    factors = [lr_factor(step, total=7, warmup=3) for step in range(8)]
    cosine = [0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(5)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, *cosine])


@given(total=st.integers(2, 400), share=st.floats(0, 0.99))
def test_schedule_rises_then_falls(total, share):
    warmup = min(int(total * share), total - 1)
    factors = [lr_factor(step, total=total, warmup=warmup) for step in range(total + 3)]
    assert all(0 <= f <= 1 for f in factors)
    assert factors[warmup] == 1.0
    assert factors[: warmup + 1] == sorted(factors[: warmup + 1])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert factors[-1] == 0.0


def test_groups_hold_every_parameter_once():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decays, spared = parameter_groups(model, lr=0.2, weight_decay=0.1, light_lr=3)
    assert decays["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert [p.ndim for p in decays["params"]] == [4, 2]
    assert all(p.ndim == 1 for p in spared["params"])
    assert len(decays["params"]) + len(spared["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_built_optimiser_steps_through_the_run(name, kind):
    settings = TrainSettings(optimiser=name, epochs=2, lr=0.5, warmup_epochs=1)
    optimiser, schedule = build_optimiser(nn.Linear(2, 2), settings, total_steps=6)
    assert isinstance(optimiser, kind)
    seen = []
    for _ in range(6):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert seen == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.375, 0.125])


def test_a_part_with_a_weight_decay_of_its_own():
    task = nn.ModuleDict(
        {
            "peers": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)),
            "fusion": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)),
        }
    )
    task.decay_scales = {"fusion": 0.1}
    settings = TrainSettings(weight_decay=0.5)
    groups = build_optimiser(task, settings, total_steps=4)[0].param_groups
    found = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    wanted = [0.5, 0, 0, 0, 0.05, 0, 0, 0]  # weights decay, biases and norms do not
    assert [found[id(p)] for p in task.parameters()] == pytest.approx(wanted)
    assert sum(len(group["params"]) for group in groups) == 8


def test_light_branches_learn_at_their_own_rate():
    model = pta_mobilenet_v2(width=0.1)
    groups = parameter_groups(model, lr=0.2, weight_decay=0.1, light_lr=3)
    assert [group["lr"] for group in groups] == pytest.approx([0.2, 0.2, 0.6, 0.6])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    fast = {id(p) for group in groups[2:] for p in group["params"]}
    named = {name for name, p in model.named_parameters() if id(p) in fast}
    assert named == {name for name, _ in model.named_parameters() if ".branches.light." in name}
