"""Corrections of converters to ONNX. Each says when it can be removed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder

from effboost._heads.linear_boosted import LinearBoostedClassifier
from effboost._utils.compat import load_extra, load_xgboost
from onnx import TensorProto, helper

__all__ = ["load_converters"]

# A converter of skl2onnx: writes an operator into a container of nodes, by names of a scope.
_Converter = Callable[[Any, Any, Any], None]


def load_converters() -> dict[type, _Converter]:
    """Import the converters, and return those that replace skl2onnx's own.

    Converters for XGBoost's and effboost's classifiers are registered for the whole process:
    skl2onnx has no other way to convert classifiers inside others.
    """
    skl2onnx = load_extra("skl2onnx", "export")
    shapes = load_extra("skl2onnx.common.shape_calculator", "export")
    load_extra("onnxmltools.convert.xgboost.operator_converters.XGBoost", "export")
    for kind, name, convert in (
        (load_xgboost().XGBClassifier, "XGBoostXGBClassifier", _convert_booster),
        (LinearBoostedClassifier, "EffboostLinearBoosted", _convert_linear_boosted),
    ):
        skl2onnx.update_registered_converter(
            kind,
            name,
            shapes.calculate_linear_classifier_output_shapes,
            convert,
            options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
        )
    return {VotingClassifier: _convert_vote, CalibratedClassifierCV: _convert_calibrated}


def _convert_booster(scope: Any, operator: Any, container: Any) -> None:
    """Convert a booster by onnxmltools, and correct its base score.

    If the first tree is a leaf and there are two classes, onnxmltools uses the probability of the
    base score instead of its logit. Can be removed when onnxmltools (after 1.16) uses the logit.
    """
    common = load_extra("onnxmltools.convert.xgboost.common", "export")
    xgboost = load_extra("onnxmltools.convert.xgboost.operator_converters.XGBoost", "export")
    xgboost.convert_xgboost(scope, operator, container)
    params = common.get_xgb_params(operator.raw_operator)
    if params["objective"] != "binary:logistic":
        return
    attributes, start = container.nodes[-1].attribute, params["base_score"][0]
    for wrong in [a for a in attributes if a.name == "base_values"]:
        attributes.remove(wrong)
    logit = float(np.log(start / (1 - start)))
    attributes.append(helper.make_attribute("base_values", [logit]))


def _convert_vote(scope: Any, operator: Any, container: Any) -> None:
    """Convert a vote by skl2onnx, which refuses flatten_transform=True and lists of weights.

    flatten_transform changes only `transform`, which is not converted. Can be removed when
    skl2onnx (after 1.20) accepts both.
    """
    module = load_extra("skl2onnx.operator_converters.voting_classifier", "export")
    vote = copy.copy(operator.raw_operator)
    vote.flatten_transform = False
    if vote.weights is not None:
        members = zip(vote.estimators, vote.weights, strict=True)
        vote.weights = np.array([weight for (_, member), weight in members if member != "drop"])
    operator.raw_operator = vote
    module.convert_voting_classifier(scope, operator, container)


def _convert_linear_boosted(scope: Any, operator: Any, container: Any) -> None:
    """Convert effboost's own head as a soft vote with the same probabilities."""
    head, parts = operator.raw_operator, []
    if head.linear_ is not None:
        parts.append(("linear", make_pipeline(head.scaler_, head.linear_), head.linear_weight))
    if head.trees_ is not None:
        parts.append(("trees", head.trees_, 1 - head.linear_weight))
    names, fitted, weights = zip(*parts, strict=True)
    vote = VotingClassifier(
        list(zip(names, fitted, strict=True)), voting="soft", weights=list(weights)
    )
    vote.estimators_, vote.classes_ = list(fitted), head.classes_
    vote.le_ = LabelEncoder().fit(head.classes_)
    operator.raw_operator = vote
    _convert_vote(scope, operator, container)


def _convert_calibrated(scope: Any, operator: Any, container: Any) -> None:
    """Convert a calibrated classifier.

    Can be removed when skl2onnx (after 1.20) converts temperatures and frozen estimators.
    """
    calibrated = operator.raw_operator = copy.copy(operator.raw_operator)
    calibrated.calibrated_classifiers_ = [_thaw(p) for p in calibrated.calibrated_classifiers_]
    if calibrated.method != "temperature":
        module = load_extra("skl2onnx.operator_converters.calibrated_classifier_cv", "export")
        module.convert_sklearn_calibrated_classifier_cv(scope, operator, container)
        return
    parts = [
        _add_temperature(scope, operator, container, part)
        for part in calibrated.calibrated_classifiers_
    ]
    label, probabilities = operator.output_full_names
    container.add_node("Mean", parts, probabilities, name=scope.get_unique_operator_name("Mean"))
    name = scope.get_unique_operator_name("ArgMax")
    container.add_node("ArgMax", probabilities, label, name=name, axis=1, keepdims=0)


def _thaw(part: Any) -> Any:
    """Return a calibrated classifier without the FrozenEstimator around its estimator."""
    part = copy.copy(part)
    if isinstance(part.estimator, FrozenEstimator):
        part.estimator = part.estimator.estimator
    return part


def _add_temperature(scope: Any, operator: Any, container: Any, part: Any) -> str:
    """Add one calibrated classifier: a softmax of its logits, scaled by the temperature."""
    types = load_extra("skl2onnx.common.data_types", "export")
    names = load_extra("skl2onnx._supported_operators", "export").sklearn_operator_name_map
    inner = scope.declare_local_operator(names[type(part.estimator)], part.estimator)
    inner.inputs = operator.inputs
    label = scope.declare_local_variable("label", types.Int64TensorType())
    raw = scope.declare_local_variable("raw", types.FloatTensorType())
    inner.outputs.extend([label, raw])
    factor = float(part.calibrators[0].beta_)
    # For two classes, scikit-learn uses -x and x as logits of a decision x: twice as far apart as
    # those of its sigmoid.
    if len(part.classes) == 2 and hasattr(part.estimator, "decision_function"):
        factor *= 2
    value = raw.full_name
    for kind, constant in (("Add", 1e-12), ("Log", None), ("Mul", factor)):
        value = _add_node(scope, container, kind, value, constant)
    return _add_node(scope, container, "Softmax", value, axis=1)


def _add_node(
    scope: Any, container: Any, kind: str, value: str, constant: float | None = None, **options: Any
) -> str:
    inputs, result = [value], scope.get_unique_variable_name(kind)
    if constant is not None:
        inputs.append(scope.get_unique_variable_name("constant"))
        container.add_initializer(inputs[1], TensorProto.FLOAT, [], [constant])
    name = scope.get_unique_operator_name(kind)
    container.add_node(kind, inputs, result, name=name, **options)
    return str(result)
