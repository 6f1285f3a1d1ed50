"""Sub-networks: how their maps are found, what is shared, what is refused before the first step."""

import pytest
import torch
from torch import nn

from pliant.adaptive.network import pta_mobilenet_v2
from pliant.distill.peers import Configurations, Networks, SharedTrunk
from pliant.distill.seen import check_seen, look
from pliant.errors import UserError
from pliant.models.cifar_resnet import cifar_resnet

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def nets(num: int = 2, classes: int = 3):
    torch.manual_seed(0)
    return [cifar_resnet(8, num_classes=classes) for _ in range(num)]


def pooled_late() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 3)
    )


def test_a_look_leaves_no_trace():
    network = nets(1)[0]
    network.get_submodule("bn1").eval()
    state = {name: t.clone() for name, t in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    seen = look(network, IMAGES, index=0)
    assert (seen.tap, seen.channels, seen.num_classes, seen.finite) == ("layer3", 64, 3, True)
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(t, state[name]) for name, t in network.state_dict().items())
    assert not any(m._forward_hooks for m in network.modules())


def test_the_last_map_is_the_one_before_pooling():
    assert look(pooled_late(), IMAGES, index=0).tap == "1"
    adaptive = pta_mobilenet_v2(width=0.35)
    assert look(adaptive, torch.zeros(2, 3, 32, 32), index=0).tap == "net.features"
    plain = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    assert look(plain, IMAGES, index=0).tap is None
    assert look(plain, IMAGES, index=0, tap="0").channels == 768  # a vector is a map of one pixel


def test_taps_by_path():
    peers = Networks(nets(), example=IMAGES, taps=["layer2", None])
    assert [tuple(one.shape) for one in peers(IMAGES).maps] == [(2, 32, 8, 8), (2, 64, 4, 4)]


def test_a_shared_trunk_answers_as_the_plain_networks():
    plain = nets(3)
    peers = SharedTrunk(plain, upto="layer2", example=IMAGES).eval()
    answers = peers(IMAGES)
    assert answers.shared.shape == (2, 32, 8, 8)
    assert peers.shared_channels == 32
    for k, logits in enumerate(answers.logits):
        assert torch.equal(peers.extract(k)(IMAGES), logits)
        assert torch.equal(answers.maps[k], peers.extract(k).map_of(IMAGES))
    assert torch.equal(plain[0].eval()(IMAGES), answers.logits[0])  # the first one's trunk is kept
    assert not torch.equal(plain[1].eval()(IMAGES), answers.logits[1])


def test_the_trunk_runs_once():
    peers = SharedTrunk(nets(3), upto="layer2", example=IMAGES)
    calls = []
    peers.trunk.register_forward_hook(lambda *a: calls.append(1))
    peers(IMAGES)
    assert len(calls) == 1


def test_state_dicts_hold_every_weight_once():
    peers = SharedTrunk(nets(2), upto="layer2", example=IMAGES)
    pointers = [t.data_ptr() for t in peers.state_dict().values()]
    assert len(pointers) == len(set(pointers))
    other = SharedTrunk([cifar_resnet(8, num_classes=3) for _ in range(2)], upto="layer2",
                        example=IMAGES)  # fmt: skip
    other.load_state_dict(peers.state_dict())
    assert torch.equal(other.eval()(IMAGES).ensemble, peers.eval()(IMAGES).ensemble)


def test_configurations_restore_the_one_in_use():
    network = pta_mobilenet_v2(width=0.35).eval()
    network.use("L" * 8 + "H" * 8)
    before = network.configuration
    peers = Configurations(network, ("low", "high", "max"), example=torch.zeros(2, 3, 32, 32))
    answers = peers(torch.randn(2, 3, 32, 32))
    assert network.configuration == before
    assert len(answers.logits) == len(answers.maps) == 3
    assert not torch.equal(answers.logits[0], answers.logits[1])


def test_configurations_twice_are_refused():
    network = pta_mobilenet_v2(width=0.35)
    with pytest.raises(UserError, match=f"two of high, {'H' * 16} are the same configuration"):
        Configurations(network, ("high", "H" * 16), example=torch.zeros(2, 3, 32, 32))


def test_one_network_only_is_refused():
    with pytest.raises(UserError, match="DML needs 2 sub-networks or more, got 1"):
        check_seen("DML", Networks(nets(1), example=IMAGES).seen)


def test_other_classes_are_refused():
    peers = Networks([*nets(1), *nets(1, classes=4)], example=IMAGES)
    message = (
        r"DML needs the same classes everywhere: sub-network 1 \(CifarResNet\) has 3, .* has 4"
    )
    with pytest.raises(UserError, match=message):
        check_seen("DML", peers.seen)


def test_logits_that_are_no_numbers_are_refused():
    good, bad = nets()
    with torch.no_grad():
        bad.classifier.weight[0, 0] = torch.nan
    peers = Networks([good, bad], example=IMAGES)
    with pytest.raises(UserError, match=r"sub-network 2 \(CifarResNet\) gives logits that are not"):
        check_seen("DML", peers.seen)


def test_the_same_module_twice_is_refused():
    network = nets(1)[0]
    with pytest.raises(UserError, match="a sub-network stands there twice"):
        Networks([network, network], example=IMAGES)


def test_images_that_do_not_fit_are_refused():
    message = r"sub-network 1 \(CifarResNet\) does not take an input of shape \(1, 16, 16\)"
    with pytest.raises(UserError, match=message):
        Networks(nets(), example=IMAGES[:, :1])
    with pytest.raises(UserError, match=r"the trunk does not take an input of shape \(1, 16, 16\)"):
        SharedTrunk(nets(), upto="layer2", example=IMAGES[:, :1])


def test_a_network_without_logits_is_refused():
    message = r"sub-network 1 \(Conv2d\) must give logits of shape \(2, classes\) .* got \(2, 4"
    with pytest.raises(UserError, match=message):
        Networks([nn.Conv2d(3, 4, 3)], example=IMAGES)


def test_taps_that_are_not_there():
    with pytest.raises(UserError, match='has no module "layer4" to tap; did you mean "layer'):
        Networks(nets(), example=IMAGES, taps=["layer4", None])
    with pytest.raises(UserError, match="2 sub-networks need as many taps, got 1"):
        Networks(nets(), example=IMAGES, taps=["layer3"])


def test_a_trunk_that_is_not_there():
    message = (
        r'sub-network 1 \(CifarResNet\) cannot share a trunk up to "layer4".*children are conv1'
    )
    with pytest.raises(UserError, match=message):
        SharedTrunk(nets(), upto="layer4", example=IMAGES)
    with pytest.raises(UserError, match="cannot share a trunk"):
        SharedTrunk([nn.Linear(2, 2)], upto="layer2", example=IMAGES)  # type: ignore[list-item]


def test_a_branch_that_does_not_fit_the_trunk():
    narrow = nn.Sequential()
    narrow.add_module("layer2", nn.Conv2d(3, 8, 1))
    narrow.add_module("flatten", nn.Flatten())
    narrow.add_module("fc", nn.Linear(8, 3))
    with pytest.raises(UserError, match=r"sub-network 2 \(Sequential\) does not take an input"):
        SharedTrunk([*nets(1), narrow], upto="layer2", example=IMAGES)
