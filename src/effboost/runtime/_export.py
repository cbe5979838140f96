"""Export of a torch network to an ONNX graph that takes pixels."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from effboost._transforms import ImageTransform
from effboost._utils.device import tracing
from effboost._utils.locks import ignore_warnings
from effboost.exceptions import RuntimeUnavailableError
from effboost.runtime._onnx import OnnxRuntime
from effboost.runtime._torch import TorchRuntime

__all__ = ["check_graph", "export_graph", "make_exportable", "remove_notes"]

_OPSET: Final = 18
# Rounding in a deep network changes features by far less, another network by far more.
_TOLERANCE: Final = 1e-2
# But a network that was hardly trained can amplify rounding for some pictures: one picture on
# which both agree is enough, and does not come about by chance.
_N_PROBES: Final = 8


def export_graph(module: nn.Module, transform: ImageTransform) -> bytes:
    """Export a network with its normalisation, and check that the graph computes the same.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    transform : ImageTransform
        The size of the prepared images, and their normalisation.

    Returns
    -------
    bytes
        An ONNX model with one input "pixels" of shape (1, image_size, image_size, 3), uint8, and
        one output "features" of shape (1, n_features), float32.

    Raises
    ------
    RuntimeUnavailableError
        If the network cannot be exported, or its graph computes other features.

    Examples
    --------
    >>> import onnx
    >>> from torch import nn
    >>> from effboost import ImageTransform
    >>> from effboost.runtime import export_graph
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> graph = export_graph(network, ImageTransform(crop_size=None, image_size=32))
    >>> [output.name for output in onnx.load_model_from_string(graph).graph.output]
    ['features']
    """
    reference = TorchRuntime(module, transform, torch.device("cpu"), batch_size=1)
    try:
        graph = _export(
            make_exportable(reference), torch.from_numpy(_make_probe(transform.side, 0))
        )
    except Exception as error:  # exporters fail in many ways, none of them documented
        raise RuntimeUnavailableError(f"the network cannot be exported: {_why(error)}") from error
    check_graph(graph, reference, transform)
    return graph


def check_graph(graph: bytes, reference: TorchRuntime, transform: ImageTransform) -> None:
    """Check that a graph computes the features of a network for images of noise.

    Raises
    ------
    RuntimeUnavailableError
        If it does not, or cannot be run.
    """
    probes = (_make_probe(transform.side, number) for number in range(_N_PROBES))
    try:
        runtime = OnnxRuntime(graph)
        same = any(_alike(runtime.run(probe), reference.run(probe)) for probe in probes)
    except Exception as error:  # of onnxruntime, which documents none
        raise RuntimeUnavailableError(f"the network cannot be exported: {_why(error)}") from error
    if not same:
        raise RuntimeUnavailableError(
            "the exported network computes other features than torch; a forward that branches on "
            "its data, or that draws random numbers, cannot be exported"
        )


def make_exportable(reference: TorchRuntime) -> nn.Module:
    """Return the module that is exported: the network with its normalisation."""
    return _FromPixels(reference)


def _why(error: BaseException) -> str:
    # torch wraps what happened in general advice about its exporter.
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__


class _FromPixels(nn.Module):
    """A network from uint8 pixels to features, as torch runs it."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, runtime: TorchRuntime):
        super().__init__()
        self.body = runtime.module.to(memory_format=torch.contiguous_format)
        self.register_buffer("scale", runtime.scale)
        self.register_buffer("shift", runtime.shift)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        batch = pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
        features: torch.Tensor = self.body(batch)
        return features


def _export(module: nn.Module, pixels: torch.Tensor) -> bytes:
    with tracing(), ignore_warnings(), _errors_only(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (pixels,),
            dynamo=True,
            # onnxruntime does the same on loading, and faster.
            optimize=False,
            opset_version=_OPSET,
            input_names=["pixels"],
            output_names=["features"],
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    model = _fold_casts(program.model_proto)
    del model.metadata_props[:]
    model.doc_string = ""
    remove_notes(model.graph)
    graph: bytes = model.SerializeToString()
    return graph


def remove_notes(graph: Any) -> None:
    """Remove the exporter's notes from a graph, such as paths of this machine, in place."""
    parts = (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info)
    for noted in (graph, *parts):
        del noted.metadata_props[:]
        noted.doc_string = ""


def _fold_casts(model: Any) -> Any:
    """Replace casts of constants to float32 by constants, in place.

    torch exports the bounds of ReLU6 as casts, and onnxruntime fuses a convolution only with bounds
    that are constants: a fifth to a quarter faster for MobileNetV2 and EfficientNet-Lite.
    """
    import onnx

    graph = model.graph
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    kept = []
    for node in graph.node:
        is_cast = node.op_type == "CastLike" and node.input[0] in constants
        if not is_cast or kinds.get(node.input[1]) != onnx.TensorProto.FLOAT:
            kept.append(node)
            continue
        value = onnx.helper.get_attribute_value(constants[node.input[0]].attribute[0])
        if isinstance(value, onnx.TensorProto):
            value = onnx.numpy_helper.to_array(value)
        folded = np.asarray(value, dtype=np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(folded, node.output[0]))
    used = {name for node in kept for name in node.input}
    del graph.node[:]
    graph.node.extend(n for n in kept if n.op_type != "Constant" or n.output[0] in used)
    return model


@contextmanager
def _errors_only() -> Iterator[None]:
    """Make the exporter log only errors in a block, which one thread enters at a time."""
    loggers = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _make_probe(side: int, number: int) -> npt.NDArray[np.uint8]:
    """Draw an image of noise: bright, dim and dark in turn."""
    brightest = 256 >> (2 * (number % 3))
    rng = np.random.default_rng(number)
    return rng.integers(0, brightest, (1, side, side, 3), dtype=np.uint8)


def _alike(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> bool:
    if got.shape != expected.shape:
        return False
    if not np.isfinite(expected).all():
        return bool(np.array_equal(np.isfinite(got), np.isfinite(expected)))
    return bool(np.abs(got - expected).max() <= _TOLERANCE * np.abs(expected).max())
