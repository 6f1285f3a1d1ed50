"""bundle.json: every field is checked, and every refusal names it."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pliant.errors import UserError
from pliant.runtime.contract import Contract, Selection
from pliant.runtime.fields import load_json

SHA = "0" * 64


@pytest.fixture
def record(tiny):
    tiny.parts()  # fills in the hashes
    return tiny.record


def test_round_trip(record):
    contract = Contract.from_json(record)
    written = json.loads(json.dumps(contract.to_json()))
    assert Contract.from_json(written) == contract
    assert written == json.loads(json.dumps(record))  # what the file says, no more and no less
    assert written["score"].startswith("softmax probability of bona_fide")
    assert contract.synthetic
    assert contract.tier("low").threshold == 0.5
    assert contract.tier("none") is None


def test_the_selections_bytes_by_hand():
    selection = Selection(offset=0, length=7, num_blocks=2, letters="LHB", tiers=("low", "max"))
    assert selection.bytes_for("LL", None) == bytes([0, 0, 0, 0, 1, 0, 0])
    assert selection.bytes_for("HB", None) == bytes([1, 0, 0, 1, 1, 0, 0])
    assert selection.bytes_for("BB", "max") == bytes([0, 1, 0, 1, 0, 0, 1])
    for wrong in ("L", "LLL", "LX", ""):
        with pytest.raises(UserError, match="2 adaptive blocks with letters L, H, B"):
            selection.bytes_for(wrong, None)


def test_a_selection_of_tiers_alone():
    selection = Selection(offset=0, length=3, num_blocks=0, letters="LH", tiers=("low", "high"))
    assert selection.bytes_for("HHH", "high") == bytes([0, 0, 1])
    with pytest.raises(UserError, match="runs its tiers alone: low, high"):
        selection.bytes_for("HHH", None)


CHANGES = [
    ("format", 2, "format '2', this pliant reads 1"),
    ("format", True, "format 'True'"),
    ("format", 1.0, "format '1.0'"),
    ("format", "1", "format '1'"),
    ("format", None, "format 'None'"),
    ("name", "\x1b[31mred", "name must be printable text"),
    ("name", "\ud800", "name must be printable text"),
    ("name", "x" * 201, "a text of at most 200"),
    ("name", "", "name must be a text that is not empty"),
    ("pliant", "", "pliant must be a text that is not empty"),
    ("input_name", "", "input_name must be a text that is not empty"),
    ("created", "", "created must be a time in UTC"),
    ("created", "yesterday", "created must be a time in UTC"),
    ("created", "2026-01-02T03:04:05", "created must be a time in UTC"),
    ("created", "2026-01-02T03:04:05+01:00", "created must be a time in UTC"),
    ("score", "softmax probability of attack, in [0, 1]",
     r'score must be "softmax probability of bona_fide.*got \'softmax probability of attack'),
    ("score", None, "score must be .* got None"),
    ("box", "x, y, width, height in pixels; Haar's rule", "box must be .*YuNet's rule.*got .*Haar"),
    ("box", ["x"], "box must be"),
    ("temperature", 2, "bundle.json has an unknown field: 'temperature'"),
    ("name", 5, "name must be a text"),
    ("target", "tvm", "onnx, executorch, litert"),
    ("precision", "fp4", "fp32, int8"),
    ("task", "detect", "pad, classify"),
    ("classes", ["bona_fide", "attack"], "attack, bona_fide for task pad"),
    ("classes", ["attack"], "a list of 2 to"),
    ("classes", "ab", "a list of 2 to"),
    ("classes", [{}, []], "a class: name must be a text"),
    ("classes", ["", ""], "must have a name"),
    ("model_file", "other.onnx", "has no hash of it"),
    ("default_tier", "max", "default_tier must be low, high"),
    ("tolerance", 0.2, r"a number in \[0, 0.05\]"),
    ("tolerance", 10**400, "a number in"),
    ("tolerance", True, "a number in"),
    ("licence", None, "a text of at most"),
    ("provenance", [], "provenance must be a JSON object"),
    ("provenance", {"data": 5}, "provenance.data must be a JSON object"),
    ("golden", [], "a list of 1 to 64"),
    ("golden", [5], "a golden image must be a JSON object"),
    ("tiers", [], "a list of 1 to 64"),
    ("tiers", [None], "a tier must be a JSON object"),
    ("files", [], "files must be a JSON object"),
    ("files", {"../a.bin": SHA}, "forbidden path"),
    ("files", {"bundle.json": SHA}, "forbidden path"),
    ("files", {"a.bin": SHA.upper()[1:] + "G"}, "no SHA-256"),
    ("files", {"a.bin": 5}, "no SHA-256"),
    ("files", {f"a{k}.bin": SHA for k in range(201)}, "at most 200"),
    ("selection", None, "selection must be a JSON object"),
    ("selection.bits", 1, "selection has an unknown field: 'bits'"),
    ("selection.offset", -1, "offset must be a whole number"),
    ("selection.offset", 1.5, "offset must be a whole number"),
    ("selection.length", 6, "blocks x"),
    ("selection.num_blocks", 3, "blocks x"),
    ("selection.letters", "LL", "different capital letters"),
    ("selection.letters", "lh", "different capital letters"),
    ("selection.tiers", ["high", "low"], "in their order"),
    ("selection.tiers", [[], {}], "in their order"),
    ("tiers.0.name", "Low", "small letters"),
    ("tiers.0.name", "high", "the same name"),
    ("tiers.0.configuration", "LX", "2 adaptive blocks with letters L, H"),
    ("tiers.0.configuration", "ll", "capital letters"),
    ("tiers.0.macs", -1, "macs must be a whole number"),
    ("tiers.0.macs", 1001, "cheapest first, got low with 1001 macs before high with 1000"),
    ("tiers.0.params", 1.0, "params must be a whole number"),
    ("tiers.0.cost", 1.0, "a tier has an unknown field: 'cost'"),
    ("tiers.0.threshold", 0.5, "threshold of low must be a JSON object"),
    ("tiers.0.threshold", {}, "value must be a number"),
    ("tiers.0.threshold", {"value": -0.1}, "value must be a number"),
    ("tiers.0.threshold", {"value": 1.1}, "value must be a number"),
    ("tiers.0.threshold.value", "0.5", "value must be a number"),
    ("tiers.0.threshold.policy", 3, "threshold of low: policy must be a text"),
    ("tiers.0.threshold.policy", "", "policy must be a text that is not empty"),
    ("tiers.0.threshold.source", None, "source must be a text"),
    ("tiers.0.threshold.interval", "x", "interval must be 2 numbers in"),
    ("tiers.0.threshold.interval", [0.1], "interval must be 2 numbers in"),
    ("tiers.0.threshold.interval", [0.1, 1.5], "interval must be 2 numbers in"),
    ("tiers.0.threshold.interval", [0.6, 0.4], "interval must be low, high"),
    ("tiers.0.threshold.dev_sha256", None, r"64 hexadecimal digits \(null where policy is fixed=t"),
    ("tiers.0.threshold.dev_sha256", "ab", "dev_sha256 must be 64 hexadecimal digits"),
    ("tiers.0.threshold.num_attack", -1, "num_attack must be a whole number"),
    ("tiers.0.threshold.draws", "many", "draws must be a whole number"),
    ("tiers.0.dev", 5, "dev must be a JSON object"),
    ("tiers.0.dev", {"auc": "high"}, r"dev of low: auc must be a number in \[0, 1\]"),
    ("tiers.0.dev", {"auc": 7}, "auc must be a number in"),
    ("tiers.0.dev", {"accuracy": -0.1}, "accuracy must be a number in"),
    ("tiers.0.parity", None, "parity must be a JSON object"),
    ("golden.0.file", "none.png", "has no hash of it"),
    ("golden.0.seed", 1, "a golden image has an unknown field: 'seed'"),
    ("golden.0.box", [1, 2, 3], "box must be 4 numbers"),
    ("golden.0.box", [1, 2, 3, "4"], "box must be 4 numbers"),
    ("golden.0.box", [1, 2, 3, 1e9], "box must be 4 numbers"),
    ("golden.0.probabilities", {"low": [0.5, 0.5]}, "one list per tier"),
    ("golden.0.probabilities.low", [0.5], "low must be 2 numbers"),
    ("golden.0.probabilities.low", [0.2, 0.2], "whose sum is 1"),
    ("golden.0.probabilities.low", [-0.5, 1.5], "low must be 2 numbers"),
    ("preprocessing.size", 96.5, "size must be a whole number"),
    ("preprocessing.size", 8, "size must be a whole number"),
    ("preprocessing.crop_scale", "1", "crop_scale must be a number"),
    ("preprocessing.mean", "abc", "mean must be 3 numbers"),
    ("preprocessing.mean", [0, 0, 10**400], "mean must be 3 numbers"),
    ("preprocessing.std", [1, 1, 0], "std must be 3 numbers"),
    ("preprocessing.border", "wrap", "reflect101, replicate, black"),
    ("preprocessing.border", [], "border must be a text"),
    ("preprocessing.colour", "bgr", "colour must be rgb"),
    ("preprocessing.gamma", 1, "does not know gamma"),
]  # fmt: skip


def change(record, path: str, value) -> dict:
    record = copy.deepcopy(record)
    *parents, last = path.split(".")
    at = record
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    at[int(last) if isinstance(at, list) else last] = value
    return record


@pytest.mark.parametrize(("path", "value", "said"), CHANGES)
def test_refusals(record, path, value, said):
    with pytest.raises(UserError, match=said):
        Contract.from_json(change(record, path, value))


def test_every_missing_field_is_refused(record):
    for place in ("", "tiers.0", "golden.0", "selection", "tiers.0.threshold"):
        at = record
        for key in place.split(".") if place else ():
            at = at[int(key) if isinstance(at, list) else key]
        optional = {"interval", "num_bona_fide", "num_attack", "num_subjects", "draws", "seed"}
        for name in set(at) - optional:
            rest = {key: value for key, value in at.items() if key != name}
            with pytest.raises(UserError, match=name):
                Contract.from_json(change(record, place, rest) if place else rest)


def test_a_threshold_given_by_hand_has_no_evidence(record):
    by_hand = {"policy": "fixed=0.5", "value": 0.5, "source": "given by hand"}
    by_hand |= {"dev_sha256": None, "interval": None, "num_attack": 0}
    contract = Contract.from_json(change(record, "tiers.0.threshold", by_hand))
    assert contract.tier("low").threshold_record == by_hand


def test_other_runtimes_have_no_selection(record):
    phone = record | {"target": "litert"}
    with pytest.raises(UserError, match="selection must be null for target litert"):
        Contract.from_json(phone)
    assert Contract.from_json(phone | {"selection": None}).to_json()["selection"] is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(data=st.data(), value=json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it is only read
def test_anything_anywhere_is_taken_or_refused(record, data, value):
    record = copy.deepcopy(record)
    at, parent, key = record, None, None
    while isinstance(at, dict | list) and at and (parent is None or data.draw(st.booleans())):
        parent = at
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
        at = at[key]
    parent[key] = value
    try:
        contract = Contract.from_json(record)
    except UserError:
        return
    assert isinstance(contract.synthetic, bool)
    json.dumps(contract.to_json())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": 1, "a": 2}', "a key is given twice"),
        (b"[" * 40 + b"]" * 40, "nested deeper than 32"),
        (b"[" * 200_000, "is damaged"),
        (b"1" * 5000, "is damaged"),
        (b'{"a": 1} x', "is damaged"),
    ],
)
def test_json_that_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        load_json(text, "bundle.json")
