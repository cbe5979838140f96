"""Colours of pixels, and the p-value of an image, as ONNX graphs."""

from __future__ import annotations

from typing import Final

import numpy as np

import onnx
from effboost._familiarity import ALPHA
from effboost._heads.feature_distance import Familiarity, FeatureDistance
from effboost._transforms.colours import LEAST, N_BLOCKS, N_COLOURS
from effboost.onnx._graph import as_model, drop_outputs, put_beside
from onnx import numpy_helper, parser

__all__ = ["add_colours", "add_familiarity"]

# As `measure_colours` does, on channels first.
_COLOURS: Final = """
colours (uint8[1, {side}, {side}, 3] pixels) => (double[1, {n_colours}] colours)
{{
    white = Constant <value: tensor = double white {{255.0}}> ()
    least = Constant <value: tensor = double least {{{least}}}> ()
    least_square = Constant <value: tensor = double least_square {{{least_square}}}> ()
    n_blocks = Constant <value: tensor = double n_blocks {{{n_blocks}}}> ()
    ends = Constant <value_ints: ints = [{used}, {used}]> ()
    starts = Constant <value_ints: ints = [0, 0]> ()
    as_blocks = Constant <value_ints: ints = [1, 3, {n}, {size}, {n}, {size}]> ()
    within_blocks = Constant <value_ints: ints = [3, 5]> ()
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    minus_one = Constant <value_ints: ints = [-1]> ()
    end = Constant <value_ints: ints = [{side}]> ()
    axis_2 = Constant <value_ints: ints = [2]> ()
    places = Constant <value_ints: ints = [2, 3]> ()
    as_rows = Constant <value_ints: ints = [3, -1]> ()
    as_row = Constant <value_ints: ints = [1, -1]> ()
    as_list = Constant <value_ints: ints = [-1]> ()
    pairs = Constant <value_ints: ints = [1, 2, 5]> ()

    channels = Transpose <perm: ints = [0, 3, 1, 2]> (pixels)
    levels = Cast <to: int = 11> (channels)
    values = Div (levels, white)
    means = ReduceMean <keepdims: int = 1> (values, places)
    away = Sub (values, means)
    squares = Mul (away, away)
    variances = ReduceMean <keepdims: int = 1> (squares, places)
    deviations = Sqrt (variances)
    deviations_bounded = Add (deviations, least)
    deviations_log = Log (deviations_bounded)

    used = Slice (values, starts, ends, places)
    in_blocks = Reshape (used, as_blocks)
    blocks = ReduceMean <keepdims: int = 0> (in_blocks, within_blocks)
    lowest = ReduceMin <keepdims: int = 1> (blocks, places)
    highest = ReduceMax <keepdims: int = 1> (blocks, places)
    upper = Slice (values, zero, minus_one, axis_2)
    lower = Slice (values, one, end, axis_2)
    differences = Sub (lower, upper)
    differences_size = Abs (differences)
    edges = ReduceMean <keepdims: int = 1> (differences_size, places)
    edges_bounded = Add (edges, least)
    edges_log = Log (edges_bounded)

    block_rows = Reshape (blocks, as_rows)
    block_means = ReduceMean <keepdims: int = 1> (block_rows, one)
    block_away = Sub (block_rows, block_means)
    block_squares = Mul (block_away, block_away)
    block_variances = ReduceMean <keepdims: int = 1> (block_squares, one)
    block_variances_bounded = Add (block_variances, least_square)
    block_deviations = Sqrt (block_variances_bounded)
    standard = Div (block_away, block_deviations)
    standard_turned = Transpose <perm: ints = [1, 0]> (standard)
    sums = MatMul (standard, standard_turned)
    correlations = Div (sums, n_blocks)
    correlations_list = Reshape (correlations, as_list)
    chosen = Gather (correlations_list, pairs)

    row_1 = Reshape (means, as_row)
    row_2 = Reshape (deviations_log, as_row)
    row_3 = Reshape (lowest, as_row)
    row_4 = Reshape (highest, as_row)
    row_5 = Reshape (edges_log, as_row)
    row_6 = Reshape (chosen, as_row)
    colours = Concat <axis: int = 1> (row_1, row_2, row_3, row_4, row_5, row_6)
}}
"""
# As `FeatureDistance.measure` and `p_values` do, and in double precision as well: the two terms of
# the square may be much larger than their sum.
_DISTANCE: Final = """
of_{name} ({kind}[1, {width}] {name}) => (float[1] p_{name})
{{
    axis = Constant <value_ints: ints = [1]> ()
    axis_of_classes = Constant <value_ints: ints = [0]> ()
    zero = Constant <value: tensor = double zero {{0.0}}> ()
    one = Constant <value: tensor = double one {{1.0}}> ()
    values = Cast <to: int = 11> ({name})
    sizes = Abs (values)
    softened = Add (sizes, offset)
    divisors = Sqrt (softened)
    signed_roots = Div (values, divisors)
    centered = Sub (signed_roots, center)
    standard = Mul (centered, scale)
    means_double = Cast <to: int = 11> (class_means)
    away = Sub (standard, means_double)
    components_double = Cast <to: int = 11> (components)
    inside = MatMul (away, components_double)
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
    p_double = Sub (one, share)
    p_{name} = Cast <to: int = 1> (p_double)
}}
"""
_BOTH: Final = """
both (float[1] p_features, float[1] p_colours) => (float[1] familiarity)
{
    one = Constant <value_float: float = 1.0> ()
    smaller = Min (p_features, p_colours)
    twice = Add (smaller, smaller)
    familiarity = Min (twice, one)
}
"""
_REASONS: Final = """
reasons (float[1] familiarity, bool[3] outside) => (bool[1, 4] reasons)
{
    first = Constant <value_ints: ints = [0]> ()
    p_value = Cast <to: int = 11> (familiarity)
    is_far = LessOrEqual (p_value, limit)
    reasons_list = Concat <axis: int = 0> (is_far, outside)
    reasons = Unsqueeze (reasons_list, first)
}
"""


def add_colours(network: onnx.ModelProto, side: int) -> onnx.ModelProto:
    """Return a network that also computes the colours of its pixels, as output "colours".

    Parameters
    ----------
    network : ModelProto
        From "pixels" (1, side, side, 3); it is not changed.
    side : int
        Side of the prepared image, in pixels.
    """
    size = max(1, side // N_BLOCKS)
    n = side // size
    text = _COLOURS.format(
        side=side,
        size=size,
        n=n,
        used=n * size,
        n_blocks=float(n**2),
        n_colours=N_COLOURS,
        least=LEAST,
        least_square=f"{LEAST**2:.10f}",
    )
    return put_beside(network, as_model(parser.parse_graph(text)))


def add_familiarity(head: onnx.ModelProto, learnt: Familiarity) -> onnx.ModelProto:
    """Return a head that also computes the p-value of an image, and the reasons to flag it.

    They are the outputs "familiarity" (1,), float, and "reasons" (1, 4), bool, in the order of
    `REASONS`.

    Parameters
    ----------
    head : ModelProto
        From "features" (1, n_features); it is not changed. What is returned also has the inputs
        "colours" and "outside".
    learnt : Familiarity
        What the classifier has learnt.
    """
    of_colours = _build("colours", "double", learnt.colours)
    both = put_beside(head, _build("features", "float", learnt.features))
    both.graph.input.extend(of_colours.graph.input)
    for part in (of_colours, as_model(parser.parse_graph(_BOTH))):
        both = put_beside(both, part)
    drop_outputs(both, ["p_features", "p_colours"])
    reasons = parser.parse_graph(_REASONS)
    limit = np.array(learnt.usual.smallest_usual(ALPHA))
    reasons.initializer.append(numpy_helper.from_array(limit, "limit"))
    both.graph.input.append(reasons.input[1])
    return put_beside(both, as_model(reasons))


def _build(name: str, kind: str, distance: FeatureDistance) -> onnx.ModelProto:
    text = _DISTANCE.format(name=name, width=len(distance.center), kind=kind)
    graph = parser.parse_graph(text)
    starts, slopes = distance.steps()
    vectors = {
        "offset": distance.offset,
        "center": distance.center,
        "scale": distance.scale,
        "weights": distance.weights[:, None],
        "rest": distance.rest,
        "starts": starts,
        "slopes": slopes,
        "n_values": [len(starts) + 1],
    }
    # These are most of what is stored.
    matrices = {"class_means": distance.class_means, "components": distance.components}
    values = {key: np.array(vector, dtype=np.float64) for key, vector in vectors.items()}
    for key, array in (values | matrices).items():
        graph.initializer.append(numpy_helper.from_array(array, key))
    return as_model(graph)
