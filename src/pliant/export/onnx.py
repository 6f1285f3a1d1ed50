"""Every configuration in one ONNX file, each as fast as if it had been exported alone.

No paper; measured here. A boolean initializer, the *selection* (see runtime/contract.py), feeds the
condition of an `If` per block and chooses the row of batch-norm statistics. As an initializer is a
constant, ONNX Runtime folds both away when a session is created: the chosen branches are inlined,
their convolutions take their batch norms in, and what was not chosen is dropped. Fed as an input
instead, the same graph cannot be folded and runs about twice as long (benchmarks/switch.py).

The way: the configuration that runs all branches is exported once; torch's exporter notes for each
node the module that it came from; so the nodes of a branch are found by their module's path and
moved into the `If` of their block. B holds the nodes of every branch a second time, the weights
lie in the outer graph once.

Departure from the first sketch (a tier's statistics chosen by `If`): they are rows of one matrix
per batch norm, taken by one index that is computed from the selection. Two nodes in place of a
chain of `If`s as long as the tiers, and just as constant.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pliant.adaptive.block import PTABlock
from pliant.adaptive.configuration import ALL
from pliant.adaptive.network import AdaptiveNetwork
from pliant.adaptive.statistics import tiered_norms
from pliant.errors import UserError
from pliant.export.static import INPUT, OUTPUT, replace, static_onnx
from pliant.runtime.contract import Selection

SELECTION, ROW = "selection", "statistics_row"


@dataclass(frozen=True)
class AdaptiveOnnx:
    """The file and where its selection lies."""

    data: bytes
    """The ONNX file; as it is, it runs the configuration that it was made with."""
    selection: Selection
    """What `Selection.bytes_for` must be written to."""

    def configured(self, configuration: str, tier: str | None = None) -> bytes:
        """A copy of the file that runs another configuration; see `Selection.bytes_for`."""
        chosen = self.selection.bytes_for(configuration, tier)
        start, end = self.selection.offset, self.selection.offset + self.selection.length
        return self.data[:start] + chosen + self.data[end:]


def adaptive_onnx(
    network: AdaptiveNetwork,
    input_shape: Sequence[int],
    *,
    default: str | None = None,
) -> AdaptiveOnnx:
    """All configurations of a network, with the statistics of its tiers, as one ONNX model.

    Args:
        network: In any mode; it is not changed.
        input_shape: (batch, C, H, W) of an input; the batch stays free.
        default: Tier that the file runs unless its selection is rewritten; None: the last.

    Raises:
        UserError: if the network has no tiers, or torch cannot export it.
    """
    if not network.tiers:
        raise UserError("the network has no tiers to export; calibrate at least one")
    everything = network.extract(ALL * network.num_blocks)
    model = static_onnx(everything, input_shape, fold_batch_norm=False)
    rows = _statistics_by_row(model, network)
    _wrap_branches(model, network, {name for node in rows for name in node.output})
    num_flags = network.num_blocks * (len(network.letters) - 1)
    length = num_flags + 1 + len(network.tiers)
    rows = _selection(model, num_flags, length) + rows
    replace(model.graph.node, [*rows, *model.graph.node])
    _tidy(model)
    data, offset = place_of_selection(model, length)
    selection = Selection(
        offset=offset,
        length=length,
        num_blocks=network.num_blocks,
        letters=network.letters,
        tiers=tuple(network.tiers),
    )
    name = default or list(network.tiers)[-1]
    found = AdaptiveOnnx(data, selection)
    return AdaptiveOnnx(found.configured(str(network.tiers[name].configuration), name), selection)


def _scopes(node: NodeProto) -> list[str]:
    """Paths of the modules that a node came from, outermost first."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            return re.findall(r"'([^']*)'", entry.value)
    return []


def _statistics_by_row(model: onnx.ModelProto, network: AdaptiveNetwork) -> list[NodeProto]:
    """All means and variances in one matrix: row 0 as training kept them, then a row per tier.

    The nodes that take one row and cut it into its vectors come back; they stand before the rest.
    """
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    order = {path: index for index, (path, _) in enumerate(tiered_norms(network.net))}
    names: list[str] = []
    columns: list[np.ndarray] = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        path = node.input[3].removesuffix(".running_mean")
        for name, which in ((node.input[3], 0), (node.input[4], 1)):
            own = numpy_helper.to_array(held[name])
            of_tiers = [t.statistics.values[order[path]] for t in network.tiers.values()]
            rows = [own, *(own if p is None else p[which].cpu().numpy() for p in of_tiers)]
            names.append(name)
            columns.append(np.stack(rows))  # (1 + tiers, channels)
    if not names:
        return []
    widths = np.array([part.shape[1] for part in columns])
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in names]
    kept.append(numpy_helper.from_array(np.concatenate(columns, axis=1), "statistics"))
    kept.append(numpy_helper.from_array(widths, "channels"))
    replace(model.graph.initializer, kept)
    return [
        helper.make_node("Gather", ["statistics", ROW], ["statistics.row"]),
        helper.make_node("Split", ["statistics.row", "channels"], names),
    ]


def _wrap_branches(model: onnx.ModelProto, network: AdaptiveNetwork, rows: set[str]) -> None:
    """The nodes of every block become one `If`, with further ones inside for further letters."""
    blocks = network.blocks()
    paths = [path for path, m in network.net.named_modules() if isinstance(m, PTABlock)]
    constants = {"", *rows, *(tensor.name for tensor in model.graph.initializer)}
    by_block: list[list[NodeProto]] = [[] for _ in blocks]
    order: list[NodeProto | int] = []
    for node in model.graph.node:
        scopes = _scopes(node)
        index = next((i for i, path in enumerate(paths) if path in scopes), None)
        if index is None:
            order.append(node)
        else:
            if not by_block[index]:
                order.append(index)
            by_block[index].append(node)
    nodes: list[NodeProto] = []
    for item in order:
        if isinstance(item, NodeProto):
            nodes.append(item)
        else:
            nodes += _block(blocks[item], paths[item], by_block[item], network.letters, constants)
    replace(model.graph.node, nodes)


def _block(
    block: PTABlock, path: str, nodes: Sequence[NodeProto], letters: str, constants: set[str]
) -> list[NodeProto]:
    """One block: nested `If`s, the dearest letter asked for first."""
    of_branch = {
        name: [n for n in nodes if f"{path}.branches.{name}" in _scopes(n)]
        for name in block.branches
    }
    made = {output for node in nodes for output in node.output}
    (source,) = {name for node in nodes for name in node.input} - made - constants
    result = nodes[-1].output[0]

    def graph(letter: str) -> onnx.GraphProto:
        mark = f"{path}.{letter}"
        names = list(of_branch) if letter == ALL else [block.names[letter]]
        inside: list[NodeProto] = []
        outputs: list[str] = []
        for name in names:
            inside += [_renamed(node, made, mark) for node in of_branch[name]]
            outputs.append(inside[-1].output[0])
            if letter == ALL and block.merge == "mean":
                inside[-1:] = _shared_out(inside[-1], len(names))
        total = outputs[0]
        for output in [*outputs[1:], *([source] if block.residual else [])]:
            inside.append(helper.make_node("Add", [total, output], [f"{mark}.with.{output}"]))
            total = f"{mark}.with.{output}"
        value = helper.make_tensor_value_info(total, TensorProto.FLOAT, None)
        return helper.make_graph(inside, mark, [], [value])

    body = graph(letters[0])
    for place, letter in enumerate(letters[1:]):
        flag = f"{path}.is_{letter}"
        output = result if letter == letters[-1] else f"{path}.{letter}.or_cheaper"
        at = block.index * (len(letters) - 1) + place
        index = numpy_helper.from_array(np.array(at))
        chosen = [
            helper.make_node("Constant", [], [f"{flag}.at"], value=index),
            helper.make_node("Gather", [SELECTION, f"{flag}.at"], [flag]),
            helper.make_node("If", [flag], [output], then_branch=graph(letter), else_branch=body),
        ]
        value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        body = helper.make_graph(chosen, f"{path}.{letter}.or_cheaper", [], [value])
    return list(body.node)


def _shared_out(last: NodeProto, count: int) -> list[NodeProto]:
    """A branch's last node, its result divided by the number of branches.

    A batch norm is divided in its gain and shift: constants, so a session does it once, where a
    division of the sum would also break up the blocked layout of the convolutions around it.
    """
    output = last.output[0]
    number = numpy_helper.from_array(np.array(count, np.float32))
    nodes = [helper.make_node("Constant", [], [f"{output}.count"], value=number)]
    if last.op_type == "BatchNormalization":
        for place, what in ((1, "gain"), (2, "shift")):
            shared = [last.input[place], f"{output}.count"]
            nodes.append(helper.make_node("Div", shared, [f"{output}.{what}"]))
            last.input[place] = f"{output}.{what}"
        return [*nodes, last]
    last.output[0] = f"{output}.whole"
    shared = [f"{output}.whole", f"{output}.count"]
    return [last, *nodes, helper.make_node("Div", shared, [output])]


def _renamed(node: NodeProto, made: set[str], mark: str) -> NodeProto:
    """A copy for one branch of an `If`: what the block makes gets names of its own there."""
    copy = NodeProto()
    copy.CopyFrom(node)
    for names in (copy.input, copy.output):
        for place, name in enumerate(names):
            if name in made:
                names[place] = f"{name}.{mark}"
    copy.name = f"{node.name}.{mark}"
    return copy


def _selection(model: onnx.ModelProto, first_row: int, length: int) -> list[NodeProto]:
    """Adds the selection; the nodes that read the row of statistics from it come back."""
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.zeros(length, bool), SELECTION),
            numpy_helper.from_array(np.array([first_row]), "first_row"),
            numpy_helper.from_array(np.array([length]), "end"),
        ]
    )
    return [
        helper.make_node("Slice", [SELECTION, "first_row", "end"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["rows.number"], to=TensorProto.INT32),
        helper.make_node("ArgMax", ["rows.number"], [ROW], axis=0, keepdims=0),
    ]


def _tidy(model: onnx.ModelProto) -> None:
    """Unused tensors and the exporter's notes go; values get short names.

    Names are most of what a session reads: short ones make the file 3 % smaller at width 0.5 and a
    session in 40 ms instead of 52.
    """
    used = {name for graph in _graphs(model.graph) for node in graph.node for name in node.input}
    replace(model.graph.initializer, [t for t in model.graph.initializer if t.name in used])
    kept = {"", INPUT, OUTPUT}
    short = {tensor.name: _brief(tensor.name) for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        tensor.name = short[tensor.name]
    for graph in _graphs(model.graph):
        for node in graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name not in kept:
                        names[place] = short.setdefault(name, f"v{len(short)}")
            for field in ("metadata_props", "doc_string", "name"):
                node.ClearField(field)
        for value in graph.output:
            value.name = short.get(value.name, value.name)
        for field in ("metadata_props", "doc_string", "value_info"):
            graph.ClearField(field)
    model.ClearField("metadata_props")
    model.producer_name = "pliant"


def _brief(name: str) -> str:
    """features.2.branches.heavy.conv.0.1.running_mean -> features.2.heavy.conv.0.1.mean."""
    return name.replace("branches.", "").replace("running_", "")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def place_of_selection(model: onnx.ModelProto, length: int) -> tuple[bytes, int]:
    """The file, and where in it the selection's bytes lie: found by changing them.

    Args:
        model: With an initializer named `SELECTION`; it is left with every flag set.
        length: Of the selection.
    """
    files = []
    for value in (False, True):
        for tensor in model.graph.initializer:
            if tensor.name == SELECTION:
                tensor.CopyFrom(numpy_helper.from_array(np.full(length, value), SELECTION))
        files.append(model.SerializeToString())
    different = np.flatnonzero(
        np.frombuffer(files[0], np.uint8) != np.frombuffer(files[1], np.uint8)
    )
    offset = int(different[0])
    assert len(different) == length
    assert int(different[-1]) == offset + length - 1
    return files[0], offset
