"""PipeNet's settings: what they build, their record, and what they refuse."""

import json
from dataclasses import asdict

import pytest
import torch

from pliant.adaptive.cost import cost_tables
from pliant.errors import UserError
from pliant.runtime.crop import Preprocessing
from pliant.train.module import Normalise
from pliant.train.network import build, task_of, tiers_of
from pliant.train.pipenet import BLACK_IS_ZERO, PipeNetSettings, pipenet_of
from pliant.train.settings import NetworkSettings, TrainSettings
from pliant.train.task import PlainTask


def test_they_survive_json_and_commas() -> None:
    given = PipeNetSettings(modalities=("depth,infrared",), joint=True, crops=1)
    assert given.modalities == ("depth", "infrared")
    assert pipenet_of({"pipenet": json.loads(json.dumps(asdict(given)))}) == given
    assert pipenet_of({"model": "mobilenet_v2"}) is None


def test_a_network_of_one_plain_tier_that_learns_patches() -> None:
    shape = PipeNetSettings(
        modalities=("colour", "depth"), pipelines=("se_resnext_2", "resnet18"), patch=16
    )
    net = build("pipenet", NetworkSettings(), num_classes=2, pipenet=shape)
    task = task_of(net, TrainSettings())
    assert isinstance(task, PlainTask)
    assert list(tiers_of(net, ("low", "high"))) == ["plain"]
    losses = task(torch.rand(4, 6, 16, 16), torch.tensor([0, 1, 0, 1]), 0)
    losses["loss"].backward()
    assert all(p.grad is not None for p in net.parameters())
    with torch.inference_mode():
        assert net.eval()(torch.rand(2, 6, 24, 24)).shape == (2, 2)


def test_a_frame_costs_its_36_patches() -> None:
    net = PipeNetSettings(patch=16).build(2)
    frame, patch = (cost_tables(net, (1, 9, side, side))["macs"].base for side in (24, 16))
    assert frame == 36 * patch


def test_a_missing_modality_is_zeros_for_the_network() -> None:
    images = torch.rand(2, 9, 4, 4)
    images[:, 3:6] = 0
    found = Normalise(Preprocessing(**BLACK_IS_ZERO))(images)
    assert torch.equal(found, images)


def test_every_three_channels_are_normalised_alike() -> None:
    how = Normalise(Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2)))
    images = torch.rand(2, 6, 3, 3)
    assert torch.equal(how(images)[:, 3:], how(images[:, 3:]))


def test_without_augmentation_patches_stay_registered() -> None:
    make = PipeNetSettings(patch=16).augmentation(wanted=False)
    images = torch.rand(3, 3, 20, 20).repeat(1, 3, 1, 1)
    found, _ = make(images, torch.zeros(3), torch.Generator().manual_seed(0))
    assert torch.equal(found[:, :3], found[:, 6:])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"modalities": ()}, "must be some of colour, depth, infrared, each once; got none"),
        ({"modalities": ("thermal",)}, "got thermal"),
        ({"modalities": ("depth", "depth")}, "each once"),
        ({"pipelines": ("vgg",)}, 'unknown pipeline "vgg"; allowed: resnet18'),
        ({"pipelines": ("resnet18", "resnet18")}, "one for each of colour, depth, infrared"),
        ({"pipelines": ("resnet18", "xception", "xception"), "share_trunk": True}, "one pipeline"),
        ({"patch": 8}, r"\[16, 1024\] px, got 8"),
        ({"crops": 9}, "36 or 1, got 9"),
        ({"erase": 1.5}, r"pipenet.erase must lie in \[0, 1\], got 1.5"),
        ({"downscale": float("nan")}, "pipenet.downscale"),
        ({"dropout": 1.0}, "dropout must lie"),
    ],
)
def test_refusals(wrong: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        PipeNetSettings(**wrong)
