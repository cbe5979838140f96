"""`ImageTransform` as an ONNX graph, equal to Pillow to the bit."""

from __future__ import annotations

import functools
from typing import Final

import onnx
from effboost._transforms import ImageTransform
from effboost._transforms.foreground import BLACK, MASKED_BORDER, MIN_SIDE, SPECK
from effboost.exceptions import UnsupportedInputError
from effboost.onnx._graph import as_model, join
from onnx import parser

__all__ = ["preprocess"]

# As ImageTransform does by Pillow: half of the margin of a larger image, rounded to even, and half
# of what a smaller one lacks, rounded down, for each axis.
_CROP: Final = """
crop (uint8[{height}, {width}, 3] {source}) => (uint8[{crop_size}, {crop_size}, 3] crop)
{{
    crop_size = Constant <value_ints: ints = [{crop_size}]> ()
    two = Constant <value_ints: ints = [2]> ()
    half = Constant <value_float: float = 0.5> ()
    black = Constant <value: tensor = uint8 black {{0}}> ()
    axes = Constant <value_ints: ints = [0, 1]> ()
    size = Shape <end: int = 2> ({source})
    kept = Min (size, crop_size)
    surplus = Sub (size, kept)
    surplus_float = Cast <to: int = 1> (surplus)
    margin = Mul (surplus_float, half)
    margin_to_even = Round (margin)
    start = Cast <to: int = 7> (margin_to_even)
    end = Add (start, kept)
    cut = Slice ({source}, start, end, axes)
    missing = Sub (crop_size, kept)
    before = Div (missing, two)
    after = Sub (missing, before)
    pads = Concat <axis: int = 0> (before, after)
    crop = Pad (cut, pads, black, axes)
}}
"""
# As `crop_masked` does: the square around what is not black, if the border is.
_CROP_MASKED: Final = """
crop_masked (uint8[height, width, 3] image) => (uint8[masked_height, masked_width, 3] masked)
{{
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    two = Constant <value_int: int = 2> ()
    zeros = Constant <value_ints: ints = [0, 0]> ()
    axis_0 = Constant <value_ints: ints = [0]> ()
    axis_1 = Constant <value_ints: ints = [1]> ()
    axis_2 = Constant <value_ints: ints = [2]> ()
    axes = Constant <value_ints: ints = [0, 1]> ()
    ends = Constant <value_ints: ints = [0, -1]> ()
    half = Constant <value_float: float = 0.5> ()
    black = Constant <value: tensor = uint8 black {{{black}}}> ()
    speck = Constant <value_int: int = {speck}> ()
    border_share = Constant <value_int: int = {border}> ()
    least_side = Constant <value_int: int = {least}> ()

    shape = Shape <end: int = 2> (image)
    height = Gather <axis: int = 0> (shape, zero)
    width = Gather <axis: int = 0> (shape, one)
    brightest = ReduceMax <keepdims: int = 0> (image, axis_2)
    is_bright = Greater (brightest, black)
    bright = Cast <to: int = 7> (is_bright)
    end_rows = Gather <axis: int = 0> (bright, ends)
    end_columns = Gather <axis: int = 1> (bright, ends)
    in_rows = ReduceSum <keepdims: int = 0> (end_rows)
    in_columns = ReduceSum <keepdims: int = 0> (end_columns)
    in_border = Add (in_rows, in_columns)
    sides = Add (height, width)
    border = Mul (sides, two)
    weighted = Mul (in_border, border_share)
    is_masked = LessOrEqual (weighted, border)

    of_rows = ReduceSum <keepdims: int = 0> (bright, axis_1)
    of_rows_weighted = Mul (of_rows, speck)
    rows_used = GreaterOrEqual (of_rows_weighted, width)
    of_columns = ReduceSum <keepdims: int = 0> (bright, axis_0)
    of_columns_weighted = Mul (of_columns, speck)
    columns_used = GreaterOrEqual (of_columns_weighted, height)
    rows = Cast <to: int = 6> (rows_used)
    columns = Cast <to: int = 6> (columns_used)
    top = ArgMax <axis: int = 0, keepdims: int = 0> (rows)
    left = ArgMax <axis: int = 0, keepdims: int = 0> (columns)
    bottom_row = ArgMax <axis: int = 0, keepdims: int = 0, select_last_index: int = 1> (rows)
    right_column = ArgMax <axis: int = 0, keepdims: int = 0, select_last_index: int = 1> (columns)
    any_row = ReduceMax <keepdims: int = 0> (rows)
    any_column = ReduceMax <keepdims: int = 0> (columns)
    bottom = Add (bottom_row, one)
    right = Add (right_column, one)
    box_height = Sub (bottom, top)
    box_width = Sub (right, left)
    shorter = Min (box_height, box_width)
    is_large = GreaterOrEqual (shorter, least_side)
    has_rows = Cast <to: int = 9> (any_row)
    has_columns = Cast <to: int = 9> (any_column)
    is_found = And (has_rows, has_columns)
    is_cell = And (is_found, is_large)
    is_cropped = And (is_cell, is_masked)

    side = Max (box_height, box_width)
    tall = Unsqueeze (height, axis_0)
    wide = Unsqueeze (width, axis_0)
    size = Concat <axis: int = 0> (tall, wide)
    kept = Min (size, side)
    top_column = Unsqueeze (top, axis_0)
    left_column = Unsqueeze (left, axis_0)
    low = Concat <axis: int = 0> (top_column, left_column)
    bottom_column = Unsqueeze (bottom, axis_0)
    right_as_column = Unsqueeze (right, axis_0)
    high = Concat <axis: int = 0> (bottom_column, right_as_column)
    ends_sum = Add (low, high)
    doubled_start = Sub (ends_sum, kept)
    doubled_start_float = Cast <to: int = 1> (doubled_start)
    start_float = Mul (doubled_start_float, half)
    start_to_even = Round (start_float)
    start_whole = Cast <to: int = 7> (start_to_even)
    start_not_negative = Max (start_whole, zeros)
    room = Sub (size, kept)
    start_of_cell = Min (start_not_negative, room)
    end_of_cell = Add (start_of_cell, kept)
    start = Where (is_cropped, start_of_cell, zeros)
    end = Where (is_cropped, end_of_cell, size)
    masked = Slice (image, start, end, axes)
}}
"""
# Pillow's bilinear filter, to the bit. Not the operator Resize, because onnxruntime's rounds
# weights differently: one grey level in a few pixels can change the path of an image in a tree.
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
# One pass, along the first axis: each row of the result is a sum of the rows within reach, with
# triangular weights rounded to 22 fractional bits.
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


def preprocess(transform: ImageTransform) -> onnx.ModelProto:
    """Build the graph from "image" (h, w, 3) to "pixels" (1, s, s, 3), both uint8.

    It equals `ImageTransform.prepare` to the bit.

    Raises
    ------
    UnsupportedInputError
        If the transform has stain normalisation or ``foreground=True``.
    """
    for name, known in (("stain", None), ("foreground", "masked")):
        if (value := getattr(transform, name)) and value != known:
            raise UnsupportedInputError(
                f"{name}={value!r} cannot be exported; export a model that was fitted without it, "
                "on images transformed beforehand by ImageTransform and ImageSequence.map"
            )
    side, crop_size = transform.side, transform.crop_size
    steps, shape, source = [], ("height", "width"), "image"
    if transform.foreground == "masked":
        masked = _CROP_MASKED.format(black=BLACK, speck=SPECK, border=MASKED_BORDER, least=MIN_SIDE)
        shape, source = ("masked_height", "masked_width"), "masked"
        steps.append(as_model(parser.parse_graph(masked)))
    if crop_size is not None:
        crop = _CROP.format(crop_size=crop_size, height=shape[0], width=shape[1], source=source)
        shape, source = (str(crop_size), str(crop_size)), "crop"
        steps.append(as_model(parser.parse_graph(crop)))
    return functools.reduce(join, [*steps, _resize(side, source, *shape)])


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
