"""The decision of a head on an image of which it sees several views."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC
from sklearn.utils.metaestimators import available_if

__all__ = ["average_views", "predict_over_views"]

_Rows = npt.NDArray[Any]


def average_views(rows: _Rows, n_views: int) -> _Rows:
    """Return the means over the views of each image, whose rows stand one after another."""
    means: _Rows = rows.reshape(-1, n_views, *rows.shape[1:]).mean(axis=1)
    return means


def predict_over_views(head: Any, features: _Rows, n_views: int) -> _Rows:
    """Decide on images by the head's own rule, on the averages over their views.

    A threshold is applied to the averaged score. A head that decides for its largest probability
    (or score) decides for the largest average. Any other has a vote for each view; of classes
    with equal votes, the one of the larger average is taken.

    Parameters
    ----------
    head : classifier
        Fitted.
    features : ndarray of shape (n_images * n_views, n_features)
        The views of each image, one after another.
    n_views : int
        Number of views of each image.

    Returns
    -------
    ndarray of shape (n_images,)
        A label of ``head.classes_`` for each image.
    """
    head, features = _find_deciding(head, features)
    if isinstance(head, FixedThresholdClassifier | TunedThresholdClassifierCV):
        head = copy.copy(head)
        head.estimator_ = _ViewAverages(head.estimator_, n_views)
        thresholded: _Rows = head.predict(features)
        return thresholded
    votes = head.predict(features).reshape(-1, n_views)
    method = _deciding_method(head)
    if method is None:
        return _count_votes(votes, head.classes_, None)
    scores = getattr(head, method)(features)
    if scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    averages = average_views(scores, n_views)
    labels: _Rows = head.classes_[averages.argmax(axis=1)]
    as_scored = head.classes_[scores.argmax(axis=1)].reshape(-1, n_views)
    other = (votes != as_scored).any(axis=1)
    if other.any():
        labels[other] = _count_votes(votes[other], head.classes_, averages[other])
    return labels


def _find_deciding(head: Any, features: _Rows) -> tuple[Any, _Rows]:
    """Return the estimator inside pipelines and searches that decides, and what it sees."""
    while True:
        if isinstance(head, Pipeline):
            features, head = (
                (head[:-1].transform(features) if len(head) > 1 else features),
                head[-1],
            )
        elif isinstance(head, FrozenEstimator):
            head = head.estimator
        elif hasattr(head, "best_estimator_"):
            head = head.best_estimator_
        else:
            return head, features


def _deciding_method(head: Any) -> str | None:
    # The probabilities of a support vector machine come from another model than its decision.
    of_margins = isinstance(head, SVC | NuSVC)
    if hasattr(head, "predict_proba") and not of_margins:
        return "predict_proba"
    return "decision_function" if hasattr(head, "decision_function") else None


def _count_votes(votes: _Rows, classes: _Rows, averages: _Rows | None) -> _Rows:
    counts = (votes[:, :, None] == classes).sum(axis=1)
    if averages is not None:
        counts = np.where(counts == counts.max(axis=1, keepdims=True), averages, -np.inf)
    labels: _Rows = classes[counts.argmax(axis=1)]
    return labels


def _inner_has(method: str) -> Any:
    return available_if(lambda self: hasattr(self.classifier, method))


class _ViewAverages(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose answers for an image are averages over its views."""

    def __init__(self, classifier: Any, n_views: int):
        self.classifier = classifier
        self.n_views = n_views

    @property
    def classes_(self) -> _Rows:
        classes: _Rows = self.classifier.classes_
        return classes

    @_inner_has("predict_proba")
    def predict_proba(self, X: _Rows) -> _Rows:
        return average_views(self.classifier.predict_proba(X), self.n_views)

    @_inner_has("decision_function")
    def decision_function(self, X: _Rows) -> _Rows:
        return average_views(self.classifier.decision_function(X), self.n_views)
