"""Description of a fitted model by plain data, modules and members of a file."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Final

import numpy as np
import torch
from sklearn.base import BaseEstimator

from effboost._cnn_classifier import CNNClassifier
from effboost._efficientnet_featurizer import EfficientNetFeaturizer
from effboost._featurizer import ImageFeaturizer
from effboost._hybrid_classifier import HybridClassifier
from effboost._utils.refusal import RefusedError
from effboost.backbones import BackboneSpec, get_backbone_spec
from effboost.persistence._familiarity import describe_familiarity
from effboost.persistence._graph import GRAPH, describe_graph
from effboost.persistence._heads import write_heads
from effboost.persistence._values import NotPlainError, encode, is_group

__all__ = ["FEATURIZERS", "KINDS", "Described", "describe"]

FEATURIZERS: Final[dict[str, type[ImageFeaturizer]]] = {
    kind.__name__: kind for kind in (ImageFeaturizer, EfficientNetFeaturizer)
}
KINDS: Final[dict[str, Any]] = {
    **FEATURIZERS,
    "CNNClassifier": CNNClassifier,
    "HybridClassifier": HybridClassifier,
}
# Described apart: estimators, networks, and a folder of this machine.
_APART: Final = ("backbone", "cache", "classifier", "featurizer")


@dataclasses.dataclass
class Described:
    """The parts of a model.

    Attributes
    ----------
    model : dict
        The description as values of JSON.
    modules : dict of str to torch.nn.Module
        Its networks.
    tensors : dict of str to torch.Tensor
        Its other arrays.
    members : dict of str to bytes
        Its heads, and the exported graph of its network.
    dropped : list of str
        Parameters that are code and only matter for training.
    """

    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    modules: dict[str, torch.nn.Module] = dataclasses.field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    members: dict[str, bytes] = dataclasses.field(default_factory=dict)
    dropped: list[str] = dataclasses.field(default_factory=list)


def describe(model: Any) -> Described:
    """Describe a fitted model.

    Raises
    ------
    RefusedError
        If it is of a class that cannot be saved.
    """
    kind = type(model)
    if KINDS.get(kind.__name__) is not kind:
        raise RefusedError(
            f"a {kind.__module__}.{kind.__qualname__} cannot be saved; "
            f"{', '.join(sorted(KINDS))} can. Put calibration or voting inside of a "
            "HybridClassifier, as its classifier. joblib.dump saves any model, as a pickle, which "
            "can run code when it is loaded"
        )
    described = Described()
    if kind.__name__ in FEATURIZERS:
        described.model = _describe_fitted(model, described)
        return described
    described.model = {
        "params": _describe_params(model, described),
        "featurizer": None
        if model.featurizer is None
        else _describe_featurizer(model.featurizer, described),
        "featurizer_": _describe_fitted(model.featurizer_, described),
    }
    if kind is HybridClassifier:
        _describe_hybrid(model, described)
    return described


def _describe_hybrid(model: HybridClassifier, described: Described) -> None:
    heads, members, dropped = write_heads(
        {"classifier": model.classifier, "classifier_": model.classifier_}
    )
    described.members |= members
    described.dropped += dropped
    metrics = getattr(model, "evals_result_", None)
    described.model |= {
        "heads": heads,
        "classes": encode(model.classes_),
        "evals_result": None if metrics is None else encode(_plain(metrics)),
        "output": encode(vars(model).get("_sklearn_output_config")),
    }
    described.tensors["feature_means"] = torch.from_numpy(np.array(model.feature_means_))
    if hasattr(model, "familiarity_"):
        described.model["familiarity"], tensors = describe_familiarity(model.familiarity_)
        described.tensors |= tensors


def _describe_fitted(featurizer: ImageFeaturizer, described: Described) -> dict[str, Any]:
    spec = featurizer.spec_
    if featurizer._resolve_transform(spec) != featurizer.transform_:
        raise RefusedError("its featurizer's parameters were changed after fit; fit it again")
    described.modules["network"] = featurizer.module_
    if featurizer.head_ is not None:
        described.modules["head"] = featurizer.head_
    seen = {
        name: encode(vars(featurizer)[name])
        for name in ("n_features_in_", "feature_names_in_")
        if name in vars(featurizer)
    }
    own: dict[str, Any] = {}
    if featurizer.extra_features and featurizer.head_ is not None:
        own["own_width"] = featurizer.head_.in_features
    if featurizer.extra_features:
        own["stages"] = "children"  # what pairs count; in older files, widths
    if (graph := describe_graph(featurizer)) is not None:
        described.members[GRAPH], own["graph"] = graph
    return (
        _describe_featurizer(featurizer, described)
        | own
        | {
            "width": featurizer._n_features_out,
            "transform": featurizer.transform_.describe(),
            "has_head": featurizer.head_ is not None,
            "classes": encode(getattr(featurizer, "classes_", None)),
            "history": encode(_plain(featurizer.history_)),
            "seen": seen,
            "output": encode(vars(featurizer).get("_sklearn_output_config")),
        }
    )


def _describe_featurizer(featurizer: ImageFeaturizer, described: Described) -> dict[str, Any]:
    kind = type(featurizer)
    if FEATURIZERS.get(kind.__name__) is not kind:
        raise RefusedError(
            f"its featurizer is a {kind.__module__}.{kind.__qualname__}; "
            f"{' and '.join(FEATURIZERS)} can be saved"
        )
    return {
        "kind": kind.__name__,
        "params": _describe_params(featurizer, described),
        "backbone": _describe_backbone(featurizer.backbone),
    }


def _describe_backbone(backbone: Any) -> Any:
    if isinstance(backbone, str):
        return backbone
    spec = get_backbone_spec(backbone)
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    del fields["factory"]
    try:
        return {
            "spec": {name: encode(value) for name, value in fields.items()},
            "factory": spec.factory is not None,
            "is_spec": isinstance(backbone, BackboneSpec),
        }
    except NotPlainError as error:
        raise RefusedError(
            f"its backbone {spec.name!r} has options that are code ({error}); build it by a "
            "factory without options, and give that to load"
        ) from error


def _describe_params(estimator: BaseEstimator, described: Described) -> dict[str, Any]:
    """Encode parameters; those that are code are replaced by their defaults, and listed."""
    params = {}
    defaults = inspect.signature(type(estimator)).parameters
    for name, value in estimator.get_params(deep=False).items():
        if name in _APART:
            continue
        try:
            params[name] = _encode_param(value, described)
        except NotPlainError:
            params[name] = encode(defaults[name].default)
            described.dropped.append(name)
    return params


def _encode_param(value: Any, described: Described) -> Any:
    if isinstance(value, torch.device):
        return str(value)
    if is_group(value):
        return {type(value).__name__: _describe_params(value, described)}
    return encode(value)


def _plain(value: Any) -> Any:
    """Convert nested histories to plain dictionaries, lists and numbers."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
