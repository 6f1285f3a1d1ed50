"""An ONNX file's structure, checked before ONNX Runtime parses it.

A runtime trusts the graphs it is given: a file may name other files as its weights, run loops, or
ask for tensors larger than the machine. This check walks the protobuf's own bytes (no weight is
copied) and lets through what a feed-forward classifier needs: known operators, weights that lie in
the file and have the size that their shape says, bounded numbers, products with weights alone,
each weight used a few times. No shapes are inferred: a chain of broadcasts or gathers can still ask
for more memory or time than the device has. The check narrows what a damaged or hostile file can
reach; who must rule out a hostile one demands a signature.

Protobuf: https://protobuf.dev/programming-guides/encoding. Field numbers: onnx.proto of ONNX 1.18.
"""

import math
import struct
from collections import ChainMap
from collections.abc import Iterator

from pliant.errors import UserError
from pliant.runtime.contract import Selection

MAX_NODES = 8000
"""Operators, those inside branches included; 8 bits need some 300 per tier."""
MAX_TENSORS = 20_000
MAX_FIELDS = 500_000
"""Fields and packed numbers that are looked at: what bounds this check's own time."""
MAX_ASIDE = 2**22
"""Bytes of what is not walked into: descriptions of values, annotations, metadata."""
SPARE_USES = 2
"""Products may use as many numbers as if each weight were used so often, and once more per tier: a
branch has its nodes alone and beside the others, an 8-bit tier has nodes of its own."""
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
    Conv ConvInteger DepthToSpace DequantizeLinear Div Dropout
    DynamicQuantizeLinear Elu Equal Erf Exp Flatten Floor Gather Gelu Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid
    HardSwish Identity If InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual
    Log MatMul MatMulInteger Max MaxPool Mean Min Mish Mul Neg Not Or PRelu Pad Pow QLinearConv
    QLinearMatMul QuantizeLinear Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu
    Reshape Round Selu Shape Sigmoid Sign Slice Softmax Softplus Softsign SpaceToDepth Split
    Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze Where
"""
_MICROSOFT = """
    DequantizeLinear QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool
    QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QuantizeLinear
"""
OPERATORS = frozenset(_ONNX.split())
"""Of ONNX itself: what convolutional classifiers consist of, whole or quantised. None makes a
tensor of a shape that it is told (ConstantOfShape, Expand, Tile), as a shape may be computed."""
QUANTISED = frozenset(_MICROSOFT.split())
"""Of ONNX Runtime's own domain."""
_DOMAINS = {b"": OPERATORS, b"ai.onnx": OPERATORS, b"com.microsoft": QUANTISED}

_PRODUCTS = {
    **{"Conv": (1,), "ConvInteger": (1,), "QLinearConv": (3,), "MatMul": (0, 1)},
    **{"MatMulInteger": (0, 1), "QLinearMatMul": (0, 3), "Gemm": (0, 1), "QGemm": (0, 3)},
}
"""Operators whose time is a product, and which inputs may be the weight; one must be."""
_SAME = ("Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Transpose")
"""Operators that leave a weight a weight."""

_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8}
"""Of one element, by TensorProto.DataType; texts, complex and packed types are not taken."""
_BOOL, _INT64 = 9, 7
_TO_THE_END = 2**31 - 1  # a slice's end, or larger: never a size
_GROWS = (b"pads", b"dilations", b"output_padding")

# Field numbers of each message that is walked into; all others are refused. A star: may repeat; an
# a: a message that is not walked into.
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MODEL = {1: "v", 2: "d", 3: "d", 4: "d", 5: "v", 6: "d", 7: "d", 8: "da*", 14: "da*"}
_GRAPH = {
    **{1: "d*", 2: "d", 5: "d*", 10: "d", 11: "da*", 12: "da*", 13: "da*", 14: "da*"},
    **{16: "da*"},
}
_NODE = {1: "d*", 2: "d*", 3: "d", 4: "d", 5: "d*", 6: "d", 7: "d", 9: "da*"}
_ATTRIBUTE = {
    **{1: "d", 2: "f", 3: "v", 4: "d", 5: "d", 6: "d", 7: "fd*", 8: "vd*", 9: "d*"},
    **{13: "d", 20: "v"},
}
_TENSOR = {
    **{1: "vd*", 2: "v", 4: "fd*", 5: "vd*", 7: "vd*", 8: "d", 9: "d", 10: "Fd*", 11: "vd*"},
    **{12: "d", 14: "v", 16: "da*"},
}
_WIRE = {_VARINT: "v", _FIXED64: "F", _DELIMITED: "d", _FIXED32: "f"}

Span = tuple[int, int]
"""First byte and the byte after the last."""
Fields = dict[int, list[int | Span]]
Held = tuple[int, list[int]]
"""How many numbers a tensor of the file has, and which, where they may be a padding."""
Scope = ChainMap[bytes, Held]
"""The values of a graph by name, with those of the graphs around it."""


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
        walk.graph(walk.span(top, 7), ChainMap(), depth=1)
        allowed = (SPARE_USES + len(selection.tiers)) * walk.stored
        if walk.used > allowed:
            raise _Refused(f"its products use {walk.used} weights, at most {allowed} are allowed")
    except _Refused as problem:
        raise UserError(f"the model is refused: {problem}") from None
    except IndexError:
        raise UserError("the model is refused: it is cut off") from None
    if not walk.selection_found:
        raise UserError("the selection does not lie where bundle.json says: export it again")


class _Refused(Exception):
    """What is wrong; `check_model` makes a sentence of it."""


def check_sizes(numbers: list[int]) -> None:
    """Refuses whole numbers that would make a huge tensor where they are used as its shape."""
    product = math.prod(max(1, abs(n)) for n in numbers[: MAX_RANK + 1] if abs(n) < _TO_THE_END)
    if len(numbers) <= MAX_RANK and product > MAX_ELEMENTS:
        raise _Refused(f"the constant {numbers} would be a tensor of {product} elements")


_NONE: Held = (0, [])  # of a value that is computed


class _Walk:
    """One pass over the file; counts what it has seen."""

    def __init__(self, data: bytes, selection: Span) -> None:
        self.data, self.selection = data, selection
        self.nodes = self.tensors = self.fields = self.aside = 0
        self.stored = self.used = 0  # numbers in the file; numbers of weights, at each use
        self.selection_found = False

    def graph(self, where: Span, outer: Scope, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _Refused(f"its branches are nested deeper than {MAX_DEPTH}")
        fields, scope = self.message(where, _GRAPH), outer.new_child()
        for tensor in self.spans(fields, 5):
            name, held = self.tensor(tensor, at_top=depth == 1)
            scope[name] = held
        for node in self.spans(fields, 1):
            self.node(node, scope, depth)

    def node(self, where: Span, scope: Scope, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _Refused(f"it has more than {MAX_NODES} operators")
        fields = self.message(where, _NODE)
        operator, domain = self.text(fields, 4).decode("latin-1"), self.text(fields, 7)
        if operator not in _DOMAINS.get(domain, ()):
            shown = ".".join(filter(None, (domain.decode("latin-1"), operator)))[:60]
            raise _Refused(f"the operator {shown!r} is not one that bundles may use")
        inputs = [self.data[first:end] for first, end in self.spans(fields, 1)]
        if operator in _PRODUCTS:
            known = [scope.get(inputs[at], _NONE)[0] for at in _PRODUCTS[operator]
                     if at < len(inputs)]  # fmt: skip
            if sum(count > 0 for count in known) != 1:
                raise _Refused(f"a {operator} must multiply with one weight of the file")
            self.used += max(known)
        if operator == "Pad":
            pads = scope.get(inputs[1], _NONE)[1] if len(inputs) > 1 else []
            if not pads or max(map(abs, pads)) > MAX_PADDING:
                raise _Refused(f"a Pad must have constant sizes of at most {MAX_PADDING} px")
        made = _NONE
        if operator in _SAME and inputs:
            made = scope.get(inputs[0], _NONE)[0], []  # a cast may have changed the numbers
        for attribute in self.spans(fields, 5):
            tensor = self.attribute(attribute, scope, depth)
            made = tensor if operator == "Constant" and tensor else made
        for first, end in self.spans(fields, 2):
            scope[self.data[first:end]] = made

    def attribute(self, where: Span, scope: Scope, depth: int) -> Held | None:
        """What its tensor holds, if it has one."""
        fields = self.message(where, _ATTRIBUTE)
        whole = [*self.whole(fields, 3), *self.whole(fields, 8, most=MAX_ATTRIBUTE)]
        most = MAX_PADDING if self.text(fields, 1) in _GROWS else MAX_ATTRIBUTE
        if any(most < abs(number) < _TO_THE_END for number in whole):
            raise _Refused(f"an attribute has whole numbers larger than {most}")
        check_sizes(whole)
        if 6 in fields:
            self.graph(self.span(fields, 6), scope, depth + 1)
        return self.tensor(self.span(fields, 5), at_top=False)[1] if 5 in fields else None

    def tensor(self, where: Span, *, at_top: bool) -> tuple[bytes, Held]:
        """Its name and what it holds."""
        self.tensors += 1
        if self.tensors > MAX_TENSORS:
            raise _Refused(f"it has more than {MAX_TENSORS} tensors")
        fields = self.message(where, _TENSOR)
        if any(self.whole(fields, 14)):
            raise _Refused("a weight lies outside the file; weights must be inside")
        kind = next(iter(self.whole(fields, 2)), 0)
        shape = self.whole(fields, 1, most=MAX_RANK)
        if kind not in _BYTES or any(not 0 <= side < 2**31 for side in shape):
            raise _Refused(f"a tensor has the type {kind} and the shape {shape}")
        count = math.prod(shape)
        if 9 in fields:
            raw = self.span(fields, 9)
            if raw[1] - raw[0] != count * _BYTES[kind]:
                raise _Refused(f"a tensor's bytes do not fit its shape {shape}")
            if raw == self.selection and at_top and kind == _BOOL and len(shape) == 1:
                self.selection_found = True
        elif count > sum(self.size(fields, number) for number in (4, 5, 7, 10, 11)):
            raise _Refused(f"a tensor has fewer numbers than its shape {shape} says")
        numbers: list[int] = []
        if kind == _INT64 and count <= 2 * MAX_RANK:  # what Pad and Reshape read
            numbers = self.numbers(fields)
            check_sizes(numbers)
        self.stored += count
        return self.text(fields, 8), (count, numbers)

    def numbers(self, fields: Fields) -> list[int]:
        """Those of an int64 tensor, at most two per dimension."""
        if 9 not in fields:
            return self.whole(fields, 7, most=2 * MAX_RANK)
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
            if "a" in rule and not isinstance(value, int):
                self.aside += value[1] - value[0]
                if self.aside > MAX_ASIDE:
                    raise _Refused(f"it has more than {MAX_ASIDE} bytes of descriptions")
            found.setdefault(number, []).append(value)
        return found

    def read(self, place: int, end: int) -> Iterator[tuple[int, int, int | Span]]:
        """(field number, wire type, number or span) one after the other."""
        while place < end:
            self.count()
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

    def count(self) -> None:
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise _Refused(f"it has more than {MAX_FIELDS} fields")

    def whole(self, fields: Fields, number: int, *, most: int = 1) -> list[int]:
        """The signed numbers of a field, packed or not; more than `most` are refused."""
        found = []
        for value in fields.get(number, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            place, end = value
            while place < end and len(found) <= most:
                self.count()
                one, place = self.varint(place)
                found.append(one)
        if len(found) > most:
            raise _Refused(f"a list has more than {most} whole numbers")
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
