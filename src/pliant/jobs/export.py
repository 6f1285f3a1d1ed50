"""`pliant export RUN --out face.pliant`: one bundle for every device.

The export is checked before anything is written: every tier, every preset and fifty random
configurations give PyTorch's logits within 1e-4, and no golden image changes its verdict.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import numpy as np
from tyro.conf import Positional, arg

from pliant import __version__
from pliant.errors import UserError

if TYPE_CHECKING:
    from pliant.export.golden import GoldenImage
    from pliant.export.parity import Parity
    from pliant.runtime.contract import BundleTier, Contract
    from pliant.train.run_folder import Run

Target = Literal["onnx", "executorch", "litert"]
DEFAULT_TIERS = ("high", "max", "mid", "low")
"""The first of these that the run has is what a bundle runs unless told otherwise."""
SELF_TEST_TOLERANCE = {"fp32": 1e-3, "int8": 0.05}
"""Largest difference of a probability that a device may show; other processors round otherwise, and
in 8 bits a rounding is a step of the grid."""
UNSTATED = "not stated; ask who trained it"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    out: Path
    """The bundle."""
    target: str
    """`onnx`, `executorch` or `litert`."""
    precision: str
    """`fp32` or `int8`."""
    size_bytes: int
    """Of the model's file."""
    weights_bytes: int
    """Its weights once and the batch-norm vectors of every tier, float32: the least it could be."""
    configurations: int
    """Compared with PyTorch."""
    max_abs_logits: float
    """Largest difference found."""
    tiers: Mapping[str, Mapping[str, Any]]
    """By tier: its parity; for int8 also its error rates before and after."""


def export(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    *,
    out: Path,
    target: Target = "onnx",
    int8: bool = False,
    data: Path | None = None,
    max_change: float = 0.02,
    name: str | None = None,
    licence: str = UNSTATED,
) -> Exported:
    """Write a finished run as one bundle that holds every configuration and tier.

    Args:
        run: A run folder of `pliant train`.
        out: A name that ends in .pliant or .zip gives one file, any other name a folder.
        target: onnx runs anywhere ONNX Runtime does, in the browser too; the others are for phones.
        int8: Store 8-bit weights: about a third of the size; tiers alone, no other configurations.
        data: With --int8: the data of the training; its training split calibrates, its dev split
            judges.
        max_change: With --int8: most that APCER or BPCER may rise at a stored threshold, in [0, 1];
            past it nothing is written.
        name: What the model is called; None: the name of the run folder.
        licence: Of the weights, to be read by who gets the bundle.

    Raises:
        UserError: if the run is unfinished, `out` is taken, or the exported model computes
            something else than the network.
    """
    from pliant.export.write import bundle_files, reopen, write_folder, write_zip
    from pliant.jobs.folders import appearing

    run, out = Path(run), Path(out)
    name = run.resolve().name if name is None else name
    _check(target=target, int8=int8, data=data, max_change=max_change)
    _check_words(name=name, licence=licence)
    _check_out(out)

    from pliant.train.run_folder import RunFolder

    opened = RunFolder.open(run)
    if not opened.tiers:
        raise UserError(f"{run} has no tiers, so there is nothing to ship")
    made = _make(opened, target, int8=int8, data=data, max_change=max_change)
    contract = _contract(opened, made, target=target, int8=int8, name=name, licence=licence)
    files = bundle_files(contract, made.files)
    reopen(files, target)
    if _is_single(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_zip(files, out)
    else:
        with appearing(out) as folder:
            write_folder(files, folder)
    return Exported(
        out=out,
        target=target,
        precision=contract.precision,
        size_bytes=len(made.files[contract.model_file]),
        weights_bytes=_least_bytes(opened),
        configurations=made.num_compared,
        max_abs_logits=made.max_abs_logits,
        tiers={tier.name: dict(tier.parity) for tier in contract.tiers},
    )


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A model on its way into a bundle."""

    files: dict[str, bytes]
    model_file: str
    selection: Any
    golden: "Sequence[GoldenImage]"
    probabilities: Mapping[str, np.ndarray]
    """By tier, (golden images, classes)."""
    parity: Mapping[str, Mapping[str, Any]]
    """By tier."""
    num_compared: int
    max_abs_logits: float


def _check(*, target: str, int8: bool, data: Path | None, max_change: float) -> None:
    if target not in get_args(Target):
        raise UserError(f'unknown target "{target}"; allowed: {", ".join(get_args(Target))}')
    if int8 and target != "onnx":
        raise UserError(f"--int8 is for --target onnx; got --target {target}")
    if int8 and data is None:
        raise UserError("--int8 needs --data: the training's data, to calibrate and to judge on")
    if data is not None and not int8:
        raise UserError("--data is for --int8 alone; leave it out")
    if not 0 <= max_change <= 1:
        raise UserError(f"--max-change must lie in [0, 1], got {max_change}")


def _check_words(*, name: str, licence: str) -> None:
    for flag, words, most in (("--name", name, 200), ("--licence", licence, 4096)):
        if not 0 < len(words) <= most or not words.isprintable():
            raise UserError(f"{flag} must be 1 to {most} printable characters, got {words[:60]!r}")


def _is_single(out: Path) -> bool:
    return out.suffix.lower() in (".pliant", ".zip")


def _check_out(out: Path) -> None:
    """Refuses a name that cannot be written, before the work begins."""
    from pliant.jobs.folders import refuse_existing

    if out.suffix.lower() in (".onnx", ".pte", ".tflite", ".json"):
        raise UserError(
            f"{out} names a single model, and a bundle is more: give --out a name that ends in "
            ".pliant for one file, or a folder's"
        )
    if len(out.name) > 200:
        raise UserError(f"--out must have a name of at most 200 characters, got {len(out.name)}")
    refuse_existing(out)
    if _is_single(out) and out.is_dir():
        raise UserError(f"{out} is a folder; give --out another name, or remove it")
    parent = next(path for path in out.resolve().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{parent} is no folder that can be written to; give --out another place")


def _make(run: "Run", target: str, *, int8: bool, data: Path | None, max_change: float) -> _Made:
    """The model's file in the target's format, compared with the network."""
    from pliant.export.golden import golden_images
    from pliant.export.parity import logits, softmax

    golden = golden_images(faces=run.task == "pad")
    inputs = np.stack([image.input(run.preprocessing) for image in golden])
    pictures = {f"golden/{i}.png": image.png for i, image in enumerate(golden)}
    probabilities = {tier: softmax(logits(run.model, tier, inputs)) for tier in run.tiers}
    if target != "onnx":
        from pliant.jobs.export_mobile import mobile_model

        model_file, data_, parity = mobile_model(run, target, inputs)
        return _Made(
            files={model_file: data_, **pictures}, model_file=model_file, selection=None,
            golden=golden, probabilities=probabilities, parity=parity, num_compared=len(parity),
            max_abs_logits=max(one["max_abs_logits"] for one in parity.values()),
        )  # fmt: skip
    if int8:
        assert data is not None
        from pliant.jobs.export_int8 import int8_model

        exported, parity, probabilities = int8_model(
            run, data, inputs, default=default_tier(run), max_change=max_change
        )
        num_compared = len(parity)
        worst = max(one["max_abs_logits"] for one in parity.values())
    else:
        exported, found = fp32_model(run, inputs)
        parity = {
            tier: {"max_abs_logits": one.max_abs_logits, "images": one.images, "flips": one.flips}
            for tier, one in found.items()
            if tier in run.tiers
        }
        num_compared, worst = len(found), max(one.max_abs_logits for one in found.values())
    return _Made(
        files={"model.onnx": exported.data, **pictures},
        model_file="model.onnx",
        selection=exported.selection,
        golden=golden,
        probabilities=probabilities,
        parity=parity,
        num_compared=num_compared,
        max_abs_logits=worst,
    )


def fp32_model(run: "Run", golden: np.ndarray) -> "tuple[Any, dict[str, Parity]]":
    """The ONNX file of all configurations, and the parity of those that were compared.

    Raises:
        UserError: if one of them differs from the network.
    """
    from pliant.data.progress import watched
    from pliant.export.onnx import adaptive_onnx
    from pliant.export.parity import check_parity, configurations

    exported = adaptive_onnx(run.model, golden.shape, default=default_tier(run))
    noise = np.random.default_rng(0).uniform(-1, 1, golden.shape).astype(np.float32)
    images = np.concatenate([golden, noise])
    thresholds = {name: t.threshold and t.threshold.value for name, t in run.tiers.items()}
    names = configurations(run.model)
    found: dict[str, Parity] = {}
    for what in watched(names, len(names), "comparing"):
        found |= check_parity(run.model, exported, images, thresholds=thresholds, what=[what])
    return exported, found


def default_tier(run: "Run") -> str:
    """What a bundle runs unless told otherwise."""
    return next((name for name in DEFAULT_TIERS if name in run.tiers), next(iter(run.tiers)))


def _contract(
    run: "Run", made: _Made, *, target: str, int8: bool, name: str, licence: str
) -> "Contract":
    from pliant.export.static import INPUT, OUTPUT
    from pliant.runtime.contract import Contract, Golden

    golden = tuple(
        Golden(
            file=f"golden/{i}.png",
            box=image.box,
            probabilities={
                tier: tuple(float(p) for p in rows[i]) for tier, rows in made.probabilities.items()
            },
        )
        for i, image in enumerate(made.golden)
    )
    return Contract(
        name=name,
        pliant=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        target=target,
        precision="int8" if int8 else "fp32",
        task=run.task,
        classes=run.classes,
        preprocessing=run.preprocessing,
        model_file=made.model_file,
        input_name=INPUT,
        output_name=OUTPUT,
        selection=made.selection,
        tiers=tuple(_tier(run, name, made.parity[name]) for name in run.tiers),
        default_tier=default_tier(run),
        golden=golden,
        tolerance=SELF_TEST_TOLERANCE["int8" if int8 else "fp32"],
        licence=licence,
        provenance=_provenance(run),
        files={},
    )


def _tier(run: "Run", name: str, parity: Mapping[str, Any]) -> "BundleTier":
    from pliant.runtime.contract import BundleTier
    from pliant.train.run_folder import RunFolder

    tier = run.tiers[name]
    entries = {entry["tier"]: entry for entry in RunFolder.stored_tiers(run.path)}
    return BundleTier(
        name=name,
        configuration=str(tier.configuration),
        macs=tier.macs,
        params=tier.params,
        size_bytes=tier.size_bytes,
        threshold=tier.threshold and tier.threshold.value,
        threshold_record=tier.threshold and tier.threshold.record,
        dev=entries[name].get("dev"),
        parity=parity,
    )


def _provenance(run: "Run") -> dict[str, Any]:
    """Where the weights come from; the names of subjects stay in the run folder."""
    from pliant.adaptive.calibration import fingerprint

    data = dict(run.settings.get("data", {}))
    counts = {
        f"num_{side}_subjects": len(data.pop(f"{side}_subjects", [])) for side in ("train", "dev")
    }
    return {
        "data": {k: v for k, v in data.items() if k != "notes"} | counts,
        "start": run.settings.get("start"),
        "model": run.settings["model"],
        "network": run.settings["network"],
        "weights_sha256": fingerprint(run.model),
    }


def _least_bytes(run: "Run") -> int:
    """Every weight once, and mean and variance of every batch norm per tier and as trained."""
    from torch import nn

    from pliant.adaptive.statistics import tiered_norms

    weights = sum(p.numel() for p in run.model.parameters())
    norms = (cast(nn.BatchNorm2d, norm) for _, norm in tiered_norms(run.model.net))
    channels = sum(norm.num_features for norm in norms)
    return 4 * (weights + 2 * channels * (1 + len(run.tiers)))


def summary(result: Exported) -> list:
    """What was written, how close it is to the network, and for 8 bits what it costs."""
    from rich.table import Table

    title = f"{result.out}: {result.target}, {result.precision}"
    table = Table("tier", "logits off by", "images", "decisions changed", title=title)
    for name, parity in result.tiers.items():
        worst, flips = parity["max_abs_logits"], parity["flips"]
        table.add_row(name, f"{worst:.1e}", str(parity["images"]), str(flips))
    said: list[Any] = [table]
    if result.precision == "int8":
        said.append(_rates(result))
    ratio = result.size_bytes / result.weights_bytes
    said += [
        f"{result.configurations} configurations compared with PyTorch; the largest difference of "
        f"a logit is {result.max_abs_logits:.1e}",
        f"model: {result.size_bytes / 1e6:.2f} MB, {ratio:.3f} x its float32 weights and its "
        "batch norms' vectors stored once",
    ]
    if result.target == "onnx":
        said.append(f"try it: pliant predict {result.out} photo.jpg, or pliant web {result.out}")
    else:
        said.append(f"{result.target} runs it; pliant bundle info {result.out} shows its contract")
    return said


def _rates(result: Exported) -> Any:
    """Error rates on dev at the stored thresholds, before and after."""
    from rich.table import Table

    table = Table("tier", "measure", "float32", "8 bits", title="on the dev split")
    for name, parity in result.tiers.items():
        for measure, before in parity["dev_fp32"].items():
            after = parity["dev_int8"][measure]
            if before is not None:
                table.add_row(name, measure, f"{100 * before:.1f} %", f"{100 * after:.1f} %")
    return table
