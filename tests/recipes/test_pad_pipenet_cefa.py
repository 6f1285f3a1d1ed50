"""The recipe for CeFA's protocol 4 on a small synthetic tree: lists, submission, spread of ACER."""

import sys
from pathlib import Path

import pytest

from pliant.data.cefa import read_cefa
from pliant.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))  # as when a user runs the script
import cefa_synthetic
import pad_pipenet_cefa as recipe


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cefa") / "tree"
    return cefa_synthetic.write_tree(root, subjects=4, test_subjects=3, frames=1)


def test_the_tree_reads_as_cefa(tree: Path):
    for k in recipe.PROTOCOLS:
        samples = read_cefa(tree, protocol=f"challenge.{k}").samples
        train = [s for s in samples if s.split == "train"]
        assert len({s.subject for s in train}) == 4
        assert {(s.bona_fide, s.device) for s in train} == {(True, "1 (rssdk)"), (False, "3 (bag)")}
        for s in samples:
            assert s.depth_path is not None
            assert s.ir_path is not None
            assert all(path.is_file() for path in (s.path, s.depth_path, s.ir_path))
    with pytest.raises(UserError, match="exists already"):
        cefa_synthetic.write_tree(tree)


def test_training_is_split_by_subject(tree: Path):
    data = recipe.prepare(tree, 2, frames="8", dev_share=0.25, seed=0)
    assert not {s.subject for s in data.train} & {s.subject for s in data.dev}
    assert {s.split for s in data.train} == {"train"}
    assert {s.bona_fide for s in data.dev} == {True, False}
    assert data.record["synthetic"]
    assert not any("phase2" in str(s.path) for s in [*data.train, *data.dev])


def test_clips_with_labels_and_without(tree: Path):
    clips, samples = recipe.organisers_clips(tree, 1, "dev", "8")
    assert clips.names[0] == "dev/003000"
    assert (clips.live.count(True), clips.live.count(False)) == (6, 6)
    assert [s.clip for s in samples] == clips.names
    known = tree / "4@1_dev_ref.txt"
    known.rename(tree / "away")
    try:
        blind, again = recipe.organisers_clips(tree, 1, "dev", "8")
    finally:
        (tree / "away").rename(known)
    assert blind.names == clips.names
    assert set(blind.live) == {None}
    assert [s.path for s in again] == [s.path for s in samples]


def test_the_spread_over_sub_protocols_by_hand():
    rows = [
        {"protocol": f"4@{k}", "split": "test", "acer": acer}
        for k, acer in zip((1, 2, 3), (0.42, 0.53, 1.06), strict=True)
    ]
    (mean,) = recipe.summarise([*rows, {"protocol": "4@1", "split": "dev", "acer": 0.1}])
    assert mean["acer"] == pytest.approx(0.67)
    assert mean["std_population"] == pytest.approx(0.2794, abs=1e-4)
    assert mean["std_sample"] == pytest.approx(0.3422, abs=1e-4)
    assert recipe.summarise([{"protocol": "4@1", "split": "test"}]) == []
