"""How sample weights and subjects are passed to a head and to the estimators inside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import config_context, get_config
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object, process_routing
from sklearn.utils.validation import has_fit_parameter

from effboost._utils.compat import BaseSearchCV
from effboost.exceptions import UnsupportedInputError

__all__ = ["check_takes_weights", "fit_metadata", "fit_with_metadata", "takes_weights"]


def takes_weights(classifier: Any) -> bool:
    """Return whether sample weights can be passed to a classifier."""
    return _routes(classifier, "sample_weight") or _parameter(classifier, "sample_weight") != ""


def check_takes_weights(classifier: Any) -> None:
    """Check that sample weights can be passed to a classifier.

    Raises
    ------
    UnsupportedInputError
        If neither its `fit` nor that of an estimator inside it takes them.
    """
    if not takes_weights(classifier):
        raise UnsupportedInputError(
            f"{type(classifier).__name__} does not take sample_weight, which class_weight and "
            "sample_weight need: leave these out, choose another classifier, or request "
            "sample_weight by scikit-learn's metadata routing (set_fit_request)"
        )
    if _routes(classifier, "sample_weight"):
        # Fails here, before any feature is computed, where a request is missing.
        process_routing(classifier, "fit", sample_weight=np.ones(1))


def fit_metadata(
    classifier: Any, sample_weight: npt.NDArray[Any] | None, groups: npt.NDArray[Any] | None
) -> tuple[dict[str, Any], bool]:
    """Return the fit parameters for a classifier, and whether they need metadata routing.

    Weights are passed by metadata routing if it is enabled and something requests them, otherwise
    by the parameters that scikit-learn's meta-estimators had before routing. Subjects are passed in
    the same way, if something takes them.

    Parameters
    ----------
    classifier : classifier
        Unfitted.
    sample_weight, groups : ndarray of shape (n_samples,) or None
        Weight and subject of each row; None if there are none to pass.

    Returns
    -------
    params : dict
        Parameters of `fit`.
    routing : bool
        The value of ``enable_metadata_routing`` to fit with.
    """
    routing = bool(get_config()["enable_metadata_routing"])
    if sample_weight is not None and not _routes(classifier, "sample_weight"):
        routing = False
    params = {}
    for name, values in {"sample_weight": sample_weight, "groups": groups}.items():
        routed = routing and _routes(classifier, name)
        if routed or has_fit_parameter(classifier, name):
            parameter = name
        else:
            parameter = "" if routing else _parameter(classifier, name)
        if values is not None and parameter:
            params[parameter] = values
    return params, routing


def fit_with_metadata(
    classifier: Any,
    X: Any,
    y: Any,
    sample_weight: npt.NDArray[Any] | None,
    groups: npt.NDArray[Any] | None,
    **more: Any,
) -> Any:
    """Fit a classifier with weights and subjects, passed as `fit_metadata` says; return it."""
    params, routing = fit_metadata(classifier, sample_weight, groups)
    with config_context(enable_metadata_routing=routing):
        return classifier.fit(X, y, **params, **more)


def _routes(classifier: Any, name: str) -> bool:
    if not get_config()["enable_metadata_routing"]:
        return False
    if name == "groups":
        # scikit-learn 1.9 hands what a stack is given to its final estimator as well, which need
        # not take groups.
        parts = classifier, *classifier.get_params().values()
        if any(isinstance(part, StackingClassifier) for part in parts):
            return False
    return bool(get_routing_for_object(classifier).consumes("fit", [name]))


def _parameter(classifier: Any, name: str) -> str:
    """Return the parameter of `fit` that takes a value for each row; "" if there is none."""
    if has_fit_parameter(classifier, name):
        return name
    if isinstance(classifier, Pipeline):
        step, final = classifier.steps[-1]
        inner = _parameter(final, name)
        return inner and f"{step}__{inner}"
    if name != "sample_weight":
        return ""
    if isinstance(classifier, BaseSearchCV):
        return _parameter(classifier.estimator, name)
    if isinstance(classifier, StackingClassifier | VotingClassifier):
        members = [member for _, member in classifier.estimators if member != "drop"]
        if getattr(classifier, "final_estimator", None) is not None:
            members.append(classifier.final_estimator)
        return name if all(_parameter(member, name) == name for member in members) else ""
    return ""
