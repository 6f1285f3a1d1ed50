"""An ONNX file's structure, checked before ONNX Runtime parses it.

A runtime trusts the graphs it is given: a file may name other files as its weights, run loops, or
ask for tensors larger than the machine. This check walks the protobuf's own bytes (no weight is
copied) and lets through what a feed-forward classifier needs: known operators, weights that lie in
the file and have the size that their shape says, bounded numbers. It narrows what a damaged or
hostile file can reach; who must rule out a hostile one demands a signature.

Protobuf: https://protobuf.dev/programming-guides/encoding. Field numbers: onnx.proto of ONNX 1.18.
"""

import math
import struct
from collections.abc import Iterator

from pliant.errors import UserError
from pliant.runtime.contract import Selection

MAX_NODES = 20_000
MAX_TENSORS = 20_000
MAX_DEPTH = 32
"""Graphs inside `If`s inside graphs: three-way branches need 2, 8-bit tiers one each. Protobuf's
own limit of 100 messages allows no more."""
MAX_ATTRIBUTE = 65_536
"""Largest whole number in an attribute, such as the groups of a depthwise convolution."""
MAX_PADDING = 64
"""Of one layer, in pixels, and largest dilation: what lets images grow without weights."""
MAX_RANK = 8
"""Dimensions of a tensor."""
MAX_ELEMENTS = 2**26
"""Product of a constant's whole numbers where it may be a shape (256 MB of float32)."""

_ONNX = """
    Abs Add And ArgMax AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant
    ConstantOfShape Conv ConvInteger DepthToSpace DequantizeLinear Div Dropout
    DynamicQuantizeLinear Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid
    HardSwish Identity If InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual
    Log MatMul MatMulInteger Max MaxPool Mean Min Mish Mul Neg Not Or PRelu Pad Pow QLinearConv
    QLinearMatMul QuantizeLinear Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu
    Reshape Round Selu Shape Sigmoid Sign Slice Softmax Softplus Softsign SpaceToDepth Split
    Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze Where
"""
_MICROSOFT = """
    DequantizeLinear QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool
    QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QuantizeLinear
"""
OPERATORS = frozenset(_ONNX.split())
"""Of ONNX itself: what convolutional and attention classifiers consist of, whole or quantised."""
QUANTISED = frozenset(_MICROSOFT.split())
"""Of ONNX Runtime's own domain."""
_DOMAINS = {b"": OPERATORS, b"ai.onnx": OPERATORS, b"com.microsoft": QUANTISED}

_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8}
"""Of one element, by TensorProto.DataType; texts, complex and packed types are not taken."""
_BOOL, _INT64 = 9, 7
_TO_THE_END = 2**31 - 1  # a slice's end, or larger: never a size
_GROWS = (b"pads", b"dilations", b"output_padding")

# Field numbers of each message that is walked into; all others are refused. A star: may repeat.
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MODEL = {1: "v", 2: "d", 3: "d", 4: "d", 5: "v", 6: "d", 7: "d", 8: "d*", 14: "d*"}
_GRAPH = {1: "d*", 2: "d", 5: "d*", 10: "d", 11: "d*", 12: "d*", 13: "d*", 14: "d*", 16: "d*"}
_NODE = {1: "d*", 2: "d*", 3: "d", 4: "d", 5: "d*", 6: "d", 7: "d", 9: "d*"}
_ATTRIBUTE = {
    **{1: "d", 2: "f", 3: "v", 4: "d", 5: "d", 6: "d", 7: "fd*", 8: "vd*", 9: "d*"},
    **{13: "d", 20: "v"},
}
_TENSOR = {
    **{1: "vd*", 2: "v", 4: "fd*", 5: "vd*", 7: "vd*", 8: "d", 9: "d", 10: "Fd*", 11: "vd*"},
    **{12: "d", 14: "v", 16: "d*"},
}
_WIRE = {_VARINT: "v", _FIXED64: "F", _DELIMITED: "d", _FIXED32: "f"}

Span = tuple[int, int]
"""First byte and the byte after the last."""
Fields = dict[int, list[int | Span]]


def check_model(model: bytes, selection: Selection) -> None:
    """Refuses a file that is no plain feed-forward classifier with this selection in it.

    Args:
        model: The ONNX file.
        selection: Where bundle.json says that the selection's bytes lie.

    Raises:
        UserError: naming what is wrong with the file.
    """
    walk = _Walk(model, (selection.offset, selection.offset + selection.length))
    try:
        top = walk.message((0, len(model)), _MODEL)
        if 7 not in top:
            raise _Refused("it holds no graph")
        walk.graph(walk.span(top, 7), depth=1)
    except _Refused as problem:
        raise UserError(f"the model is refused: {problem}") from None
    except IndexError:
        raise UserError("the model is refused: it is cut off") from None
    if not walk.selection_found:
        raise UserError("the selection does not lie where bundle.json says: export it again")


class _Refused(Exception):
    """What is wrong; `check_model` makes a sentence of it."""


def _are_sizes(shape: list[int]) -> bool:
    return all(0 <= side < 2**31 for side in shape)


def check_sizes(numbers: list[int]) -> None:
    """Refuses whole numbers that would make a huge tensor where they are used as its shape."""
    product = math.prod(max(1, abs(n)) for n in numbers[: MAX_RANK + 1] if abs(n) < _TO_THE_END)
    if len(numbers) <= MAX_RANK and product > MAX_ELEMENTS:
        raise _Refused(f"the constant {numbers} would be a tensor of {product} elements")


class _Walk:
    """One pass over the file; counts what it has seen."""

    def __init__(self, data: bytes, selection: Span) -> None:
        self.data, self.selection = data, selection
        self.nodes = self.tensors = 0
        self.selection_found = False

    def graph(self, where: Span, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _Refused(f"its branches are nested deeper than {MAX_DEPTH}")
        fields = self.message(where, _GRAPH)
        for tensor in self.spans(fields, 5):
            self.tensor(tensor, at_top=depth == 1)
        for node in self.spans(fields, 1):
            self.node(node, depth)

    def node(self, where: Span, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _Refused(f"it has more than {MAX_NODES} operators")
        fields = self.message(where, _NODE)
        operator, domain = self.text(fields, 4), self.text(fields, 7)
        if operator.decode("latin-1") not in _DOMAINS.get(domain, ()):
            shown = b".".join(filter(None, (domain, operator))).decode("latin-1")[:60]
            raise _Refused(f"the operator {shown!r} is not one that bundles may use")
        for attribute in self.spans(fields, 5):
            self.attribute(attribute, depth)

    def attribute(self, where: Span, depth: int) -> None:
        fields = self.message(where, _ATTRIBUTE)
        whole = [*self.whole(fields, 3), *self.whole(fields, 8)]
        most = MAX_PADDING if self.text(fields, 1) in _GROWS else MAX_ATTRIBUTE
        if any(most < abs(number) < _TO_THE_END for number in whole) or len(whole) > MAX_ATTRIBUTE:
            raise _Refused(f"an attribute has whole numbers larger than {most}")
        check_sizes(whole)
        if 5 in fields:
            self.tensor(self.span(fields, 5), at_top=False)
        if 6 in fields:
            self.graph(self.span(fields, 6), depth + 1)

    def tensor(self, where: Span, *, at_top: bool) -> None:
        self.tensors += 1
        if self.tensors > MAX_TENSORS:
            raise _Refused(f"it has more than {MAX_TENSORS} tensors")
        fields = self.message(where, _TENSOR)
        if any(self.whole(fields, 14)):
            raise _Refused("a weight lies outside the file; weights must be inside")
        kind = next(iter(self.whole(fields, 2)), 0)
        shape = self.whole(fields, 1)
        if (
            kind not in _BYTES
            or len(shape) > MAX_RANK
            or any(not 0 <= side < 2**31 for side in shape)
        ):
            raise _Refused(f"a tensor has the type {kind} and the shape {shape[:9]}")
        count = math.prod(shape)
        if 9 in fields:
            raw = self.span(fields, 9)
            if raw[1] - raw[0] != count * _BYTES[kind]:
                raise _Refused(f"a tensor's bytes do not fit its shape {shape}")
            if raw == self.selection and at_top and kind == _BOOL and len(shape) == 1:
                self.selection_found = True
        elif count > sum(self.size(fields, number) for number in (4, 5, 7, 10, 11)):
            raise _Refused(f"a tensor has fewer numbers than its shape {shape} says")
        if kind == _INT64 and count <= MAX_RANK:  # the only type that shapes have
            check_sizes(self.numbers(fields))

    def numbers(self, fields: Fields) -> list[int]:
        """Those of an int64 tensor."""
        if 9 not in fields:
            return self.whole(fields, 7)
        first, end = self.span(fields, 9)
        return [one for (one,) in struct.iter_unpack("<q", self.data[first:end])]

    def message(self, where: Span, allowed: dict[int, str]) -> Fields:
        """The fields of a message; unknown ones, and repeated ones that may not be, are refused."""
        found: Fields = {}
        for number, wire, value in self.read(*where):
            rule = allowed.get(number, "")
            if _WIRE.get(wire, "?") not in rule:
                raise _Refused(f"field {number} of type {wire} is not one that bundles may use")
            if number in found and "*" not in rule:
                raise _Refused(f"field {number} is given twice")
            found.setdefault(number, []).append(value)
        return found

    def read(self, place: int, end: int) -> Iterator[tuple[int, int, int | Span]]:
        """(field number, wire type, number or span) one after the other."""
        while place < end:
            key, place = self.varint(place)
            number, wire = key >> 3, key & 7
            value: int | Span
            if wire == _VARINT:
                value, place = self.varint(place)
            elif wire in (_FIXED32, _FIXED64):
                size = 4 if wire == _FIXED32 else 8
                value, place = (place, place + size), place + size
            elif wire == _DELIMITED:
                length, place = self.varint(place)
                value, place = (place, place + length), place + length
            else:
                raise _Refused(f"wire type {wire} is not one that ONNX uses")
            if place > end:
                raise _Refused("a field reaches over the end of what holds it")
            yield number, wire, value

    def varint(self, place: int) -> tuple[int, int]:
        """(number, next place)."""
        value = shift = 0
        while True:
            byte = self.data[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, place
            shift += 7
            if shift > 63:
                raise _Refused("a number has more than 64 bits")

    def whole(self, fields: Fields, number: int) -> list[int]:
        """The signed numbers of a field, packed or not."""
        found = []
        for value in fields.get(number, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            place, end = value
            while place < end:
                one, place = self.varint(place)
                found.append(one)
        return [one - 2**64 if one >= 2**63 else one for one in found]

    def span(self, fields: Fields, number: int) -> Span:
        (value,) = fields[number]
        assert isinstance(value, tuple)
        return value

    def spans(self, fields: Fields, number: int) -> list[Span]:
        return [value for value in fields.get(number, ()) if not isinstance(value, int)]

    def text(self, fields: Fields, number: int) -> bytes:
        if number not in fields:
            return b""
        first, end = self.span(fields, number)
        return self.data[first:end]

    def size(self, fields: Fields, number: int) -> int:
        """Bytes of a repeated number, and so at least how many there are."""
        values = fields.get(number, ())
        return sum(1 if isinstance(one, int) else one[1] - one[0] for one in values)
