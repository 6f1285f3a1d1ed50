"""The run folder: made once, marked until it is whole, opened without pickle.

    state.json          {"status": "running" | "finished" | "failed"}
    settings.json       task, classes, model, network, preprocessing, recipe, data, start
    environment.json    versions, processor, threads
    metrics.csv         one row per epoch
    model.safetensors   the supernet and every tier's batch-norm statistics
    tiers.json          configurations, costs, thresholds
    dev_scores_*.csv    per tier, what its threshold was fitted on
    skipped.csv         images that could not be used, with the reason
    report.html         every tier on the dev split; written last, by the job of training
    checkpoints/        Lightning's, for resuming alone; gone when the run is finished

Every file appears whole or not at all; state.json says `finished` after the last of them.
"""

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save

from pliant.adaptive.calibration import PREFIX, load_tiers, tier_state
from pliant.adaptive.configuration import Configuration
from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError
from pliant.models.checkpoint import load_exactly, read_state
from pliant.runtime.crop import Preprocessing
from pliant.runtime.files import write_atomic
from pliant.train.network import build
from pliant.train.pipenet import PipeNetSettings, pipenet_of
from pliant.train.settings import NetworkSettings

FORMAT = 1
DEV_SCORES = "dev_scores_{tier}.csv"
"""Name of a tier's dev scores, those its threshold was fitted on; anti-spoofing alone."""


@dataclass(frozen=True, kw_only=True)
class StoredThreshold:
    """A tier's decision threshold as stored; accept iff score >= value."""

    value: float
    """In [0, 1], or just above 1 where nothing is accepted."""
    record: dict[str, Any]
    """All that was stored with it: policy, source, counts, interval."""


@dataclass(frozen=True, kw_only=True)
class StoredTier:
    """One entry of tiers.json."""

    configuration: Configuration
    """What it runs."""
    macs: int
    """Multiply-accumulates of one image."""
    params: int
    """Parameters in use."""
    size_bytes: int
    """Of those, float32."""
    calibrated: dict[str, Any]
    """What its batch-norm statistics were estimated on."""
    threshold: StoredThreshold | None
    """None: the tier gives scores but no verdicts."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """An opened run."""

    path: Path
    """The folder."""
    model: AdaptiveNetwork
    """In eval mode, with the statistics of every tier."""
    preprocessing: Preprocessing
    """What the network expects."""
    task: str
    """`pad` or `classify`."""
    classes: tuple[str, ...]
    """Names of the logits, in order."""
    tiers: dict[str, StoredTier]
    """By name, cheapest first."""
    settings: dict[str, Any]
    """settings.json."""
    pipenet: PipeNetSettings | None = None
    """Of a PipeNet; None for networks that see colour alone."""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of one image, as the network takes it."""
        channels = self.pipenet.channels if self.pipenet else 3
        return 1, channels, self.preprocessing.size, self.preprocessing.size


class RunFolder:
    """A run folder that is being written.

    `create` makes it, `resume` continues it, `open` reads a finished one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def last_checkpoint(self) -> Path:
        """Lightning's checkpoint of the last whole epoch."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The weights of the best epoch so far."""
        return self.path / "checkpoints" / "best.ckpt"

    @classmethod
    def check_free(cls, path: Path) -> None:
        """Refuses a path that holds anything, and says what it holds.

        Raises:
            UserError: if `path` is a file, or a folder with something in it.
        """
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return
        status = _status(path)
        if status == "finished":
            raise UserError(f"{path} holds a finished run; give --out another name, or remove it")
        if status is not None:
            raise UserError(
                f"{path} holds an unfinished run ({status}); continue it with --resume, "
                "give --out another name, or remove it"
            )
        raise UserError(f"{path} exists already; give --out another name, or remove it")

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> "RunFolder":
        """A new folder, marked as running, with its settings; none where they cannot be written.

        Raises:
            UserError: if `path` is taken.
        """
        cls.check_free(path)
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path)
        try:
            folder.mark("running")
            folder.write_json("settings.json", {"format": FORMAT, **settings})
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return folder

    @classmethod
    def resume(
        cls, path: Path, settings: Mapping[str, Any], *, settled: Sequence[str] = ()
    ) -> "RunFolder":
        """The unfinished folder at `path`; a new one where there is none.

        Args:
            path: The run.
            settings: As they were given to `create`.
            settled: Names of settings that the end of a run decides, so they may differ.

        Raises:
            UserError: if it is finished, is no run, or was started with other settings (they are
                named).
        """
        status = _status(path)
        if status is None:
            return cls.create(path, settings)
        if status == "finished":
            raise UserError(f"{path} is finished; there is nothing to resume")
        before = _read_json(path / "settings.json")
        now = json.loads(json.dumps({"format": FORMAT, **settings}))
        now |= {name: before.get(name) for name in settled}
        different = _differences(before, now)
        if different:
            raise UserError(
                f"{path} was started with other settings ({'; '.join(different)}); "
                "resume it with the same ones, or give --out another name"
            )
        folder = cls(path)
        folder.mark("running")
        return folder

    @classmethod
    def open(cls, path: Path, *, several_modalities: bool = False) -> Run:
        """The finished run at `path`, its network rebuilt exactly; nothing is unpickled.

        Args:
            path: The run.
            several_modalities: Whether the caller can give depth and infrared to a network that
                wants them.

        Raises:
            UserError: if there is no finished run, a file of it is missing or damaged, or it wants
                modalities that the caller cannot give.
        """
        status = _status(path)
        if status is None:
            raise UserError(
                f"{path} is no run folder (it has no state.json); give one of pliant train"
            )
        if status != "finished":
            raise UserError(f"{path} is an unfinished run ({status}); continue it with --resume")
        settings = _read_json(path / "settings.json")
        stored = _read_json(path / "tiers.json")
        try:
            _check_format(settings, path)
            _check_format(stored, path)
            classes = tuple(settings["classes"])
            network = NetworkSettings(**settings["network"])
            pipenet = pipenet_of(settings)
            if pipenet and not several_modalities:
                raise UserError(
                    f"{path} is a PipeNet, which sees {', '.join(pipenet.modalities)} at once; "
                    "this verb knows colour images alone, so judge it with pliant evaluate"
                )
            model = build(settings["model"], network, num_classes=len(classes), pipenet=pipenet)
            tiers = {entry["tier"]: _tier(entry) for entry in stored["tiers"]}
            weights = read_state(path / "model.safetensors")
            shared = {k: v for k, v in weights.items() if not k.startswith(PREFIX)}
            load_exactly(model, shared, called=str(path / "model.safetensors"))
            load_tiers(model, weights, {name: tier.calibrated for name, tier in tiers.items()})
            preprocessing = Preprocessing.from_json(settings["preprocessing"])
        except (KeyError, TypeError, RuntimeError) as problem:
            raise UserError(f"{path} cannot be read as a run: {problem!r}") from problem
        return Run(
            path=path,
            model=model.eval(),
            preprocessing=preprocessing,
            task=settings["task"],
            classes=classes,
            tiers=tiers,
            settings=settings,
            pipenet=pipenet,
        )

    @classmethod
    def store_threshold(cls, path: Path, tier: str, record: Mapping[str, Any]) -> None:
        """Writes the threshold of one tier into a finished run's tiers.json.

        Args:
            path: The run.
            tier: A tier that the run has.
            record: JSON of the threshold; `value` is needed.

        Raises:
            UserError: if the run has no such tier.
        """
        entries = {entry["tier"]: entry for entry in cls.stored_tiers(path)}
        if tier not in entries:
            raise UserError(f'{path} has no tier "{tier}" ({", ".join(entries)})')
        entries[tier]["threshold"] = dict(record)
        cls(path).write_tiers(list(entries.values()))

    @classmethod
    def stored_tiers(cls, path: Path) -> list[dict[str, Any]]:
        """The entries of tiers.json.

        Raises:
            UserError: if it is missing or damaged.
        """
        return _read_json(path / "tiers.json")["tiers"]

    def mark(self, status: str, **more: Any) -> None:
        """Writes state.json."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.write_json("state.json", {"status": status, "time": now, **more})

    def write_json(self, name: str, record: Mapping[str, Any]) -> None:
        write_atomic(self.path / name, _json(record))

    def write_csv(
        self, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]
    ) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path / name, text.getvalue())

    def write_model(self, network: AdaptiveNetwork) -> None:
        """model.safetensors: weights and every tier's statistics, contiguous, on the CPU."""
        tensors = {**network.state_dict(), **tier_state(network)}
        plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        write_atomic(self.path / "model.safetensors", save(plain))

    def write_tiers(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """tiers.json; the entries are those of `StoredTier`, the threshold as its own JSON."""
        self.write_json("tiers.json", {"format": FORMAT, "tiers": list(entries)})

    def finish(self) -> None:
        """Marks the run as finished, and removes what served resuming alone."""
        self.mark("finished")
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def fail(self, reason: str) -> None:
        """Marks a run that stopped on an error; one without a whole epoch is removed."""
        if not self.last_checkpoint.exists():
            shutil.rmtree(self.path, ignore_errors=True)
            return
        with suppress(OSError):  # a full disk may be the error: the run then stays `running`
            self.mark("failed", reason=reason)


def _tier(entry: Mapping[str, Any]) -> StoredTier:
    threshold = entry["threshold"]
    return StoredTier(
        configuration=Configuration(entry["configuration"]),
        macs=entry["macs"],
        params=entry["params"],
        size_bytes=entry["size_bytes"],
        calibrated=entry["calibrated"],
        threshold=threshold and StoredThreshold(value=threshold["value"], record=threshold),
    )


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} is no whole run: {path.name} is missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise UserError(f"{path} is damaged: {problem}") from problem
    if not isinstance(record, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object")
    return record


def _status(path: Path) -> str | None:
    """The status in state.json; None where there is none."""
    if not (path / "state.json").is_file():
        return None
    return str(_read_json(path / "state.json").get("status"))


def _check_format(record: Mapping[str, Any], path: Path) -> None:
    if record["format"] != FORMAT:
        raise UserError(
            f"{path} is of format {record['format']}, this pliant reads {FORMAT}; "
            "use the version that wrote it"
        )


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, as `name: before -> now`."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in sorted(before.keys() | now.keys()):
            found += _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
        return found
    return [] if before == now else [f"{name}: {before!r} -> {now!r}"]
