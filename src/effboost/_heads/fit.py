"""Fitting of any classifier as the head of a hybrid."""

from __future__ import annotations

import dataclasses
import warnings
from contextlib import nullcontext
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.utils.validation import has_fit_parameter

from effboost._heads.booster import check_objective, fit_booster, is_booster, watches_validation
from effboost._heads.inner_splits import (
    find_splitters,
    lists_folds,
    needs_groups,
    split_by_subject,
)
from effboost._heads.metadata import (
    check_takes_weights,
    fit_metadata,
    fit_with_metadata,
    takes_weights,
)
from effboost._heads.out_of_core import trains_from_file
from effboost._utils.decision import check_probabilities
from effboost._utils.fit_callbacks import CallbackSteps
from effboost.exceptions import SplitError, UnsupportedInputError

__all__ = ["check_head", "fit_head", "stops_early"]

_Features = npt.NDArray[np.float32]
_Rows = tuple[_Features, npt.NDArray[np.int64]]
# Rows on which the probabilities of a new head are checked.
_N_CHECKED: Final = 1000
# Above which scikit-learn's gradient boosting stops early by itself.
_N_AUTO: Final = 10_000


def stops_early(classifier: Any, n_rows: int = 0) -> bool:
    """Return whether a classifier, fitted on `n_rows` rows, stops early on validation rows."""
    if isinstance(classifier, HistGradientBoostingClassifier):
        return _stops_on_split(classifier, n_rows)
    return is_booster(classifier) and watches_validation(classifier)


def _stops_on_split(classifier: Any, n_rows: int) -> bool:
    wanted = classifier.get_params(deep=False).get("early_stopping", False)
    return wanted is True or (wanted == "auto" and n_rows > _N_AUTO)


def check_head(
    classifier: Any,
    *,
    weighted: bool = False,
    groups: npt.NDArray[Any] | None = None,
    n_classes: int = 0,
    n_views: int = 1,
    n_rows: int = 0,
    calibrated: bool = False,
) -> None:
    """Check that a classifier can be fitted, before features are computed.

    Parameters
    ----------
    classifier : classifier
        The head, unfitted.
    weighted : bool, default=False
        Whether its rows have weights.
    groups : ndarray of shape (n_samples,), default=None
        Subjects of the images.
    n_classes : int, default=0
        Number of classes.
    n_views : int, default=1
        Number of rows of each image.
    n_rows : int, default=0
        Number of rows.
    calibrated : bool, default=False
        Whether it is calibrated after it is fitted.

    Raises
    ------
    UnsupportedInputError
        If weights cannot be passed to it; if it stops early, but cannot get validation rows; if it
        would separate the views of one image; if its objective does not return probabilities; or if
        calibration would discard its threshold.
    SplitError
        If it splits by group, and no subjects are known.

    Warns
    -----
    UserWarning
        If it splits its rows at random inside `fit`, by image or by view.
    """
    if weighted:
        check_takes_weights(classifier)
    name = type(classifier).__name__
    if calibrated and not any(
        hasattr(classifier, method) for method in ("predict_proba", "decision_function")
    ):
        raise UnsupportedInputError(
            f"{name} has neither predict_proba nor decision_function, so it cannot be calibrated: "
            "leave calibration out, or choose another head (a VotingClassifier with voting='soft')"
        )
    if calibrated and isinstance(classifier, FixedThresholdClassifier | TunedThresholdClassifierCV):
        raise UnsupportedInputError(
            f"calibration would discard the threshold of {name}: leave calibration out, or wrap "
            f"the calibrated HybridClassifier in {name}"
        )
    if groups is None and n_views == 1:
        for node, _ in find_splitters(classifier):
            if needs_groups(node.cv):
                raise SplitError(
                    f"cv={node.cv!r} of {type(node).__name__} splits by group, but no subjects "
                    "are known: give groups to fit, or an ImageSequence that carries them"
                )
    for part in _list_parts(classifier):
        if n_classes == 2 and is_booster(part):
            check_objective(part)
        _check_part(part, part is classifier, groups is not None, n_views, n_rows)


def _check_part(part: Any, is_head: bool, has_subjects: bool, n_views: int, n_rows: int) -> None:
    name = type(part).__name__
    if not is_head and is_booster(part) and watches_validation(part):
        raise UnsupportedInputError(
            f"{name} stops early, but inside another estimator it cannot get validation rows: "
            "leave early stopping out, or use it as the head itself"
        )
    parameter, stops = _find_random_split(part, is_head, n_rows)
    if parameter is None:
        return
    if n_views > 1 and stops:
        raise UnsupportedInputError(
            f"{parameter} of {name} splits rows at random, and would separate views of one "
            'image: leave it out, or set view_averaging="features"'
        )
    if has_subjects or n_views > 1:
        what = "images of one subject" if has_subjects else "views of one image"
        warnings.warn(
            f"{parameter} of {name} splits rows at random: {what} are on both sides, so scores on "
            "these rows are too good",
            stacklevel=5,
        )


def _find_random_split(part: Any, is_head: bool, n_rows: int) -> tuple[str | None, bool]:
    """Find the parameter by which an estimator splits rows at random, if there is one.

    Also returns whether the split stops its training.
    """
    params = part.get_params(deep=False)
    if _stops_on_split(part, n_rows) and not (is_head and stops_early(part, n_rows)):
        return f"early_stopping={params['early_stopping']!r}", True
    if "early_stopping" not in params and params.get("n_iter_no_change") is not None:
        return f"n_iter_no_change={params['n_iter_no_change']}", True
    if params.get("oob_score"):
        return "oob_score", False
    return ("probability=True" if params.get("probability") is True else None), False


def _list_parts(classifier: Any) -> list[Any]:
    nested = classifier.get_params().values()
    parts = [classifier, *(value for value in nested if isinstance(value, BaseEstimator))]
    return list({id(part): part for part in parts}.values())


def fit_head(
    classifier: Any,
    train: _Rows,
    validation: _Rows | None,
    *,
    sample_weight: npt.NDArray[np.float64],
    device: torch.device,
    groups: npt.NDArray[Any] | None = None,
    n_views: int = 1,
    rounds: CallbackSteps | None = None,
) -> dict[str, dict[str, list[float]]] | None:
    """Fit a classifier on features.

    Splits inside the classifier keep subjects together, and always the views of an image.

    Parameters
    ----------
    classifier : classifier
        The head; it is fitted in place.
    train : (features, classes)
        Features of shape (n_samples * n_views, n_features), and classes 0 to k - 1.
    validation : (features, classes) or None
        Validation rows in the same form, for metrics and early stopping of a booster.
    sample_weight : ndarray of shape (n_samples,)
        Weights of the training images.
    device : torch.device
        Where a booster computes, unless it has a device of its own.
    groups : ndarray of shape (n_samples,), default=None
        Subjects of the training images; None if they are not known.
    n_views : int, default=1
        Number of rows of each image, one after another. They share its weight.
    rounds : CallbackSteps, default=None
        Callbacks for the rounds of a booster, which may stop the training.

    Returns
    -------
    dict or None
        For a booster, each metric in each round, on "train" and "validation".

    Raises
    ------
    UnsupportedInputError
        If weights cannot be passed to the classifier, or it returns values that are not
        probabilities.
    SplitError
        If there are too few subjects for a split inside it.
    """
    if not (sample_weight == 1).all():
        check_takes_weights(classifier)
    share = 1 / n_views if takes_weights(classifier) else 1.0
    rows = _HeadRows.of_images(train, sample_weight * share, groups, n_views)
    if has_fit_parameter(classifier, "sample_weight") and not lists_folds(classifier):
        rows = rows.merge_equal()
    weight = None if (rows.weight == 1).all() else rows.weight
    if is_booster(classifier):
        fit_params, _ = fit_metadata(classifier, weight, rows.groups)
        with trains_from_file(classifier) if _is_file(train[0]) else nullcontext():
            result = fit_booster(
                classifier,
                (rows.features, rows.target),
                validation,
                watched=train,
                device=device,
                rounds=rounds,
                **fit_params,
            )
        _check_fitted(classifier, train[0])
        return result
    rows.fit(classifier, weight, validation if stops_early(classifier, len(rows.target)) else None)
    _check_fitted(classifier, train[0])
    return None


def _is_file(features: _Features) -> bool:
    return isinstance(features, np.memmap)


def _check_fitted(classifier: Any, features: _Features) -> None:
    if hasattr(classifier, "predict_proba"):
        step = max(1, len(features) // _N_CHECKED)
        check_probabilities(classifier.predict_proba(features[::step]), classifier)


@dataclasses.dataclass(frozen=True)
class _HeadRows:
    """What a head is fitted on.

    Attributes
    ----------
    features : ndarray of shape (n_rows, n_features)
        The features; each row is one view of an image.
    target : ndarray of shape (n_rows,)
        Classes 0 to k - 1.
    weight : ndarray of shape (n_rows,)
        The weights.
    images : ndarray of shape (n_rows,)
        The image of each row.
    subjects : ndarray of shape (n_rows,) or None
        The subject of each row; None if they are not known.
    several : bool
        Whether there are several rows of an image.
    """

    features: _Features
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    images: npt.NDArray[np.intp]
    subjects: npt.NDArray[Any] | None
    several: bool

    @classmethod
    def of_images(
        cls,
        rows: _Rows,
        weight: npt.NDArray[np.float64],
        subjects: npt.NDArray[Any] | None,
        n_views: int,
    ) -> Self:
        return cls(
            *rows,
            np.repeat(weight, n_views),
            np.repeat(np.arange(len(weight)), n_views),
            None if subjects is None else np.repeat(subjects, n_views),
            n_views > 1,
        )

    @property
    def groups(self) -> npt.NDArray[Any] | None:
        """The groups to keep together: subjects, or images if there are several rows of each."""
        if self.subjects is not None:
            return self.subjects
        return self.images if self.several else None

    def merge_equal(self) -> _HeadRows:
        """Merge equal rows into one with the sum of their weights, at the position of the first.

        A weight of 2 and an image that occurs twice then give the same result, to the bit;
        otherwise, a booster would sum its gradients in another order. Rows in a file are left as
        they are: to compare them, memory would have to hold them.
        """
        if _is_file(self.features):
            return self
        table = np.column_stack([self.features, self.target.astype(np.float32)])
        keys = table.view([("", np.void, table.itemsize * table.shape[1])]).ravel()
        first, inverse = np.unique(keys, return_index=True, return_inverse=True)[1:]
        if len(first) == len(keys):
            return self
        joint: npt.NDArray[np.float64] = np.zeros(len(first))
        np.add.at(joint, inverse, self.weight)
        order = np.argsort(first)
        kept = first[order]
        return _HeadRows(
            self.features[kept],
            self.target[kept],
            joint[order],
            self.images[kept],
            None if self.subjects is None else self.subjects[kept],
            self.several,
        )

    def fit(
        self, classifier: Any, weight: npt.NDArray[np.float64] | None, validation: _Rows | None
    ) -> None:
        """Fit a classifier in place; `validation` is for one that stops early."""
        watched = {} if validation is None else {"X_val": validation[0], "y_val": validation[1]}
        if self.groups is None:
            fit_with_metadata(classifier, self.features, self.target, weight, None, **watched)
            return
        with split_by_subject(classifier, self.features, self.target, self.images, self.groups):
            fit_with_metadata(
                classifier, self.features, self.target, weight, self.groups, **watched
            )
