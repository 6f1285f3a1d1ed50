"""A plain network as ONNX by torch's exporter, its batch left free: where ONNX exports start."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from pliant.errors import UserError

INPUT, OUTPUT = "image", "logits"
"""Names of the model's input, float32 (batch, C, H, W), and output, float32 (batch, K)."""


def static_onnx(
    net: torch.nn.Module, input_shape: Sequence[int], *, fold_batch_norm: bool = True
) -> onnx.ModelProto:
    """One plain network as ONNX, such as `AdaptiveNetwork.extract` gives; the batch stays free.

    Args:
        net: Moved to the CPU and put in eval mode.
        input_shape: (batch, C, H, W).
        fold_batch_norm: Whether batch norms become part of their convolutions.

    Raises:
        UserError: if torch cannot export it.
    """
    from onnxscript import optimizer

    model = _exported(net, input_shape, free_batch=False)
    if _SHAPED & {node.op_type for node in model.graph.node}:
        model = _exported(net, input_shape, free_batch=True)
    free_the_batch(model.graph)
    if fold_batch_norm:
        return optimizer.optimize(model)
    _constants_to_initializers(model.graph)
    _drop_zero_biases(model.graph)
    return model


def free_the_batch(graph: onnx.GraphProto) -> None:
    """Input and output take and give any number of images."""
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


_SHAPED = {"Reshape", "Expand", "ConstantOfShape", "Tile"}
"""Operators that a fixed batch may have gone into; without one, a fixed batch is free already."""


def _exported(
    net: torch.nn.Module, input_shape: Sequence[int], *, free_batch: bool
) -> onnx.ModelProto:
    """Torch's export, constants folded; a free batch takes three times as long."""
    from onnxscript import optimizer

    # it says once per process that torchvision is not there
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    # a batch of one would be taken for a constant
    example = torch.zeros(2 if free_batch else 1, *input_shape[1:])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its internals
            program = torch.onnx.export(
                net.cpu().eval(),
                (example,),
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},) if free_batch else None,
            )
    except Exception as problem:
        reason = str(problem).strip().splitlines()[0]
        raise UserError(f"torch cannot export this network to ONNX: {reason}") from problem
    assert program is not None
    model = program.model_proto
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    model.graph.ClearField("value_info")  # shapes of the example's batch
    return model


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Constants are shared between modules, so they must not stay with the first one's nodes."""
    constants = [node for node in graph.node if node.op_type == "Constant"]
    for node in constants:
        value = helper.get_attribute_value(node.attribute[0])
        if not isinstance(value, onnx.TensorProto):  # a number, or several
            kind = np.float32 if "float" in node.attribute[0].name else np.int64
            value = numpy_helper.from_array(np.asarray(value, kind))
        value.name = node.output[0]
        graph.initializer.append(value)
    replace(graph.node, [node for node in graph.node if node.op_type != "Constant"])


def _drop_zero_biases(graph: onnx.GraphProto) -> None:
    """The exporter gives every convolution a bias; without one, a batch norm does its work."""
    zero = {t.name for t in graph.initializer if not numpy_helper.to_array(t).any()}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in zero:
            del node.input[2]


def replace(field: Any, items: Sequence[Any]) -> None:
    """Puts other messages into a repeated field."""
    kept = list(items)
    del field[:]
    field.extend(kept)
