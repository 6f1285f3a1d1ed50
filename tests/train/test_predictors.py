"""A task of several networks under the same module: measured by predictors, calibrated in place."""

import csv
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pliant.distill.ffl import FFL
from pliant.distill.kdcl import KDCL
from pliant.distill.peers import Networks
from pliant.models.cifar_resnet import cifar_resnet
from pliant.runtime.crop import Preprocessing
from pliant.train.callbacks import calibrate_task, held_out
from pliant.train.data_module import CropData
from pliant.train.fit import fit
from pliant.train.module import TrainModule, to_floats
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine

CPU = Machine(accelerator="cpu")
Online = Callable[..., tuple[TrainModule, CropData]]


@pytest.fixture
def online(parts, recipe) -> Online:
    """A method's settings -> (module, batches) of two tiny ResNets."""

    def make(method: FFL | KDCL, **more: object) -> tuple[TrainModule, CropData]:
        alone, batches = parts(replace(recipe, **more))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            networks = [cifar_resnet(8, num_classes=2) for _ in range(2)]
            task = method.build(
                Networks(networks, example=torch.zeros(2, 3, 32, 32)), total_steps=9
            )
        names = ["network_1", "network_2", "ensemble"] + ["fused"] * isinstance(method, FFL)
        module = TrainModule(
            task,
            alone.settings,
            preprocessing=Preprocessing(size=32),
            tiers={},
            predictors=names,
            ranking=names[:2],
            more_macs=7,
        )
        return module, batches

    return make


def _state(module: TrainModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_every_predictor_is_measured_and_the_networks_rank(online, run_path):
    module, batches = online(FFL(), epochs=1)
    folder = RunFolder.create(run_path, {})
    fit(module, batches, folder, settings=module.settings, machine=CPU)
    (row,) = csv.DictReader((run_path / "metrics.csv").read_text().splitlines())
    measured = {name: float(v) for name, v in row.items() if name.startswith("dev_auc_")}
    assert {name.removeprefix("dev_auc_") for name in measured} == {
        *("network_1", "network_2", "ensemble", "fused")
    }
    mean = (measured["dev_auc_network_1"] + measured["dev_auc_network_2"]) / 2
    assert float(row["dev_mean"]) == pytest.approx(mean)
    assert row["macs_per_step"] == str(8 * 7)


def test_outputs_that_are_no_numbers_are_named(online, run_path):
    module, batches = online(FFL(weight=0.0), epochs=1)
    step = module.training_step

    def ruins(batch, batch_idx):
        loss = step(batch, batch_idx)
        if batch_idx == 2:
            with torch.no_grad():
                module.get_parameter("task.fusion.classifier.bias").fill_(float("nan"))
            return torch.zeros((), requires_grad=True)
        return loss

    module.training_step = ruins
    folder = RunFolder.create(run_path, {})
    with pytest.raises(Exception, match="the outputs of fused are no numbers in epoch 1"):
        fit(module, batches, folder, settings=module.settings, machine=CPU)


def test_batch_norms_are_those_of_the_images_and_all_else_stays(online):
    module, batches = online(FFL())
    before, modes = _state(module), [part.training for part in module.modules()]
    calibrate_task(module, batches, limit=6)
    after = _state(module)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {n for n in before if "running" in n or n.endswith("num_batches_tracked")}
    assert [part.training for part in module.modules()] == modes
    images = module.normalise(to_floats(next(batches.calibration_batches(6))))
    seen = module.task.peers.networks[0].conv1(images).detach()
    mean = seen.mean((0, 2, 3))
    torch.testing.assert_close(after["task.peers.networks.0.bn1.running_mean"], mean)
    assert module.task.fusion.depthwise[1].momentum == 0.1


def test_frozen_batch_norms_are_not_calibrated(online):
    module, batches = online(FFL(), freeze_batch_norm=True)
    before = _state(module)
    calibrate_task(module, batches)
    assert all(torch.equal(value, before[name]) for name, value in _state(module).items())


def test_a_task_with_a_measure_sees_dev_after_every_epoch(online, run_path, monkeypatch):
    module, batches = online(KDCL(target="general"), epochs=2)
    seen = []
    measure = module.task.measure

    def noted(held):
        seen.append([len(targets) for _, targets in held])
        measure(held_out(module, batches))

    monkeypatch.setattr(module.task, "measure", noted)
    folder = RunFolder.create(run_path, {})
    fit(module, batches, folder, settings=module.settings, machine=CPU)
    assert seen == [[12], [12]]
    assert float(module.task.shares.sum()) == pytest.approx(1)
    assert not torch.equal(module.task.shares, torch.tensor([0.5, 0.5]))


def test_the_fusion_module_decays_less(online, run_path):
    module, batches = online(FFL(fusion_decay=0.25), epochs=1, weight_decay=0.4)
    trainer = fit(
        module, batches, RunFolder.create(run_path, {}), settings=module.settings, machine=CPU
    )
    groups = trainer.optimizers[0].param_groups
    found = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert found[id(module.task.fusion.classifier.weight)] == pytest.approx(0.1)
    assert found[id(module.task.peers.networks[0].conv1.weight)] == pytest.approx(0.4)
