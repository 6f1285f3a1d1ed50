"""Splits: by subject, both classes on both sides, repeatable, and refused where impossible."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pliant.data.manifest import Sample
from pliant.data.split import check_subjects, split_by_subject
from pliant.errors import UserError


def sample(number, subject=None, bona_fide=True, **rest) -> Sample:
    name = f"{number}.jpg"
    return Sample(path=Path("/set") / name, name=name, subject=subject, bona_fide=bona_fide, **rest)


def people(number: int, frames: int = 3) -> list[Sample]:
    """Everyone has live frames and attacks."""
    return [
        sample(f"{person}-{live}-{k}", f"{person:02d}", live)
        for person in range(number)
        for live in (True, False)
        for k in range(frames)
    ]


def subjects(samples) -> set:
    return {s.subject for s in samples}


def test_a_quarter_of_the_subjects_becomes_dev():
    split = split_by_subject(people(8), seed=0)
    assert len(subjects(split.dev)) == 2
    assert not subjects(split.dev) & subjects(split.train)
    assert len(split.train) + len(split.dev) == 48
    assert split.test == []
    assert {s.split for s in split.dev} == {"dev"}
    assert "dev was carved out by subject" in split.notes[0]


def test_seed_decides_and_order_does_not():
    listed = people(12)
    dev = subjects(split_by_subject(listed, seed=3).dev)
    assert subjects(split_by_subject(listed[::-1], seed=3).dev) == dev
    assert any(subjects(split_by_subject(listed, seed=s).dev) != dev for s in range(5))


@settings(max_examples=50)
@given(
    live=st.lists(st.integers(0, 6), min_size=2, max_size=20),
    attack=st.lists(st.integers(0, 6), min_size=2, max_size=20),
    seed=st.integers(0, 5),
    test_share=st.sampled_from([0.0, 0.2]),
)
def test_sides_are_disjoint_and_hold_both_classes(live, attack, seed, test_share):
    listed = [sample(f"l{k}", f"s{who}") for k, who in enumerate(live)]
    listed += [sample(f"a{k}", f"s{who}", False) for k, who in enumerate(attack)]
    fewest = min(len(set(live)), len(set(attack)))
    if fewest <= 1 + bool(test_share):
        with pytest.raises(UserError, match="subjects possible"):
            split_by_subject(listed, seed=seed, test_share=test_share)
        return
    split = split_by_subject(listed, seed=seed, test_share=test_share)
    sides = [split.train, split.dev] + ([split.test] if test_share else [])
    for side in sides:
        assert {s.bona_fide for s in side} == {True, False}
    assert sum(len(subjects(side)) for side in sides) == len(subjects(listed))
    assert sorted(s.name for side in sides for s in side) == sorted(s.name for s in listed)


def test_subjects_of_one_class_each():
    listed = [sample(f"l{k}", f"live{k % 5}") for k in range(20)]
    listed += [sample(f"a{k}", f"mask{k % 4}", False) for k in range(20)]
    split = split_by_subject(listed, seed=0)
    assert {s.bona_fide for s in split.dev} == {s.bona_fide for s in split.train} == {True, False}


def test_given_splits_are_kept():
    listed = [replace(s, split="dev" if s.subject < "03" else "train") for s in people(8)]
    split = split_by_subject(listed, seed=0)
    assert split.dev == [s for s in listed if s.split == "dev"]
    assert split.notes == []
    listed[-1] = replace(listed[-1], split=None)
    split = split_by_subject(listed, seed=0)
    assert split.train[-1] == replace(listed[-1], split="train")
    assert "1 images without a split were put into training" in split.notes[0]


def test_dev_is_carved_from_training_and_test_stays():
    listed = [replace(s, split="test" if s.subject < "03" else "train") for s in people(8)]
    split = split_by_subject(listed, seed=0)
    assert subjects(split.test) == {"00", "01", "02"}
    assert subjects(split.dev) < {"03", "04", "05", "06", "07"}


def test_without_subjects_clips_stay_whole_and_it_is_said():
    listed = [sample(k, bona_fide=k % 2 == 0, clip=f"c{k // 4}-{k % 2}") for k in range(64)]
    split = split_by_subject(listed, seed=0)
    assert not {s.clip for s in split.dev} & {s.clip for s in split.train}
    assert "carved out by clip" in split.notes[0]
    assert "could not be made by subject" in split.notes[0]
    split = split_by_subject([replace(s, clip=None) for s in listed], seed=0)
    assert len(split.dev) == 16
    assert "carved out by image" in split.notes[0]


def test_some_without_a_subject():
    listed = people(6) + [sample(f"x{k}", None, k % 2 == 0) for k in range(8)]
    assert "8 images name no subject" in split_by_subject(listed, seed=0).notes[0]


def test_class_labels():
    listed = [sample(k, bona_fide=None, label="cat" if k % 3 else "owl") for k in range(60)]
    split = split_by_subject(listed, seed=0, dev_share=0.2)
    assert sum(s.label == "owl" for s in split.dev) == 4
    assert len(split.dev) == 12
    assert "by subject" not in split.notes[0]


def test_leaks_are_named():
    listed = people(3)
    listed = [replace(s, split="dev" if k % 2 else "train") for k, s in enumerate(listed)]
    message = r"3 subjects on more than one side .*00 in dev and train; 01 in .*02 in"
    for check in (check_subjects, lambda s: split_by_subject(s, seed=0)):
        with pytest.raises(UserError, match=message):
            check(listed)
    check_subjects(people(3))
    one = [sample(0, "7", split="train"), sample(1, "7", False, split=None)]
    one += [sample(2, "8", split="dev"), sample(3, "8", False, split="dev"), sample(4, "8")]
    with pytest.raises(UserError, match="1 subject on more than one side"):
        split_by_subject(one, seed=0)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "no samples"),
        ([sample(0, "1"), sample(1, "2")], r"bona fide samples only \(2\); it needs attack"),
        ([sample(0, "1", False)], "attack samples only"),
        (people(1), "no dev subjects possible: .* come from 1 subject,"),
        (
            [*(s for s in people(4) if s.bona_fide), sample(9, "01", False)],
            "no dev subjects possible: attack samples come from 1 subject,",
        ),
        ([sample(0, label="a", bona_fide=None)], r"one class only \(a\)"),
        (
            [replace(s, split="dev" if s.subject == "0" else "train") for s in
             [sample(0, "0"), sample(1, "1"), sample(2, "1", False)]],
            "the dev split holds bona fide samples only",
        ),
        (
            [sample(k, label=w, bona_fide=None, split=p) for k, (w, p) in enumerate(
                [("a", "train"), ("b", "train"), ("a", "dev"), ("c", "dev")])],
            "class c is missing from the training split",
        ),
    ],
)  # fmt: skip
def test_refusals(listed, message):
    with pytest.raises(UserError, match=message):
        split_by_subject(listed, seed=0)


def test_shares_out_of_range():
    with pytest.raises(ValueError, match="dev_share"):
        split_by_subject(people(4), seed=0, dev_share=0.5, test_share=0.5)


@settings(max_examples=20)
@given(number=st.integers(8, 30), seed=st.integers(0, 3))
def test_share_is_near_what_was_asked(number, seed):
    split = split_by_subject(people(number), seed=seed)
    assert abs(len(split.dev) / (6 * number) - 0.25) < 0.6 / number


def test_live_photos_alone_are_taken_only_where_attacks_will_be_simulated():
    live = [s for s in people(8) if s.bona_fide]
    split = split_by_subject(live, seed=0, live_only=True)
    assert not subjects(split.dev) & subjects(split.train)
    assert split.dev
    with pytest.raises(UserError, match="bona fide samples only"):
        split_by_subject(live, seed=0)
    attacks = [s for s in people(8) if not s.bona_fide]
    with pytest.raises(UserError, match="attack samples only"):
        split_by_subject(attacks, seed=0, live_only=True)
