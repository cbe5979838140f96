"""From a torch network to an ONNX graph that takes pixels."""

from __future__ import annotations

import logging
from typing import Final

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

__all__ = ["export_graph"]

_OPSET: Final = 18
# What rounding does to a deep network lies far below, what another network gives far above.
_TOLERANCE: Final = 1e-2
# But one that was hardly trained can make a mountain of any rounding, for some pictures: one
# picture on which both agree is enough, and chance does not bring that about.
_N_PROBES: Final = 8


def export_graph(module: nn.Module, transform: ImageTransform) -> bytes:
    """Export a network, normalisation included, and check that it still computes the same.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    transform : ImageTransform
        Gives the size of the pictures and their normalisation.

    Returns
    -------
    bytes
        An ONNX model with one input "pixels" of shape (1, image_size, image_size, 3), uint8, and
        one output "features" of shape (1, n_features), float32.

    Raises
    ------
    RuntimeUnavailableError
        If the network cannot be exported, or its graph gives other features.
    """
    reference = TorchRuntime(module, transform, torch.device("cpu"), batch_size=1)
    probes = [_make_probe(transform.image_size, number) for number in range(_N_PROBES)]
    try:
        graph = _export(_FromPixels(reference), torch.from_numpy(probes[0]))
        engine = OnnxRuntime(graph)
        same = any(_alike(engine.run(probe), reference.run(probe)) for probe in probes)
    except Exception as error:  # exporters fail in many ways, none of them documented
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RuntimeUnavailableError(f"the network cannot be exported: {reason}") from error
    if not same:
        raise RuntimeUnavailableError(
            "the exported network gives other features than torch: does its forward look at its "
            "data?"
        )
    return graph


class _FromPixels(nn.Module):
    """The network as the torch engine runs it, from uint8 pictures on."""

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
    chatty = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [logger.level for logger in chatty]
    for logger in chatty:
        logger.setLevel(logging.ERROR)
    try:
        with tracing(), ignore_warnings(), torch.no_grad():
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
    finally:
        for logger, level in zip(chatty, levels, strict=True):
            logger.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx gave nothing")
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def _make_probe(side: int, number: int) -> npt.NDArray[np.uint8]:
    """Return a picture of noise, in turn bright, dim and dark."""
    brightest = 256 >> (2 * (number % 3))
    rng = np.random.default_rng(number)
    return rng.integers(0, brightest, (1, side, side, 3), dtype=np.uint8)


def _alike(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> bool:
    if got.shape != expected.shape:
        return False
    if not np.isfinite(expected).all():
        return bool(np.array_equal(np.isfinite(got), np.isfinite(expected)))
    return bool(np.abs(got - expected).max() <= _TOLERANCE * np.abs(expected).max())
