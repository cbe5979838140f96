"""Parts of an ONNX graph, and functions that join them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import onnx
from onnx import compose, helper, numpy_helper, parser

__all__ = ["OPSETS", "as_model", "average_views", "decide", "drop_outputs", "join", "put_beside"]

# The operator set that networks are exported with; and for trees, the one that converters and
# all versions of onnxruntime since 2021 support.
OPSETS: Final = {"": 18, "ai.onnx.ml": 3}
_IR_VERSION: Final = 10

# np.rot90(picture, k) for k = 0, 1, 2, 3, then the same four mirrored left-right.
_DIHEDRAL: Final = """
turn (uint8[1, {side}, {side}, 3] pixels) => (uint8[{n_views}, 1, {side}, {side}, 3] views)
<int64[{side}] backwards = {{{backwards}}}>
{{
    first = Constant <value_ints: ints = [0]> ()
    turned = Transpose <perm: ints = [0, 2, 1, 3]> (pixels)
    rotated_1 = Gather <axis: int = 1> (turned, backwards)
    upside_down = Gather <axis: int = 1> (pixels, backwards)
    rotated_2 = Gather <axis: int = 2> (upside_down, backwards)
    rotated_3 = Gather <axis: int = 2> (turned, backwards)
    mirrored = Gather <axis: int = 2> (pixels, backwards)
    mirrored_1 = Gather <axis: int = 2> (rotated_1, backwards)
    row = Concat <axis: int = 0> (
        pixels, rotated_1, rotated_2, rotated_3, mirrored, mirrored_1, upside_down, turned
    )
    one = Constant <value_ints: ints = [1]> ()
    used = Constant <value_ints: ints = [{n_views}]> ()
    used_row = Slice (row, first, used, first)
    views = Unsqueeze (used_row, one)
}}
"""
_MEAN: Final = """
mean (float[{n_views}, 1, n_features] rows) => (float[1, n_features] features)
{{
    first = Constant <value_ints: ints = [0]> ()
    features = ReduceMean <keepdims: int = 0> (rows, first)
}}
"""
_DECIDE: Final = """
decide (float[1, {k}] scores) => ({kind}[1] label, float[1, {k}] probabilities)
{{
    probabilities = Identity (scores)
    best = ArgMax <axis: int = 1, keepdims: int = 0> (scores)
    label = Gather (classes, best)
}}
"""


def average_views(network: onnx.ModelProto, n_views: int) -> onnx.ModelProto:
    """Build a network that averages the features of views of the image; see `_DIHEDRAL`.

    Parameters
    ----------
    network : ModelProto
        From "pixels" to "features".
    n_views : {1, 4, 8}
        1 uses only the image itself, 4 its quarter turns, 8 also their mirror images.

    Returns
    -------
    ModelProto
        A network with the same input and output. It contains the weights once, and computes one
        view at a time.
    """
    if n_views == 1:
        return network
    side = network.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    backwards = ", ".join(map(str, range(side - 1, -1, -1)))
    turn = parser.parse_graph(_DIHEDRAL.format(side=side, backwards=backwards, n_views=n_views))
    each = helper.make_node("Scan", ["views"], ["rows"], num_scan_inputs=1, body=network.graph)
    width = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    through = helper.make_graph(
        [each],
        "each",
        [turn.output[0]],
        [helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [n_views, 1, width])],
    )
    mean = parser.parse_graph(_MEAN.format(n_views=n_views))
    return join(as_model(turn), as_model(through), as_model(mean))


def decide(classes: npt.NDArray[Any]) -> onnx.ModelProto:
    """Build the graph from "scores" to "probabilities", which are equal, and the "label"."""
    kind, values = _as_tensor(classes)
    graph = parser.parse_graph(_DECIDE.format(k=len(classes), kind=kind))
    graph.initializer.append(numpy_helper.from_array(values, "classes"))
    return as_model(graph)


def join(*models: onnx.ModelProto) -> onnx.ModelProto:
    """Join graphs: inputs are the outputs of the same name of the graphs before."""
    joined = models[0]
    for model in models[1:]:
        given = {output.name for output in joined.graph.output}
        shared = [(i.name, i.name) for i in model.graph.input if i.name in given]
        joined = compose.merge_models(joined, model, shared)
    return joined


def put_beside(model: onnx.ModelProto, other: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that also has the nodes and outputs of another, on values that it has."""
    both = onnx.ModelProto()
    both.CopyFrom(model)
    both.graph.node.extend(other.graph.node)
    both.graph.initializer.extend(other.graph.initializer)
    both.graph.output.extend(other.graph.output)
    return both


def drop_outputs(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Let values be outputs no longer."""
    kept = [output for output in model.graph.output if output.name not in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def as_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Make a part of a graph, with the versions of all parts and its own names."""
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    _rename(graph, f"{graph.name}/", {value.name for value in (*graph.input, *graph.output)})
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _rename(graph: onnx.GraphProto, prefix: str, kept: set[str]) -> None:
    """Put a prefix before all names but some. onnx.compose would rename the inputs as well."""

    def rename(name: str) -> str:
        return name if not name or name in kept else prefix + name

    for node in graph.node:
        node.name = rename(node.name)
        node.input[:] = map(rename, node.input)
        node.output[:] = map(rename, node.output)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, prefix, kept)
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = rename(value.name)


def _as_tensor(classes: npt.NDArray[Any]) -> tuple[str, npt.NDArray[Any]]:
    """Return ONNX's name of the type of labels, and the labels of that type."""
    if classes.dtype.kind == "b":
        return "bool", classes
    if classes.dtype.kind in "iu":
        return "int64", classes.astype(np.int64)
    if classes.dtype.kind == "f":
        return "double", classes.astype(np.float64)
    return "string", classes.astype(object)
