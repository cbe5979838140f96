"""Engines that carry pixels through a network."""

from effboost.runtime._protocol import Runtime
from effboost.runtime._torch import TorchRuntime

__all__ = ["Runtime", "TorchRuntime"]
