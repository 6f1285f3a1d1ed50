"""A tier for a budget: measured once in turns, remembered per device, chosen by worth."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.runtime import latencies as memory
from pliant.runtime.bundle import Bundle
from pliant.runtime.crop import Preprocessing
from pliant.runtime.latencies import cache_folder, device_key, remember, remembered
from pliant.runtime.pick import (
    PROBES,
    WARM_UP,
    best_within,
    choose,
    latencies,
    measure,
    pick,
    worth,
)


@dataclass
class Fake:
    """A bundle whose tiers take a known time on a clock of their own."""

    ms: dict[str, float]
    dev: dict[str, Any] = field(default_factory=dict)
    time_s: float = 0.0
    used: str = ""
    calls: list[str] = field(default_factory=list)
    threads: int = 1
    sha256: str = "ab" * 32

    @property
    def contract(self) -> Any:
        tiers = [
            SimpleNamespace(name=name, macs=place, dev=self.dev.get(name))
            for place, name in enumerate(self.ms)
        ]
        return SimpleNamespace(
            tiers=tiers, task="pad", preprocessing=Preprocessing(size=16), default_tier="low"
        )

    def load(self, name: str) -> Any:
        def probabilities(inputs: Any) -> None:
            assert inputs.shape == (1, 3, 16, 16)
            self.calls.append(name)
            self.time_s += self.ms[name] / 1e3

        options = SimpleNamespace(intra_op_num_threads=self.threads)
        session = SimpleNamespace(get_session_options=lambda: options)
        return SimpleNamespace(probabilities=probabilities, session=session)

    def use(self, name: str) -> None:
        self.used = name

    def now(self) -> float:
        return self.time_s


THREE = {"low": 1.0, "mid": 4.0, "high": 9.0}


@pytest.mark.parametrize(("budget", "tier"), [(1, "low"), (8.9, "mid"), (9, "high"), (1e6, "high")])
def test_the_costliest_that_fits(tmp_path: Path, budget: float, tier: str):
    fake = Fake(THREE)
    assert pick(fake, budget, cache=tmp_path, now=fake.now) == tier
    assert fake.used == tier


def test_dev_quality_decides_where_every_tier_has_one(tmp_path: Path):
    dev = {"low": {"auc": 0.8}, "mid": {"auc": 0.97}, "high": {"auc": 0.96}}
    fake = Fake(THREE, dev)
    assert pick(fake, 50, cache=tmp_path, now=fake.now) == "mid"
    assert worth(Fake(THREE, dev | {"low": {"auc": "0.8"}}).contract) == {
        "low": 0,
        "mid": 1,
        "high": 2,
    }
    assert worth(Fake(THREE, dev | {"low": {"accuracy": 0.5}}).contract)["low"] == 0.5


def test_of_equals_the_fastest():
    assert best_within({"a": 2, "b": 1, "c": 3}, {"a": 0.9, "b": 0.9, "c": 0.9}, 5) == "b"


def test_nothing_fits(tmp_path: Path):
    fake = Fake(THREE)
    with pytest.raises(UserError, match=r"no tier fits 0.5 ms .* the fastest, low, takes 1 ms"):
        pick(fake, 0.5, cache=tmp_path, now=fake.now)
    assert fake.used == ""
    for budget in (0, -1, float("nan"), float("inf"), None, "8", True, 1j):
        with pytest.raises(UserError, match="a number of milliseconds above 0"):
            pick(fake, budget, cache=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="runs must be at least 1, got 0"):
        measure(fake, runs=0)


def test_the_tiers_take_turns():
    fake = Fake(THREE)
    times = measure(fake, runs=7, now=fake.now)
    assert {name: len(row) for name, row in times.items()} == {"low": 7, "mid": 7, "high": 7}
    assert all(value == pytest.approx(THREE[name]) for name, row in times.items() for value in row)
    order = [name for i, name in enumerate(fake.calls) if i == 0 or name != fake.calls[i - 1]]
    assert order == ["low", "mid", "high", "mid", "high", "low", "high", "low", "mid"]
    assert len(fake.calls) == 3 * (7 + 3 * WARM_UP)


def test_a_slow_device_is_not_measured_for_minutes():
    fake = Fake({"low": 1_500.0, "mid": 4.0})
    times = measure(fake, runs=30, now=fake.now)
    assert len(times["low"]) == 3  # one call in each round
    assert len(times["mid"]) == 30


def test_a_coarse_clock_gives_no_zero():
    fake = Fake({"low": 0.0})
    assert measure(fake, runs=1, now=fake.now) == {"low": [1e-3]}


def test_measured_once_per_device(tmp_path: Path):
    fake = Fake(THREE)
    assert latencies(fake, cache=tmp_path, now=fake.now) == pytest.approx(THREE)
    measured = len(fake.calls)
    assert latencies(fake, cache=tmp_path, now=fake.now) == pytest.approx(THREE)
    assert fake.calls[measured:] == ["low"] * (WARM_UP + PROBES)  # the default tier, probed
    for other in (Fake(THREE, threads=2), Fake(THREE, sha256="cd" * 32)):
        latencies(other, cache=tmp_path, now=other.now)
        assert other.calls
    assert len(list(tmp_path.iterdir())) == 3


def scaled(factor: float) -> Fake:
    return Fake({name: factor * ms for name, ms in THREE.items()})


def test_a_busy_moment_is_not_remembered_for_ever(tmp_path: Path):
    """All rounds four times slower: remembered, until the device shows itself faster."""
    busy, rested = scaled(4), scaled(1)
    assert pick(busy, 10, cache=tmp_path, now=busy.now) == "low"
    assert pick(rested, 10, cache=tmp_path, now=rested.now) == "high"
    assert latencies(rested, cache=tmp_path, now=rested.now) == pytest.approx(THREE)
    # the other way round the rested numbers stay
    assert latencies(busy, cache=tmp_path, now=busy.now) == pytest.approx(THREE)


def test_remembered_numbers_alone_refuse_nothing(tmp_path: Path):
    """The default tier says nothing new, but the fastest one does."""
    before, after = Fake({"low": 4.0, "mid": 4.0}), Fake({"low": 4.0, "mid": 2.0})
    latencies(before, cache=tmp_path, now=before.now)
    assert choose(after, 3, cache=tmp_path, now=after.now).tier == "mid"
    with pytest.raises(UserError, match=r"measured just now.* lies in .*\.json"):
        choose(after, 1, cache=tmp_path, now=after.now)
    assert after.used == ""


class Bumpy(Fake):
    """Its first `slow` calls take five times as long."""

    slow = 20

    def load(self, name: str) -> Any:
        loaded = super().load(name)
        if len(self.calls) < self.slow:
            quick = loaded.probabilities

            def probabilities(inputs: Any) -> None:
                quick(inputs)
                if len(self.calls) <= self.slow:
                    self.time_s += 4 * self.ms[name] / 1e3

            loaded.probabilities = probabilities
        return loaded


def test_rounds_that_disagree_are_not_remembered(tmp_path: Path):
    fake = Bumpy(THREE)
    assert latencies(fake, cache=tmp_path, now=fake.now) == pytest.approx(THREE)  # the least
    assert not list(tmp_path.iterdir())


def test_measured_again_on_demand(tmp_path: Path):
    fake, slower = scaled(1), scaled(2)
    latencies(fake, cache=tmp_path, now=fake.now)
    assert choose(slower, 10, cache=tmp_path, now=slower.now).tier == "high"
    assert choose(slower, 10, cache=tmp_path, now=slower.now, remeasure=True).tier == "mid"
    assert choose(slower, 10, cache=tmp_path, now=slower.now).tier == "mid"
    bumpy = Bumpy(THREE)
    latencies(bumpy, cache=tmp_path, now=bumpy.now, remeasure=True)
    assert not list(tmp_path.iterdir())  # neither the old numbers nor the unsteady new ones


def test_more_runs_than_are_remembered_are_run(tmp_path: Path):
    fake = scaled(1)
    latencies(fake, cache=tmp_path, now=fake.now, runs=6)
    for runs, new in ((3, WARM_UP + PROBES), (12, 3 * (12 + 3 * WARM_UP))):
        before = len(fake.calls)
        latencies(fake, cache=tmp_path, now=fake.now, runs=runs)
        assert len(fake.calls) - before == new
    with pytest.raises(UserError, match="runs must be at least 1, got 0"):
        latencies(fake, cache=tmp_path, now=fake.now, runs=0)


@pytest.mark.parametrize("name", ["processor_name", "version"])
def test_another_device_or_version_measures_anew(tmp_path: Path, monkeypatch, name: str):
    import onnxruntime

    fake = Fake(THREE)
    latencies(fake, cache=tmp_path, now=fake.now)
    if name == "version":
        monkeypatch.setattr(onnxruntime, "__version__", "99.0")
    else:
        monkeypatch.setattr(memory, "processor_name", lambda: "abacus")
    again = Fake(THREE)
    latencies(again, cache=tmp_path, now=again.now)
    assert again.calls


@given(st.binary(max_size=300) | st.sampled_from(
    [b"[]", b"{}", b"null", b'{"format": 2}', b"[" * 5000, b"\xff" * 200_000]))  # fmt: skip
def test_a_damaged_file_counts_as_none(tmp_path_factory, content: bytes):
    folder = tmp_path_factory.mktemp("cache")
    key = device_key("ab" * 32, 1)
    remember(key, THREE, folder)
    (file,) = folder.iterdir()
    assert remembered(key, THREE, folder) == THREE
    file.write_bytes(content)
    assert remembered(key, THREE, folder) is None


@pytest.mark.parametrize(
    "change",
    [
        {"format": 3},
        {"runs": None},
        {"runs": 0},
        {"key": {}},
        {"ms": {"low": 1.0}},
        {"ms": THREE | {"low": -1}},
        {"ms": THREE | {"low": True}},
        {"ms": THREE | {"low": "1"}},
        {"ms": THREE | {"low": float("nan")}},
    ],
)
def test_a_file_of_another_kind_counts_as_none(tmp_path: Path, change: dict):
    key = device_key("ab" * 32, 1)
    remember(key, THREE, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert remembered(key, THREE, tmp_path) is None


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path):
    (tmp_path / "file").write_text("")
    fake = Fake(THREE)
    assert pick(fake, 5, cache=tmp_path / "file" / "deeper", now=fake.now) == "mid"


def test_a_cache_named_by_text(tmp_path: Path):
    fake = Fake(THREE)
    assert pick(fake, 5, cache=str(tmp_path), now=fake.now) == "mid"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UserError, match="a cache folder is named by a path, got int"):
        pick(fake, 5, cache=3, now=fake.now)  # type: ignore[arg-type]


def test_where_the_cache_lies(monkeypatch, tmp_path: Path):
    name = "LOCALAPPDATA" if memory.sys.platform == "win32" else "XDG_CACHE_HOME"
    monkeypatch.setenv(name, str(tmp_path))
    assert cache_folder() == tmp_path / "pliant" / "latency"
    monkeypatch.setenv(name, "relative")
    assert cache_folder() == Path.home() / ".cache" / "pliant" / "latency"
    monkeypatch.delenv(name)
    assert cache_folder() == Path.home() / ".cache" / "pliant" / "latency"


def test_the_processor_has_a_name():
    assert memory.processor_name()


def test_a_real_bundle(bundle_file: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr("pliant.runtime.pick.AGREE", 1e9)  # remembered on a busy machine, too
    bundle = Bundle.open(bundle_file, tier="low")
    run: Callable[..., str] = bundle.pick
    assert run(budget_ms=10_000) in ("low", "high")
    assert bundle.tier in ("low", "high")
    (file,) = (tmp_path / "cache").rglob("*.json")
    kept = json.loads(file.read_text())
    assert set(kept["ms"]) == {"low", "high"}
    assert kept["key"]["threads"] == 1
    with pytest.raises(UserError, match="the fastest"):
        run(budget_ms=1e-4)
