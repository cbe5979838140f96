"""From checked parts of a file to a fitted model."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final

import numpy as np
import torch
from sklearn.base import BaseEstimator

from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._hybrid_classifier import HybridClassifier
from effboost._transforms import ImageTransform
from effboost._utils.compat import load_torchvision
from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.backbones import BACKBONES, BackboneSpec, renumber_stages
from effboost.persistence._describe import FEATURIZERS
from effboost.persistence._heads import MAX_BYTES, read_heads
from effboost.persistence._json import check_fields
from effboost.persistence._tensors import (
    Shapes,
    check_tensors,
    fill,
    list_all_tensors,
    list_shapes,
    read_tensors,
)
from effboost.persistence._values import decode

__all__ = ["NETWORK", "Construction"]

NETWORK: Final = "network.safetensors"
_MAX_HEADER: Final = 2**22
_MAX_WIDTH: Final = 2**20
# Larger ones would take more than a gigabyte for one picture.
_MAX_SIDE: Final = 8192
_FITTED: Final = {
    "width": int,
    "transform": dict,
    "has_head": bool,
    "classes": (dict, type(None)),
    "history": list,
    "seen": dict,
    "output": (dict, type(None)),
}
# With `extra_features`: how many features are the network's own, and what pairs count.
_MORE: Final = {"own_width": int, "stages": str}
_FEATURIZER: Final = {"kind": str, "params": dict, "backbone": (str, dict)}
_CNN: Final = {"params": dict, "featurizer": (dict, type(None)), "featurizer_": dict}
_HYBRID: Final = {
    **_CNN,
    "heads": dict,
    "classes": dict,
    "evals_result": (dict, type(None)),
    "output": (dict, type(None)),
}


@dataclasses.dataclass
class Construction:
    """How a model of a file is put together.

    Attributes
    ----------
    read : callable
        Gives a member of the file by its name and the most bytes that it may have.
    heads : sequence of str
        The names of the members that are neither manifest nor network.
    backbone : callable, BackboneSpec or None
        Builds a network that is the caller's own.
    device : str, torch.device or None
        Where featurizers compute; None leaves it as it was saved.
    """

    read: Callable[[str, int], bytes]
    heads: list[str]
    backbone: Any
    device: Any

    def build(self, kind: str, model: dict[str, Any]) -> Any:
        """Give the model.

        Raises
        ------
        RefusedError
            If its parts are not known, or do not fit one another.
        """
        if kind in FEATURIZERS:
            self._expect_no_heads()
            return self._build_fitted({**model}, "manifest.json: model", {})[0]
        if kind == "CNNClassifier":
            self._expect_no_heads()
            return self._build_cnn(model)
        if kind == "HybridClassifier":
            return self._build_hybrid(model)
        raise RefusedError(f"it holds a {quote_name(kind)}, which is not a model of effboost")

    def _expect_no_heads(self) -> None:
        if self.heads:
            raise RefusedError(f"its member {quote_name(self.heads[0])} belongs to nothing")

    def _build_cnn(self, model: dict[str, Any]) -> CNNClassifier:
        check_fields(model, "manifest.json: model", _CNN)
        classifier: CNNClassifier = self._build_classifier(CNNClassifier, model)
        fitted, _ = self._build_fitted(model["featurizer_"], "manifest.json: featurizer_", {})
        if not hasattr(fitted, "classes_"):
            raise RefusedError("its network was not trained on any classes")
        _share_stages(classifier.featurizer, fitted, model)
        return classifier._share(fitted)

    def _build_hybrid(self, model: dict[str, Any]) -> HybridClassifier:
        check_fields(model, "manifest.json: model", _HYBRID)
        classifier: HybridClassifier = self._build_classifier(HybridClassifier, model)
        width = _check_width(model["featurizer_"])
        means = {"feature_means": (torch.float64, (width,))}
        fitted, tensors = self._build_fitted(
            model["featurizer_"], "manifest.json: featurizer_", means
        )
        classes = _decode_classes(model["classes"])
        heads = read_heads(
            model["heads"], {name: self.read(name, MAX_BYTES) for name in self.heads}
        )
        if heads.keys() != {"classifier", "classifier_"}:
            raise RefusedError("manifest.json: heads are not those of a HybridClassifier")
        head, prototype = heads["classifier_"], heads["classifier"]
        _check_head(head, len(classes))
        if prototype is not None and not isinstance(prototype, BaseEstimator):
            raise RefusedError("its classifier is no estimator")
        _share_stages(classifier.featurizer, fitted, model)
        classifier.classifier, classifier.classifier_ = prototype, head
        classifier.classes_, classifier.featurizer_ = classes, fitted
        classifier.history_ = fitted.history_
        classifier.feature_means_ = tensors["feature_means"].numpy()
        if hasattr(fitted, "classes_"):
            classifier.cnn_ = CNNClassifier(fitted)._share(fitted)
        if model["evals_result"] is not None:
            classifier.evals_result_ = decode(model["evals_result"], "manifest.json: evals_result")
        _set_output(classifier, model["output"])
        return classifier

    def _build_classifier(self, kind: Any, model: dict[str, Any]) -> Any:
        """Give a classifier with its parameters, not fitted."""
        prototype = model["featurizer"]
        if prototype is not None:
            prototype = self._build_featurizer(prototype, "manifest.json: featurizer", _FEATURIZER)
        return _with_params(kind, model["params"], {"featurizer": prototype})

    def _build_featurizer(
        self, description: Any, what: str, fields: Mapping[str, Any]
    ) -> ImageFeaturizer:
        check_fields(description, what, fields, _MORE)
        kind = FEATURIZERS.get(description["kind"])
        if kind is None:
            raise RefusedError(f"{what} is a {quote_name(description['kind'])}, which is unknown")
        backbone = self._choose_backbone(description["backbone"], what)
        featurizer: ImageFeaturizer = _with_params(
            kind, description["params"], {"backbone": backbone}
        )
        if max(featurizer.image_size, featurizer.crop_size or 0) > _MAX_SIDE:
            raise RefusedError(f"{what} wants pictures of more than {_MAX_SIDE} pixels a side")
        if self.device is not None:
            featurizer.device = self.device
        return featurizer

    def _choose_backbone(self, described: Any, what: str) -> Any:
        """Give a name or spec of a known network, or what the caller gave for an own one."""
        if isinstance(described, str):
            spec, own, is_spec = BackboneSpec(described), False, False
        else:
            check_fields(described, what, {"spec": dict, "factory": bool, "is_spec": bool})
            spec = _decode_spec(described["spec"], what)
            own, is_spec = described["factory"], described["is_spec"]
        if own and self.backbone is None:
            raise RefusedError(
                f"its network {quote_name(spec.name)} was built by code of your own, which no "
                "file holds: load(path, backbone=...) takes the callable or BackboneSpec again"
            )
        if own:
            whole = isinstance(self.backbone, BackboneSpec) or not is_spec
            return self.backbone if whole else dataclasses.replace(spec, factory=self.backbone)
        models = load_torchvision().models
        if spec.name not in {*BACKBONES, *models.list_models(module=models)}:
            raise RefusedError(f"{what}: no backbone is named {quote_name(spec.name)}")
        if self.backbone is not None:
            raise RefusedError(
                f"its network is torchvision's {quote_name(spec.name)}; leave backbone out"
            )
        return spec if is_spec else described

    def _build_fitted(
        self, description: dict[str, Any], what: str, others: Mapping[str, Any]
    ) -> tuple[ImageFeaturizer, dict[str, torch.Tensor]]:
        """Give a fitted featurizer, and the other tensors of the file."""
        featurizer = self._build_featurizer(description, what, {**_FEATURIZER, **_FITTED})
        width, classes = _check_width(description), description["classes"]
        own_width = _check_width(description, "own_width") if "own_width" in description else width
        classes = None if classes is None else _decode_classes(classes)
        head = None
        if description["has_head"]:
            if classes is None:
                raise RefusedError(f"{what} has a layer for classes, but no classes")
            with Shapes():
                head = torch.nn.Linear(own_width, len(classes)).eval()
        history = decode(description["history"], f"{what}: history")
        heads = {} if head is None else {"head": head}
        module, tensors = self._build_network(featurizer, heads, others, what)
        if head is not None:
            fill(head, tensors, "head")
        if "stages" not in description and isinstance(featurizer.extra_features, tuple | list):
            featurizer.extra_features = _count_children(featurizer, module, what)
        featurizer._set_fitted_state(
            featurizer._check_backbone(), module, width, head, history, classes
        )
        _check_transform(featurizer, description["transform"], what)
        for name, value in check_fields(
            description["seen"], what, {}, {"n_features_in_": int, "feature_names_in_": dict}
        ).items():
            setattr(featurizer, name, decode(value, f"{what}: {name}"))
        _set_output(featurizer, description["output"])
        return featurizer, tensors

    def _build_network(
        self,
        featurizer: ImageFeaturizer,
        heads: Mapping[str, torch.nn.Module],
        others: Mapping[str, Any],
        what: str,
    ) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        """Give the network with its weights, and all tensors of the file.

        It is built without memory, and takes the file's tensors for its own once they were found
        to fit: a file cannot make a network take memory whose weights it does not hold.
        """
        own = featurizer._check_backbone().factory is not None
        module = _build_module(featurizer, what, weightless=not own)
        expected = list_shapes({"network": module, **heads}) | dict(others)
        n_bytes = sum(math.prod(shape) * dtype.itemsize for dtype, shape in expected.values())
        content = self.read(NETWORK, n_bytes + _MAX_HEADER)
        check_tensors(content, expected)
        tensors = read_tensors(content)
        fill(module, tensors, "network")
        if any(tensor.is_meta for tensor in list_all_tensors(module)):
            # It has tensors that are no weights, and that only building it for real computes.
            module = _build_module(featurizer, what, weightless=False)
            fill(module, tensors, "network")
        return module, tensors


def _count_children(
    featurizer: ImageFeaturizer, module: torch.nn.Module, what: str
) -> tuple[tuple[int, str], ...]:
    """Translate `extra_features` of a file whose pairs count widths."""
    extra: Any = featurizer.extra_features
    try:
        return renumber_stages(module, featurizer._check_backbone(), extra, featurizer.image_size)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{what}: its extra_features are not of its network: {error}") from error


def _share_stages(prototype: Any, fitted: ImageFeaturizer, model: dict[str, Any]) -> None:
    """Let the parameter `featurizer` count stages as `featurizer_` does."""
    described = (model["featurizer"] or {}).get("params", {}).get("extra_features")
    if described == model["featurizer_"]["params"].get("extra_features") and prototype is not None:
        prototype.extra_features = fitted.extra_features


def _build_module(featurizer: ImageFeaturizer, what: str, *, weightless: bool) -> torch.nn.Module:
    """Build a featurizer's network with random weights, or with none."""
    twin = copy.copy(featurizer)
    twin.weights, twin.fine_tune = None, False
    try:
        with Shapes() if weightless else nullcontext():
            module, _ = twin._build(twin._check_backbone(), 0)
    # Options of a file may be anything, and so may the ways in which torchvision refuses them.
    except Exception as error:
        raise RefusedError(f"{what}: the network cannot be built ({error})") from error
    return module


def _with_params(kind: Any, described: dict[str, Any], apart: dict[str, Any]) -> Any:
    """Give an estimator with the parameters of a file; those that it lacks keep their defaults."""
    known = kind._get_param_names()
    params = {}
    for name, value in described.items():
        what = f"manifest.json: parameter {quote_name(name)} of {kind.__name__}"
        if name not in known or name in apart or name == "cache":
            raise RefusedError(f"{what} is unknown")
        params[name] = _decode_param(value, what)
    estimator = kind(**params, **apart)
    try:
        estimator._validate_params()
    except (TypeError, ValueError) as error:
        raise RefusedError(f"manifest.json: {error}") from error
    return estimator


def _decode_param(value: Any, what: str) -> Any:
    if isinstance(value, dict) and value.keys() == {"optimizer"}:
        name = value["optimizer"]
        kind = vars(torch.optim).get(name) if isinstance(name, str) else None
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            raise RefusedError(f"{what} is no optimizer of torch")
        return kind
    return decode(value, what)


def _decode_spec(fields: Any, what: str) -> BackboneSpec:
    values = {name: decode(value, f"{what}: backbone") for name, value in fields.items()}
    try:
        spec = BackboneSpec(**values)
    except TypeError as error:
        raise RefusedError(f"{what}: its backbone is described otherwise ({error})") from error
    if not (
        isinstance(spec.name, str)
        and isinstance(spec.family, str)
        and isinstance(spec.head, str | None)
        and "factory" not in values
        and all(_is_triple(three) for three in (spec.mean, spec.std))
        and isinstance(spec.options, tuple)
        and all(isinstance(option, tuple) and len(option) == 2 for option in spec.options)
    ):
        raise RefusedError(f"{what}: its backbone is described otherwise")
    return spec


def _is_triple(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 3
        and all(type(value) in (int, float) for value in values)
    )


def _decode_classes(described: Any) -> np.ndarray[Any, Any]:
    classes = decode(described, "manifest.json: classes")
    if not isinstance(classes, np.ndarray) or len(classes) < 2:
        raise RefusedError("manifest.json: classes are no array of two or more")
    return classes


def _check_width(description: Any, name: str = "width") -> int:
    width = description.get(name)
    if type(width) is not int or not 1 <= width <= _MAX_WIDTH:
        raise RefusedError(f"manifest.json: {name} is no number of features")
    return width


def _check_head(head: Any, n_classes: int) -> None:
    if not isinstance(head, BaseEstimator) or not hasattr(head, "predict"):
        raise RefusedError("its head is no fitted classifier")
    try:
        fits = np.array_equal(head.classes_, np.arange(n_classes))
    # A property of a head whose parts are missing may fail in any way.
    except Exception as error:
        raise RefusedError("its head is not fitted") from error
    if not fits:
        raise RefusedError("its head decides between other classes than the model has")


def _set_output(estimator: Any, described: Any) -> None:
    config = decode(described, "manifest.json: output")
    if config is None:
        return
    if not isinstance(config, dict) or config.get("transform") not in (
        "default",
        "pandas",
        "polars",
    ):
        raise RefusedError("manifest.json: output is no format of scikit-learn")
    estimator.set_output(transform=config["transform"])


def _check_transform(featurizer: ImageFeaturizer, described: dict[str, Any], what: str) -> None:
    """Check that parameters mean today what they meant when the model was fitted."""
    try:
        same = ImageTransform.from_dict(described) == featurizer.transform_
    except TypeError as error:
        raise RefusedError(f"{what}: its transform is described otherwise ({error})") from error
    if not same:
        raise RefusedError(
            f"{what}: its transform was {described}; its parameters and backbone now give "
            f"{featurizer.transform_.to_dict()}"
        )
