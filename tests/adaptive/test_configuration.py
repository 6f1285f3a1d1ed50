"""Configurations: parsing, presets, and what a wrong one is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pliant.adaptive.configuration import PRESETS, Configuration, preset
from pliant.errors import UserError


def test_presets_by_hand():
    assert str(preset("low")) == "L" * 16
    assert str(preset("high")) == "H" * 16
    assert str(preset("max")) == "B" * 16
    assert str(preset("mid")) == "HLHLLHLLLHLLHLLH"
    assert str(preset("mid", 4)) == "HLLH"
    assert str(preset("early_heavy", 5)) == "HHLLL"
    assert str(preset("late_heavy", 5)) == "LLHHH"
    assert str(preset("alternating", 3)) == "HLH"
    assert str(preset("high", 2, letters="LMHB")) == "HH"
    assert str(preset("low", 2, letters="ACB")) == "AA"


@given(st.text("LHB", min_size=16, max_size=16))
def test_text_and_back(text: str):
    one = Configuration.from_text(text)
    assert str(one) == one.to_json() == text
    assert Configuration.from_text(one.to_json()) == one
    assert hash(one) == hash(Configuration(text))
    assert len(one) == 16
    assert list(one) == list(text)


@given(st.integers(0, 40), st.sampled_from(sorted(PRESETS)))
def test_every_preset_fits_every_network(num_blocks: int, name: str):
    found = Configuration.from_text(name, num_blocks)
    assert len(found) == num_blocks
    assert found.used <= set("LHB")


def test_networks_without_blocks():
    assert (
        Configuration.from_text("plain", 0) == Configuration.from_text("", 0) == Configuration("")
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("HHXLHHLLHHLLHHLL", 'unknown letter "X" at place 3'),
        ("hhll", 'unknown letter "h" at place 1'),
        ("HHLL", "has 4 letters, the network has 16"),
        ("hihg", 'did you mean "high"'),
        ("quick", r"unknown configuration \"quick\"; \(low, mid, high, max"),
        ("", "unknown configuration"),
        ("plain", "unknown configuration"),
    ],
)
def test_refusals(text: str, told: str):
    with pytest.raises(UserError, match=told):
        Configuration.from_text(text)


def test_refuses_what_is_no_letters():
    with pytest.raises(UserError, match="capital letters"):
        Configuration("HHl")
    with pytest.raises(UserError, match=r"did you mean \"kiosk\""):
        Configuration.from_text("kisok", tiers=["kiosk"])
