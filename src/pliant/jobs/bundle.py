"""`pliant bundle ...`: show what a bundle promises, test it here, time it here, sign it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from pliant.jobs import bundle_bench
from pliant.runtime import signature
from pliant.runtime.bundle import Bundle
from pliant.runtime.checked import read_checked

VERBS = {
    "info": "show tiers, thresholds, preprocessing, licence, provenance, hashes and signature",
    "self-test": "compare the scores on this device with the promised ones",
    "bench": "time every tier on this device, and switching between them",
    "sign": "sign a bundle with a private key",
    "new-key": "make a key pair for signing",
}
File = Annotated[Path, Positional, arg(metavar="FILE")]


def info(file: File, *, public_key: str | None = None) -> dict[str, Any]:
    """Show what a bundle promises, after every hash in it was checked.

    Args:
        file: A bundle of `pliant export`.
        public_key: Whose signature it must carry: 64 hexadecimal digits, or their file.

    Raises:
        UserError: if the bundle is damaged, or not signed as demanded.
    """
    checked = read_checked(file, public_key, any_target=True)
    held = {"file": file, "sha256": checked.sha256, "signed_by": checked.signed_by}
    return held | checked.contract.to_json()


def self_test(file: File, *, threads: int = 1, public_key: str | None = None) -> dict[str, Any]:
    """Compare the scores of every tier on this device with those that the bundle promises.

    Args:
        file: A bundle of `pliant export`.
        threads: CPU threads.
        public_key: Whose signature it must carry: 64 hexadecimal digits, or their file.

    Raises:
        UserError: if a score differs by more than the bundle allows, or a verdict flips.
    """
    bundle = Bundle.open(file, self_test=False, threads=threads, public_key=public_key)
    found = bundle.self_test()
    found.require()
    return {
        "file": file,
        "sha256": bundle.sha256,
        "passed": found.passed,
        "num_images": found.num_images,
        "tolerance": found.tolerance,
        "tiers": found.tiers,
    }


def bench(
    file: File, *, runs: int = 60, threads: int = 1, public_key: str | None = None
) -> dict[str, Any]:
    """Time every tier on this device from a face's box to its score; the tiers take turns.

    Args:
        file: A bundle of `pliant export`.
        runs: Timed images per tier.
        threads: CPU threads inside an operator.
        public_key: Whose signature it must carry: 64 hexadecimal digits, or their file.
    """
    return bundle_bench.bench(file, runs=runs, threads=threads, public_key=public_key)


def sign(file: File, *, key: Annotated[Path, arg(metavar="KEY")]) -> dict[str, Any]:
    """Sign a bundle in place: whoever demands this key then knows whose it is, and unchanged.

    Args:
        file: A bundle of `pliant export`.
        key: A private key of `pliant bundle new-key`.
    """
    return {"file": file, "public_key": signature.sign(file, key)}


def new_key(file: File) -> dict[str, Any]:
    """Make an Ed25519 key pair: the private key in a new file, the public one beside it (.pub).

    Args:
        file: Where to write the private key; keep it secret.
    """
    return {"file": file, "public_key": signature.new_key(file)}


def info_summary(result: Mapping[str, Any]) -> list:
    """Two tables: the bundle, and its tiers."""
    from rich.table import Column, Table
    from rich.text import Text

    pre, data = result["preprocessing"], result["provenance"].get("data")
    is_pad = result["task"] == "pad"
    cut = f"crop {pre['crop_scale']:g} x the face" if is_pad else "the largest centred square"
    about = Table("bundle", Column(plain(result["name"]), overflow="fold"))
    for name, value in {
        "sha256": result["sha256"],
        "signed by": result["signed_by"] or "not signed",
        "task": f"{result['task']}: {', '.join(result['classes'][:20])}",
        "score": result["score"],
        "input": f"{pre['size']} px, {pre['colour']}, {cut}, "
        f"border {pre['border']}, mean {pre['mean']}, std {pre['std']}",
        "default tier": result["default_tier"],
        "precision": f"{result['precision']}, {result['target']}",
        "made": f"{result['created']} by pliant {result['pliant']}",
        "licence": result["licence"],
        "data": _pairs(data),
        "start": _pairs(result["provenance"].get("start")),
        "self-test": f"{len(result['golden'])} images, largest difference {result['tolerance']:g}",
        "files": f"{len(result['files'])}, every hash checked",
    }.items():
        about.add_row(name, Text(plain(value)))
    is_int8 = result["precision"] == "int8"
    costs = Table("tier", "MMACs", "params M", "dev", "largest difference to PyTorch")
    thresholds = Table("tier", "threshold", "interval", "policy", "dev scores")
    for tier in result["tiers"]:
        costs.add_row(*map(Text, _cost_row(tier, is_int8)))
        thresholds.add_row(*map(Text, _threshold_row(tier)))
    said = [plain(f"{t['name']} = {t['configuration']}") for t in result["tiers"]]
    if isinstance(data, dict) and data.get("synthetic"):
        said.append("This model has seen synthetic faces alone: it is no judge of real ones.")
    return [about, costs, *([thresholds] if is_pad else []), *said]


def _cost_row(tier: Mapping[str, Any], is_int8: bool) -> list[str]:
    dev = _pairs(tier["dev"]) if tier["dev"] else "-"
    if is_int8:  # its dev is that of the float model; the export judged both
        rows = [("fp32", tier["dev"]), ("fp32", tier["parity"].get("dev_fp32"))]
        rows.append(("int8", tier["parity"].get("dev_int8")))
        dev = "\n".join(f"{name}: {_pairs(row)}" for name, row in rows if row) or "-"
    return [
        tier["name"],
        f"{tier['macs'] / 1e6:.1f}",
        f"{tier['params'] / 1e6:.2f}",
        dev,
        plain(tier["parity"].get("max_abs_logits", "not stated")),
    ]


def _threshold_row(tier: Mapping[str, Any]) -> list[str]:
    record = tier["threshold"]
    if record is None:
        return [tier["name"], "none: no verdicts"]
    interval = record.get("interval")
    ends = interval if isinstance(interval, list) else []
    return [
        tier["name"],
        plain(record["value"]),
        plain(" to ".join(map(plain, ends[:2])) or "-"),
        plain(record.get("policy", "-")),
        plain(record.get("dev_sha256", "-"))[:12],
    ]


def _pairs(record: Any) -> str:
    """A flat record in words; what is nested is left to --json."""
    if not isinstance(record, dict):
        return "not stated"
    shown = {name: value for name, value in record.items() if not isinstance(value, dict | list)}
    return ", ".join(f"{plain(name)} {plain(value)}" for name, value in list(shown.items())[:20])


def plain(value: Any) -> str:
    """A value of a file that nobody vouches for, without what a terminal would obey."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)[:400]


def self_test_summary(result: Mapping[str, Any]) -> list:
    """The largest difference of each tier."""
    from rich.table import Table

    table = Table("tier", "largest difference", "verdicts that flip")
    for tier in result["tiers"]:
        table.add_row(tier.tier, f"{tier.max_difference:.1e}", str(tier.flips))
    return [
        table,
        f"passed: {result['num_images']} images, allowed difference {result['tolerance']:g}",
    ]


bench_summary = bundle_bench.summary


def sign_summary(result: Mapping[str, Any]) -> list[str]:
    """Whose signature it is now."""
    return [
        f"{result['file']} is signed by {result['public_key']}",
        f"demand it: pliant predict {result['file']} image.jpg --public-key {result['public_key']}",
    ]


def new_key_summary(result: Mapping[str, Any]) -> list[str]:
    """Both keys, and what to do with them."""
    return [
        f"private key: {result['file']} (keep it secret, and keep a copy)",
        f"public key:  {result['public_key']} (in {result['file']}.pub; tell everybody)",
    ]
