"""What a bundle promises, whether it holds here, how fast, and whose it is."""

import json
from pathlib import Path
from runpy import run_path

import pytest

from pliant import cli
from pliant.errors import UserError
from pliant.jobs.bundle import bench, info, new_key, plain, self_test, sign

make_bundle = run_path(str(Path(__file__).parents[1] / "runtime" / "conftest.py"))["make_bundle"]


@pytest.fixture
def tiny():
    """The small bundle of the run time's tests."""
    return make_bundle()


@pytest.fixture
def file(tiny, tmp_path: Path) -> Path:
    tiny.record["tiers"][0]["threshold"] = {
        "value": 0.5,
        "policy": "min_acer",
        "source": "drawn",
        "interval": [0.25, 0.75],
        "dev_sha256": "ab" * 32,
    }
    tiny.record["tiers"][0]["dev"] = {"auc": 0.875}
    return tiny.zip(tmp_path / "tiny.pliant")


def test_info_is_the_contract(file: Path, tiny, capsys: pytest.CaptureFixture[str]):
    found = info(file)
    assert found["signed_by"] is None
    assert len(found["sha256"]) == 64
    assert found["tiers"][0]["threshold"]["interval"] == [0.25, 0.75]
    assert cli.main(["bundle", "info", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {name: shown[name] for name in tiny.record} == tiny.record  # what the file says


def test_info_as_tables(file: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["bundle", "info", str(file)]) == 0
    out = capsys.readouterr().out
    for words in (
        "0.25 to 0.75", "min_acer", "abababababab", "auc 0.875", "low = LL", "Apache-2.0",
        "not signed", "32 px, rgb, crop 1.5 x the face", "synthetic faces alone",
    ):  # fmt: skip
        assert words in out


def test_info_of_a_classifier_without_thresholds(tmp_path: Path, capsys):
    path = make_bundle("classify").folder(tmp_path / "bundle")
    assert cli.main(["bundle", "info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "the largest centred square" in out
    assert "threshold" not in out


def test_info_of_a_phone_bundle(tiny, tmp_path: Path):
    tiny.record |= {"target": "litert", "model_file": "model.tflite", "selection": None}
    tiny.files["model.tflite"] = tiny.files.pop("model.onnx")
    path = tiny.zip(tmp_path / "phone.pliant")
    assert info(path)["target"] == "litert"
    for verb in (self_test, bench):
        with pytest.raises(UserError, match=r"for litert; run it in LiteRT"):
            verb(path)


def test_info_of_8_bits_tells_both_dev_figures(tiny, tmp_path: Path, capsys):
    tiny.record["precision"] = "int8"
    tiny.record["tiers"][0]["parity"] |= {"dev_fp32": {"apcer": 0.125}, "dev_int8": {"apcer": 0.5}}
    assert cli.main(["bundle", "info", str(tiny.zip(tmp_path / "8.pliant"))]) == 0
    out = capsys.readouterr().out
    assert "fp32: apcer 0.125" in out
    assert "int8: apcer 0.5" in out


def test_records_that_nobody_vouches_for(tiny, tmp_path: Path, capsys):
    """Anything may stand in what the contract leaves free; the terminal obeys none of it."""
    tiny.record["provenance"] = {"data": {}, "start": {"y": "\x1b[31mred\x07", "x\n": "[bold]"}}
    tiny.record["tiers"][0]["threshold"] |= {"policy": "[bold]", "n": None, "interval": None}
    tiny.record["tiers"][0]["dev"] = {"gain": "high"}
    tiny.record["tiers"][0]["parity"] = {}
    path = tiny.zip(tmp_path / "odd.pliant")
    assert cli.main(["bundle", "info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "?[31mred?" in out
    assert "x? [bold]" in out
    assert "\x1b" not in out
    assert plain(1 / 3) == "0.3333"


def test_self_test(file: Path, capsys: pytest.CaptureFixture[str]):
    found = self_test(file)
    assert (found["passed"], found["num_images"]) == (True, 4)
    assert [tier.tier for tier in found["tiers"]] == ["low", "high"]
    assert cli.main(["bundle", "self-test", str(file)]) == 0
    assert "passed: 4 images" in capsys.readouterr().out


def test_a_failed_self_test_is_one_sentence(tiny, tmp_path: Path, capsys):
    tiny.record["golden"][1]["probabilities"]["high"] = [0.5, 0.5]
    assert cli.main(["bundle", "self-test", str(tiny.zip(tmp_path / "wrong.pliant"))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the self-test failed in tier high" in captured.err


def test_bench(file: Path, capsys: pytest.CaptureFixture[str]):
    found = bench(file, runs=5)
    assert found["input_px"] == 32
    assert (found["threads"], found["open_ms"] > 0) == (1, True)
    low, high = found["tiers"]
    assert (low["tier"], low["runs"], high["runs"]) == ("low", 5, 5)
    assert 0 < low["median_ms"] <= low["p90_ms"]
    assert low["first_use_ms"] > low["switch_ms"]
    assert high["first_use_ms"] is None  # the default: it is ready when the bundle is open
    assert cli.main(["bundle", "bench", str(file), "--runs", "2"]) == 0
    assert "at opening" in capsys.readouterr().out
    with pytest.raises(UserError, match="runs must be at least 1, got 0"):
        bench(file, runs=0)


def test_sign_and_demand(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    key = tmp_path / "key"
    assert cli.main(["bundle", "new-key", str(key), "--json"]) == 0
    public = json.loads(capsys.readouterr().out)["public_key"]
    with pytest.raises(UserError, match="not signed"):
        info(file, public_key=public)
    assert cli.main(["bundle", "sign", str(file), "--key", str(key)]) == 0
    assert f"is signed by {public}" in capsys.readouterr().out
    assert info(file, public_key=f"{key}.pub")["signed_by"] == public
    other = new_key(tmp_path / "other")["public_key"]
    for verb in (info, self_test, bench):
        with pytest.raises(UserError, match="a signature of"):
            verb(file, public_key=other)
    assert sign(file, key=tmp_path / "other")["public_key"] == other
    with pytest.raises(UserError, match="keys are never overwritten"):
        new_key(key)


def test_a_damaged_bundle(file: Path, capsys: pytest.CaptureFixture[str]):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    for verb in ("info", "self-test", "bench"):
        assert cli.main(["bundle", verb, str(file)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("pliant: ")
        assert len(err.strip().splitlines()) == 1
