"""A tier that follows the heat: simulated devices, no clock."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.runtime import Bundle, faces
from pliant.runtime.faces import Face
from pliant.runtime.pace import MAX_PATIENCE, Paced, Pacer, ladder

MS = {"low": 1.0, "mid": 4.0, "high": 9.0}
WORTH = {"low": 0.90, "mid": 0.95, "high": 0.97}


def drive(pacer: Pacer, images: int, latency: Callable[[int, str], float]) -> list[tuple[int, str]]:
    """(image, new tier) for each switch."""
    switches = []
    for i in range(images):
        before = pacer.tier
        if pacer.observe(latency(i, before)) != before:
            switches.append((i, pacer.tier))
    return switches


def test_by_hand():
    pacer = Pacer(MS, WORTH, 10, window=3, dwell=5)
    assert pacer.tier == "high"
    assert drive(pacer, 50, lambda i, tier: MS[tier]) == []
    # 30 % slower: 11.7 ms > 11.5 ms; mid would take 5.2 ms. Two of three images show it at once.
    assert drive(pacer, 50, lambda i, tier: 1.3 * MS[tier]) == [(1, "mid")]
    # 5 % slower: high would take 9.45 ms, and 9.45 x 1.15 = 10.9 ms does not fit with the margin
    assert drive(pacer, 50, lambda i, tier: 1.05 * MS[tier]) == []
    # 4 % faster than expected: 8.64 x 1.15 = 9.94 ms does; again two of three images
    assert drive(pacer, 50, lambda i, tier: 0.96 * MS[tier]) == [(1, "high")]


def test_far_down_in_one_step():
    pacer = Pacer(MS, WORTH, 10, window=3, dwell=5)
    assert drive(pacer, 20, lambda i, tier: 4 * MS[tier]) == [(2, "low")]


def test_nothing_fits_any_more():
    pacer = Pacer(MS, WORTH, 10, window=3, dwell=5)
    assert drive(pacer, 100, lambda i, tier: 50 * MS[tier]) == [(2, "low")]


def test_a_single_slow_image_changes_nothing():
    pacer = Pacer(MS, WORTH, 10, window=5, dwell=5)
    assert drive(pacer, 200, lambda i, tier: 500 if i % 4 == 0 else MS[tier]) == []


def test_a_tier_that_heats_the_device_is_tried_ever_less_often():
    """High takes 13 ms whenever it runs; the others seem to say that it would take 7."""
    slow = {"low": 0.7, "mid": 3.0, "high": 13.0}
    pacer = Pacer(MS, WORTH, 10, window=3, dwell=5)
    switches = drive(pacer, 5000, lambda i, tier: slow[tier])
    tries = [i for i, tier in switches if tier == "high"]
    waits = [b - a for a, b in pairwise(tries)]
    assert waits[:4] == [15, 25, 45, 85]  # the wait doubles, plus the dwell in high
    assert max(waits) <= 5 + MAX_PATIENCE * 5
    assert len(tries) < 25


def test_patience_returns_when_a_try_lasts():
    slow = {"low": 0.7, "mid": 3.0, "high": 13.0}
    pacer = Pacer(MS, WORTH, 10, window=3, dwell=5)
    drive(pacer, 100, lambda i, tier: slow[tier])
    drive(pacer, 1000, lambda i, tier: 0.9 * MS[tier])
    assert pacer.tier == "high"
    switches = drive(pacer, 30, lambda i, tier: slow[tier])
    assert [tier for _, tier in switches[:2]] == ["mid", "high"]
    assert switches[1][0] - switches[0][0] == 5


@given(
    st.lists(st.floats(0.5, 20), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(1, 150), st.floats(0.2, 6)), max_size=12),
    st.integers(1, 9),
    st.integers(0, 30),
    st.floats(0, 0.6),
    st.integers(0, 10**6),
)
def test_never_flaps(costs, phases, window, more, noise, seed):
    ms = {f"t{i}": cost for i, cost in enumerate(costs)}
    worth = {name: float(i) for i, name in enumerate(ms)}
    dwell = window + more
    pacer = Pacer(ms, worth, max(costs), window=window, dwell=dwell)
    draw = random.Random(seed)
    factors = [factor for images, factor in phases for _ in range(images)]
    switches = drive(
        pacer,
        len(factors),
        lambda i, tier: ms[tier] * factors[i] * draw.uniform(1 - noise, 1 + noise),
    )
    places = [i for i, _ in switches]
    assert all(b - a >= dwell for a, b in pairwise(places))


@given(
    st.lists(st.floats(0.5, 20), min_size=1, max_size=6, unique=True),
    st.lists(st.tuples(st.integers(1, 150), st.floats(0.2, 6)), max_size=6),
    st.floats(0.2, 6),
    st.floats(1, 25),
)
def test_ends_on_a_tier_that_fits_and_stays(costs, phases, factor, budget):
    ms = {f"t{i}": cost for i, cost in enumerate(sorted(costs))}
    worth = {name: float(i) for i, name in enumerate(ms)}
    if min(costs) > budget:
        with pytest.raises(UserError, match="no tier fits"):
            Pacer(ms, worth, budget)
        return
    pacer = Pacer(ms, worth, budget, window=3, dwell=6)
    for images, other in phases:
        drive(pacer, images, lambda i, tier, other=other: ms[tier] * other)
    last = drive(pacer, 6 * (MAX_PATIENCE + 2) * len(ms), lambda i, tier: ms[tier] * factor)
    fitting = [tier for tier in ms if ms[tier] * factor <= budget]
    if fitting:
        assert ms[pacer.tier] * factor <= budget * 1.15
        # no tier that fits with the margin to spare is left unused
        with_margin = [tier for tier in ms if ms[tier] * factor * 1.15 <= budget]
        assert not with_margin or ms[pacer.tier] >= ms[with_margin[-1]]
    else:
        assert pacer.tier == "t0" or ms[pacer.tier] * factor <= budget * 1.15
    # under a constant load it comes to rest
    assert drive(pacer, 500, lambda i, tier: ms[tier] * factor) == []
    assert len(last) <= len(ms) + 1


@given(st.floats(0.87, 1.14))
def test_a_constant_load_switches_nothing(factor):
    pacer = Pacer(MS, WORTH, 9.05)
    assert drive(pacer, 2000, lambda i, tier: MS[tier] * factor) == []


def test_the_ladder_leaves_out_what_is_beaten():
    ms = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 3.0}
    assert ladder(ms, {"a": 0.9, "b": 0.8, "c": 0.95, "d": 0.94}) == ("a", "c")
    pacer = Pacer(ms, {"a": 0.9, "b": 0.8, "c": 0.95, "d": 0.94}, 2.5)
    assert pacer.tier == "a"


def test_refusals():
    for bad in ({"margin": 0}, {"margin": 2}, {"window": 0}, {"window": 9, "dwell": 8}):
        with pytest.raises(UserError, match="a pacer needs"):
            Pacer(MS, WORTH, 10, **bad)
    with pytest.raises(UserError, match="milliseconds above 0"):
        Pacer(MS, WORTH, 0)
    for bad in (-1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="a latency must be"):
            Pacer(MS, WORTH, 10).observe(bad)


BOX = (10.0, 9.0, 18.0, 24.5)  # of the golden images


@pytest.fixture
def bundle(bundle_file, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    return Bundle.open(bundle_file, self_test=False)


@pytest.fixture
def slow(monkeypatch):
    """High takes 50 ms from box to score, low 1; what is asked for comes back."""
    asked, true = [], Bundle.predict

    def predict(self, image, *, box=None):
        asked.append(box)
        found = true(self, image, box=box)
        return replace(found, latency_ms=50.0 if found.tier == "high" else 1.0)

    monkeypatch.setattr(Bundle, "predict", predict)
    return asked


TWO = {"expected_ms": {"low": 1.0, "high": 5.0}, "worth": {"low": 0.0, "high": 1.0}}


def test_a_paced_bundle_steps_down(bundle, slow):
    image = np.zeros((60, 60, 3), np.uint8)
    paced = Paced(bundle, budget_ms=6, window=3, dwell=5, **TWO)
    found = [paced.predict(image, box=BOX) for _ in range(5)]
    assert [one.tier for one in found] == ["high"] * 3 + ["low"] * 2
    assert (paced.tier, bundle.tier) == ("low", "low")
    assert all(0 < one.latency_ms < 40 for one in found)  # of the whole call, as it was
    bundle.use("high")  # it alone switches tiers
    assert paced.predict(image, box=BOX).tier == "low"


def test_the_search_for_the_face_is_not_in_the_budget(bundle, slow, monkeypatch):
    face = Face(box=BOX, landmarks=None, confidence=1.0)
    found = [[face]]
    monkeypatch.setitem(faces.choose_face.__kwdefaults__, "min_side", 10)
    monkeypatch.setattr(faces.FaceFinder, "find", lambda self, image: found[0])
    image = np.zeros((60, 60, 3), np.uint8)
    paced = Paced(bundle, budget_ms=6, **TWO)
    assert paced.predict(image).box == BOX
    assert slow == [BOX]  # what is timed starts at the box
    found[0] = []
    assert paced.predict(image).verdict == "undecided(no face found)"
    found[0] = [Face(box=(0, 0, 1e9, 1e9), landmarks=None, confidence=1.0)]
    assert paced.predict(image).verdict == "undecided(the face is too large)"
    assert slow == [BOX]


def test_what_a_paced_bundle_cannot_read(bundle, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    paced = Paced(bundle, budget_ms=10_000)
    assert paced.tier in ("low", "high")
    assert paced.predict(tmp_path / "empty.png").verdict == "undecided(zero bytes)"
    with pytest.raises(UserError):
        paced.predict(np.zeros((4, 4), np.uint8))


def test_a_paced_bundle_without_a_tier_that_fits(bundle):
    with pytest.raises(UserError, match=r"no tier fits 1e-05 ms .*measured just now"):
        Paced(bundle, budget_ms=1e-5, **TWO)
    with pytest.raises(UserError, match="milliseconds above 0"):
        Paced(bundle, budget_ms="8")  # type: ignore[arg-type]
