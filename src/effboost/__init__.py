"""EfficientNet features and boosted trees for image classification, the scikit-learn way."""

from __future__ import annotations

import importlib

# The module typing takes most of the time of this import, in which Ctrl-C shows a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from effboost import (
        backbones,
        comparators,
        dask,
        datasets,
        exceptions,
        inspection,
        metrics,
        model_selection,
        onnx,
        persistence,
        presets,
        reproduction,
    )
    from effboost._cnn_classifier import CNNClassifier
    from effboost._efficientnet_featurizer import EfficientNetFeaturizer
    from effboost._extract_features import FeatureTable, extract_features, iter_features
    from effboost._extraction.cache import Cache
    from effboost._familiarity import FamiliarityTable
    from effboost._featurizer import ImageFeaturizer
    from effboost._heads.linear_boosted import LinearBoostedClassifier
    from effboost._heads.site_adaptation import SiteAdaptedClassifier
    from effboost._hybrid_classifier import HybridClassifier
    from effboost._images import ImageSequence
    from effboost._iter_predictions import (
        Prediction,
        PredictionTable,
        iter_predictions,
        predict_images,
    )
    from effboost._rejects import Reject, RejectTable
    from effboost._training.config import FineTuning, Regularization, Schedule
    from effboost._transforms import Augmentation, ImageTransform
    from effboost.evaluation import EvaluationReport, evaluate
    from effboost.onnx import OnnxClassifier, export_onnx
    from effboost.persistence import describe_model, load, save

__all__ = [
    "Augmentation",
    "CNNClassifier",
    "Cache",
    "EfficientNetFeaturizer",
    "EvaluationReport",
    "FamiliarityTable",
    "FeatureTable",
    "FineTuning",
    "HybridClassifier",
    "ImageFeaturizer",
    "ImageSequence",
    "ImageTransform",
    "LinearBoostedClassifier",
    "OnnxClassifier",
    "Prediction",
    "PredictionTable",
    "Regularization",
    "Reject",
    "RejectTable",
    "Schedule",
    "SiteAdaptedClassifier",
    "backbones",
    "comparators",
    "dask",
    "datasets",
    "describe_model",
    "evaluate",
    "exceptions",
    "export_onnx",
    "extract_features",
    "inspection",
    "iter_features",
    "iter_predictions",
    "load",
    "metrics",
    "model_selection",
    "onnx",
    "persistence",
    "predict_images",
    "presets",
    "reproduction",
    "save",
]

# Loaded when first asked for (PEP 562): torch alone takes a second.
_HOME = {
    "Augmentation": "_transforms",
    "CNNClassifier": "_cnn_classifier",
    "Cache": "_extraction.cache",
    "EfficientNetFeaturizer": "_efficientnet_featurizer",
    "EvaluationReport": "evaluation",
    "FamiliarityTable": "_familiarity",
    "FeatureTable": "_extract_features",
    "FineTuning": "_training.config",
    "HybridClassifier": "_hybrid_classifier",
    "ImageFeaturizer": "_featurizer",
    "ImageSequence": "_images",
    "ImageTransform": "_transforms",
    "LinearBoostedClassifier": "_heads.linear_boosted",
    "OnnxClassifier": "onnx",
    "Prediction": "_iter_predictions",
    "PredictionTable": "_iter_predictions",
    "Regularization": "_training.config",
    "Reject": "_rejects",
    "RejectTable": "_rejects",
    "Schedule": "_training.config",
    "SiteAdaptedClassifier": "_heads.site_adaptation",
    "describe_model": "persistence",
    "evaluate": "evaluation",
    "export_onnx": "onnx",
    "extract_features": "_extract_features",
    "iter_features": "_extract_features",
    "iter_predictions": "_iter_predictions",
    "load": "persistence",
    "predict_images": "_iter_predictions",
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
