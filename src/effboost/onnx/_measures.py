"""Size, exposure and sharpness of an image, as an ONNX graph."""

from __future__ import annotations

from typing import Final

import numpy as np

import onnx
from effboost._familiarity import REASONS, TrainingRange
from effboost._images.measures import HIGHLIGHTS, LEAST, MAX_SIDE, MEASURES
from effboost.onnx._graph import as_model, drop_outputs, put_beside
from onnx import numpy_helper, parser

__all__ = ["add_outside", "build_measures"]

# As `measure` does. Pillow computes grey levels and their means in whole numbers; those here are
# below 2**24, which single precision holds exactly, and larger ones are doubles. The rows of an
# image are read in `factor` turns, so that a large one takes little memory: each turn adds a row to
# each block.
_MEASURES: Final = """
measures (uint8[height, width, 3] image) => (double[{n_measures}] measures)
{{
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    none = Constant <value_ints: ints = [0]> ()
    axis_0 = Constant <value_ints: ints = [0]> ()
    axis_1 = Constant <value_ints: ints = [1]> ()
    axis_2 = Constant <value_ints: ints = [2]> ()
    as_list = Constant <value_ints: ints = [-1]> ()
    log_2 = Constant <value: tensor = double log_2 {{0.6931471805599453}}> ()

    size = Shape <end: int = 2> (image)
    short = ReduceMin <keepdims: int = 1> (size)
    long = ReduceMax <keepdims: int = 1> (size)
    sides = Concat <axis: int = 0> (short, long)
    sides_double = Cast <to: int = 11> (sides)
    sides_log = Log (sides_double)
    sides_log_2 = Div (sides_log, log_2)

    max_side = Constant <value_int: int = {max_side}> ()
    longest = Squeeze (long)
    longest_less = Sub (longest, one)
    factor_less = Div (longest_less, max_side)
    factor = Add (factor_less, one)
    height = Gather <axis: int = 0> (size, zero)
    width = Gather <axis: int = 0> (size, one)
    height_raised = Add (height, factor_less)
    width_raised = Add (width, factor_less)
    n_down = Div (height_raised, factor)
    n_across = Div (width_raised, factor)
    down = Range (zero, n_down, one)
    across = Range (zero, n_across, one)
    tops = Mul (down, factor)
    lefts = Mul (across, factor)
    last_row = Sub (height, one)
    covered = Mul (n_across, factor)
    missing = Sub (covered, width)
    missing_list = Unsqueeze (missing, axis_0)
    pads = Concat <axis: int = 0> (none, none, none, missing_list)
    n_down_list = Unsqueeze (n_down, axis_0)
    n_across_list = Unsqueeze (n_across, axis_0)
    factor_list = Unsqueeze (factor, axis_0)
    in_blocks = Concat <axis: int = 0> (n_down_list, n_across_list, factor_list)
    grid = Concat <axis: int = 0> (n_down_list, n_across_list)
    shares = Constant <value: tensor = float[3, 1] shares {{19595.0, 38470.0, 7471.0}}> ()
    half_share = Constant <value_float: float = 32768.0> ()
    part_of_share = Constant <value_float: float = 0.0000152587890625> ()
    start_level = Constant <value_float: float = 0.0> ()
    start = Expand (start_level, grid)
    turns = Range (zero, factor, one)
    sums = Scan <num_scan_inputs: int = 1, body: graph = turn (
        float[n_down, n_across] so_far, int64 turn
    ) => (float[n_down, n_across] further) {{
        these = Add (tops, turn)
        within = Less (these, height)
        taken = Min (these, last_row)
        rows = Gather <axis: int = 0> (image, taken)
        rows_float = Cast <to: int = 1> (rows)
        weighted_column = MatMul (rows_float, shares)
        weighted = Squeeze (weighted_column, axis_2)
        weighted_rounded = Add (weighted, half_share)
        levels_exact = Mul (weighted_rounded, part_of_share)
        levels = Floor (levels_exact)
        within_float = Cast <to: int = 1> (within)
        within_column = Unsqueeze (within_float, axis_1)
        levels_within = Mul (levels, within_column)
        filled = Pad (levels_within, pads)
        blocks = Reshape (filled, in_blocks)
        added = ReduceSum <keepdims: int = 0> (blocks, axis_2)
        further = Add (so_far, added)
    }}> (start, turns)

    half = Constant <value: tensor = double half {{0.5}}> ()
    fixed_point = Constant <value: tensor = double fixed_point {{16777216.0}}> ()
    rows_left = Sub (height, tops)
    columns_left = Sub (width, lefts)
    rows_in_block = Min (rows_left, factor)
    columns_in_block = Min (columns_left, factor)
    rows_in_block_column = Unsqueeze (rows_in_block, axis_1)
    n_pixels = Mul (rows_in_block_column, columns_in_block)
    n_pixels_double = Cast <to: int = 11> (n_pixels)
    half_pixels_exact = Mul (n_pixels_double, half)
    half_pixels = Floor (half_pixels_exact)
    share_exact = Div (fixed_point, n_pixels_double)
    share = Floor (share_exact)
    sums_double = Cast <to: int = 11> (sums)
    sums_rounded = Add (sums_double, half_pixels)
    points = Mul (sums_rounded, share)
    grey_exact = Div (points, fixed_point)
    grey_double = Floor (grey_exact)
    grey = Cast <to: int = 1> (grey_double)
    mean = ReduceMean <keepdims: int = 0> (grey_double)
    mean_list = Unsqueeze (mean, axis_0)

    highlights_share = Constant <value: tensor = double highlights_share {{{highlights}}}> ()
    levels_shaped = Cast <to: int = 7> (grey)
    levels_list = Reshape (levels_shaped, as_list)
    n_levels = Size (levels_list)
    n_levels_list = Unsqueeze (n_levels, axis_0)
    one_each = Expand (one, n_levels_list)
    n_grey_levels = Constant <value_ints: ints = [256]> ()
    no_counts = ConstantOfShape <value: tensor = int64[1] no_counts {{0}}> (n_grey_levels)
    counts = ScatterElements <axis: int = 0, reduction: string = "add"> (
        no_counts, levels_list, one_each
    )
    n_up_to = CumSum (counts, zero)
    last = Sub (n_levels, one)
    last_double = Cast <to: int = 11> (last)
    place = Mul (last_double, highlights_share)
    place_below = Floor (place)
    beyond = Sub (place, place_below)
    below = Cast <to: int = 7> (place_below)
    next_or_more = Add (below, one)
    above = Min (next_or_more, last)
    is_darker = LessOrEqual (n_up_to, below)
    is_darker_int = Cast <to: int = 7> (is_darker)
    lower = ReduceSum <keepdims: int = 1> (is_darker_int)
    is_darker_than_next = LessOrEqual (n_up_to, above)
    is_darker_than_next_int = Cast <to: int = 7> (is_darker_than_next)
    upper = ReduceSum <keepdims: int = 1> (is_darker_than_next_int)
    lower_double = Cast <to: int = 11> (lower)
    step = Sub (upper, lower)
    step_double = Cast <to: int = 11> (step)
    part_of_step = Mul (step_double, beyond)
    highlights = Add (lower_double, part_of_step)

    least_side = Constant <value_int: int = 4> ()
    least_sides = Constant <value_ints: ints = [4, 4]> ()
    short_of = Sub (least_sides, grid)
    no_pads = Constant <value_ints: ints = [0, 0]> ()
    end_pads = Max (short_of, no_pads)
    all_pads = Concat <axis: int = 0> (no_pads, end_pads)
    picture = Pad (grey, all_pads)
    shorter = Min (n_down, n_across)
    is_short = Less (shorter, least_side)
    start_1 = Constant <value_ints: ints = [1]> ()
    start_2 = Constant <value_ints: ints = [2]> ()
    end_1 = Constant <value_ints: ints = [-1]> ()
    end_2 = Constant <value_ints: ints = [-2]> ()
    to_end = Constant <value_ints: ints = [9223372036854775807]> ()
    upper_rows = Slice (picture, none, end_1, axis_0)
    lower_rows = Slice (picture, start_1, to_end, axis_0)
    left_columns = Slice (picture, none, end_1, axis_1)
    right_columns = Slice (picture, start_1, to_end, axis_1)
    along_columns = Sub (lower_rows, upper_rows)
    along_rows = Sub (right_columns, left_columns)
    pairs = Add (upper_rows, lower_rows)
    left_pairs = Slice (pairs, none, end_1, axis_1)
    right_pairs = Slice (pairs, start_1, to_end, axis_1)
    fours = Add (left_pairs, right_pairs)
    inner_rows = Slice (fours, start_1, end_1, axis_0)
    inner_columns = Slice (fours, start_1, end_1, axis_1)
    middle = Slice (inner_rows, start_1, end_1, axis_1)
    left_fours = Slice (inner_rows, none, end_2, axis_1)
    right_fours = Slice (inner_rows, start_2, to_end, axis_1)
    upper_fours = Slice (inner_columns, none, end_2, axis_0)
    lower_fours = Slice (inner_columns, start_2, to_end, axis_0)
    beside = Add (left_fours, right_fours)
    above_and_below = Add (upper_fours, lower_fours)
    neighbours = Add (beside, above_and_below)
    four = Constant <value_float: float = 4.0> ()
    middle_fourfold = Mul (middle, four)
    around = Sub (middle_fourfold, neighbours)
    along_rows_double = Cast <to: int = 11> (along_rows)
    along_columns_double = Cast <to: int = 11> (along_columns)
    around_double = Cast <to: int = 11> (around)
    along_rows_sum = ReduceSumSquare <keepdims: int = 0> (along_rows_double)
    along_columns_sum = ReduceSumSquare <keepdims: int = 0> (along_columns_double)
    around_sum = ReduceSumSquare <keepdims: int = 0> (around_double)
    n_along_rows = Size (along_rows)
    n_along_columns = Size (along_columns)
    n_around = Size (around)
    n_along_rows_double = Cast <to: int = 11> (n_along_rows)
    n_along_columns_double = Cast <to: int = 11> (n_along_columns)
    n_around_double = Cast <to: int = 11> (n_around)
    along_rows_mean = Div (along_rows_sum, n_along_rows_double)
    along_columns_mean = Div (along_columns_sum, n_along_columns_double)
    around_mean = Div (around_sum, n_around_double)
    first_square = Add (along_rows_mean, along_columns_mean)
    first = Sqrt (first_square)
    four_seconds = Sqrt (around_mean)
    four_double = Constant <value: tensor = double four_double {{4.0}}> ()
    second = Div (four_seconds, four_double)
    least = Constant <value: tensor = double least {{{least}}}> ()
    first_bounded = Add (first, least)
    second_bounded = Add (second, least)
    ratio = Div (second_bounded, first_bounded)
    ratio_log = Log (ratio)
    sharpness_long = Div (ratio_log, log_2)
    no_sharpness = Constant <value: tensor = double no_sharpness {{0.0}}> ()
    sharpness = Where (is_short, no_sharpness, sharpness_long)
    sharpness_list = Unsqueeze (sharpness, axis_0)

    measures = Concat <axis: int = 0> (sides_log_2, mean_list, highlights, sharpness_list)
}}
"""
_OUTSIDE: Final = """
outside (double[{n_measures}] measures) => (bool[{n_reasons}] outside)
{{
    is_less = Less (measures, low)
    is_more = Greater (measures, high)
    is_outside = Or (is_less, is_more)
    counts = Cast <to: int = 1> (is_outside)
    found = MatMul (counts, of_names)
    none = Constant <value_float: float = 0.0> ()
    outside = Greater (found, none)
}}
"""


def build_measures() -> onnx.ModelProto:
    """Build the graph from "image" (h, w, 3), uint8, to "measures" (5,), double.

    They are those of `effboost._images.measures.measure`, up to the rounding of doubles.
    """
    text = _MEASURES.format(
        n_measures=len(MEASURES), max_side=MAX_SIDE, highlights=HIGHLIGHTS / 100, least=LEAST
    )
    return as_model(parser.parse_graph(text))


def add_outside(preprocessing: onnx.ModelProto, usual: TrainingRange) -> onnx.ModelProto:
    """Return a graph that also finds what of its image is unusual, as output "outside".

    Parameters
    ----------
    preprocessing : ModelProto
        From "image" (h, w, 3); it is not changed.
    usual : TrainingRange
        The range of the training images.

    Returns
    -------
    ModelProto
        With an output (3,), bool: whether size, exposure and sharpness are outside the range.
    """
    names = REASONS[1:]
    graph = parser.parse_graph(_OUTSIDE.format(n_measures=len(MEASURES), n_reasons=len(names)))
    low, high = usual.limits()
    of_names = np.array([[name == own for name in names] for own in MEASURES], dtype=np.float32)
    for name, values in (("low", low), ("high", high), ("of_names", of_names)):
        graph.initializer.append(numpy_helper.from_array(values, name))
    measured = put_beside(preprocessing, build_measures())
    measured = put_beside(measured, as_model(graph))
    drop_outputs(measured, ["measures"])
    return measured
