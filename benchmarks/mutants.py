"""Mutants of a bundle: bytes, names, JSON fields, graphs; the same for the same case and seed."""

import copy
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import onnx

from pliant.runtime.archive import open_archive, stored_zip
from pliant.runtime.graph import OPERATORS

KINDS = {
    "zip": "kept",
    "zip_header": "kept",
    "names": "kept",
    "file": "kept",
    "json_text": "renewed",
    "json_field": "renewed",
    "onnx_byte": "renewed",
    "onnx_field": "renewed",
    "weights": "renewed",
    "png": "renewed",
}
"""What is mutated, and whether the hashes are the true ones or were made to fit."""
HOSTILE = (
    *(None, True, False, 0, -1, 1, 2, 3, 0.5, -0.5, 1e308, -1e308, 5e-324, 2**31, 2**63, 10**400),
    *("", "a", "\0", "\ud800", "../../etc/passwd", "\x1b[2J", "x" * 10_000, "nan", "HL", "BB"),
    *([], {}, [[]], {"value": 0.5}, [0.5, 0.5], [1, 2, 3, 4], [None], list(range(300))),
)

NUMBERS = (0, 1, -1, 2, 3, 7, 63, 64, 1000, 65_535, 2**20, 2**31 - 1, 2**62)
NEW_OPERATORS = sorted(OPERATORS | {"Loop", "Scan", "Resize", "Range", "Einsum", "Expand", "Tile"})

RUNS = (b"\xff", b"\0", b"\x0a\0", b"\x3a\0")

Parts = dict[str, bytes]


def mutate_bytes(data: bytes, rng: random.Random, first: int = 0, end: int | None = None) -> bytes:
    """Flips, overwrites, inserts, removes, repeats or cuts, within the given range."""
    changed, end = bytearray(data), len(data) if end is None else end
    if not data:
        return bytes([rng.randrange(256)])
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(first, max(first + 1, min(end, len(changed))))
        size = rng.choice((1, 2, 4, 8, 64, 1024))
        match rng.randrange(8):
            case 0 | 1:
                changed[place % len(changed)] ^= 1 << rng.randrange(8)
            case 2:
                changed[place % len(changed)] = rng.choice((0, 1, 127, 128, 255))
            case 3:
                changed[place:place] = rng.randbytes(min(size, 8))
            case 4:
                del changed[place : place + min(size, 64)]
            case 5:
                source = rng.randrange(len(changed) + 1)
                changed[place : place + size] = changed[source : source + size]
            case 6 if rng.random() < 0.3:
                del changed[place:]
            case 7 if rng.random() < 0.1:  # one byte, many times: JPEG's fill, empty fields
                changed[place:place] = rng.choice(RUNS) * 50_000
        if not changed:
            break
    return bytes(changed)


def any_place(record: Any, rng: random.Random) -> tuple[Any, Any]:
    """(parent, key) of a random value in a JSON tree."""
    while True:
        keys = list(record) if isinstance(record, dict) else range(len(record))
        key = rng.choice(list(keys))
        child = record[key]
        if not isinstance(child, dict | list) or not child or rng.random() < 0.2:
            return record, key
        record = child


def mutate_json(record: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One to three values replaced, scaled, removed, repeated, or swapped for another one."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        parent, key = any_place(record, rng)
        value = parent[key]
        match rng.randrange(6):
            case 0 | 1:
                parent[key] = copy.deepcopy(rng.choice(HOSTILE))
            case 2 if isinstance(value, int | float):
                parent[key] = value * rng.choice((-1, 0, 0.5, 2, 1.0001, 1e6)) + rng.choice((0, 1))
            case 3:
                del parent[key]
            case 4 if isinstance(parent, list):
                parent.append(value)
            case _:
                other, there = any_place(record, rng)
                parent[key] = copy.deepcopy(other[there])
        if not record:
            break
    return record


def mutate_model(data: bytes, rng: random.Random) -> tuple[bytes, int | None]:
    """The model with a few of its fields changed, and where the selection lies now."""
    model = onnx.load_from_string(data)
    graphs = [model.graph]
    for graph in graphs:
        for node in graph.node:
            graphs += [a.g for a in node.attribute if a.HasField("g")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        graph = rng.choice(graphs)
        if not graph.node:
            continue
        node = rng.choice(graph.node)
        tensors = list(graph.initializer) or list(model.graph.initializer)
        tensors += [a.t for n in graph.node for a in n.attribute if a.HasField("t")]
        tensor = rng.choice(tensors)
        number = rng.choice(NUMBERS)
        match rng.randrange(11):
            case 0:
                node.op_type = rng.choice(NEW_OPERATORS)
            case 1 | 2 if node.attribute:
                attribute = rng.choice(node.attribute)
                if attribute.ints:
                    attribute.ints[rng.randrange(len(attribute.ints))] = number
                else:
                    attribute.i = number
            case 3 if node.input:
                names = [name for n in graph.node for name in (*n.input, *n.output)]
                node.input[rng.randrange(len(node.input))] = rng.choice(names)
            case 4 if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = number
            case 5:
                tensor.data_type = rng.randrange(24)
            case 6 if tensor.raw_data:
                tensor.raw_data = mutate_bytes(tensor.raw_data, rng)
            case 7 if tensor.data_type == 7 and len(tensor.raw_data) >= 8:
                whole = min(2**63 - 1, max(-(2**63), number * rng.choice((1, 1, 64))))
                tensor.raw_data = whole.to_bytes(8, "little", signed=True) + tensor.raw_data[8:]
            case 8:
                graph.node.remove(node)
            case 9:
                graph.node.insert(rng.randrange(len(graph.node)), node)
            case 10 if node.attribute:
                node.attribute.remove(rng.choice(node.attribute))
    changed = model.SerializeToString()
    selection = next((t for t in model.graph.initializer if t.name == "selection"), None)
    if selection is None or selection.SerializeToString() not in changed:
        return changed, None
    whole = selection.SerializeToString()
    return changed, changed.index(whole) + whole.index(selection.raw_data)


def kind_of(case: int) -> str:
    """Kinds take turns."""
    return list(KINDS)[case % len(KINDS)]


class Mutants:
    """The true bundle, and case k's mutant of it."""

    def __init__(self, path: Path) -> None:
        archive = open_archive(path)
        self.parts = {name: archive.read(name) for name in archive.sizes}
        self.record = json.loads(self.parts["bundle.json"])
        self.model_file = self.record["model_file"]
        self.zip = stored_zip(self.parts)
        directory = self.zip.rindex(b"PK\x03\x04")  # the last entry, then the directory
        self.headers = [
            (0, 64),
            (directory, directory + 64),
            (self.zip.index(b"PK\x01\x02", directory), len(self.zip)),
        ]
        selection = self.record["selection"]
        self.structure = selection["offset"] + 2000  # the graph lies before most of the weights

    def make(self, case: int, seed: int) -> bytes | Parts:
        """A zip's bytes or a folder's files."""
        rng = random.Random(f"{seed}/{case}")
        kind = kind_of(case)
        parts, record = dict(self.parts), json.loads(self.parts["bundle.json"])
        if kind == "zip":
            return mutate_bytes(self.zip, rng)
        if kind == "zip_header":
            return mutate_bytes(self.zip, rng, *rng.choice(self.headers))
        if kind == "names":
            return self.misnamed(rng)
        if kind == "file":
            name = rng.choice(sorted(parts))
            parts[name] = mutate_bytes(parts[name], rng)
            return self.wrap(parts, rng)
        if kind == "json_text":
            text = mutate_bytes(parts["bundle.json"], rng)
            parts |= {"bundle.json": text, "bundle.sha256": _digest(text) + b"\n"}
            return self.wrap(parts, rng)
        if kind == "json_field":
            record = mutate_json(record, rng)
        elif kind == "onnx_byte":
            model = parts[self.model_file]
            first, end = rng.choice(((0, len(model)), (0, self.structure), (0, 400)))
            parts[self.model_file] = mutate_bytes(model, rng, first, min(end, len(model)))
        elif kind == "onnx_field":
            parts[self.model_file], offset = mutate_model(parts[self.model_file], rng)
            if offset is not None:
                record["selection"]["offset"] = offset
        elif kind == "png":
            name = rng.choice(record["golden"])["file"]
            parts[name] = mutate_bytes(parts[name], rng)
        elif kind == "weights":
            model = bytearray(parts[self.model_file])
            for _ in range(rng.choice((1, 8, 64))):
                model[rng.randrange(len(model) // 3, len(model))] ^= 1 << rng.randrange(8)
            parts[self.model_file] = bytes(model)
        if kind != "json_field" or rng.random() < 0.5:
            for name in parts.keys() - {"bundle.json", "bundle.sha256", "signature.json"}:
                if isinstance(record, dict) and isinstance(record.get("files"), dict):
                    record["files"][name] = _digest(parts[name]).decode()
        text = json.dumps(record).encode()
        parts |= {"bundle.json": text, "bundle.sha256": _digest(text) + b"\n"}
        return self.wrap(parts, rng)

    def wrap(self, parts: Parts, rng: random.Random) -> bytes | Parts:
        return stored_zip(parts) if rng.random() < 0.5 else parts

    def misnamed(self, rng: random.Random) -> bytes | Parts:
        """Files left out, renamed, added, or exchanged for one another."""
        parts = dict(self.parts)
        name, other = rng.sample(sorted(parts), 2)
        match rng.randrange(4):
            case 0:
                del parts[name]
            case 1:
                parts[rng.choice(("../a.bin", "A.BIN", "a/b/c.bin", "a.bin", name + "x"))] = b"x"
            case 2:
                parts[name], parts[other] = parts[other], parts[name]
            case 3:
                parts[name + rng.choice(("x", ".partial", "~"))] = parts.pop(name)
        if rng.random() < 0.5 or any(".." in one for one in parts):
            return stored_zip(parts)
        return parts


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
