"""Networks with weights of 16 bits, or computed in integers of 8 bits."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import onnx
from effboost._utils.onnx_session import start_session
from effboost.onnx._rounding import extract_patches, round_weights
from onnx import TensorProto, helper, numpy_helper

__all__ = ["to_float16", "to_int8"]

_Pixels = Sequence[npt.NDArray[np.uint8]]

# What has integer kernels in onnxruntime. The others, such as poolings that are means, compute in
# float32.
_OPERATORS: Final = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Gemm",
    "GlobalAveragePool",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "Sigmoid",
)
# Layers with larger maps than a sixteenth of the input's side stay in float32: sharp filters, whose
# rounding harms most, and hardly any weights.
_LARGE: Final = 16
# Of weights of 7 bits: a sum of two products with 8 bits then fits into 16 bits. Processors with
# AVX2 or AVX-512, but without VNNI, would silently cut off larger sums.
_LIMIT: Final = 64
# Layers with more inputs, such as the last ones of ResNets, keep onnxruntime's rounding: their
# matrices take minutes.
_MOST_INPUTS: Final = 2304
# Smaller tensors stay as they are.
_FEW: Final = 256
# Of values that are gathered at the same time, 4 bytes each.
_MAX_MOMENTS: Final = 2**26


def to_float16(network: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights as float16; the network still computes in float32.

    Parameters
    ----------
    network : ModelProto
        From "pixels" to "features".

    Returns
    -------
    ModelProto
        The network, about half as large. Layers with large maps keep their few weights, as do small
        tensors and those with values beyond float16.
    """
    halved = onnx.shape_inference.infer_shapes(network)
    large = _name_large(halved)
    used = {
        name: node.name in large or node.op_type not in ("Conv", "Gemm", "MatMul")
        for node in halved.graph.node
        for name in node.input
    }
    casts = []
    for initializer in halved.graph.initializer:
        if used.get(initializer.name, True) or initializer.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initializer)
        if values.size < _FEW or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = f"{initializer.name}_float16"
        casts.append(helper.make_node("Cast", [name], [initializer.name], to=TensorProto.FLOAT))
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def to_int8(network: onnx.ModelProto, pixels: _Pixels) -> onnx.ModelProto:
    """Turn the layers of a network to integers of 8 bits, except those with large maps.

    Activations have 8 bits, whose ranges are the smallest and largest values for some images.
    Weights have 7 bits per output channel.

    Parameters
    ----------
    network : ModelProto
        From "pixels" to "features", with batch norms folded into convolutions.
    pixels : sequence of ndarray of shape (1, side, side, 3), uint8
        The images.

    Returns
    -------
    ModelProto
        The network, about a quarter as large.
    """
    # Imported here: most exports do not need them.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="effboost-") as folder, _quiet():
        given, prepared, out = (str(Path(folder, name)) for name in ("given", "prepared", "out"))
        onnx.save(network, given)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        quantize_static(
            prepared,
            out,
            _Reader(pixels),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(_name_large(model)),
        )
        quantized = onnx.load(out)
    _round_again(quantized.graph, model, pixels)
    return quantized


class _Reader:
    """Images in the form that onnxruntime's calibration asks for."""

    def __init__(self, pixels: _Pixels):
        self._left = iter(pixels)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        pixels = next(self._left, None)
        return None if pixels is None else {"pixels": pixels}

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[np.uint8]]]:
        return iter(self.get_next, None)


def _name_large(model: onnx.ModelProto) -> set[str]:
    """Name the nodes with large maps, and those before the first convolution."""
    graph = model.graph
    side = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    return {
        node.name
        for node in graph.node
        if max(shapes.get(node.output[0], [])[2:], default=0) * _LARGE > side
    }


def _round_again(graph: onnx.GraphProto, model: onnx.ModelProto, pixels: _Pixels) -> None:
    """Replace the weights of quantised convolutions by better ones with the same scales."""
    made = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    stored = {initializer.name: initializer for initializer in graph.initializer}
    known = {initializer.name: initializer for initializer in model.graph.initializer}
    layers = {node.name: node for node in model.graph.node if node.op_type == "Conv"}
    rounded = [
        (node, layers[node.name])
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in made and node.name in layers
    ]
    weights = {
        layer.name: numpy_helper.to_array(known[layer.input[1]])
        for _, layer in rounded
        if layer.input[1] in known and np.prod(known[layer.input[1]].dims[1:]) <= _MOST_INPUTS
    }
    moments: dict[str, npt.NDArray[Any]] = {}
    for part in _parts({name: _count_moments(layers[name], weights[name]) for name in weights}):
        moments = _gather_moments(model, [(layers[name], weights[name]) for name in part], pixels)
        for node, layer in rounded:
            if layer.name not in moments:
                continue
            values, scales, _ = made[node.input[1]].input
            n_groups = len(moments[layer.name])
            whole = round_weights(
                weights[layer.name].reshape(n_groups, -1, moments[layer.name].shape[1]),
                moments[layer.name],
                numpy_helper.to_array(stored[scales]).astype(np.float64).reshape(n_groups, -1),
                _LIMIT,
            )
            whole = whole.reshape(weights[layer.name].shape).astype(np.int8)
            stored[values].CopyFrom(numpy_helper.from_array(whole, values))


def _count_moments(layer: onnx.NodeProto, weights: npt.NDArray[Any]) -> int:
    return int(_settings(layer)["groups"] * np.prod(weights.shape[1:]) ** 2)


def _parts(sizes: dict[str, int]) -> Iterator[list[str]]:
    """Yield the names in parts whose sizes add up to `_MAX_MOMENTS` or little more."""
    part: list[str] = []
    for name in sizes:
        part.append(name)
        if sum(sizes[one] for one in part) > _MAX_MOMENTS:
            yield part
            part = []
    if part:
        yield part


def _gather_moments(
    model: onnx.ModelProto,
    layers: list[tuple[onnx.NodeProto, npt.NDArray[Any]]],
    pixels: _Pixels,
) -> dict[str, npt.NDArray[Any]]:
    """Compute for each layer the mean of x x' over its inputs x; see `round_weights`."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(dict.fromkeys(layer.input[0] for layer, _ in layers))
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = start_session(watched.SerializeToString())
    moments: dict[str, npt.NDArray[Any]] = {}
    for one in pixels:
        maps = dict(zip(names, session.run(names, {"pixels": one}), strict=True))
        for layer, weights in layers:
            patches = extract_patches(maps[layer.input[0]], weights.shape[2:], **_settings(layer))
            found = patches @ patches.transpose(0, 2, 1) / (patches.shape[2] * len(pixels))
            moments[layer.name] = moments.get(layer.name, 0) + found
    return moments


def _settings(layer: onnx.NodeProto) -> dict[str, Any]:
    given = {one.name: helper.get_attribute_value(one) for one in layer.attribute}
    return {
        "groups": given.get("group", 1),
        "strides": given.get("strides", (1, 1)),
        "pads": given.get("pads", (0, 0, 0, 0)),
        "dilations": given.get("dilations", (1, 1)),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log of onnxruntime's quantisation in a block."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
