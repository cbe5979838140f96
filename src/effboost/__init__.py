"""EfficientNet features and boosted trees for image classification, the scikit-learn way."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effboost import (
        backbones,
        comparators,
        datasets,
        exceptions,
        inspection,
        metrics,
        model_selection,
        persistence,
        presets,
        reproduction,
    )
    from effboost._cache import Cache
    from effboost._cnn import CNNClassifier
    from effboost._featurizer import EfficientNetFeaturizer, ImageFeaturizer
    from effboost._hybrid import HybridClassifier
    from effboost._images import ImageSequence
    from effboost._linear_boosted import LinearBoostedClassifier
    from effboost._recipe import FineTuning
    from effboost._stream import Prediction, iter_predictions
    from effboost._transforms import Augmentation, ImageTransform
    from effboost.evaluation import EvaluationReport, evaluate
    from effboost.persistence import OnnxClassifier, describe_model, export_onnx, load, save

__all__ = [
    "Augmentation",
    "CNNClassifier",
    "Cache",
    "EfficientNetFeaturizer",
    "EvaluationReport",
    "FineTuning",
    "HybridClassifier",
    "ImageFeaturizer",
    "ImageSequence",
    "ImageTransform",
    "LinearBoostedClassifier",
    "OnnxClassifier",
    "Prediction",
    "backbones",
    "comparators",
    "datasets",
    "describe_model",
    "evaluate",
    "exceptions",
    "export_onnx",
    "inspection",
    "iter_predictions",
    "load",
    "metrics",
    "model_selection",
    "persistence",
    "presets",
    "reproduction",
    "save",
]

# Loaded when first asked for (PEP 562): torch alone takes a second.
_HOME = {
    "Augmentation": "_transforms",
    "CNNClassifier": "_cnn",
    "Cache": "_cache",
    "EfficientNetFeaturizer": "_featurizer",
    "EvaluationReport": "evaluation",
    "FineTuning": "_recipe",
    "HybridClassifier": "_hybrid",
    "ImageFeaturizer": "_featurizer",
    "ImageSequence": "_images",
    "ImageTransform": "_transforms",
    "LinearBoostedClassifier": "_linear_boosted",
    "OnnxClassifier": "persistence",
    "Prediction": "_stream",
    "describe_model": "persistence",
    "evaluate": "evaluation",
    "export_onnx": "persistence",
    "iter_predictions": "_stream",
    "load": "persistence",
    "save": "persistence",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("effboost")
    if name in _HOME:
        value = getattr(importlib.import_module(f"effboost.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in __all__:
        return importlib.import_module(f"effboost.{name}")
    raise AttributeError(f"module 'effboost' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
