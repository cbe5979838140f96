"""Calibration of a fitted head on rows that it was not fitted on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

__all__ = ["calibrate_head"]

_Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def calibrate_head(
    classifier: Any, method: str, rows: _Rows, n_views: int = 1
) -> CalibratedClassifierCV:
    """Calibrate the probabilities of a fitted classifier.

    If the classifier makes no mistake on a few images, the best temperature would be zero, and all
    probabilities 0 or 1. The loss therefore includes one additional image that belongs to the other
    classes in equal parts (the rule of succession). Platt's sigmoids have a similar correction.

    Parameters
    ----------
    classifier : classifier
        The fitted head. It is not changed.
    method : {"temperature", "sigmoid", "isotonic"}
        A method of `CalibratedClassifierCV`.
    rows : (features, classes)
        Rows of every class that it was not fitted on.
    n_views : int, default=1
        Number of rows of each image.

    Returns
    -------
    CalibratedClassifierCV
        Fitted, with the classifier inside.
    """
    features, classes = rows
    weight = np.ones(len(classes))
    if method == "temperature":
        n, k = len(classes), int(classes.max()) + 1
        doubt = 1 / (n / n_views + 2)
        features = np.tile(features, (k, 1))
        classes = np.concatenate([(classes + shift) % k for shift in range(k)])
        weight = np.repeat([1 - doubt] + [doubt / (k - 1)] * (k - 1), n)
    everything = np.arange(len(classes))
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(classifier),
        method=method,
        # Nothing is fitted again, so one part is enough.
        cv=[(everything, everything)],
        ensemble=False,
    )
    # The weights are only for the calibration, which scikit-learn warns about, or refuses to guess.
    with config_context(enable_metadata_routing=False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Since FrozenEstimator does not appear to accept")
        calibrated.fit(features, classes, sample_weight=weight)
    calibrated.cv = None  # thousands of positions that are not needed any more
    return calibrated
