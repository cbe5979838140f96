"""Runtimes, which run a network on pixels and return its features."""

from effboost.runtime._export import export_graph
from effboost.runtime._onnx import OnnxRuntime
from effboost.runtime._openvino import OpenVinoRuntime
from effboost.runtime._protocol import Runtime
from effboost.runtime._start import RUNTIMES, plan_runtime, start_runtime
from effboost.runtime._stored import GraphWithoutWeights, cut_weights, restore_graph
from effboost.runtime._torch import TorchRuntime, fused, to_channels_last

__all__ = [
    "RUNTIMES",
    "GraphWithoutWeights",
    "OnnxRuntime",
    "OpenVinoRuntime",
    "Runtime",
    "TorchRuntime",
    "cut_weights",
    "export_graph",
    "fused",
    "plan_runtime",
    "restore_graph",
    "start_runtime",
    "to_channels_last",
]
