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
    """Return the name of the runtime to try first.

    Parameters
    ----------
    choice : {"auto", "torch", "onnxruntime", "openvino"}
        The parameter `runtime` of `ImageFeaturizer`.
    device : torch.device
        Where torch would compute.

    Returns
    -------
    str
        The name.

    Examples
    --------
    >>> import torch
    >>> from effboost.runtime import plan_runtime
    >>> plan_runtime("auto", torch.device("cpu")), plan_runtime("auto", torch.device("cuda"))
    ('onnxruntime', 'torch')
    """
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

    Warns
    -----
    RuntimeFallbackWarning
        If `choice` is "auto", and torch replaces onnxruntime.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from effboost import ImageTransform
    >>> from effboost.runtime import export_graph, start_runtime
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> def graph():
    ...     return export_graph(network, transform)
    >>> start_runtime("auto", network, transform, torch.device("cpu"), graph).name
    'onnxruntime'
    """
    name = plan_runtime(choice, device)
    if name == "torch":
        return TorchRuntime(module, transform, device)
    if importlib.util.find_spec(name) is None:
        raise MissingDependencyError(
            f"runtime={name!r} needs {name}: pip install 'effboost[{name}]'"
        )
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
