"""The exact contribution of each feature to the decisions of a hybrid."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from effboost._hybrid_classifier import HybridClassifier
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._margins import Margins, explain_margins

__all__ = ["Contributions", "check_explainable", "check_sum", "contribute", "predict_labels"]

_Floats = npt.NDArray[np.float64]
# Sums in single precision are off by less; a booster that decides by other trees, by more.
_TOLERANCE: Final = 1e-3


@dataclasses.dataclass(frozen=True)
class Contributions:
    """What each feature adds to the margins of images.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_outputs, n_features), float64
        Their sum and the base of the margin are the margin.
    margin : ndarray of shape (n_samples, n_outputs), float64
        See `Attribution`.
    is_probability : bool
        Whether the margins are probabilities.
    """

    values: _Floats
    margin: _Floats
    is_probability: bool


def check_explainable(clf: HybridClassifier) -> Margins:
    """Check that the margin of a hybrid is a sum over features; explain that of their means.

    Raises
    ------
    UnsupportedInputError
        If it is not.
    """
    if not isinstance(clf, HybridClassifier):
        raise UnsupportedInputError(
            f"the decision of a {type(clf).__name__} is not known to be a sum over features, as "
            "that of a HybridClassifier is; effboost.inspection.occlusion_attribution explains any "
            "classifier"
        )
    check_is_fitted(clf)
    if clf.view_averaging == "probabilities" and clf.featurizer_.views != "original":
        raise UnsupportedInputError(
            'view_averaging="probabilities": the decision is a mean over views, not '
            "one margin; effboost.inspection.occlusion_attribution explains any classifier"
        )
    means = clf.feature_means_
    return explain_margins(clf.classifier_, means[np.newaxis].astype(np.float32), means)


def contribute(clf: HybridClassifier, features: npt.NDArray[np.float32]) -> Contributions:
    """Compute the contributions of features, compared with their means in training.

    They are the sums of the maps of `hybrid_attribution`, before these are divided over positions.

    Parameters
    ----------
    clf : HybridClassifier
        One that `check_explainable` accepts.
    features : ndarray of shape (n_samples, n_features), float32
        What its ``transform`` returns.
    """
    means = clf.feature_means_
    found = explain_margins(clf.classifier_, features, means)
    values = np.zeros((*found.margin.shape, features.shape[1]))
    if found.coefficients is not None:
        values += found.coefficients * (features - means)[:, np.newaxis]
    if found.contributions is not None:
        values += found.contributions
    check_sum(values.sum(axis=2), found.base, found.margin)
    return Contributions(values, found.margin, found.is_probability)


def predict_labels(clf: HybridClassifier, features: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Predict the class of each row of features."""
    labels: npt.NDArray[Any] = clf.classes_[clf.classifier_.predict(features)]
    return labels


def check_sum(total: _Floats, base: _Floats, margin: _Floats) -> None:
    """Check that contributions and the base add up to the margin."""
    gap = np.abs(total + base - margin)
    if not (gap <= _TOLERANCE * np.maximum(1, np.abs(margin))).all():
        raise UnsupportedInputError(
            "the contributions of the features do not add up to the margins that the head predicts "
            f"(they differ by up to {gap.max():.2g}), so a map of them would be wrong; "
            "effboost.inspection.occlusion_attribution explains any classifier"
        )
