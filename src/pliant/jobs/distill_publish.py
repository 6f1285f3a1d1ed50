"""The end of `pliant distill`: every network a run folder, and what each predictor says on dev.

RUN/                     the student that is kept, or the adaptive network
RUN/distillation.json    predictors on dev, students, the kept one, gradient evaluations
RUN/method.safetensors   what an online method learnt besides: fusion module, gate, attention
RUN/students/<name>/     of several networks, each a run folder of its own
"""

import csv
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pliant.adaptive.network import AdaptiveNetwork
from pliant.data.captures import DevCrops
from pliant.data.progress import watched
from pliant.distill.offline import evaluating
from pliant.distill.peers import Configurations
from pliant.jobs.distill_plan import BEST, Plan
from pliant.jobs.distill_task import offline_task, online_task
from pliant.jobs.publish import dev_quality, publish, write_network
from pliant.jobs.samples import Prepared
from pliant.runtime.crop import Preprocessing
from pliant.runtime.files import write_atomic
from pliant.train.callbacks import calibrate_task
from pliant.train.data_module import CropData
from pliant.train.environment import environment
from pliant.train.module import TrainModule, to_floats
from pliant.train.network import MOBILENETS, tiers_of
from pliant.train.run_folder import FORMAT, RunFolder
from pliant.train.task import PlainTask

STUDENTS, RESULT, OWN = "students", "distillation.json", "method.safetensors"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What publishing needs to know."""

    plan: Plan
    module: TrainModule
    batches: CropData
    prepared: Prepared
    preprocessing: Preprocessing
    policy: str
    record: Mapping[str, Any]
    """settings.json, for the first student."""

    def __call__(self, folder: RunFolder) -> None:
        """Writes all, and marks the run as finished."""
        result: dict[str, Any] = {"method": self.plan.method, "kept": None, "students": {}}
        if self.module.tiers:
            self._write(folder, self.module)
        else:
            calibrate_task(self.module, self.batches)
            result |= self._write_students(folder)
        if self.plan.online and (own := _own_parts(self.module)):
            write_atomic(folder.path / OWN, save(own))
        folder.write_json(RESULT, result | self._measured(folder))
        folder.finish()

    def _write(self, folder: RunFolder, module: TrainModule, *, whole: bool = False) -> None:
        (publish if whole else write_network)(
            folder, module, self.batches, self.prepared, self.preprocessing, self.policy
        )

    def _write_students(self, folder: RunFolder) -> dict[str, Any]:
        """Every network as a run folder; the kept one's files also as the run's own."""
        place = folder.path / STUDENTS
        shutil.rmtree(place, ignore_errors=True)  # of an ending that was cut off
        found: dict[str, dict[str, Any]] = {}
        for index, (label, name) in enumerate(
            zip(self.plan.labels, self.plan.students, strict=True), start=1
        ):
            net = _network(online_task(self.module).extract(f"network_{index}"))
            student = RunFolder.create(place / label, self._record_of(name))
            student.write_json("environment.json", environment())
            self._write(student, self._module_of(net), whole=True)
            (tier,) = RunFolder.stored_tiers(student.path)
            found[label] = {"model": name, "predictor": f"network_{index}", **_measures(tier)}
        kept = self.plan.keep
        if kept == BEST:
            kept = max(
                found, key=lambda label: (*found[label]["dev"].values(), -found[label]["macs"])
            )
        for path in (place / kept).iterdir():
            if path.name not in ("state.json", "settings.json", "environment.json"):
                write_atomic(folder.path / path.name, path.read_bytes())
        if len(found) == 1:
            shutil.rmtree(place)
        record = self._record_of(found[kept]["model"])
        folder.write_json("settings.json", {"format": FORMAT, **record})
        return {"kept": kept, "students": found}

    def _record_of(self, model: str) -> dict[str, Any]:
        if model in MOBILENETS:
            return {**self.record, "model": model}
        start = {"kind": "random", "seed": self.module.settings.seed}
        return {**self.record, "model": model, "network": {}, "start": start}

    def _module_of(self, net: AdaptiveNetwork) -> TrainModule:
        """A network by itself, on the device of the training."""
        alone = TrainModule(
            PlainTask(net),
            self.module.settings,
            preprocessing=self.preprocessing,
            tiers=tiers_of(net, ()),
            num_classes=self.prepared.num_classes,
        )
        return alone.to(self.module.device)

    def _measured(self, folder: RunFolder) -> dict[str, Any]:
        """What the predictors say on dev, and what the training cost."""
        with (folder.path / "metrics.csv").open(newline="", encoding="utf-8") as file:
            last = list(csv.DictReader(file))[-1]
        images = int(last["total_samples"])
        names = [*self.module.tiers] if self.plan.peers else self.plan.labels
        return {
            "names": {f"network_{k}": name for k, name in enumerate(names, start=1)},
            "predictors": dev_predictors(self),
            "images": images,
            "gradient_evaluations": images * self.plan.num_networks,
            "forward_macs": int(last["total_macs"]),
        }


def dev_predictors(end: Ending) -> dict[str, dict[str, float]]:
    """AUC or accuracy of every predictor on the whole dev split, by its name."""
    dev = end.batches.all_dev
    assert isinstance(dev, DevCrops)
    say = _answers(end.module)
    found: dict[str, list[np.ndarray]] = {}
    loader = DataLoader(dev, batch_size=64)
    with torch.no_grad(), evaluating(end.module, *_teachers(end.module)):
        for batch in watched(loader, len(loader), "dev"):
            images = end.module.normalise(to_floats(batch["image"].to(end.module.device)))
            for name, logits in say(images).items():
                found.setdefault(name, []).append(logits.double().softmax(1).cpu().numpy())
    return {
        name: dev_quality(np.concatenate(parts), dev.samples, end.prepared)
        for name, parts in found.items()
    }


def _answers(module: TrainModule) -> Callable[[Tensor], dict[str, Tensor]]:
    if not hasattr(module.task, "predictors"):
        return lambda images: dict(
            zip(("network_1", "teacher"), _both(module, images), strict=True)
        )
    peers = getattr(module.task, "peers", None)
    if isinstance(peers, Configurations):
        peers.selected = tuple(module.tiers)  # with the statistics of the tiers
    return online_task(module).predictors


def _both(module: TrainModule, images: Tensor) -> tuple[Tensor, Tensor]:
    task = offline_task(module)
    (tier,) = module.tiers
    with module.network.use(tier):
        return module.network(images), task.teacher(images)


def _teachers(module: TrainModule) -> list[nn.Module]:
    return [] if hasattr(module.task, "predictors") else [offline_task(module).teacher]


def _own_parts(module: TrainModule) -> dict[str, Tensor]:
    """What belongs to the method and to no network."""
    state = cast(nn.Module, module.task).state_dict()
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if not name.startswith("peers.")
    }


def _network(extracted: nn.Module) -> AdaptiveNetwork:
    return extracted if isinstance(extracted, AdaptiveNetwork) else AdaptiveNetwork(extracted)


def _measures(tier: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tier[name] for name in ("macs", "params", "size_bytes", "dev")}
