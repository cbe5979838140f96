"""From images to subjects."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_consistent_length

__all__ = ["aggregate_by_subject"]


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

    Examples
    --------
    >>> from effboost.model_selection import aggregate_by_subject
    >>> aggregate_by_subject([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], ["S1", "S1", "S2"])
    (array(['S1', 'S2'], dtype='<U2'), array([[0.7, 0.3],
           [0.2, 0.8]]))
    """
    values = np.asarray(probabilities, dtype=np.float64)
    check_consistent_length(values, groups)
    subjects, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(subjects), values.shape[1]))
    np.add.at(sums, inverse, values)
    return subjects, sums / counts[:, np.newaxis]
