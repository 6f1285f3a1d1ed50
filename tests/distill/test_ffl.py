"""FFL: the formulas against loops, the published parameter counts, joint training at weight 0."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pliant.adaptive.network import pta_mobilenet_v2
from pliant.distill.ffl import FFL, fused_loss, label_loss, networks_loss
from pliant.distill.ffl_networks import FusionModule, concatenate
from pliant.distill.peers import Configurations, Networks, SharedTrunk
from pliant.distill.ramp import ramp_up
from pliant.errors import UserError
from pliant.models.cifar_resnet import CifarResNet, cifar_resnet
from pliant.models.mobilenet_v2 import mobilenet_v2
from pliant.models.pipenet import pipenet


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def images(side: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.randn(4, channels, side, side, generator=torch.Generator().manual_seed(0))


TARGETS = torch.tensor([0, 1, 2, 1])


def trunk(num: int = 2, depth: int = 8, classes: int = 3, side: int = 16) -> SharedTrunk:
    torch.manual_seed(1)
    nets = [cifar_resnet(depth, num_classes=classes) for _ in range(num)]
    return SharedTrunk(nets, upto="layer2", example=images(side))


def logits(num: int, *, classes: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(num)
    return [torch.randn(3, classes, generator=generator, dtype=torch.float64) for _ in range(num)]


def slow_kd(student, teacher, temperature: float) -> float:
    """The code's formula, without its 1e-7, one image and one class at a time."""

    def probabilities(row):
        powers = [math.exp(z / temperature) for z in row]
        return [p / sum(powers) for p in powers]

    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        total += sum(
            q * (math.log(q) - math.log(p))
            for q, p in zip(probabilities(t), probabilities(s), strict=True)
        )
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("num", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_formulas_by_loops(num: int, temperature: float):
    *zs, fused = logits(num + 1)
    targets = torch.tensor([4, 0, 2])
    ensemble = torch.tensor(
        [[sum(float(z[b, c]) for z in zs) / num for c in range(5)] for b in range(3)]
    )
    ce = 0.0
    for z in (*zs, fused):
        for row, y in zip(z.tolist(), targets.tolist(), strict=True):
            ce -= (row[y] - math.log(sum(math.exp(v) for v in row))) / 3
    got = label_loss(zs, fused, targets)
    assert float(got) == pytest.approx(ce)
    assert float(fused_loss(zs, fused, temperature=temperature)) == pytest.approx(
        slow_kd(fused, ensemble, temperature)
    )
    assert float(networks_loss(zs, fused, temperature=temperature)) == pytest.approx(
        sum(slow_kd(z, fused, temperature) for z in zs)
    )


def test_by_hand_for_two_classes_it_is_the_confidence_alone():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 0.0]])
    p = 1 / (1 + math.exp(-1))  # softmax of (3, 0) / 3
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert float(networks_loss([student], teacher, temperature=3.0)) == pytest.approx(9 * kl)
    shifted = torch.tensor([[8.0, 5.0]])
    assert float(networks_loss([student], shifted, temperature=3.0)) == pytest.approx(9 * kl)


def test_targets_are_constants_and_gradients_are_right():
    *zs, fused = (z.requires_grad_() for z in logits(3))
    fused_loss(zs, fused, temperature=3.0).backward()
    assert [z.grad for z in zs] == [None, None]
    assert fused.grad is not None
    fused.grad = None
    networks_loss(zs, fused, temperature=3.0).backward()
    assert fused.grad is None
    assert all(z.grad is not None for z in zs)
    assert torch.autograd.gradcheck(lambda z: fused_loss(logits(2), z, temperature=3.0), (fused,))
    assert torch.autograd.gradcheck(
        lambda a, b: networks_loss([a, b], fused.detach(), temperature=3.0), tuple(zs)
    )


def test_nothing_is_taught_where_all_agree():
    z = logits(1)[0].requires_grad_()
    loss = fused_loss([z, z], z, temperature=3.0) + networks_loss([z, z], z, temperature=3.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert float(z.grad.abs().max()) < 1e-12


def test_networks_may_change_places():
    *zs, fused = logits(4)
    for f in (fused_loss, networks_loss):
        torch.testing.assert_close(
            f(zs, fused, temperature=3.0), f(zs[::-1], fused, temperature=3.0)
        )


@pytest.mark.parametrize(("depth", "parameters"), [(32, 832_920), (56, 1_517_720)])
def test_parameter_counts_of_the_published_network(depth: int, parameters: int):
    peers = trunk(2, depth, classes=100, side=8)
    assert count(peers) == parameters
    task = FFL().build(peers, total_steps=10)
    assert count(task.fusion) == 16_228
    assert count(task) == parameters + 16_228


def test_the_fusion_module_starts_as_in_the_code():
    torch.manual_seed(0)
    fusion = FusionModule([64, 64], 100)
    for layer, size in ((fusion.depthwise[0], 9 * 128), (fusion.pointwise[0], 64)):
        deviation = float(layer.weight.detach().std())
        assert deviation == pytest.approx(math.sqrt(2 / size), rel=0.05)


def test_fusion_by_the_slow_way():
    torch.manual_seed(0)
    fusion = FusionModule([2, 3], 4).double().eval()
    maps = [torch.randn(2, c, s, s, dtype=torch.float64) for c, s in ((2, 4), (3, 2))]
    small = torch.empty(2, 5, 2, 2, dtype=torch.float64)
    small[:, 2:] = maps[1]
    for i in range(2):
        for j in range(2):  # every pixel is the mean of four
            small[:, :2, i, j] = maps[0][:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
    torch.testing.assert_close(concatenate(maps), small)
    shrink = 1 / math.sqrt(1 + 1e-5)  # batch norm in eval mode, fresh
    padded, kernel = F.pad(small, (1, 1, 1, 1)), fusion.depthwise[0].weight
    deep = torch.zeros_like(small)
    for c in range(5):
        for i in range(2):
            for j in range(2):
                window = padded[:, c, i : i + 3, j : j + 3] * kernel[c, 0]
                deep[:, c, i, j] = (window.sum((1, 2)) * shrink).clamp(min=0)
    point = fusion.pointwise[0].weight[:, :, 0, 0]
    assert point.shape == (3, 5)  # as many as the widest map
    mixed = (torch.einsum("oc,bchw->bohw", point, deep) * shrink).clamp(min=0)
    torch.testing.assert_close(fusion(maps), fusion.classifier(mixed.mean((2, 3))))


def test_maps_of_other_channels_are_refused():
    fusion = FusionModule([2, 3], 4)
    with pytest.raises(ValueError, match=r"needs maps of \(2, 3\) channels, got \(\(1, 3"):
        fusion([torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, 2)])


def test_ramp():
    weights = [ramp_up(e, length=80.0) for e in (0, 20, 40, 60, 80, 200)]
    assert weights == pytest.approx([0.0067, 0.0601, 0.2865, 0.7316, 1, 1], abs=5e-5)
    assert ramp_up(0, length=0.0) == 1
    task = FFL().build(trunk(), total_steps=300)
    assert task.ramp_steps == pytest.approx(80)


def test_the_loss_is_its_parts():
    task = FFL(weight=0.5).build(trunk(), total_steps=30)
    for step in (0, 4, 8, 20):
        losses = task(images(), TARGETS, step)
        taught = losses["kd_fused"] + losses["kd_networks"]
        weight = 0.5 * math.exp(-5 * (1 - min(step / 8, 1)) ** 2)
        torch.testing.assert_close(losses["loss"], losses["ce"] + weight * taught)


def test_without_weight_it_is_joint_training():
    """L = CE of every classifier; one step moves all parameters as the plain sum does."""
    task = FFL(weight=0.0).build(trunk(), total_steps=10)
    task(images(), TARGETS, 9)["loss"].backward()
    got = {name: p.grad.clone() for name, p in task.named_parameters()}
    task.zero_grad()
    answers = task.peers(images())
    ces = [F.cross_entropy(z, TARGETS) for z in (*answers.logits, task.fusion(answers.maps))]
    torch.stack(ces).sum().backward()
    for name, p in task.named_parameters():
        torch.testing.assert_close(got[name], p.grad, msg=name)


def test_the_fused_classifier_trains_branches_and_trunk():
    task = FFL().build(trunk(), total_steps=10)
    F.cross_entropy(task.predictors(images())["fused"], TARGETS).backward()
    assert all(p.grad is not None for p in task.peers.trunk.parameters())
    for branch in task.peers.branches:
        assert all(p.grad is not None for p in branch.layer3.parameters())
        assert branch.fc.weight.grad is None


def test_predictors_and_what_can_be_taken_out():
    task = FFL().build(trunk(3), total_steps=10).eval()
    with torch.inference_mode():
        named = task.predictors(images())
        assert list(named) == ["network_1", "network_2", "network_3", "ensemble", "fused"]
        mean = (named["network_1"] + named["network_2"] + named["network_3"]) / 3
        torch.testing.assert_close(named["ensemble"], mean)
        plain = task.extract("network_2")
        assert isinstance(plain, CifarResNet)
        assert list(plain.state_dict()) == list(cifar_resnet(8, num_classes=3).state_dict())
        assert torch.equal(plain(images()), named["network_2"])
        fused = task.extract("fused")
        assert torch.equal(fused(images()), named["fused"])
    assert not {id(p) for p in fused.parameters()} & {id(p) for p in task.parameters()}
    with pytest.raises(
        UserError, match=r'cannot extract "network_4"; there are network_1, .*fused'
    ):
        task.extract("network_4")


def test_different_architectures():
    torch.manual_seed(0)
    nets = [cifar_resnet(8, num_classes=3), mobilenet_v2(width=0.35, num_classes=3)]
    task = FFL().build(Networks(nets, example=images(32)), total_steps=10)
    assert task.fusion.channels == (64, 1280)  # 8 x 8 and 1 x 1 pixels
    task(images(32), TARGETS, 0)["loss"].backward()
    assert all(p.grad is not None for p in task.parameters())


def test_over_the_configurations_of_one_adaptive_network():
    torch.manual_seed(0)
    network = pta_mobilenet_v2(width=0.35, num_classes=3, dropout=0.0)
    before = network.configuration
    peers = Configurations(network, ("low", "high"), example=images(32))
    task = FFL().build(peers, total_steps=10)
    assert [str(c) for c in task.configurations(0)] == ["L" * 16, "H" * 16]
    assert task.model is network
    losses = task(images(32), TARGETS, 5)
    losses["loss"].backward()
    assert network.configuration == before
    assert all(p.grad is not None for p in network.parameters())
    task.eval()
    with torch.inference_mode():
        named = task.predictors(images(32))
        with network.use("low"):
            assert torch.equal(named["network_1"], network(images(32)))
        assert torch.equal(task.extract("network_2")(images(32)), named["network_2"])
        assert torch.equal(task.extract("fused")(images(32)), named["fused"])


def test_over_the_trunks_of_several_modalities():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU())
    nets = [pipenet({"colour": (encoder, 4), "depth": (encoder, 4)}) for _ in range(2)]
    peers = Networks(nets, example=images(16, 6))
    assert [seen.tap for seen in peers.seen] == ["fusion", "fusion"]
    task = FFL().build(peers, total_steps=10)
    assert task(images(16, 6), torch.tensor([0, 1, 1, 0]), 0)["loss"].isfinite()


def test_the_fusion_module_has_a_weight_decay_of_its_own():
    task = FFL(fusion_decay=0.2).build(trunk(), total_steps=10)
    assert task.decay_scales == {"fusion": 0.2}
    assert all(hasattr(task, path) for path in task.decay_scales)
    groups = task.parameter_groups(weight_decay=1e-4)
    assert [g["weight_decay"] for g in groups] == pytest.approx([1e-4, 2e-5])
    given = [id(p) for group in groups for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in task.parameters())
    torch.optim.SGD(groups, lr=0.1)


def test_frozen_norms_stay_frozen_in_what_is_taken_out():
    task = FFL().build(trunk(), total_steps=10)
    task.peers.trunk.get_submodule("bn1").eval()
    task.extract("fused")
    assert not task.peers.trunk.get_submodule("bn1").training
    assert task.peers.training


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.0), ("weight", -1.0), ("ramp", 1.5), ("fusion_decay", -1.0)],
)
def test_settings_out_of_range(field: str, value: float):
    with pytest.raises(UserError, match=rf"FFL.{field} must be .*, got {value}"):
        FFL(**{field: value})


def test_a_network_without_maps_is_refused():
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), cifar_resnet(8, num_classes=3)]
    with pytest.raises(UserError, match=r"FFL needs feature maps and sub-network 1 \(Sequential\)"):
        FFL().build(Networks(nets, example=images()), total_steps=10)
