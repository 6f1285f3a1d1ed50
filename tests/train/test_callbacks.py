"""What callbacks do beside the loop: tier statistics, the time left, the best of equal epochs."""

import sys
from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch

from pliant.adaptive.calibration import tier_state
from pliant.train.callbacks import BestCheckpoint, RunProgress, calibrate_tiers
from pliant.train.fit import fit
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine


def test_every_tier_gets_its_own_statistics_and_weights_stay(parts, recipe):
    module, batches = parts(recipe)
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    calibrate_tiers(module, batches)
    assert {name: tier.num_images for name, tier in module.network.tiers.items()} == {
        "low": 8,
        "max": 8,
    }
    stem = "net.features.0.1.running_mean"
    state = tier_state(module.network)
    names = [name for name in state if name.endswith(stem.removeprefix("net."))]
    assert len(names) == 2
    assert all(torch.equal(v, before[k]) for k, v in module.network.state_dict().items())


def test_calibration_takes_no_more_than_asked(parts, recipe):
    module, batches = parts(recipe)
    calibrate_tiers(module, batches, limit=5)
    assert module.network.tiers["low"].num_images == 5


@pytest.mark.parametrize(
    ("score", "kept"), [(0.8, False), (0.9, True), (0.95, True), (float("nan"), False)]
)
def test_the_best_epoch_is_kept_and_of_equal_ones_the_latest(tmp_path, score, kept):
    keeper = BestCheckpoint(dirpath=tmp_path, monitor="dev_mean", mode="max")
    keeper.best_model_score = torch.tensor(0.9)
    keeper.best_k_models = {"a": torch.tensor(0.9)}
    keeper.kth_best_model_path = "a"
    trainer = pl.Trainer(accelerator="cpu", logger=False, max_epochs=1)
    assert bool(keeper.check_monitor_top_k(trainer, torch.tensor(score))) is kept


def test_a_terminal_sees_the_time_left(parts, recipe, run_path, monkeypatch):
    seen = []
    metrics = RunProgress.get_metrics

    def watched(self, trainer, pl_module):
        seen.append(metrics(self, trainer, pl_module))
        return seen[-1]

    monkeypatch.setattr(RunProgress, "get_metrics", watched)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    recipe = replace(recipe, epochs=2)
    module, batches = parts(recipe)
    folder = RunFolder.create(run_path, {})
    fit(module, batches, folder, settings=recipe, machine=Machine(accelerator="cpu"))
    assert seen[-1]["run"] == "0:00 left"
    assert {"loss", "dev_mean"} <= seen[-1].keys()
