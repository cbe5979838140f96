"""From images to subjects."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_consistent_length, check_random_state

from effboost._utils.columns import check_groups

__all__ = ["aggregate_by_subject", "label_subjects", "one_image_per_subject"]


def aggregate_by_subject(
    probabilities: npt.ArrayLike, groups: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Average the class probabilities of each subject's images.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes)
        What `predict_proba` gives for the images.
    groups : array-like of shape (n_samples,)
        The subject of each image.

    Returns
    -------
    subjects : ndarray of shape (n_subjects,)
        The subjects, sorted.
    means : ndarray of shape (n_subjects, n_classes)
        The mean probabilities of each subject.

    Raises
    ------
    SplitError
        If the subject of an image is missing.

    Examples
    --------
    >>> from effboost.model_selection import aggregate_by_subject
    >>> aggregate_by_subject([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], ["S1", "S1", "S2"])
    (array(['S1', 'S2'], dtype='<U2'), array([[0.7, 0.3],
           [0.2, 0.8]]))
    """
    values = np.asarray(probabilities, dtype=np.float64)
    check_consistent_length(values, groups)
    subjects, inverse, counts = np.unique(
        check_groups(groups), return_inverse=True, return_counts=True
    )
    sums = np.zeros((len(subjects), values.shape[1]))
    np.add.at(sums, inverse, values)
    return subjects, sums / counts[:, np.newaxis]


def one_image_per_subject(
    groups: npt.ArrayLike, random_state: int | np.random.RandomState | None = None
) -> npt.NDArray[np.intp]:
    """Draw one image of each subject at random.

    Images of one subject resemble each other, so that statistics which count each image for a new
    one, such as the quantile of conformal prediction, are surer of themselves than they may be.
    Images of different subjects are free of that.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        The subject of each image.
    random_state : int, RandomState instance or None, default=None
        Draws the images.

    Returns
    -------
    ndarray of shape (n_subjects,), int
        Positions of the images, from 0, in ascending order.

    Raises
    ------
    SplitError
        If the subject of an image is missing.

    References
    ----------
    R. Dunn, L. Wasserman and A. Ramdas, "Distribution-free prediction sets for two-layer
    hierarchical models", Journal of the American Statistical Association 118, 2023.

    Examples
    --------
    >>> from effboost.model_selection import one_image_per_subject
    >>> one_image_per_subject(["S1", "S1", "S1", "S2", "S3", "S3"], random_state=0)
    array([2, 3, 5])
    """
    subjects = check_groups(groups)
    order = check_random_state(random_state).permutation(len(subjects))
    # unique gives the first of each, here the first of a random order.
    _, first = np.unique(subjects[order], return_index=True)
    return np.sort(order[first])


def label_subjects(labels: npt.NDArray[Any], groups: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return the label of each sorted subject; None if a subject has two labels."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    of_subject: npt.NDArray[Any] = labels[first]
    return of_subject if (of_subject[inverse] == labels).all() else None
