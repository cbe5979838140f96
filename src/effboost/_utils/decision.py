"""What a classifier decides, and with which probabilities."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.shared_results import compute_once, share_results
from effboost.exceptions import UnsupportedInputError

__all__ = [
    "MostProbableMixin",
    "check_probabilities",
    "most_probable",
    "predict_both",
    "predict_most_probable",
]

# Probabilities are often float32, and averages of such.
_TOLERANCE: Final = 1e-3


def most_probable(
    classes: npt.NDArray[Any], probabilities: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[Any]:
    """Return the class of the largest probability of each row; of equal ones, the first.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The classes, in the order of the columns.
    probabilities : ndarray of shape (n_samples, n_classes)
        Their probabilities, or scores.
    """
    labels: npt.NDArray[Any] = np.asarray(classes)[probabilities.argmax(axis=1)]
    return labels


class MostProbableMixin:
    """Mixin for classifiers of images that decide for the most probable class."""

    classes_: Any

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict the class of images.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples,)
            A label of `classes_` for each image.
        """
        return predict_most_probable(self, X)


def predict_most_probable(clf: Any, X: Any) -> npt.NDArray[Any]:
    """Return the most probable class of images, by the classifier's `predict_proba`."""
    # First, for it checks that the classifier is fitted.
    probabilities = _probabilities(clf, X)
    return most_probable(clf.classes_, probabilities)


def predict_both(clf: Any, X: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Return what a classifier predicts, and its probabilities; None where it has none.

    The labels are those of its own `predict`, which need not be the most probable classes. Images
    pass through the network once for both.

    Parameters
    ----------
    clf : classifier
        Fitted, on images.
    X : ImageSequence
        The images.
    """
    with share_results():
        probabilities = _probabilities(clf, X) if hasattr(clf, "predict_proba") else None
        return np.asarray(clf.predict(X)), probabilities


def _probabilities(clf: Any, X: Any) -> npt.NDArray[Any]:
    probabilities: npt.NDArray[Any] = compute_once(
        (clf, X), "predict_proba", lambda: clf.predict_proba(X)
    )
    return probabilities


def check_probabilities(probabilities: npt.NDArray[Any], clf: Any) -> None:
    """Check that the rows of probabilities are between 0 and 1, and sum to 1.

    Raises
    ------
    UnsupportedInputError
        If they are not. The message names the classifier.
    """
    low, high = probabilities.min(initial=0), probabilities.max(initial=0)
    sums = probabilities.sum(axis=1)
    # Written so that NaN fails, too.
    inside = low >= -_TOLERANCE and high <= 1 + _TOLERANCE
    if not (inside and np.all(np.abs(sums - 1) <= _TOLERANCE)):
        raise UnsupportedInputError(
            f"predict_proba of {type(clf).__name__} returns values from {low:.3g} to {high:.3g} "
            f"with sums from {sums.min():.3g} to {sums.max():.3g} per image; probabilities are "
            "between 0 and 1 and sum to 1. Choose an objective that gives probabilities, or wrap "
            "the classifier in CalibratedClassifierCV"
        )
