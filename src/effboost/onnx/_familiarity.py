"""The p-value of features as an ONNX graph."""

from __future__ import annotations

from typing import Final

import numpy as np

import onnx
from effboost._heads.feature_distance import FeatureDistance
from effboost.onnx._graph import as_model
from onnx import numpy_helper, parser

__all__ = ["add_familiarity"]

# As `FeatureDistance.measure` and `p_values` do.
_GRAPH: Final = """
distance (float[1, {width}] features) => (float[1] familiarity)
{{
    axis = Constant <value_ints: ints = [1]> ()
    axis_of_classes = Constant <value_ints: ints = [0]> ()
    zero = Constant <value_float: float = 0.0> ()
    one = Constant <value_float: float = 1.0> ()
    sizes = Abs (features)
    softened = Add (sizes, offset)
    divisors = Sqrt (softened)
    roots = Div (features, divisors)
    centered = Sub (roots, center)
    standard = Mul (centered, scale)
    means_single = Cast <to: int = 1> (class_means)
    away = Sub (standard, means_single)
    components_single = Cast <to: int = 1> (components)
    inside = MatMul (away, components_single)
    squares_inside = Mul (inside, inside)
    from_inside = MatMul (squares_inside, weights)
    squares = Mul (away, away)
    sum_of_squares = ReduceSum (squares, axis)
    from_all = Mul (sum_of_squares, rest)
    square_of_class = Add (from_all, from_inside)
    square = ReduceMin (square_of_class, axis_of_classes)
    square_not_negative = Relu (square)
    distance = Sqrt (square_not_negative)
    beyond = Sub (distance, starts)
    in_steps = Mul (beyond, slopes)
    passed = Clip (in_steps, zero, one)
    n_passed = ReduceSum <keepdims: int = 0> (passed, axis)
    share = Div (n_passed, n_values)
    familiarity = Sub (one, share)
}}
"""


def add_familiarity(head: onnx.ModelProto, distance: FeatureDistance) -> onnx.ModelProto:
    """Return a head that also computes the p-value of its features, as output "familiarity".

    Parameters
    ----------
    head : ModelProto
        From "features" (1, n_features); it is not changed.
    distance : FeatureDistance
        The fitted distance.
    """
    beside = _build(distance).graph
    both = onnx.ModelProto()
    both.CopyFrom(head)
    both.graph.node.extend(beside.node)
    both.graph.initializer.extend(beside.initializer)
    both.graph.output.extend(beside.output)
    return both


def _build(distance: FeatureDistance) -> onnx.ModelProto:
    graph = parser.parse_graph(_GRAPH.format(width=len(distance.center)))
    starts, slopes = distance.steps()
    values = {
        "offset": distance.offset,
        "center": distance.center,
        "scale": distance.scale,
        "class_means": distance.class_means,
        "components": distance.components,
        "weights": distance.weights[:, None],
        "rest": distance.rest,
        "starts": starts.astype(np.float32),
        "slopes": slopes.astype(np.float32),
        "n_values": np.array([len(starts) + 1], dtype=np.float32),
    }
    for name, array in values.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return as_model(graph)
