"""The margin of a head as a sum over features: coefficients, TreeSHAP, or both."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC

from effboost._heads.linear_boosted import LinearBoostedClassifier
from effboost._utils.compat import load_xgboost
from effboost.exceptions import UnsupportedInputError

__all__ = ["Margins", "explain_margins"]

_Floats = npt.NDArray[np.float64]
_LINEAR = (
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
    Perceptron,
    LinearSVC,
)
_ANYTHING = "effboost.inspection.occlusion_attribution explains any classifier"


@dataclasses.dataclass(frozen=True)
class Margins:
    """The margins of rows, and how features add to them.

    Attributes
    ----------
    margin : ndarray of shape (n, n_outputs)
        Of one output, the second class, for two classes; otherwise of each class.
    coefficients : ndarray of shape (n_outputs, n_features)
        What a unit of each feature adds, in the linear part of the head.
    intercept : ndarray of shape (n_outputs,)
        Of the linear part.
    contributions : ndarray of shape (n, n_outputs, n_features)
        What each feature adds in the trees of the head, by TreeSHAP.
    base : ndarray of shape (n, n_outputs)
        The expected margin of the trees.
    method : str
        "coefficients", "TreeSHAP" or both.
    """

    margin: _Floats
    coefficients: _Floats
    intercept: _Floats
    contributions: _Floats | None
    base: _Floats
    method: str

    def scale(self, factor: float) -> Margins:
        """Multiply the margins by a factor."""
        given = self.contributions
        return dataclasses.replace(
            self,
            margin=factor * self.margin,
            coefficients=factor * self.coefficients,
            intercept=factor * self.intercept,
            contributions=None if given is None else factor * given,
            base=factor * self.base,
        )

    def add(self, other: Margins) -> Margins:
        """Add the margins of another head on the same rows."""
        parts = [part for part in (self.contributions, other.contributions) if part is not None]
        return Margins(
            self.margin + other.margin,
            self.coefficients + other.coefficients,
            self.intercept + other.intercept,
            sum(parts[1:], parts[0]) if parts else None,
            self.base + other.base,
            " + ".join(dict.fromkeys([self.method, other.method])),
        )


def explain_margins(head: Any, features: npt.NDArray[np.float32]) -> Margins:
    """Split the margin of a head over the features, exactly.

    Parameters
    ----------
    head : classifier
        Fitted: an XGBoost tree booster; a linear model; a `LinearBoostedClassifier` that averages
        log-odds; one of these in a Pipeline after scalers and selections, or calibrated.
    features : ndarray of shape (n, n_features), float32
        The rows.

    Raises
    ------
    UnsupportedInputError
        If the head is another one.
    """
    if isinstance(head, FrozenEstimator):
        return explain_margins(head.estimator, features)
    if isinstance(head, CalibratedClassifierCV):
        return _explain_calibrated(head, features)
    if isinstance(head, Pipeline):
        return _explain_pipeline(head, features)
    if isinstance(head, LinearBoostedClassifier):
        return _explain_linear_boosted(head, features)
    if isinstance(head, _LINEAR):
        return _explain_linear(head, features)
    if isinstance(head, load_xgboost().XGBModel) and head.booster != "gblinear":
        return _explain_trees(head, features)
    raise UnsupportedInputError(
        f"the head is {type(head).__name__}, whose margin is not known to be a sum over its "
        f"features; {_ANYTHING}"
    )


def _explain_calibrated(head: Any, features: npt.NDArray[np.float32]) -> Margins:
    """Explain the classifier below a calibration, which maps its margin to probabilities."""
    if len(head.calibrated_classifiers_) > 1:
        raise UnsupportedInputError(
            f"the head averages {len(head.calibrated_classifiers_)} calibrated classifiers, so its "
            f"decision is not one margin (ensemble=False gives one); {_ANYTHING}"
        )
    found = explain_margins(head.calibrated_classifiers_[0].estimator, features)
    return dataclasses.replace(found, method=f"{found.method}, before calibration")


def _explain_linear_boosted(
    head: LinearBoostedClassifier, features: npt.NDArray[np.float32]
) -> Margins:
    weight = head.linear_weight
    if head.average != "log_odds" and 0 < weight < 1:
        raise UnsupportedInputError(
            "the head averages probabilities, so its decision is not one margin; fit it with "
            f'average="log_odds"; {_ANYTHING}'
        )
    parts = []
    if head.linear_ is not None:
        scaled = Pipeline([("scaler", head.scaler_), ("linear", head.linear_)])
        parts.append(explain_margins(scaled, features).scale(weight))
    if head.trees_ is not None:
        parts.append(explain_margins(head.trees_, features).scale(1 - weight))
    return parts[0] if len(parts) == 1 else parts[0].add(parts[1])


def _explain_linear(head: Any, features: npt.NDArray[np.float32]) -> Margins:
    coefficients = np.atleast_2d(np.asarray(head.coef_, dtype=np.float64))
    intercept = np.broadcast_to(
        np.asarray(head.intercept_, dtype=np.float64), len(coefficients)
    ).copy()
    margin = np.asarray(head.decision_function(features), dtype=np.float64)
    margin = margin.reshape(len(features), -1)
    return Margins(margin, coefficients, intercept, None, np.zeros_like(margin), "coefficients")


def _explain_pipeline(head: Pipeline, features: npt.NDArray[np.float32]) -> Margins:
    """Explain the last step, and express it in the features before the others."""
    n_features = features.shape[1]
    kept, factor, shift = np.arange(n_features), np.ones(n_features), np.zeros(n_features)
    rows: Any = features
    for _, step in head.steps[:-1]:
        if step is None or step == "passthrough":
            continue
        if isinstance(step, SelectorMixin):
            chosen = step.get_support(indices=True)
            kept, factor, shift = kept[chosen], factor[chosen], shift[chosen]
        else:
            own_factor, own_shift = _read_scaler(step, len(kept))
            factor, shift = factor * own_factor, shift * own_factor + own_shift
        rows = step.transform(rows)
    found = explain_margins(head.steps[-1][1], np.asarray(rows))
    # Of scaled features, x * factor + shift.
    coefficients = np.zeros((len(found.coefficients), n_features))
    coefficients[:, kept] = found.coefficients * factor
    contributions = None
    if found.contributions is not None:
        contributions = np.zeros((*found.contributions.shape[:2], n_features))
        contributions[:, :, kept] = found.contributions
    return dataclasses.replace(
        found,
        coefficients=coefficients,
        intercept=found.intercept + found.coefficients @ shift,
        contributions=contributions,
    )


def _read_scaler(step: Any, n_features: int) -> tuple[_Floats, _Floats]:
    """Return factor and shift of each feature in a scaler."""
    ones, zeros = np.ones(n_features), np.zeros(n_features)
    if isinstance(step, StandardScaler):
        scale = ones if step.scale_ is None else step.scale_
        mean = step.mean_ if step.with_mean else zeros
        return 1 / scale, -mean / scale
    if isinstance(step, RobustScaler):
        scale = ones if step.scale_ is None else step.scale_
        center = zeros if step.center_ is None else step.center_
        return 1 / scale, -center / scale
    if isinstance(step, MinMaxScaler) and not step.clip:
        return step.scale_, step.min_
    if isinstance(step, MaxAbsScaler) and not getattr(step, "clip", False):
        return 1 / step.scale_, zeros
    raise UnsupportedInputError(
        f"the head has a {type(step).__name__} before its classifier, which mixes or bends "
        f"features; {_ANYTHING}"
    )


def _explain_trees(booster: Any, features: npt.NDArray[np.float32]) -> Margins:
    xgboost = load_xgboost()
    # The same matrix and rounds as in the booster's own predict.
    rows = xgboost.DMatrix(
        features,
        missing=booster.missing,
        feature_types=booster.feature_types,
        enable_categorical=booster.enable_categorical,
        nthread=booster.n_jobs,
    )
    try:
        n_rounds = booster.best_iteration + 1
    except AttributeError:  # not stopped early
        n_rounds = 0
    try:
        found = booster.get_booster().predict(
            rows, pred_contribs=True, strict_shape=True, iteration_range=(0, n_rounds)
        )
    except xgboost.core.XGBoostError as error:
        reason = str(error).partition("\n")[0].rpartition(": ")[2].strip()
        raise UnsupportedInputError(
            f"XGBoost cannot split the margin of this booster over its features ({reason}); "
            f"{_ANYTHING}"
        ) from error
    margin = booster.predict(features, output_margin=True)
    margin = margin.astype(np.float64).reshape(len(features), -1)
    n_outputs, n_features = margin.shape[1], features.shape[1]
    contributions = found.astype(np.float64)
    return Margins(
        margin,
        np.zeros((n_outputs, n_features)),
        np.zeros(n_outputs),
        contributions[:, :, :-1],
        contributions[:, :, -1],
        "TreeSHAP",
    )
