"""Export of fitted models as ONNX graphs, and a classifier that runs them without torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effboost.onnx._classifier import OnnxClassifier
    from effboost.onnx._export import export_onnx

__all__ = ["OnnxClassifier", "export_onnx"]

# Imported at first use: running an exported model needs no torch.
_HOME = {"OnnxClassifier": "_classifier", "export_onnx": "_export"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'effboost.onnx' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"effboost.onnx.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
