"""What a head says of an image that it sees in several views."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["decide_over_views", "mean_over_views"]

_Features = npt.NDArray[np.float32]


def mean_over_views(head: Any, method: str, features: _Features) -> npt.NDArray[Any]:
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
    ndarray of shape (n_samples,) or (n_samples, n_classes)
        The means.
    """
    n, n_views = features.shape[:2]
    answers = getattr(head, method)(features.reshape(n * n_views, -1))
    means: npt.NDArray[Any] = answers.reshape(n, n_views, *answers.shape[1:]).mean(axis=1)
    return means


def decide_over_views(head: Any, features: _Features) -> npt.NDArray[np.int64]:
    """Return a class for each image, by the head's own decision.

    It is the class with the largest mean probability or score. Where the head decides otherwise
    than by its largest probability for any view of an image, as one with a threshold does, it is
    the class that it decides for in most views of that image; ties go to the larger mean.

    Parameters
    ----------
    head, features
        See `mean_over_views`.

    Returns
    -------
    ndarray of shape (n_samples,), int64
        Classes from 0 to k - 1.
    """
    n, n_views = features.shape[:2]
    decided = np.asarray(head.predict(features.reshape(n * n_views, -1)), dtype=np.int64)
    decided = decided.reshape(n, n_views)
    n_classes = len(head.classes_)
    votes = np.stack([(decided == k).sum(axis=1) for k in range(n_classes)], axis=1)
    method = "predict_proba" if hasattr(head, "predict_proba") else "decision_function"
    if not hasattr(head, method):
        return votes.argmax(axis=1)
    scores = np.asarray(getattr(head, method)(features.reshape(n * n_views, -1)))
    if scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    scores = scores.reshape(n, n_views, -1)
    if scores.shape[2] != n_classes:  # one-against-one scores of pairs of classes
        return votes.argmax(axis=1)
    means = scores.mean(axis=1)
    by_vote = np.where(votes == votes.max(axis=1, keepdims=True), means, -np.inf)
    consistent = (scores.argmax(axis=2) == decided).all(axis=1)
    return np.where(consistent, means.argmax(axis=1), by_vote.argmax(axis=1))
