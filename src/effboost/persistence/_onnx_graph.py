"""One ONNX graph from an image of any size to the class, put together from its parts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import compose, helper, numpy_helper, parser

from effboost._transforms import ImageTransform

__all__ = ["OPSETS", "as_model", "average_views", "decide", "join", "preprocess"]

# Of the operators, the set that networks are exported with; of the trees, the one that converters
# and all versions of onnxruntime since 2021 agree on.
OPSETS: Final = {"": 18, "ai.onnx.ml": 3}
_IR_VERSION: Final = 10

# What ImageTransform does by Pillow: the margins of a larger image are halved and rounded to even,
# those that a smaller one lacks are halved and cut down, axis by axis.
_CROP: Final = """
crop (uint8[height, width, 3] image) => (uint8[{crop_size}, {crop_size}, 3] crop)
{{
    crop_size = Constant <value_ints: ints = [{crop_size}]> ()
    two = Constant <value_ints: ints = [2]> ()
    half = Constant <value_float: float = 0.5> ()
    black = Constant <value: tensor = uint8 black {{0}}> ()
    axes = Constant <value_ints: ints = [0, 1]> ()
    size = Shape <end: int = 2> (image)
    kept = Min (size, crop_size)
    surplus = Sub (size, kept)
    surplus_float = Cast <to: int = 1> (surplus)
    margin = Mul (surplus_float, half)
    margin_to_even = Round (margin)
    start = Cast <to: int = 7> (margin_to_even)
    end = Add (start, kept)
    cut = Slice (image, start, end, axes)
    missing = Sub (crop_size, kept)
    before = Div (missing, two)
    after = Sub (missing, before)
    pads = Concat <axis: int = 0> (before, after)
    crop = Pad (cut, pads, black, axes)
}}
"""
# Pillow's bilinear filter, to the bit. Not the operator Resize: of onnxruntime, it rounds weights
# otherwise, and one grey level in some pixels is enough to send a picture down another tree.
_RESIZE: Final = """
resize (uint8[{height}, {width}, 3] {source}) => (uint8[1, {side}, {side}, 3] pixels)
{{
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    two = Constant <value_int: int = 2> ()
    axis_0 = Constant <value_ints: ints = [0]> ()
    axis_1 = Constant <value_ints: ints = [1]> ()
    axes_2_3 = Constant <value_ints: ints = [2, 3]> ()
    half = Constant <value: tensor = double half {{0.5}}> ()
    unit = Constant <value: tensor = double unit {{1.0}}> ()
    fixed_point = Constant <value: tensor = double fixed_point {{4194304.0}}> ()
    half_point = Constant <value: tensor = int32 half_point {{2097152}}> ()
    whole_point = Constant <value: tensor = int32 whole_point {{4194304}}> ()

    side = Constant <value_int: int = {side}> ()
    sides = Constant <value_ints: ints = [{side}]> ()
    channels = Constant <value_ints: ints = [3]> ()
    side_double = Cast <to: int = 11> (side)
    numbers = Range (zero, side, one)
    numbers_double = Cast <to: int = 11> (numbers)
    middles = Add (numbers_double, half)

    shape = Shape <end: int = 2> ({source})
    height = Gather <axis: int = 0> (shape, zero)
    width = Gather <axis: int = 0> (shape, one)
    height_surplus = Sub (height, side)
    width_surplus = Sub (width, side)
    width_surplus_or_none = Max (width_surplus, zero)
    width_surplus_twice = Mul (width_surplus_or_none, two)
    tall = Greater (height_surplus, width_surplus_twice)
    picture = If (tall) <
        then_branch: graph = rows_first () => (uint8[first, second, 3] rows_in_front) {{
            rows_in_front = Identity ({source})
        }},
        else_branch: graph = columns_first () => (uint8[first, second, 3] columns_in_front) {{
            columns_in_front = Transpose <perm: ints = [1, 0, 2]> ({source})
        }}
    >
{first_pass}
    half_done = Transpose <perm: ints = [1, 0, 2]> (one_result)
{second_pass}
    square = If (tall) <
        then_branch: graph = columns_now () => (uint8[{side}, {side}, 3] turned_back) {{
            turned_back = Transpose <perm: ints = [1, 0, 2]> (two_result)
        }},
        else_branch: graph = rows_now () => (uint8[{side}, {side}, 3] as_it_is) {{
            as_it_is = Identity (two_result)
        }}
    >
    pixels = Unsqueeze (square, axis_0)
}}
"""
# One pass, along the first axis: each row of the result is the sum of the rows within reach, by
# weights that fall off as a triangle, rounded to 22 bits behind the point.
_PASS: Final = """
    {p}_shape = Shape ({given})
    {p}_length = Gather <axis: int = 0> ({p}_shape, zero)
    {p}_breadth = Gather <axis: int = 0> ({p}_shape, axis_1)
    {p}_length_double = Cast <to: int = 11> ({p}_length)
    {p}_scale = Div ({p}_length_double, side_double)
    {p}_reach = Max ({p}_scale, unit)
    {p}_centers = Mul (middles, {p}_scale)
    {p}_left = Sub ({p}_centers, {p}_reach)
    {p}_left_rounded = Add ({p}_left, half)
    {p}_left_whole = Cast <to: int = 7> ({p}_left_rounded)
    {p}_first = Max ({p}_left_whole, zero)
    {p}_right = Add ({p}_centers, {p}_reach)
    {p}_right_rounded = Add ({p}_right, half)
    {p}_right_whole = Cast <to: int = 7> ({p}_right_rounded)
    {p}_end = Min ({p}_right_whole, {p}_length)
    {p}_spans = Sub ({p}_end, {p}_first)
    {p}_span = ReduceMax <keepdims: int = 0> ({p}_spans)
    {p}_offsets = Range (zero, {p}_span, one)
    {p}_first_column = Unsqueeze ({p}_first, axis_1)
    {p}_positions = Add ({p}_first_column, {p}_offsets)
    {p}_end_column = Unsqueeze ({p}_end, axis_1)
    {p}_within = Less ({p}_positions, {p}_end_column)
    {p}_within_double = Cast <to: int = 11> ({p}_within)
    {p}_positions_double = Cast <to: int = 11> ({p}_positions)
    {p}_centers_column = Unsqueeze ({p}_centers, axis_1)
    {p}_away = Sub ({p}_positions_double, {p}_centers_column)
    {p}_away_from_middle = Add ({p}_away, half)
    {p}_per_reach = Div (unit, {p}_reach)
    {p}_relative = Mul ({p}_away_from_middle, {p}_per_reach)
    {p}_distance = Abs ({p}_relative)
    {p}_slope = Sub (unit, {p}_distance)
    {p}_triangle = Relu ({p}_slope)
    {p}_raw = Mul ({p}_triangle, {p}_within_double)
    {p}_total = ReduceSum <keepdims: int = 1> ({p}_raw, axis_1)
    {p}_share = Div ({p}_raw, {p}_total)
    {p}_points = Mul ({p}_share, fixed_point)
    {p}_points_rounded = Add ({p}_points, half)
    {p}_weights = Cast <to: int = 6> ({p}_points_rounded)
    {p}_last = Sub ({p}_length, one)
    {p}_taken = Min ({p}_positions, {p}_last)
    {p}_taken_by_turn = Transpose ({p}_taken)
    {p}_weights_by_turn = Transpose ({p}_weights)
    {p}_weights_of_rows = Unsqueeze ({p}_weights_by_turn, axes_2_3)
    {p}_result_shape = Concat <axis: int = 0> (sides, {p}_breadth, channels)
    {p}_start = Expand (half_point, {p}_result_shape)
    {p}_sum = Scan <num_scan_inputs: int = 2, body: graph = {p}_turn (
        int32[{side}, breadth, 3] {p}_so_far, int64[{side}] {p}_these, int32[{side}, 1, 1] {p}_by
    ) => (int32[{side}, breadth, 3] {p}_further) {{
        {p}_rows = Gather <axis: int = 0> ({given}, {p}_these)
        {p}_rows_int = Cast <to: int = 6> ({p}_rows)
        {p}_weighted = Mul ({p}_rows_int, {p}_by)
        {p}_further = Add ({p}_so_far, {p}_weighted)
    }}> ({p}_start, {p}_taken_by_turn, {p}_weights_of_rows)
    {p}_grey = Div ({p}_sum, whole_point)
    {p}_result = Cast <to: int = 2> ({p}_grey)
"""
# np.rot90(picture, k) for k = 0, 1, 2, 3, then the same four mirrored left-right.
_DIHEDRAL: Final = """
turn (uint8[1, {side}, {side}, 3] pixels) => (uint8[8, 1, {side}, {side}, 3] views)
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
    views = Unsqueeze (row, one)
}}
"""
_MEAN: Final = """
mean (float[8, 1, n_features] rows) => (float[1, n_features] features)
{
    first = Constant <value_ints: ints = [0]> ()
    features = ReduceMean <keepdims: int = 0> (rows, first)
}
"""
_DECIDE: Final = """
decide (float[1, {k}] scores) => ({kind}[1] label, float[1, {k}] probabilities)
{{
    probabilities = Identity (scores)
    best = ArgMax <axis: int = 1, keepdims: int = 0> (scores)
    label = Gather (classes, best)
}}
"""


def preprocess(transform: ImageTransform) -> onnx.ModelProto:
    """Give the graph from "image" (h, w, 3) to "pixels" (1, s, s, 3), both uint8.

    It does what `ImageTransform.resize` does, to the bit.
    """
    side, crop_size = transform.image_size, transform.crop_size
    if crop_size is None:
        return _resize(side, "image", "height", "width")
    crop = as_model(parser.parse_graph(_CROP.format(crop_size=crop_size)))
    return join(crop, _resize(side, "crop", str(crop_size), str(crop_size)))


def _resize(side: int, source: str, height: str, width: str) -> onnx.ModelProto:
    text = _RESIZE.format(
        side=side,
        source=source,
        height=height,
        width=width,
        first_pass=_PASS.format(p="one", given="picture", side=side),
        second_pass=_PASS.format(p="two", given="half_done", side=side),
    )
    return as_model(parser.parse_graph(text))


def average_views(network: onnx.ModelProto, n_views: int) -> onnx.ModelProto:
    """Give a network that averages the features of views of the picture; see `_DIHEDRAL`.

    Parameters
    ----------
    network : ModelProto
        From "pixels" to "features".
    n_views : {1, 8}
        One view is the picture as it is.

    Returns
    -------
    ModelProto
        The same input and output. Its weights are held once; one view is computed at a time.
    """
    if n_views == 1:
        return network
    side = network.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    backwards = ", ".join(map(str, range(side - 1, -1, -1)))
    turn = parser.parse_graph(_DIHEDRAL.format(side=side, backwards=backwards))
    each = helper.make_node("Scan", ["views"], ["rows"], num_scan_inputs=1, body=network.graph)
    width = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    through = helper.make_graph(
        [each],
        "each",
        [turn.output[0]],
        [helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [n_views, 1, width])],
    )
    return join(as_model(turn), as_model(through), as_model(parser.parse_graph(_MEAN)))


def decide(classes: npt.NDArray[Any]) -> onnx.ModelProto:
    """Give the graph from "scores" to "probabilities", the same, and the "label" of the largest."""
    kind, values = _as_tensor(classes)
    graph = parser.parse_graph(_DECIDE.format(k=len(classes), kind=kind))
    graph.initializer.append(numpy_helper.from_array(values, "classes"))
    return as_model(graph)


def join(*models: onnx.ModelProto) -> onnx.ModelProto:
    """Join graphs: each takes what those before it give by the same name."""
    joined = models[0]
    for model in models[1:]:
        given = {output.name for output in joined.graph.output}
        shared = [(i.name, i.name) for i in model.graph.input if i.name in given]
        joined = compose.merge_models(joined, model, shared)
    return joined


def as_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Make a part of a graph: of the versions that all parts share, with names of its own."""
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    _rename(graph, f"{graph.name}/", {value.name for value in (*graph.input, *graph.output)})
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _rename(graph: onnx.GraphProto, prefix: str, kept: set[str]) -> None:
    """Put a prefix before all names but those kept. onnx.compose renames the inputs' uses, too."""

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
    """Give the labels as ONNX has them, with the name of their type."""
    if classes.dtype.kind == "b":
        return "bool", classes
    if classes.dtype.kind in "iu":
        return "int64", classes.astype(np.int64)
    if classes.dtype.kind == "f":
        return "double", classes.astype(np.float64)
    return "string", classes.astype(object)
