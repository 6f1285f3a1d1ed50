"""Samplers: pure in (seed, step), balanced, the right number per step."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.adaptive.configuration import preset
from pliant.adaptive.sampling import SAMPLERS, per_block, presets, sandwich


@given(st.sampled_from(sorted(SAMPLERS)), st.integers(0, 9), st.integers(0, 10**6))
def test_pure_in_seed_and_step(name: str, seed: int, step: int):
    make = SAMPLERS[name]
    one, other = make(num_blocks=16, seed=seed), make(num_blocks=16, seed=seed)
    other(step + 1)  # what was asked before does not matter
    assert one(step) == other(step)
    assert all(len(c) == 16 for c in one(step))


def test_seeds_differ():
    draws = [[per_block(seed=seed)(step) for step in range(20)] for seed in (0, 1)]
    assert draws[0] != draws[1]


def test_presets_are_drawn_equally_often_or_by_weight():
    counts = Counter(str(presets(("low", "high"), 4, 0)(step)[0]) for step in range(1000))
    assert set(counts) == {"LLLL", "HHHH"}
    assert min(counts.values()) > 440
    sampler = presets(("low", "high"), 4, 0, weights=(1, 9))
    counts = Counter(str(sampler(step)[0]) for step in range(1000))
    assert 850 < counts["HHHH"] < 950


def test_every_block_draws_for_itself():
    letters = Counter(letter for step in range(300) for letter in per_block(4)(step)[0])
    assert set(letters) == set("LHB")
    assert min(letters.values()) > 350
    assert len({str(per_block(4)(step)[0]) for step in range(300)}) > 70  # of 81


def test_sandwich_has_both_ends():
    found = sandwich(16, 0, num_random=2)(7)
    assert found[:2] == [preset("max"), preset("low")]
    assert len(found) == 4
    assert found[2] != found[3]


def test_refusal():
    with pytest.raises(ValueError, match="one weight each"):
        presets(("low",), weights=(1, 2))
    with pytest.raises(ValueError, match="needs names"):
        presets(())
