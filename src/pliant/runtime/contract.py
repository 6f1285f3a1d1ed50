"""bundle.json: what a model expects and promises, in words that a device can check.

Everything here is parsed from a file that nobody vouches for: every field is checked for its type
and range, an unknown format is refused before anything else is read, and so is a field that this
page does not name. Free are only what `dev`, `parity` and `provenance` hold beside the named ones.

The selection: one boolean initializer inside model.onnx, at a byte offset that bundle.json names.
For each adaptive block it holds one byte per letter after the first ("LHB": is it H? is it B?), all
zero meaning the first letter; then one byte per row of batch-norm statistics, exactly one of them
1: row 0 are those that training kept, row 1 + i those of tier i. Writing these bytes into the file
before a session is created chooses what runs; ONNX Runtime folds the rest away.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from pliant.errors import UserError
from pliant.runtime.crop import Preprocessing
from pliant.runtime.fields import MAX_WHOLE, SHA256, Fields

FORMAT = 1
"""Of bundle.json; a runtime refuses any other."""
TARGETS = ("onnx", "executorch", "litert")
PRECISIONS = ("fp32", "int8")
MAX_TIERS = 64
MAX_BLOCKS = 256
MAX_FILES = 200
HIGHEST_THRESHOLD = 1 + 1e-9
"""One that accepts nothing lies just above every score."""
BOX_RULE = "x, y, width, height in pixels; YuNet's rule: forehead to chin"
"""What a box is; `crop_scale` means nothing without it."""
MAX_TOLERANCE = 0.05
"""Of the self-test; a larger one would let a damaged model pass."""
META_FILES = ("bundle.json", "bundle.sha256", "signature.json")
"""Beside the files that bundle.json lists; nothing else may lie in a bundle."""
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""Of a tier."""
FILE_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)?\.[a-z0-9]+")
"""Of a file inside a bundle: at most one folder deep, never out of it."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Where the bytes that choose a configuration lie in model.onnx."""

    offset: int
    """First byte in the file."""
    length: int
    """Bytes: blocks x (letters - 1), then 1 + tiers."""
    num_blocks: int
    """Adaptive blocks; 0 where only tiers can be chosen (int8)."""
    letters: str
    """What a block may run, cheapest first."""
    tiers: tuple[str, ...]
    """Rows of statistics 1, 2, ... belong to these tiers."""

    def bytes_for(self, configuration: str, tier: str | None) -> bytes:
        """The selection's bytes.

        Args:
            configuration: One letter per block.
            tier: Whose statistics; None: those that training kept.

        Raises:
            UserError: if the configuration does not fit.
        """
        if not self.num_blocks and tier is not None:
            configuration = ""  # the row alone says what runs
        if not self.num_blocks and tier is None:
            raise UserError(f"this model runs its tiers alone: {', '.join(self.tiers)}")
        if len(configuration) != self.num_blocks or not set(configuration) <= set(self.letters):
            raise UserError(
                f'configuration "{configuration}" does not fit: this model has {self.num_blocks} '
                f"adaptive blocks with letters {', '.join(self.letters)}"
            )
        flags = [letter == one for letter in configuration for one in self.letters[1:]]
        row = 0 if tier is None else 1 + self.tiers.index(tier)
        return bytes(flags) + bytes(i == row for i in range(1 + len(self.tiers)))


@dataclass(frozen=True, kw_only=True)
class BundleTier:
    """A tier as it was shipped."""

    name: str
    """Small letters, digits, `_` and `-`."""
    configuration: str
    """One letter per adaptive block."""
    macs: int
    """Multiply-accumulates of one image."""
    params: int
    """Parameters in use."""
    size_bytes: int
    """Of those, float32."""
    threshold: float | None
    """Accept iff score >= threshold; None: scores, but no verdicts."""
    threshold_record: Mapping[str, Any] | None
    """Policy, source, counts, interval, and the hash of the dev scores it was fitted on."""
    dev: Mapping[str, Any] | None
    """Quality on the dev split: `auc` or `accuracy`."""
    parity: Mapping[str, Any]
    """`max_abs_logits` between PyTorch and ONNX Runtime, and over how many `images`."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A synthetic image with the scores that every tier must give."""

    file: str
    """Path inside the bundle; PNG, RGB."""
    box: tuple[float, float, float, float] | None
    """The face: x, y, width, height in pixels."""
    probabilities: Mapping[str, tuple[float, ...]]
    """By tier, one number per class, from PyTorch in float32 (int8: from ONNX Runtime)."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """bundle.json, checked."""

    name: str
    """What the model is called."""
    pliant: str
    """Version that wrote it."""
    created: str
    """UTC, ISO 8601."""
    target: str
    """`onnx`, `executorch` or `litert`."""
    precision: str
    """`fp32` or `int8`."""
    task: str
    """`pad` or `classify`."""
    classes: tuple[str, ...]
    """Names of the logits, in order; for pad: attack, bona_fide."""
    preprocessing: Preprocessing
    """How an image becomes the input; the box rule is YuNet's (forehead to chin)."""
    model_file: str
    """Path inside the bundle."""
    input_name: str
    """Of the model's input, float32 (batch, 3, size, size)."""
    output_name: str
    """Of the logits, float32 (batch, classes)."""
    selection: Selection | None
    """None where the target switches by method or signature."""
    tiers: tuple[BundleTier, ...]
    """Cheapest first."""
    default_tier: str
    """What runs unless another is asked for."""
    golden: tuple[Golden, ...]
    """What the self-test compares."""
    tolerance: float
    """Largest difference in a probability that the self-test lets pass."""
    licence: str
    """Of the weights."""
    provenance: Mapping[str, Any]
    """Data (name, hash, counts, synthetic or not), start, and the run's weights' hash."""
    files: Mapping[str, str]
    """SHA-256 of every other file, by path."""

    def tier(self, name: str) -> BundleTier | None:
        """The tier of this name."""
        return next((tier for tier in self.tiers if tier.name == name), None)

    @property
    def synthetic(self) -> bool:
        """Whether the model has seen synthetic faces alone."""
        return bool(self.provenance.get("data", {}).get("synthetic"))

    def to_json(self) -> dict[str, Any]:
        """What bundle.json holds."""
        record = asdict(self)
        tiers = [asdict(tier) for tier in self.tiers]
        for tier in tiers:
            del tier["threshold"]
            tier["threshold"] = tier.pop("threshold_record")
        return {"format": FORMAT} | record | {
            "score": score_rule(self.task),
            "box": BOX_RULE,
            "preprocessing": self.preprocessing.to_json(),
            "tiers": tiers,
        }  # fmt: skip

    @classmethod
    def from_json(cls, record: Any) -> "Contract":
        """The contract in a parsed bundle.json.

        Raises:
            UserError: if the format is unknown, or a field is missing, of another type or out of
                range; the field is named.
        """
        top = Fields(record, "bundle.json")
        version = top.given.get("format")
        if type(version) is not int or version != FORMAT:  # True and 1.0 equal 1
            raise UserError(
                f"this bundle is of format {str(version)[:40]!r}, this pliant "
                f"reads {FORMAT}; use the version that wrote it"
            )
        return _contract(cls, top)


def score_rule(task: str) -> str:
    """What a score is, and which way it points."""
    if task == "pad":
        return "softmax probability of bona_fide, in [0, 1]; accept iff score >= threshold"
    return "softmax probability of the most probable class, in [0, 1]"


def _contract(cls: type[Contract], top: Fields) -> Contract:
    top.exactly("format", "score", "box", *cls.__dataclass_fields__)
    task = top.text("task", among=("pad", "classify"))
    for name, rule in (("score", score_rule(task)), ("box", BOX_RULE)):
        if top.given[name] != rule:
            raise top.refuse(name, f'"{rule}"')
    target = top.text("target", among=TARGETS)
    classes = tuple(_name(item, "bundle.json, a class") for item in top.listed("classes", 2, 10**5))
    if task == "pad" and classes != ("attack", "bona_fide"):
        raise top.refuse("classes", "attack, bona_fide for task pad")
    tiers = tuple(_tier(item) for item in top.listed("tiers", 1, MAX_TIERS))
    names = [tier.name for tier in tiers]
    if len(set(names)) < len(names):
        raise UserError("bundle.json: two tiers have the same name")
    for cheaper, tier in pairwise(tiers):
        if cheaper.macs > tier.macs:
            raise UserError(
                f"bundle.json: tiers must be listed cheapest first, got {cheaper.name} with "
                f"{cheaper.macs} macs before {tier.name} with {tier.macs}"
            )
    golden = tuple(_golden(item, names, len(classes)) for item in top.listed("golden", 1, 64))
    model_file = top.text("model_file")
    files = _files(top.mapping("files"))
    for name in (model_file, *(one.file for one in golden)):
        if name not in files:
            raise UserError(f'bundle.json names the file "{name[:80]}" but has no hash of it')
    if target != "onnx" and top.given["selection"] is not None:
        raise top.refuse("selection", f"null for target {target}")
    provenance = top.mapping("provenance")
    if "data" in provenance:
        Fields(provenance["data"], "bundle.json, provenance.data")
    return cls(
        name=top.text("name", least=1, most=200),
        pliant=top.text("pliant", least=1, most=100),
        created=_created(top),
        target=target,
        precision=top.text("precision", among=PRECISIONS),
        task=task,
        classes=classes,
        preprocessing=_preprocessing(top.mapping("preprocessing")),
        model_file=model_file,
        input_name=top.text("input_name", least=1, most=200),
        output_name=top.text("output_name", least=1, most=200),
        selection=_selection(top.mapping("selection"), tiers) if target == "onnx" else None,
        tiers=tiers,
        default_tier=top.text("default_tier", among=names),
        golden=golden,
        tolerance=top.number("tolerance", 0, MAX_TOLERANCE),
        licence=top.text("licence", least=1),
        provenance=provenance,
        files=files,
    )


def _created(top: Fields) -> str:
    text = top.text("created", most=100)
    try:
        offset = datetime.fromisoformat(text).utcoffset()
    except (ValueError, OverflowError):
        offset = None
    if offset != timedelta(0):
        raise top.refuse("created", "a time in UTC, such as 2026-01-02T03:04:05+00:00")
    return text


def _name(item: Any, where: str) -> str:
    name = Fields({"name": item}, where).text("name", most=200)
    if not name:
        raise UserError(f"{where} must have a name")
    return name


def _files(given: dict[str, Any]) -> dict[str, str]:
    if len(given) > MAX_FILES:
        raise UserError(f"bundle.json lists {len(given)} files, at most {MAX_FILES} are allowed")
    for path, digest in given.items():
        if not FILE_NAME.fullmatch(path) or path in META_FILES:
            raise UserError(f"bundle.json: files has a forbidden path: {path[:80]!r}")
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise UserError(f'bundle.json: files has no SHA-256 of "{path[:80]}"')
    return given


def _preprocessing(record: dict[str, Any]) -> Preprocessing:
    fields = Fields(record, "bundle.json, preprocessing")
    fields.whole("size", 16, 1024)
    fields.number("crop_scale", 0.5, 8)
    fields.numbers("mean", 3, -1000, 1000)
    fields.numbers("std", 3, 1e-3, 1000)
    for name in ("border", "colour"):
        fields.text(name)
    try:
        return Preprocessing.from_json(record)
    except ValueError as problem:
        raise UserError(f"bundle.json: {problem}") from problem


def _tier(item: Any) -> BundleTier:
    fields = Fields(item, "bundle.json, a tier")
    fields.exactly(
        "name", "configuration", "macs", "params", "size_bytes", "threshold", "dev", "parity"
    )
    name = fields.text("name")
    if not NAME.fullmatch(name):
        raise fields.refuse("name", "small letters, digits, _ and -")
    configuration = fields.text("configuration", most=MAX_BLOCKS)
    if not re.fullmatch("[A-Z]*", configuration):
        raise fields.refuse("configuration", "capital letters")
    record = fields.given["threshold"]
    return BundleTier(
        name=name,
        configuration=configuration,
        macs=fields.whole("macs", 0, 10**15),
        params=fields.whole("params", 0, 10**12),
        size_bytes=fields.whole("size_bytes", 0, 10**13),
        threshold=None if record is None else _threshold(record, name),
        threshold_record=record,
        dev=None if fields.given["dev"] is None else _dev(fields.mapping("dev"), name),
        parity=fields.mapping("parity"),
    )


def _threshold(record: Any, tier: str) -> float:
    """The value of a threshold whose evidence is what a fit leaves."""
    fields = Fields(record, f"bundle.json, threshold of {tier}")
    value = fields.number("value", 0, HIGHEST_THRESHOLD)
    policy = fields.text("policy", least=1, most=200)
    fields.text("source")
    digest = fields.given.get("dev_sha256")
    by_hand = digest is None and policy.startswith("fixed=")
    if not by_hand and not (isinstance(digest, str) and SHA256.fullmatch(digest)):
        raise fields.refuse("dev_sha256", "64 hexadecimal digits (null where policy is fixed=t)")
    if fields.given.get("interval") is not None:
        low, high = fields.numbers("interval", 2, 0, HIGHEST_THRESHOLD)
        if low > high:
            raise fields.refuse("interval", "low, high")
    for name in ("num_bona_fide", "num_attack", "num_subjects", "draws", "seed"):
        if name in fields.given:
            fields.whole(name, 0, MAX_WHOLE)
    return value


def _dev(record: dict[str, Any], tier: str) -> dict[str, Any]:
    fields = Fields(record, f"bundle.json, dev of {tier}")
    for name in ("auc", "accuracy"):  # by which `pick` says what is best
        if name in record:
            fields.number(name, 0, 1)
    return record


def _selection(record: dict[str, Any], tiers: Sequence[BundleTier]) -> Selection:
    fields = Fields(record, "bundle.json, selection")
    fields.exactly("offset", "length", "num_blocks", "letters", "tiers")
    letters = fields.text("letters", most=26)
    found = Selection(
        offset=fields.whole("offset", 0, 2**31),
        length=fields.whole("length", 1, MAX_BLOCKS * 26),
        num_blocks=fields.whole("num_blocks", 0, MAX_BLOCKS),
        letters=letters,
        tiers=tuple(fields.listed("tiers", 1, MAX_TIERS)),
    )
    if found.tiers != tuple(tier.name for tier in tiers):
        raise fields.refuse("tiers", "the names of the tiers, in their order")
    if not re.fullmatch("[A-Z]+", letters) or len(set(letters)) < len(letters):
        raise fields.refuse("letters", "different capital letters")
    if found.length != found.num_blocks * (len(letters) - 1) + 1 + len(tiers):
        raise fields.refuse("length", "blocks x (letters - 1) + 1 + tiers")
    for tier in tiers:
        found.bytes_for(tier.configuration, tier.name)
    return found


def _golden(item: Any, tiers: Sequence[str], num_classes: int) -> Golden:
    fields = Fields(item, "bundle.json, a golden image")
    fields.exactly("file", "box", "probabilities")
    given = fields.mapping("probabilities")
    if set(given) != set(tiers):
        raise fields.refuse("probabilities", "one list per tier")
    rows = Fields(given, "bundle.json, probabilities of a golden image")
    probabilities = {tier: rows.numbers(tier, num_classes, 0, 1) for tier in tiers}
    for tier, row in probabilities.items():
        if abs(sum(row) - 1) > 1e-3:
            raise rows.refuse(tier, "numbers whose sum is 1")
    box = None
    if fields.given["box"] is not None:
        x, y, width, height = fields.numbers("box", 4, -1e5, 1e5)
        box = x, y, width, height
    return Golden(file=fields.text("file"), box=box, probabilities=probabilities)
