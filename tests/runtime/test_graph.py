"""What an ONNX file may hold, checked on its bytes."""

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pliant.errors import UserError
from pliant.runtime.contract import Selection
from pliant.runtime.graph import check_model

FLAGS = b"\x01\x00"


def make_model(*nodes, tensors=(), **more) -> onnx.ModelProto:
    flags = TensorProto(name="selection", data_type=TensorProto.BOOL, dims=[2], raw_data=FLAGS)
    graph = helper.make_graph(
        nodes or [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [flags, *tensors],
    )
    return helper.make_model(graph, **more)


def weight(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def check(model: onnx.ModelProto | bytes) -> None:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    offset = max(data.find(FLAGS), 0)
    check_model(
        data,
        Selection(offset=offset, length=2, num_blocks=0, letters="L", tiers=("low",)),
    )


def test_the_tiny_model_passes(tiny):
    selection = tiny.record["selection"]
    check_model(
        tiny.files["model.onnx"], Selection(**selection | {"tiers": tuple(selection["tiers"])})
    )


def test_weights_outside_the_file():
    for location in ("w.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"):
        tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        with pytest.raises(UserError, match=r"field 13|outside the file"):
            check(make_model(tensors=[tensor]))
        tensor.ClearField("external_data")
        with pytest.raises(UserError, match="a weight lies outside the file"):
            check(make_model(tensors=[tensor]))


@pytest.mark.parametrize(
    ("operator", "domain"),
    [("Loop", ""), ("Scan", ""), ("SequenceMap", ""), ("Resize", ""), ("Relu", "evil"),
     ("Tokenizer", "ai.onnx.contrib"), ("Attention", "com.microsoft"), ("", "")],
)  # fmt: skip
def test_operators_that_are_not_allowed(operator, domain):
    with pytest.raises(UserError, match="is not one that bundles may use"):
        check(make_model(helper.make_node(operator, ["x"], ["y"], domain=domain)))


def test_operators_inside_branches_are_seen():
    body = helper.make_graph([helper.make_node("Loop", [], ["y"])], "b", [], [])
    with pytest.raises(UserError, match="'Loop' is not one"):
        check(make_model(helper.make_node("If", ["c"], ["y"], then_branch=body)))


def test_branches_within_branches(monkeypatch):
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "b", [], [])
    for _ in range(4):
        node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
        body = helper.make_graph([node], "b", [], [])
    check(make_model(node))
    monkeypatch.setattr("pliant.runtime.graph.MAX_DEPTH", 4)
    with pytest.raises(UserError, match="nested deeper than 4"):
        check(make_model(node))


@pytest.mark.parametrize("fields", ["functions", "training_info"])
def test_functions_and_training(fields):
    model = make_model()
    getattr(model, fields).add()
    with pytest.raises(UserError, match="is not one that bundles may use"):
        check(model)


def test_sparse_and_text_tensors():
    model = make_model()
    model.graph.sparse_initializer.add()
    with pytest.raises(UserError, match="field 15"):
        check(model)
    with pytest.raises(UserError, match=r"field 6|a tensor has the type 8"):
        check(make_model(tensors=[helper.make_tensor("s", TensorProto.STRING, [1], [b"a"])]))


def test_weights_that_do_not_fit_their_shape():
    for raw, dims in ((bytes(12), [4]), (bytes(20), [4]), (b"", [4]), (bytes(4), [2**31])):
        tensor = TensorProto(name="w", data_type=1, dims=dims, raw_data=raw)
        with pytest.raises(UserError, match=r"do not fit its shape|and the shape"):
            check(make_model(tensors=[tensor]))
    for dims in ([4], [-1], [1] * 9):
        tensor = TensorProto(name="w", data_type=1, dims=dims, float_data=[])
        with pytest.raises(UserError, match=r"fewer numbers|and the shape|more than 8 whole"):
            check(make_model(tensors=[tensor]))
    check(make_model(tensors=[helper.make_tensor("w", 1, [2], [1.0, 2.0])]))


def test_shapes_larger_than_the_machine():
    for value in ([1, 64, 50_000, 50_000], [2**30], -(2**30)):
        tensor = numpy_helper.from_array(np.array(value), "s")
        with pytest.raises(UserError, match="would be a tensor of"):
            check(make_model(tensors=[tensor]))
    typed = helper.make_tensor("s", TensorProto.INT64, [2], [60_000, 60_000])
    with pytest.raises(UserError, match="would be a tensor of"):
        check(make_model(helper.make_node("Constant", [], ["y"], value=typed)))
    end = numpy_helper.from_array(np.array([0, 2**63 - 1, -(2**63)]), "end")  # of a slice
    check(make_model(tensors=[end, numpy_helper.from_array(np.arange(1000), "many")]))
    bias = numpy_helper.from_array(np.array([2**30, 2**30], np.int32), "bias")  # of 8-bit layers
    check(make_model(tensors=[bias]))


def test_attributes_that_let_images_grow():
    for name, value in (("pads", [65] * 4), ("dilations", [65, 1]), ("kernel_shape", [70_000, 1])):
        with pytest.raises(UserError, match="whole numbers larger than"):
            check(make_model(helper.make_node("MaxPool", ["x"], ["y"], **{name: value})))
    conv = helper.make_node("Conv", ["x", "w"], ["y"], group=1280, pads=[64] * 4)
    check(make_model(conv, tensors=[weight("w", 4)]))
    check(make_model(helper.make_node("Softmax", ["x"], ["y"], axis=-1)))


def test_a_selection_that_lies_elsewhere():
    data = make_model().SerializeToString()
    for offset in (0, data.index(FLAGS) + 1, len(data), 2**31):
        place = Selection(offset=offset, length=2, num_blocks=0, letters="L", tiers=("low",))
        with pytest.raises(UserError, match=r"does not lie where bundle.json says"):
            check_model(data, place)


def test_a_selection_among_the_weights():
    weights = numpy_helper.from_array(np.zeros(2, np.uint8), "w")
    weights.raw_data = b"\x07\x07"
    data = make_model(tensors=[weights]).SerializeToString()
    place = Selection(
        offset=data.index(b"\x07\x07"), length=2, num_blocks=0, letters="L", tiers=("low",)
    )
    with pytest.raises(UserError, match="does not lie where"):
        check_model(data, place)


def test_bytes_that_are_no_protobuf():
    data = make_model().SerializeToString()
    for changed in (b"", b"\x08", b"ORTM" * 4, b"\xff" * 20, data[:-3], data + b"\x3a\xff\xff\x7f"):
        with pytest.raises(UserError, match="the model is refused"):
            check(changed)
    with pytest.raises(UserError, match="field 1 is given twice"):
        check(data + data)


def test_too_many(monkeypatch):
    monkeypatch.setattr("pliant.runtime.graph.MAX_NODES", 3)
    with pytest.raises(UserError, match="more than 3 operators"):
        check(make_model(*[helper.make_node("Relu", ["x"], ["y"])] * 4))
    monkeypatch.setattr("pliant.runtime.graph.MAX_TENSORS", 1)
    with pytest.raises(UserError, match="more than 1 tensors"):
        check(make_model(tensors=[helper.make_tensor("w", 1, [1], [1.0])]))


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def nested(field: int, inside: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(inside)) + inside


def test_fields_without_end():
    empty = b"\x0a\0" * 10**7
    begun = time.perf_counter()
    with pytest.raises(UserError, match="more than 500000 fields"):
        check(nested(7, empty))  # nodes
    with pytest.raises(UserError, match="more than 500000 fields"):
        check(nested(7, nested(1, empty)))  # inputs of a node
    for number in (11, 12, 13, 14, 16):  # descriptions, which nobody walks into
        with pytest.raises(UserError, match="bytes of descriptions"):
            check(nested(7, nested(number, empty)))
    assert time.perf_counter() - begun < 10


def test_packed_numbers_without_end():
    ones = b"\1" * 10**7
    begun = time.perf_counter()
    for inside in (
        nested(5, nested(1, ones)),
        nested(1, b"\x22\4Relu" + nested(5, nested(8, ones))),
    ):
        with pytest.raises(UserError, match=r"more than \d+ whole numbers"):
            check(nested(7, inside))
    typed = nested(7, ones) + nested(1, b"\1") + b"\x10\7"  # int64_data of a tensor of one
    with pytest.raises(UserError, match="more than 16 whole numbers"):
        check(nested(7, nested(5, typed)))
    allowed = nested(5, nested(8, b"\1" * 60_000))  # alone, but not ten times
    with pytest.raises(UserError, match="more than 500000 fields"):
        check(nested(7, nested(1, b"\x22\4Relu" + allowed * 10)))
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile", "Range", "OneHot"])
def test_shapes_that_are_computed(operator):
    shape = numpy_helper.from_array(np.array([10**6, 1024], np.float32), "f")
    cast = helper.make_node("Cast", ["f"], ["i"], to=TensorProto.INT64)
    with pytest.raises(UserError, match=f"'{operator}' is not one"):
        check(make_model(cast, helper.make_node(operator, ["i"], ["y"]), tensors=[shape]))


def test_paddings_are_constant_and_small():
    def pads(*numbers, kind=np.int64):
        return numpy_helper.from_array(np.array(numbers, kind), "p")

    pad = helper.make_node("Pad", ["x", "p"], ["y"])
    check(make_model(pad, tensors=[pads(0, 0, 0, 64)]))
    check(make_model(helper.make_node("Constant", [], ["p"], value=pads(0, 2, 0, 2)), pad))
    cast = helper.make_node("Cast", ["f"], ["p"], to=TensorProto.INT64)
    floats = numpy_helper.from_array(np.full(4, 1e6, np.float32), "f")
    for nodes, tensors in (
        ([pad], [pads(0, 0, 0, 65)]),
        ([pad], [pads(0, 0, 0, 9, kind=np.int32)]),
        ([pad], []),
        ([helper.make_node("Pad", ["x"], ["y"])], []),
        ([cast, pad], [floats]),
        ([cast, pad], [floats, pads(0, 0, 0, 1)]),  # the cast's result takes the name
    ):
        with pytest.raises(UserError, match="constant sizes of at most 64 px"):
            check(make_model(*nodes, tensors=tensors))


@pytest.mark.parametrize("operator", ["MatMul", "Gemm", "Conv", "QLinearMatMul"])
def test_products_have_one_weight(operator):
    def product(*inputs):
        return helper.make_node(operator, list(inputs), ["y"])

    blank = ["", ""] if operator == "QLinearMatMul" else []
    w = weight("w", 4, 4)
    check(make_model(product("x", *blank, "w"), tensors=[w]))
    named = helper.make_node("Constant", [], ["c"], value=weight("x", 4))  # names no value
    hidden = helper.make_node("Relu", ["x"], ["w"])
    for nodes in (
        [product("x", *blank, "x")],
        [product("x")],
        [named, product("x", *blank, "x")],
        [hidden, product("x", *blank, "w")],
    ):
        with pytest.raises(UserError, match="must multiply with one weight of the file"):
            check(make_model(*nodes, tensors=[w]))
    if operator != "Conv":
        with pytest.raises(UserError, match="must multiply with one weight of the file"):
            check(make_model(product("w", *blank, "w"), tensors=[w]))


def test_weights_behind_scales_and_in_branches():
    scale = helper.make_node("DequantizeLinear", ["w", "s"], ["d"])
    turned = helper.make_node("Transpose", ["d"], ["t"])
    product = helper.make_node("MatMul", ["x", "t"], ["y"])
    tensors = [weight("w", 4, 4), weight("s", 1)]
    check(make_model(scale, turned, product, tensors=tensors))
    body = helper.make_graph([product], "b", [], [])
    check(make_model(scale, turned, helper.make_node("If", ["c"], ["z"], then_branch=body),
                     tensors=tensors))  # fmt: skip
    inner = helper.make_graph([scale, turned], "b", [], [])
    with pytest.raises(UserError, match="must multiply with one weight"):  # unknown outside
        check(make_model(helper.make_node("If", ["c"], ["z"], then_branch=inner), product,
                         tensors=tensors))  # fmt: skip


def test_a_weight_is_used_a_few_times():
    nodes = [helper.make_node("MatMul", [f"x{k}", "w"], [f"x{k + 1}"]) for k in range(40)]
    tensors = [weight("w", 64, 64)]
    check(make_model(*nodes[:3], tensors=tensors))  # 2, and once more for the one tier
    with pytest.raises(UserError, match="its products use 163840 weights, at most 122"):
        check(make_model(*nodes, tensors=tensors))
