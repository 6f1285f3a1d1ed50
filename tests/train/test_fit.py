"""The loop: it learns, it is repeatable, and a killed run goes on as if nothing had happened."""

import csv
import errno
import signal
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from pliant.errors import UserError
from pliant.train import checkpoints
from pliant.train.fit import check_machine, fit
from pliant.train.run_folder import RunFolder
from pliant.train.settings import Machine

CPU = Machine(accelerator="cpu")


def _fit(parts, recipe, folder, *, resume=False, **more):
    module, batches = parts(recipe, **more)
    fit(module, batches, folder, settings=recipe, machine=CPU, resume=resume)
    return module


def _rows(folder):
    text = (folder.path / "metrics.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _same(one, other):
    first, second = one.network.state_dict(), other.network.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture
def folder(run_path):
    return RunFolder.create(run_path, {"task": "pad"})


@pytest.mark.parametrize("more", [{}, {"ema": 0.5}, {"optimiser": "adamw", "lr": 0.001}])
def test_a_resumed_run_equals_an_uninterrupted_one(parts, recipe, folder, tmp_path, more):
    recipe = replace(recipe, **more)
    whole = _fit(parts, recipe, folder)

    killed = RunFolder.create(tmp_path / "killed", {})

    class Killed(RuntimeError):
        pass

    module, batches = parts(recipe)
    step = module.training_step

    def dies_in_epoch_3(batch, batch_idx):
        if module.current_epoch == 2 and batch_idx == 1:
            raise Killed
        return step(batch, batch_idx)

    module.training_step = dies_in_epoch_3
    with pytest.raises(Killed):
        fit(module, batches, killed, settings=recipe, machine=CPU)
    assert len(_rows(killed)) == 2

    resumed = _fit(parts, recipe, killed, resume=True)
    _same(whole, resumed)
    timed = {"seconds", "seconds_per_step", "dev_seconds"}
    for one, other in zip(_rows(folder), _rows(killed), strict=True):
        assert {k: one[k] for k in one.keys() - timed} == {k: other[k] for k in one.keys() - timed}


def test_it_learns_and_its_table_adds_up(parts, recipe, folder):
    recipe = replace(recipe, epochs=4, lr=0.02)
    _fit(parts, recipe, folder, number=64)
    rows = _rows(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert float(rows[-1]["dev_auc_low"]) > 0.8
    mean = (float(rows[-1]["dev_auc_low"]) + float(rows[-1]["dev_auc_max"])) / 2
    assert float(rows[-1]["dev_mean"]) == pytest.approx(mean)
    assert rows[-1]["total_samples"] == str(4 * 64)
    assert rows[-1]["total_macs"] == str(4 * 64 * 10)  # the fixture counts 10 MACs an image
    assert rows[0]["macs_per_step"] == str(8 * 10)
    assert rows[0]["steps"] == "8"
    assert float(rows[0]["seconds"]) > 0
    assert float(rows[-1]["lr"]) < 1e-6


def test_same_seed_same_result_other_seed_another(parts, recipe, tmp_path):
    recipe = replace(recipe, epochs=1)
    runs = [
        _fit(parts, replace(recipe, seed=seed), RunFolder.create(tmp_path / str(k), {}))
        for k, seed in enumerate((0, 0, 1))
    ]
    _same(runs[0], runs[1])
    weights = [run.network.state_dict()["net.classifier.1.weight"] for run in runs]
    assert not torch.equal(weights[0], weights[2])


def test_it_leaves_the_callers_random_state_and_ctrl_c_handler(parts, recipe, folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    handler = signal.getsignal(signal.SIGINT)
    torch.manual_seed(5)
    _fit(parts, replace(recipe, epochs=1), folder)
    assert torch.equal(torch.rand(3), expected)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_plain_network_trains_the_same_way(parts, recipe, folder):
    module = _fit(parts, replace(recipe, epochs=1), folder, model="mobilenet_v2")
    assert list(module.network.tiers) == ["plain"]
    assert "dev_auc_plain" in _rows(folder)[0]


def test_a_loss_that_is_no_number_says_what_to_do(parts, recipe, folder):
    module, batches = parts(recipe)
    with torch.no_grad():
        module.network.get_parameter("net.classifier.1.bias").fill_(float("nan"))
    with pytest.raises(UserError, match=r"the loss became nan in epoch 1.*lower --lr than 0.05"):
        fit(module, batches, folder, settings=recipe, machine=CPU)


def test_a_last_step_that_ruins_the_weights_is_not_kept(parts, recipe, folder):
    recipe = replace(recipe, epochs=1)
    module, batches = parts(recipe)
    step = module.training_step

    def ruins(batch, batch_idx):
        if batch_idx == 2:
            with torch.no_grad():
                module.network.get_parameter("net.classifier.1.bias").fill_(float("nan"))
            return torch.zeros((), requires_grad=True)
        return step(batch, batch_idx)

    module.training_step = ruins
    with pytest.raises(
        UserError, match=r"tier low are no numbers in epoch 1.*lower --lr than 0.05"
    ):
        fit(module, batches, folder, settings=recipe, machine=CPU)
    assert not folder.last_checkpoint.exists()


def test_a_full_disk_keeps_the_older_checkpoint(parts, recipe, folder, tmp_path, monkeypatch):
    whole = _fit(parts, recipe, RunFolder.create(tmp_path / "whole", {}))
    write, written = checkpoints.write_atomic, []

    def full(path, content):
        written.append(path)
        if len(written) > 3:  # best and last of the first epoch, best of the second
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_atomic", full)
        with pytest.raises(OSError, match="No space left") as failure:
            _fit(parts, recipe, folder)
    assert failure.value.filename == str(written[-1])
    assert folder.path in folder.last_checkpoint.parents
    assert {p.name for p in folder.last_checkpoint.parent.iterdir()} == {"best.ckpt", "last.ckpt"}
    _same(whole, _fit(parts, recipe, folder, resume=True))


@pytest.mark.parametrize("cut", [0, 1000, -1])
def test_a_damaged_checkpoint_is_refused(parts, recipe, folder, cut):
    _fit(parts, replace(recipe, epochs=1), folder)
    content = folder.last_checkpoint.read_bytes()
    folder.last_checkpoint.write_bytes(content[:cut])
    with pytest.raises(UserError, match=r"last.ckpt is damaged or no checkpoint.*another --out"):
        _fit(parts, recipe, folder, resume=True)


def test_a_checkpoint_runs_no_code(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "more": print}, path)
    with pytest.raises(UserError, match="is damaged or no checkpoint"):
        checkpoints.read_checkpoint(path)


def test_ctrl_c_says_how_to_go_on(parts, recipe, folder, capfd):
    module, batches = parts(recipe)
    step = module.training_step

    def interrupted(batch, batch_idx):
        if module.current_epoch == 1:
            raise KeyboardInterrupt
        return step(batch, batch_idx)

    module.training_step = interrupted
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"after epoch 1 of 3; the same .* --resume"):
        fit(module, batches, folder, settings=recipe, machine=CPU)
    assert signal.getsignal(signal.SIGINT) is handler
    assert folder.last_checkpoint.exists()
    assert "".join(capfd.readouterr()) == ""  # the sentence is the caller's to say


def test_a_terminated_run_does_not_look_finished(parts, recipe, folder, capsys):
    module, batches = parts(recipe)

    def terminated(batch, batch_idx):
        raise SIGTERMException

    module.training_step = terminated
    with pytest.raises(SystemExit) as stop:
        fit(module, batches, folder, settings=recipe, machine=CPU)
    assert stop.value.code == 143
    said = capsys.readouterr().err
    assert said == "stopped by SIGTERM in the first epoch; the same command with --resume goes on\n"


def test_frozen_batch_norm_keeps_its_statistics(parts, recipe, folder):
    recipe = replace(recipe, epochs=1, freeze_batch_norm=True)
    module, batches = parts(recipe)
    before = {k: v.clone() for k, v in module.network.state_dict().items() if "running" in k}
    fit(module, batches, folder, settings=recipe, machine=CPU)
    after = module.network.state_dict()
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_mixed_precision_is_passed_through(parts, recipe, folder):
    recipe = replace(recipe, epochs=1)
    module, batches = parts(recipe)
    machine = replace(CPU, precision="bf16-mixed")
    trainer = fit(module, batches, folder, settings=recipe, machine=machine)
    assert trainer.precision == "bf16-mixed"
    assert all(p.dtype == torch.float32 for p in module.parameters())


def test_a_machine_that_is_not_there(parts, recipe, folder):
    module, batches = parts(recipe)
    with pytest.raises(UserError, match="this machine cannot train as asked"):
        fit(module, batches, folder, settings=recipe, machine=Machine(accelerator="gpux"))


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (replace(CPU, devices="0,1"), "should be an int > 0"),
        (Machine(accelerator="gpux"), "invalid accelerator name"),
        (replace(CPU, strategy="dpp"), "invalid strategy name"),
        (replace(CPU, precision="16-mixed"), "precision 16-mixed; give bf16-mixed or 32-true"),
    ],
)
def test_a_machine_is_checked_without_training(machine, sentence, capfd):
    with pytest.raises(UserError, match=f"this machine cannot train .*{sentence}"):
        check_machine(machine)
    assert "".join(capfd.readouterr()) == ""


def test_one_process_of_ddp_is_quiet(parts, recipe, folder, recwarn):
    recipe = replace(recipe, epochs=1)
    module, batches = parts(recipe)
    fit(module, batches, folder, settings=recipe, machine=replace(CPU, strategy="ddp"))
    assert not [warning for warning in recwarn if "sync_dist" in str(warning.message)]
