"""Predicted classes of a classifier, and their probabilities."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.probabilities import find_fault
from effboost._utils.shared_results import compute_once, share_results
from effboost.exceptions import UnsupportedInputError

__all__ = [
    "MostProbableMixin",
    "check_probabilities",
    "decision_scores",
    "find_check",
    "most_probable",
    "predict_both",
    "predict_with_flags",
]

# Probabilities that differ by less are equal: many are float32.
_TIE: Final = 1e-6


def most_probable(
    classes: npt.NDArray[Any], probabilities: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[Any]:
    """Return the class with the largest probability in each row; the first one if some are equal.

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
    """Mixin for classifiers of images that predict the most probable class."""

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
        # First, for it checks that the classifier is fitted.
        probabilities = _probabilities(self, X)
        return most_probable(self.classes_, probabilities)


def predict_both(clf: Any, X: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Return the predicted classes and the probabilities, which are None if there are none.

    The classes are those of its own `predict`, which are not always the most probable ones.
    Features are computed once for both.

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


def predict_with_flags(clf: Any, images: Any) -> tuple[npt.NDArray[Any], Any]:
    """Return the predicted classes, and what `check_familiarity` returns.

    Parameters
    ----------
    clf : classifier
        Fitted, on images.
    images : ImageSequence
        The images, each of which is read once for both.

    Raises
    ------
    UnsupportedInputError
        If the classifier has no `check_familiarity`, with the reason.
    """
    check = find_check(clf)
    with share_results():
        table = check(images)  # first: it needs more of each image than `predict` does
        return np.asarray(clf.predict(images)), table


def find_check(clf: Any) -> Any:
    """Return the method `check_familiarity` of a classifier.

    Raises
    ------
    UnsupportedInputError
        If it has none, with the reason.
    """
    try:
        return clf.check_familiarity
    except AttributeError as error:
        reason = error.__cause__ or error
        raise UnsupportedInputError(f"images cannot be flagged: {reason}") from error


def _probabilities(clf: Any, X: Any) -> npt.NDArray[Any]:
    probabilities: npt.NDArray[Any] = compute_once(
        (clf, X), "predict_proba", lambda: clf.predict_proba(X)
    )
    return probabilities


def check_probabilities(probabilities: npt.NDArray[Any], clf: Any) -> None:
    """Check what `predict_proba` of a classifier returned.

    Raises
    ------
    UnsupportedInputError
        If the values are not probabilities of the classes.
    """
    fault = find_fault(probabilities, len(probabilities), len(clf.classes_))
    if fault is not None:
        raise UnsupportedInputError(
            f"{type(clf).__name__} cannot be used: {fault}; choose an objective that gives "
            "probabilities, or wrap the classifier in CalibratedClassifierCV"
        )


def decision_scores(
    codes: npt.NDArray[np.intp], proba: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the scores of images whose mean decides on the class of a subject.

    These are the probabilities if the predicted class of each image is its most probable one.
    Otherwise, such as for a classifier with its own threshold, they are votes for the predicted
    classes.
    """
    if (proba[np.arange(len(codes)), codes] < proba.max(axis=1) - _TIE).any():
        return np.eye(proba.shape[1])[codes]
    return proba
