"""The margin of a head as a sum over features: coefficients, TreeSHAP, or both."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
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
_LINEAR: Final = (
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
    Perceptron,
    LinearSVC,
)
# Nodes of the quadrature of a softmax along a line: exact to ten digits.
_N_NODES: Final = 32
_ANYTHING: Final = "effboost.inspection.occlusion_attribution explains any classifier"


@dataclasses.dataclass(frozen=True)
class Margins:
    """The margins of rows, and how features add to them.

    Attributes
    ----------
    margin : ndarray of shape (n, n_outputs)
        Of one output, the second class, for two classes; otherwise of each class.
    base : ndarray of shape (n, n_outputs)
        What the margin is without any contribution.
    coefficients : ndarray of shape (n or 1, n_outputs, n_features) or None
        What a unit of each feature adds, beside the contributions.
    contributions : ndarray of shape (n, n_outputs, n_features) or None
        What each feature adds, by TreeSHAP.
    method : str
        "coefficients", "TreeSHAP" or both.
    is_probability : bool
        Whether the margins are probabilities.
    """

    margin: _Floats
    base: _Floats
    coefficients: _Floats | None
    contributions: _Floats | None
    method: str
    is_probability: bool = False

    def take(self, row: int) -> Margins:
        """Select one row."""
        coefficients = self.coefficients
        if coefficients is not None and len(coefficients) > 1:
            coefficients = coefficients[[row]]
        return dataclasses.replace(
            self,
            margin=self.margin[[row]],
            base=self.base[[row]],
            coefficients=coefficients,
            contributions=None if self.contributions is None else self.contributions[[row]],
        )


def explain_margins(head: Any, features: npt.NDArray[np.float32], reference: _Floats) -> Margins:
    """Split the margin of a head over the features, exactly.

    Parameters
    ----------
    head : classifier
        Fitted: an XGBoost tree booster; a linear model; a `LinearBoostedClassifier`; one of these
        in a Pipeline after scalers and selections, or calibrated.
    features : ndarray of shape (n, n_features), float32
        The rows.
    reference : ndarray of shape (n_features,)
        The features with which linear models compare them.

    Raises
    ------
    UnsupportedInputError
        If the head is another one.
    """
    if isinstance(head, FrozenEstimator):
        return explain_margins(head.estimator, features, reference)
    if isinstance(head, CalibratedClassifierCV):
        return _explain_calibrated(head, features, reference)
    if isinstance(head, Pipeline):
        return _explain_pipeline(head, features, reference)
    if isinstance(head, LinearBoostedClassifier):
        return _explain_linear_boosted(head, features, reference)
    if isinstance(head, _LINEAR):
        return _explain_linear(head, features, reference)
    if isinstance(head, load_xgboost().XGBModel) and head.booster != "gblinear":
        return _explain_trees(head, features)
    raise UnsupportedInputError(
        f"the head is {type(head).__name__}, whose margin is not known to be a sum over its "
        f"features; {_ANYTHING}"
    )


def _explain_calibrated(
    head: Any, features: npt.NDArray[np.float32], reference: _Floats
) -> Margins:
    """Explain the classifier below a calibration, which maps its margin to probabilities."""
    if len(head.calibrated_classifiers_) > 1:
        raise UnsupportedInputError(
            f"the head averages {len(head.calibrated_classifiers_)} calibrated classifiers, so its "
            f"decision is not one margin (ensemble=False gives one); {_ANYTHING}"
        )
    found = explain_margins(head.calibrated_classifiers_[0].estimator, features, reference)
    return dataclasses.replace(found, method=f"{found.method}, before calibration")


def _explain_linear_boosted(
    head: LinearBoostedClassifier, features: npt.NDArray[np.float32], reference: _Floats
) -> Margins:
    """Explain the mean of two probabilities, each a function of its own margin."""
    parts = []
    if head.linear_ is not None:
        linear = Pipeline([("scaler", head.scaler_), ("linear", head.linear_)])
        found = explain_margins(linear, features, reference)
        scaled = np.asarray(head.scaler_.transform(features))  # not a frame, whatever is set
        expected = head.linear_.predict_proba(scaled)
        parts.append(_as_probabilities(found, head.linear_weight, expected))
    if head.trees_ is not None:
        found = explain_margins(head.trees_, features, reference)
        expected = head.trees_.predict_proba(features)
        parts.append(_as_probabilities(found, 1 - head.linear_weight, expected))
    # Only the linear part has coefficients, and only the trees have contributions.
    coefficients = [part.coefficients for part in parts if part.coefficients is not None]
    contributions = [part.contributions for part in parts if part.contributions is not None]
    return Margins(
        np.sum([part.margin for part in parts], axis=0),
        np.sum([part.base for part in parts], axis=0),
        np.sum(coefficients, axis=0) if coefficients else None,
        np.sum(contributions, axis=0) if contributions else None,
        " + ".join(part.method for part in parts),
        is_probability=True,
    )


def _as_probabilities(found: Margins, weight: float, expected: npt.NDArray[Any]) -> Margins:
    """Express margins, and what adds to them, as parts of weighted probabilities.

    The probability changes from that of the base to that of the margin along a straight line, and
    each contribution takes its share of this change (the integrated gradients of the link, in
    closed form for two classes).
    """
    link = expit if found.margin.shape[1] == 1 else _softmax
    margin, base = link(found.margin), link(found.base)
    wanted = expected[:, 1:] if margin.shape[1] == 1 else expected
    if not np.allclose(margin, wanted, atol=1e-4):
        raise UnsupportedInputError(
            f"the probabilities of the head are not those of its margins; {_ANYTHING}"
        )
    slopes = weight * _mean_slopes(found.base, found.margin)
    return Margins(
        weight * margin,
        weight * base,
        None if found.coefficients is None else slopes @ found.coefficients,
        None if found.contributions is None else slopes @ found.contributions,
        found.method,
    )


def _softmax(margin: _Floats) -> _Floats:
    return np.asarray(softmax(margin, axis=1))


def _mean_slopes(start: _Floats, end: _Floats) -> _Floats:
    """Average the derivatives of probabilities by margins over the line between two points.

    Returns
    -------
    ndarray of shape (n, n_outputs, n_outputs)
        Its product with ``end - start`` is the difference of the probabilities.
    """
    if start.shape[1] == 1:
        step = end - start
        small = np.abs(step) < 1e-6
        middle = expit((start + end) / 2)
        change = (expit(end) - expit(start)) / np.where(small, 1, step)
        slope: _Floats = np.where(small, middle * (1 - middle), change)[:, :, np.newaxis]
        return slope
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    total = np.zeros((*start.shape, start.shape[1]))
    for node, node_weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        p = _softmax(start + node * (end - start))
        total += node_weight * (
            p[:, :, np.newaxis] * np.eye(p.shape[1]) - p[:, :, np.newaxis] * p[:, np.newaxis]
        )
    return total


def _explain_linear(head: Any, features: npt.NDArray[np.float32], reference: _Floats) -> Margins:
    coefficients = np.atleast_2d(np.asarray(head.coef_, dtype=np.float64))
    margin = np.asarray(head.decision_function(features), dtype=np.float64)
    base = np.asarray(head.intercept_, dtype=np.float64) + coefficients @ reference
    margin = margin.reshape(len(features), -1)
    return Margins(
        margin,
        np.broadcast_to(base, margin.shape).copy(),
        coefficients[np.newaxis],
        None,
        "coefficients",
    )


def _explain_pipeline(
    head: Pipeline, features: npt.NDArray[np.float32], reference: _Floats
) -> Margins:
    """Explain the last step, and express it in the features before the others."""
    n_features = features.shape[1]
    kept, factor = np.arange(n_features), np.ones(n_features)
    rows: Any = features
    for _, step in head.steps[:-1]:
        if step is None or step == "passthrough":
            continue
        if isinstance(step, SelectorMixin):
            chosen = step.get_support(indices=True)
            kept, factor, reference = kept[chosen], factor[chosen], reference[chosen]
        else:
            own_factor, shift = _read_scaler(step, len(kept))
            factor, reference = factor * own_factor, reference * own_factor + shift
        rows = np.asarray(step.transform(rows))
    found = explain_margins(head.steps[-1][1], rows, reference)

    coefficients, contributions = found.coefficients, found.contributions
    if coefficients is not None:
        coefficients = _insert_columns(coefficients * factor, kept, n_features)
    if contributions is not None:
        contributions = _insert_columns(contributions, kept, n_features)
    return dataclasses.replace(found, coefficients=coefficients, contributions=contributions)


def _insert_columns(values: _Floats, kept: npt.NDArray[np.intp], n_features: int) -> _Floats:
    """Return values for all features; those of features that were not selected are 0."""
    wide = np.zeros((*values.shape[:2], n_features))
    wide[:, :, kept] = values
    return wide


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
    contributions = found.astype(np.float64)
    return Margins(
        margin.astype(np.float64).reshape(len(features), -1),
        contributions[:, :, -1],
        None,
        contributions[:, :, :-1],
        "TreeSHAP",
    )
