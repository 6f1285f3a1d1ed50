"""The end of `pliant train`: trained weights become a run that can be opened.

Every tier gets its batch-norm statistics from plain training crops, its threshold from the dev
split alone, and its cost.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pliant.data.captures import DevCrops
from pliant.data.manifest import Sample
from pliant.data.modal import ModalCrops
from pliant.errors import UserError
from pliant.jobs.samples import Prepared, say
from pliant.jobs.scoring import tier_probabilities, to_scores
from pliant.pad.metrics import auc
from pliant.pad.scores import Scores, pool_presentations, write_scores
from pliant.pad.thresholds import check_support, fit_threshold, parse_policy
from pliant.runtime.crop import Preprocessing
from pliant.train.callbacks import calibrate_tiers
from pliant.train.data_module import CropData
from pliant.train.finish import tier_entries
from pliant.train.module import TrainModule
from pliant.train.run_folder import DEV_SCORES, RunFolder


def publish(
    folder: RunFolder,
    module: TrainModule,
    batches: CropData,
    prepared: Prepared,
    preprocessing: Preprocessing,
    policy: str,
) -> None:
    """Writes model.safetensors and tiers.json, and marks the run as finished.

    The arguments are those of `write_network`.
    """
    write_network(folder, module, batches, prepared, preprocessing, policy)
    folder.finish()


def write_network(
    folder: RunFolder,
    module: TrainModule,
    batches: CropData,
    prepared: Prepared,
    preprocessing: Preprocessing,
    policy: str,
) -> None:
    """Writes model.safetensors, tiers.json and the dev scores; the run is not finished yet.

    Args:
        folder: Of the run.
        module: With the best weights loaded.
        batches: Its crops; dev is scored whole.
        prepared: The samples behind them.
        preprocessing: The network's input.
        policy: How thresholds are fitted.
    """
    calibrate_tiers(module, batches)
    dev = batches.all_dev
    assert isinstance(dev, DevCrops)
    probabilities = tier_probabilities(
        module.network, dev, preprocessing, list(module.tiers), title="dev"
    )
    samples = dev.samples
    if isinstance(dev.plain, ModalCrops):  # a frame that lacks a modality has no say, now or later
        whole = [k for k, lacks in enumerate(dev.plain.problems()) if not lacks]
        samples = [dev.samples[k] for k in whole]
        probabilities = {name: p[whole] for name, p in probabilities.items()}
        prepared = replace(prepared, dev=samples)
    found = {name: on_dev(p, samples, prepared, policy) for name, p in probabilities.items()}
    if prepared.task == "pad":
        for name, p in probabilities.items():
            write_dev_scores(folder.path, name, p, samples)
    size, channels = preprocessing.size, prepared.channels
    entries = tier_entries(module.network, input_shape=(1, channels, size, size))
    folder.write_model(module.network)
    folder.write_tiers([entry | found[entry["tier"]] for entry in entries])


def write_dev_scores(
    run: Path, tier: str, probabilities: np.ndarray, samples: Sequence[Sample]
) -> None:
    """The scores behind a tier's threshold: evaluations resample them with those of the test."""
    scores = pool_presentations(to_scores(samples, probabilities[:, 1]))
    write_scores(scores, run / DEV_SCORES.format(tier=tier))


def on_dev(
    probabilities: np.ndarray, samples: Sequence[Sample], prepared: Prepared, policy: str
) -> dict[str, Any]:
    """One tier's dev quality, and for anti-spoofing its threshold; null where dev is too small.

    The quality is that of the real dev images. The threshold also sees the simulated captures, but
    they are no evidence: its counts, and the support for a limit, are those of the real ones.

    Args:
        probabilities: (N, K), a row per sample.
        samples: The real dev samples, then the simulated captures of them.
        prepared: Task, classes, and the real dev samples.
        policy: How the threshold is fitted.
    """
    quality = dev_quality(probabilities, samples, prepared)
    if prepared.task != "pad":
        return {"dev": quality, "threshold": None}
    dev = pool_presentations(to_scores(samples, probabilities[:, 1]))
    real = _real(probabilities, samples, prepared)
    source = f"dev split of {prepared.record['name']}"
    if len(samples) > len(prepared.dev):
        source += f" and {len(samples) - len(prepared.dev)} simulated captures of it"
    threshold = None
    try:
        check_support(real, parse_policy(policy))
        threshold = replace(
            fit_threshold(dev, policy, source=source),
            num_bona_fide=int(real.bona_fide.sum()),
            num_attack=int((~real.bona_fide).sum()),
        )
    except UserError as refusal:
        say(f"no threshold: {refusal}")
    return {"dev": quality, "threshold": threshold and threshold.to_json()}


def dev_quality(
    probabilities: np.ndarray, samples: Sequence[Sample], prepared: Prepared
) -> dict[str, float]:
    """AUC of anti-spoofing, accuracy of other tasks, by name; see `on_dev` for the arguments."""
    if prepared.task == "pad":
        return {"auc": auc(_real(probabilities, samples, prepared))}
    names = [prepared.classes[k] for k in probabilities.argmax(axis=1)]
    right = [name == sample.label for name, sample in zip(names, prepared.dev, strict=True)]
    return {"accuracy": sum(right) / len(right)}


def _real(probabilities: np.ndarray, samples: Sequence[Sample], prepared: Prepared) -> Scores:
    """Scores of the real dev images; of live photos alone, those with the simulated attacks."""
    real = pool_presentations(to_scores(prepared.dev, probabilities[: len(prepared.dev), 1]))
    if real.bona_fide.all():
        return pool_presentations(to_scores(samples, probabilities[:, 1]))
    return real
