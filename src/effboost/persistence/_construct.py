"""Construction of a fitted model from the parts of a file."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import torch
from sklearn.base import BaseEstimator

from effboost._cnn_classifier import CNNClassifier
from effboost._featurizer import ImageFeaturizer
from effboost._hybrid_classifier import HybridClassifier
from effboost._transforms import ImageTransform
from effboost._utils.class_names import are_classes
from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.backbones import BackboneSpec, get_backbone_spec
from effboost.exceptions import UnknownBackboneError
from effboost.persistence._boosters import check_metrics
from effboost.persistence._checks import try_head
from effboost.persistence._describe import FEATURIZERS
from effboost.persistence._familiarity import build_familiarity, list_familiarity_tensors
from effboost.persistence._fitted import (
    check_history,
    check_network,
    check_seen,
    check_settings,
    renumber_extra_features,
    set_fitted_state,
)
from effboost.persistence._graph import GRAPH, StoredGraph
from effboost.persistence._graph import MAX_BYTES as MAX_GRAPH_BYTES
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
# With `extra_features`: how many features are the network's own, and what pairs count. In files
# since there are any: the exported graph.
_MORE: Final = {"own_width": int, "stages": str, "graph": dict}
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
    """Builds a model from the parts of a file.

    Attributes
    ----------
    read : callable
        Reads a member of the file, given its name and a limit of its size in bytes.
    heads : list of str
        The names of the members that are neither manifest nor network. The graph is taken out.
    backbone : callable, BackboneSpec or None
        Builds a custom network of the caller.
    device : str, torch.device or None
        Where featurizers compute; None leaves it as it was saved.
    """

    read: Callable[[str, int], bytes]
    heads: list[str]
    backbone: Any
    device: Any

    def build(self, kind: str, model: dict[str, Any]) -> Any:
        """Build the model.

        Raises
        ------
        RefusedError
            If its parts are unknown, or do not fit each other.
        """
        if kind in FEATURIZERS:
            featurizer, _ = self._build_fitted({**model}, "manifest.json: model", {})
            self._expect_no_heads()
            return featurizer
        if kind == "CNNClassifier":
            return self._build_cnn(model)
        if kind == "HybridClassifier":
            return self._build_hybrid(model)
        raise RefusedError(f"it contains a {quote_name(kind)}, which is not a model of effboost")

    def _expect_no_heads(self) -> None:
        if self.heads:
            raise RefusedError(f"its member {quote_name(self.heads[0])} is not part of the model")

    def _build_cnn(self, model: dict[str, Any]) -> CNNClassifier:
        check_fields(model, "manifest.json: model", _CNN)
        classifier: CNNClassifier = self._build_classifier(CNNClassifier, model)
        fitted, _ = self._build_fitted(model["featurizer_"], "manifest.json: featurizer_", {})
        self._expect_no_heads()
        if not hasattr(fitted, "classes_"):
            raise RefusedError("its network was not trained on any classes")
        _share_stages(classifier.featurizer, fitted, model)
        classifier._set_fitted_state(fitted)
        return classifier

    def _build_hybrid(self, model: dict[str, Any]) -> HybridClassifier:
        check_fields(model, "manifest.json: model", _HYBRID, {"familiarity": dict})
        classifier: HybridClassifier = self._build_classifier(HybridClassifier, model)
        width = _check_width(model["featurizer_"])
        others = list_familiarity_tensors(model.get("familiarity"), width)
        others["feature_means"] = torch.float64, (width,)
        fitted, tensors = self._build_fitted(
            model["featurizer_"], "manifest.json: featurizer_", others
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
            raise RefusedError("its classifier is not an estimator")
        feature_means = tensors["feature_means"].numpy()
        try_head(head, feature_means, len(classes))
        _share_stages(classifier.featurizer, fitted, model)
        classifier.classifier = prototype
        classifier._set_fitted_state(fitted, head, classes)
        classifier.feature_means_ = feature_means
        learnt = build_familiarity(model.get("familiarity"), tensors)
        if learnt is not None:
            classifier.familiarity_ = learnt
        if model["evals_result"] is not None:
            classifier.evals_result_ = decode(model["evals_result"], "manifest.json: evals_result")
            check_metrics(classifier.evals_result_, "manifest.json: evals_result")
        _set_output(classifier, model["output"])
        return classifier

    def _build_classifier(self, kind: Any, model: dict[str, Any]) -> Any:
        """Build a classifier with its parameters, not fitted."""
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
        transform: ImageTransform = featurizer._child("transform")
        if max(transform.image_size or 0, transform.crop_size or 0) > _MAX_SIDE:
            raise RefusedError(f"{what} is for images of more than {_MAX_SIDE} pixels a side")
        check_settings(featurizer, what)
        if self.device is not None:
            featurizer.device = self.device
        return featurizer

    def _choose_backbone(self, described: Any, what: str) -> Any:
        """Return the name or spec of a known network, or the caller's custom one."""
        if isinstance(described, str):
            spec, own, is_spec = BackboneSpec(described), False, False
        else:
            check_fields(described, what, {"spec": dict, "factory": bool, "is_spec": bool})
            spec = _decode_spec(described["spec"], what)
            own, is_spec = described["factory"], described["is_spec"]
        if own and self.backbone is None:
            raise RefusedError(
                f"its network {quote_name(spec.name)} was built by custom code, which is not in "
                "the file; pass the callable or BackboneSpec again: load(path, backbone=...)"
            )
        if own:
            whole = isinstance(self.backbone, BackboneSpec) or not is_spec
            return self.backbone if whole else dataclasses.replace(spec, factory=self.backbone)
        try:
            get_backbone_spec(spec.name)  # a name of torchvision or timm, not of a file or a hub
        except UnknownBackboneError as error:
            raise RefusedError(f"{what}: no backbone is named {quote_name(spec.name)}") from error
        if self.backbone is not None:
            package = "torchvision" if spec.timm_name is None else "timm"
            raise RefusedError(
                f"its network is {package}'s {quote_name(spec.name)}; leave out backbone"
            )
        return spec if is_spec else described

    def _build_fitted(
        self, description: dict[str, Any], what: str, others: Mapping[str, Any]
    ) -> tuple[ImageFeaturizer, dict[str, torch.Tensor]]:
        """Build a fitted featurizer, and return it with the other tensors of the file."""
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
        check_history(history, f"{what}: history")
        heads = {} if head is None else {"head": head}
        module, shapes, tensors = self._build_network(featurizer, heads, others, what)
        if head is not None:
            fill(head, tensors, "head")
        elif classes is not None and len(classes) > width:
            raise RefusedError(f"{what} has {len(classes)} classes and {width} outputs for them")
        if "stages" not in description:
            renumber_extra_features(featurizer, shapes or module, what)
        own = own_width if head is not None or "own_width" in description else None
        fitted = head, history, classes
        set_fitted_state(featurizer, module, shapes, (own, width), fitted, what)
        _check_transform(featurizer, description["transform"], what)
        self._offer_graph(featurizer, description.get("graph"), f"{what}: graph")
        for name, value in check_fields(
            description["seen"], what, {}, {"n_features_in_": int, "feature_names_in_": dict}
        ).items():
            setattr(featurizer, name, decode(value, f"{what}: {name}"))
        check_seen(featurizer, what)
        _set_output(featurizer, description["output"])
        return featurizer, tensors

    def _offer_graph(self, featurizer: ImageFeaturizer, described: Any, what: str) -> None:
        """Hand the exported graph over, which is completed and checked when it is needed."""
        if described is None:
            return
        if featurizer._check_backbone().factory is not None:
            raise RefusedError(f"{what} is that of a network with code of its own")
        if GRAPH not in self.heads:
            raise RefusedError(f"it has no member {GRAPH!r}")
        self.heads.remove(GRAPH)
        stored = StoredGraph.read(self.read(GRAPH, MAX_GRAPH_BYTES), described, what)
        featurizer._extractor.offer(stored)

    def _build_network(
        self,
        featurizer: ImageFeaturizer,
        heads: Mapping[str, torch.nn.Module],
        others: Mapping[str, Any],
        what: str,
    ) -> tuple[torch.nn.Module, torch.nn.Module | None, dict[str, torch.Tensor]]:
        """Build the network with its weights.

        It is first built without memory, and gets the tensors of the file after they were found to
        match: so a file cannot cause memory to be reserved for weights that it does not contain.

        Returns
        -------
        module : torch.nn.Module
            The network.
        shapes : torch.nn.Module or None
            The same on the device "meta"; None for a custom network.
        tensors : dict of str to torch.Tensor
            All tensors of the file.
        """
        custom = featurizer._check_backbone().factory is not None
        if not custom:
            check_network(featurizer, what)  # tables of positions grow with the images
        module = _build_module(featurizer, what, weightless=not custom)
        expected = list_shapes({"network": module, **heads}) | dict(others)
        n_bytes = sum(math.prod(shape) * dtype.itemsize for dtype, shape in expected.values())
        content = self.read(NETWORK, n_bytes + _MAX_HEADER)
        check_tensors(content, expected)
        tensors = read_tensors(content)
        shapes = None if custom else copy.deepcopy(module).to("meta")
        fill(module, tensors, "network")
        if any(tensor.is_meta for tensor in list_all_tensors(module)):
            # It has tensors outside of its state dict, which only building it for real computes.
            module = _build_module(featurizer, what, weightless=False)
            fill(module, tensors, "network")
        return module, shapes, tensors


def _share_stages(prototype: Any, fitted: ImageFeaturizer, model: dict[str, Any]) -> None:
    """Make `extra_features` of `featurizer` count stages as that of `featurizer_` does."""
    described = (model["featurizer"] or {}).get("params", {}).get("extra_features")
    if described == model["featurizer_"]["params"].get("extra_features") and prototype is not None:
        prototype.extra_features = fitted.extra_features


def _build_module(featurizer: ImageFeaturizer, what: str, *, weightless: bool) -> torch.nn.Module:
    """Build a featurizer's network, with random weights or without memory for weights."""
    twin = copy.copy(featurizer)
    twin.weights = None
    try:
        with ExitStack() as stack:
            if weightless and twin._check_backbone().timm_name is not None:
                stack.enter_context(torch.device("meta"))  # reaches all that timm builds
            if weightless:
                stack.enter_context(Shapes())
            module = twin._load_network()
    except (ImportError, RefusedError):
        raise
    # Options of a file may be anything, and torchvision refuses them by any exception.
    except Exception as error:
        raise RefusedError(f"{what}: the network cannot be built ({error})") from error
    return module


def _with_params(kind: Any, described: dict[str, Any], apart: dict[str, Any]) -> Any:
    """Build an estimator with the parameters of a file, and defaults for the others."""
    known = kind._get_param_names()
    params = {}
    for name, value in described.items():
        what = f"manifest.json: parameter {quote_name(name)} of {kind.__name__}"
        if name not in known or name in apart or name == "cache":
            raise RefusedError(f"{what} is unknown")
        params[name] = decode(value, what)
    estimator = kind(**params, **apart)
    try:
        estimator._validate_params()
    except (TypeError, ValueError) as error:
        raise RefusedError(f"manifest.json: {error}") from error
    return estimator


def _decode_spec(fields: Any, what: str) -> BackboneSpec:
    values = {name: decode(value, f"{what}: backbone") for name, value in fields.items()}
    try:
        spec = BackboneSpec(**values)
    except TypeError as error:
        raise RefusedError(
            f"{what}: the description of its backbone is not valid ({error})"
        ) from error
    if not (
        isinstance(spec.name, str)
        and isinstance(spec.family, str)
        and isinstance(spec.head, str | None)
        and type(spec.image_size) is int
        and 1 <= spec.image_size <= _MAX_SIDE
        and "factory" not in values
        and all(_is_triple(three) for three in (spec.mean, spec.std))
        and all(value > 0 for value in spec.std)
        and all(isinstance(name, str) for name in spec.fresh)
        and isinstance(spec.options, tuple)
        and all(isinstance(option, tuple) and len(option) == 2 for option in spec.options)
        and all(isinstance(name, str) for name, _ in spec.options)
    ):
        raise RefusedError(f"{what}: the description of its backbone is not valid")
    return spec


def _is_triple(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 3
        and all(type(value) in (int, float) and abs(value) < 1e6 for value in values)
    )


def _decode_classes(described: Any) -> np.ndarray[Any, Any]:
    classes = decode(described, "manifest.json: classes")
    if not isinstance(classes, np.ndarray) or len(classes) < 2:
        raise RefusedError("manifest.json: classes are not an array of two or more")
    labels = classes.tolist()
    if len({type(label) for label in labels}) > 1 or not are_classes(labels):
        raise RefusedError(
            "manifest.json: classes are not of one type, sorted, each once and none missing"
        )
    return classes


def _check_width(description: Any, name: str = "width") -> int:
    width = description.get(name)
    if type(width) is not int or not 1 <= width <= _MAX_WIDTH:
        raise RefusedError(f"manifest.json: {name} is not a number of features")
    return width


def _check_head(head: Any, n_classes: int) -> None:
    if not isinstance(head, BaseEstimator) or not hasattr(head, "predict"):
        raise RefusedError("its head is not a classifier")
    try:
        fits = np.array_equal(head.classes_, np.arange(n_classes))
    # Properties of heads whose parts are missing may raise any exception.
    except Exception as error:
        raise RefusedError("its head is not fitted") from error
    if not fits:
        raise RefusedError("its head has other classes than the model")


def _set_output(estimator: Any, described: Any) -> None:
    config = decode(described, "manifest.json: output")
    if config is None:
        return
    if not isinstance(config, dict) or config.get("transform") not in (
        "default",
        "pandas",
        "polars",
    ):
        raise RefusedError("manifest.json: output is not a format of scikit-learn")
    estimator.set_output(transform=config["transform"])


def _check_transform(featurizer: ImageFeaturizer, described: dict[str, Any], what: str) -> None:
    """Check that the parameters result in the transform that the model was fitted with."""
    own = featurizer.transform_.describe()
    # The first files were written before there were stains and foreground.
    if {"stain": None, "foreground": False} | described != own:
        raise RefusedError(
            f"{what}: its transform was {described}; its parameters and backbone now give {own}"
        )
