"""Every tier in 8 bits, the weights once: each tier's plain graph quantised, then merged.

Jacob et al. "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018, https://arxiv.org/abs/1712.05877: activations 8 bits asymmetric per tensor,
ranges from calibration images; biases 32 bits. Departure: weights symmetric per channel. That is
what lets tiers share them: a tier's batch norm only scales the filters of a convolution, each by a
positive factor or all by one sign, and a symmetric grid per channel scales along. So the 8-bit
filters of all tiers are equal but for ties of rounding; scales and biases are the tier's own.

What lies before the first adaptive block stays float32: under 0.1 % of the weights. In ImageNet
checkpoints the first depthwise filters of MobileNetV2 differ in range by four orders of magnitude
between channels; on NUAA, rounding them moved the scores of the lightest tier by 0.13 on average,
and without them by 0.02.

ONNX Runtime's own static quantiser does each tier (it skips the bodies of `If`s, so it never sees
the merged graph). In the merged graph the tiers stand in nested `If`s on the selection, which fold
away when a session is created. Other configurations than the tiers have no ranges and no place.
"""

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pliant.adaptive.block import PTABlock
from pliant.adaptive.network import AdaptiveNetwork
from pliant.errors import UserError
from pliant.export.onnx import SELECTION, AdaptiveOnnx, place_of_selection
from pliant.export.static import INPUT, OUTPUT, free_the_batch, static_onnx
from pliant.runtime.contract import Selection

MAX_ROUNDING_STEPS = 1
"""Two tiers' filters that differ by no more than this many of 255 steps are one filter."""


def int8_onnx(
    network: AdaptiveNetwork, calibration: NDArray[np.float32], *, default: str
) -> AdaptiveOnnx:
    """The tiers of a network as one 8-bit ONNX model.

    Args:
        network: In any mode; it is not changed.
        calibration: Inputs as the network gets them in use, float32 (N, C, H, W); ranges of the
            activations come from these.
        default: Tier that the file runs unless its selection is rewritten.

    Raises:
        UserError: if the network has no tiers, or there is nothing to calibrate on.
    """
    if not network.tiers:
        raise UserError("the network has no tiers to export; calibrate at least one")
    if not len(calibration):
        raise UserError("8-bit ranges need calibration images, got none")
    graphs = {
        name: quantised(
            static_onnx(network.extract(name), calibration.shape),
            calibration,
            first=first_block(network),
        )
        for name in network.tiers
    }
    model = merged(graphs)
    length = 1 + len(graphs)
    data, offset = place_of_selection(model, length)
    selection = Selection(
        offset=offset, length=length, num_blocks=0, letters=network.letters, tiers=tuple(graphs)
    )
    found = AdaptiveOnnx(data, selection)
    return AdaptiveOnnx(found.configured("", default), selection)


def first_block(network: AdaptiveNetwork) -> str:
    """Path of the first adaptive block; empty where there is none."""
    paths = (path for path, m in network.net.named_modules() if isinstance(m, PTABlock))
    return next(paths, "")


def quantised(
    model: onnx.ModelProto, calibration: NDArray[np.float32], *, first: str = ""
) -> onnx.ModelProto:
    """One plain graph with quantise and dequantise nodes around its operators.

    Args:
        model: As `static_onnx` gives it; it is not changed.
        calibration: Inputs, float32 (N, C, H, W).
        first: Path of the module that is quantised first; what comes before stays float32.
    """
    model = copy.deepcopy(model)  # the quantiser moves its weights
    kept: list[str] = []
    for place, node in enumerate(model.graph.node):
        if any(name.startswith(f"{first}.") for name in node.input):
            break
        node.name = node.name or f"node.{place}"
        kept.append(node.name)
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest: Iterator[NDArray[np.float32]] = iter(
                np.array_split(calibration, len(calibration))
            )

        def get_next(self) -> dict[str, NDArray[np.float32]]:
            batch = next(self.rest, None)
            return {} if batch is None else {INPUT: batch}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # it advises a preprocessing that optimises what is optimised already
        before = logging.root.manager.disable
        logging.disable(max(before, logging.WARNING))
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                quantize_static(
                    model,
                    str(path),
                    Reader(),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    nodes_to_exclude=kept if first else [],
                )
        finally:
            logging.disable(before)
        return onnx.load(str(path))


def merged(graphs: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """One model that runs the graph whose flag in the selection is set; the last if none is.

    Equal tensors are stored once, by their values and not by their names.
    """
    pool = _Pool()
    bodies = []
    for name, model in graphs.items():
        names = {tensor.name: pool.name_of(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            for values in (node.input, node.output):
                for place, value in enumerate(values):
                    if value and value != INPUT:
                        values[place] = names.setdefault(value, f"{name}.{len(names)}")
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
            node.ClearField("name")
        output = helper.make_tensor_value_info(names[OUTPUT], TensorProto.FLOAT, None)
        bodies.append(helper.make_graph(list(model.graph.node), name, [], [output]))
    first = next(iter(graphs.values()))
    nodes = _choose(bodies)
    inside = helper.make_graph(
        nodes,
        "pliant",
        list(first.graph.input),
        list(first.graph.output),
        [*pool.tensors, numpy_helper.from_array(np.zeros(1 + len(graphs), bool), SELECTION)],
    )
    free_the_batch(inside)
    made = helper.make_model(inside, opset_imports=list(first.opset_import))
    made.ir_version = first.ir_version
    made.producer_name = "pliant"
    return made


def _choose(bodies: Sequence[onnx.GraphProto]) -> list[onnx.NodeProto]:
    """Nested `If`s, the first tier outermost."""
    current = bodies[-1]
    for place in range(len(bodies) - 2, -1, -1):
        flag, output = f"is.{place}", OUTPUT if place == 0 else f"tier.{place}"
        at = numpy_helper.from_array(np.array(1 + place))
        nodes = [
            helper.make_node("Constant", [], [f"{flag}.at"], value=at),
            helper.make_node("Gather", [SELECTION, f"{flag}.at"], [flag]),
            helper.make_node(
                "If", [flag], [output], then_branch=bodies[place], else_branch=current
            ),
        ]
        value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        current = helper.make_graph(nodes, output, [], [value])
    if len(bodies) == 1:
        return [*current.node, helper.make_node("Identity", [current.output[0].name], [OUTPUT])]
    return list(current.node)


class _Pool:
    """Tensors by value; 8-bit filters that differ by ties of rounding alone are one."""

    def __init__(self) -> None:
        self.tensors: list[TensorProto] = []
        self._names: dict[tuple[object, ...], str] = {}
        self._filters: dict[str, NDArray[np.int8]] = {}

    def name_of(self, tensor: TensorProto) -> str:
        """The name under which the tensor, or its equal, is stored."""
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.int8 and value.ndim > 1:
            for name, known in self._filters.items():
                if known.shape == value.shape and _close(known, value):
                    return name
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._names:
            name = f"t{len(self.tensors)}"
            self._names[key] = name
            self.tensors.append(numpy_helper.from_array(value, name))
            if value.dtype == np.int8 and value.ndim > 1:
                self._filters[name] = value
        return self._names[key]


def _close(a: NDArray[np.int8], b: NDArray[np.int8]) -> bool:
    return bool((np.abs(a.astype(np.int16) - b) <= MAX_ROUNDING_STEPS).all())
