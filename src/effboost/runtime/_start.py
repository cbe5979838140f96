"""Choice and start of a runtime."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from effboost._transforms import ImageTransform
from effboost.exceptions import (
    MissingDependencyError,
    RuntimeFallbackWarning,
    RuntimeUnavailableError,
)
from effboost.runtime._onnx import OnnxRuntime
from effboost.runtime._openvino import OpenVinoRuntime
from effboost.runtime._protocol import Runtime
from effboost.runtime._torch import TorchRuntime

__all__ = ["RUNTIMES", "plan_runtime", "start_runtime"]

RUNTIMES: Final = ("auto", "torch", "onnxruntime", "openvino")
_OF_GRAPHS: Final[dict[str, Any]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVinoRuntime}


def plan_runtime(choice: str, device: torch.device) -> str:
    """Return the name of the runtime to try first."""
    if choice != "auto":
        return choice
    return "onnxruntime" if device.type == "cpu" else "torch"


def start_runtime(
    choice: str,
    module: nn.Module,
    transform: ImageTransform,
    device: torch.device,
    graph: Callable[[], bytes],
) -> Runtime:
    """Start the chosen runtime, or for "auto" the fastest one.

    Parameters
    ----------
    choice : {"auto", "torch", "onnxruntime", "openvino"}
        "auto" is torch on a GPU and onnxruntime on a CPU; if the network cannot be exported, it is
        torch, with a warning.
    module : torch.nn.Module
        The network.
    transform : ImageTransform
        Its normalisation.
    device : torch.device
        Where torch computes.
    graph : callable
        Returns the exported network; called only if it is needed.

    Returns
    -------
    Runtime
        The runtime.

    Raises
    ------
    RuntimeUnavailableError
        If a runtime was chosen by name and cannot run this network.
    MissingDependencyError
        If the chosen runtime is not installed.
    """
    name = plan_runtime(choice, device)
    if name == "torch":
        return TorchRuntime(module, transform, device)
    if importlib.util.find_spec(name) is None:
        raise MissingDependencyError(f"runtime={name!r} needs {name}: pip install {name}")
    try:
        runtime: Runtime = _OF_GRAPHS[name](graph())
    except RuntimeUnavailableError as error:
        if choice != "auto":
            raise
        warnings.warn(
            f"{error}; torch computes its features, at about half the speed",
            RuntimeFallbackWarning,
            stacklevel=2,
        )
        return TorchRuntime(module, transform, device)
    return runtime
