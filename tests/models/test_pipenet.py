"""PipeNet: the parameter counts and shapes of the published code, any pool, missing modalities."""

import pytest
import torch
from torch import nn

from pliant.models.pipelines import PIPELINES
from pliant.models.pipenet import MODALITIES, pipenet, subsets, without


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_published_network_has_its_parameters() -> None:
    net = pipenet(share_trunk=True)
    assert count(net.trunks["colour"]) == 683_078
    assert [count(net.excite[name]) for name in MODALITIES] == [2_184] * 3
    assert [count(stage) for stage in net.fusion] == [2_755_072, 8_393_728]
    assert count(net.head) == 131_842
    assert count(net) == 11_970_272
    assert list(net.trunks) == ["colour"]  # stored once
    assert net.trunk_of == dict.fromkeys(MODALITIES, "colour")


def test_trunks_of_their_own_by_default() -> None:
    assert count(pipenet()) == 13_336_428


@pytest.mark.parametrize(
    ("side", "sides"),
    [(24, (3, 2, 1)), (32, (4, 2, 1)), (48, (6, 3, 2)), (64, (8, 4, 2)), (112, (14, 7, 4))],
)
def test_shapes_of_the_published_network(side: int, sides: tuple[int, int, int]) -> None:
    net = pipenet(share_trunk=True).eval()
    image = torch.zeros(1, 3, side, side)
    with torch.inference_mode():
        trunk = net.trunks["colour"](image)
        first = net.fusion[0](torch.cat([trunk] * 3, dim=1))
        second = net.fusion[1](first)
    shapes = [(128, sides[0]), (256, sides[1]), (512, sides[2])]
    assert [(t.shape[1], t.shape[2]) for t in (trunk, first, second)] == shapes


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [
        ("resnet18", 128, 6),
        ("se_resnext_2", 256, 12),
        ("se_resnext_2_4", 512, 6),
        ("se_resnext_3_4", 512, 6),
        ("senet154", 512, 6),
        ("xception", 512, 6),
    ],
)
def test_every_pipeline_of_the_pool_at_48_px(name: str, channels: int, side: int) -> None:
    entry = PIPELINES[name]
    net = entry.build(3).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 48, 48)).shape == (1, channels, side, side)
    assert entry.channels == channels


def test_different_pipelines_fit_together_and_learn() -> None:
    torch.manual_seed(0)
    tiny = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
    net = pipenet({"colour": "se_resnext_2", "depth": "resnet18", "infrared": (tiny, 16)})
    images = torch.randn(4, 9, 48, 48)
    loss = nn.functional.cross_entropy(net(images), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_one_or_four_modalities() -> None:
    names = ("colour", "depth", "infrared", "thermal")
    for number in (1, 4):
        net = pipenet(dict.fromkeys(names[:number], "resnet18")).eval()
        with torch.inference_mode():
            assert net(torch.zeros(2, 3 * number, 32, 32)).shape == (2, 2)


def test_seven_subsets_and_what_they_leave() -> None:
    assert len(subsets()) == 7
    x = torch.ones(1, 9, 2, 2)
    kept = without(x, ("depth",))
    assert kept[0, :, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert torch.equal(without(x, MODALITIES), x)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: pipenet({"colour": "vgg"}), "unknown pipeline 'vgg'; known: resnet18"),
        (lambda: pipenet({}), "needs a modality"),
        (
            lambda: pipenet({"colour": "resnet18", "depth": "xception"}, share_trunk=True),
            "same pipeline for every modality",
        ),
        (lambda: pipenet()(torch.zeros(1, 6, 32, 32)), "needs 9 channels, got 6"),
        (lambda: without(torch.zeros(1, 9, 2, 2), ("smell",)), "unknown modalities"),
    ],
)
def test_refusals(call, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()
