"""The prediction of a head for an image with several views."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC
from sklearn.utils.metaestimators import available_if

__all__ = ["decide_over_views", "mean_over_views"]

_Array = npt.NDArray[Any]


def mean_over_views(head: Any, method: str, features: _Array) -> _Array:
    """Return the mean over the views of what a method of a fitted head returns.

    Parameters
    ----------
    head : classifier
        Fitted on classes 0 to k - 1.
    method : {"predict_proba", "decision_function"}
        The method.
    features : ndarray of shape (n_samples, n_views, n_features)
        A row for each view of each image.

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_columns)
        The means.
    """
    means: _Array = _ask(head, method, features).mean(axis=1)
    return means


def decide_over_views(head: Any, features: _Array) -> _Array:
    """Return the predicted class of each image, by the head's own `predict`.

    A threshold is applied to the mean over the views. For other heads, the class is the one with
    the largest mean probability (or score), provided that the head predicts the most probable class
    of each view of the image. Otherwise, it is the class that is predicted for most views, and in
    case of a tie the one with the larger mean.

    Parameters
    ----------
    head, features
        See `mean_over_views`.

    Returns
    -------
    ndarray of shape (n_samples,)
        A class of the head for each image.
    """
    head, features = _find_deciding(head, features)
    if isinstance(head, FixedThresholdClassifier | TunedThresholdClassifierCV):
        head = copy.copy(head)
        head.estimator_ = _ViewMeans(head.estimator_)
        thresholded: _Array = head.predict(features)
        return thresholded
    classes: _Array = np.asarray(head.classes_)
    decided = _ask(head, "predict", features)
    votes = (decided[:, :, None] == classes).sum(axis=1)
    method = _deciding_method(head)
    scores = None if method is None else _ask(head, method, features)
    if scores is not None and scores.ndim == 2:
        scores = np.stack([-scores, scores], axis=2)
    if scores is None or scores.shape[2] != len(classes):  # such as one score of each two classes
        return classes[votes.argmax(axis=1)]
    means = scores.mean(axis=1)
    by_vote = np.where(votes == votes.max(axis=1, keepdims=True), means, -np.inf)
    by_score = (classes[scores.argmax(axis=2)] == decided).all(axis=1)
    return classes[np.where(by_score, means.argmax(axis=1), by_vote.argmax(axis=1))]


def _ask(head: Any, method: str, features: _Array) -> _Array:
    """Return the result of a method for each view: shape (n_samples, n_views, ...)."""
    n, n_views = features.shape[:2]
    answers = np.asarray(getattr(head, method)(features.reshape(n * n_views, -1)))
    return answers.reshape(n, n_views, *answers.shape[1:])


def _find_deciding(head: Any, features: _Array) -> tuple[Any, _Array]:
    """Return the estimator inside pipelines and searches that predicts, and its features."""
    while True:
        if isinstance(head, Pipeline):
            if len(head) > 1:
                features = _ask(head[:-1], "transform", features)
            head = head[-1]
        elif isinstance(head, FrozenEstimator):
            head = head.estimator
        elif hasattr(head, "best_estimator_"):
            head = head.best_estimator_
        else:
            return head, features


def _deciding_method(head: Any) -> str | None:
    # The probabilities of a support vector machine come from another model than its decision.
    if hasattr(head, "predict_proba") and not isinstance(head, SVC | NuSVC):
        return "predict_proba"
    return "decision_function" if hasattr(head, "decision_function") else None


def _has(method: str) -> Any:
    return available_if(lambda self: hasattr(self.estimator, method))


class _ViewMeans(FrozenEstimator):
    """A fitted classifier that returns means over the views of an image."""

    @_has("predict_proba")
    def predict_proba(self, X: _Array) -> _Array:
        return mean_over_views(self.estimator, "predict_proba", X)

    @_has("decision_function")
    def decision_function(self, X: _Array) -> _Array:
        return mean_over_views(self.estimator, "decision_function", X)
