"""Splits that keep the images of a subject together."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

from effboost._utils.columns import check_groups, check_label_column
from effboost.exceptions import SplitError

__all__ = ["SubjectSplit", "subject_folds", "subject_split"]

_Indices = npt.NDArray[np.intp]
# The sizes of parts are approximated in steps of 1 / 20 if there are enough subjects.
_FINEST: Final = 20
_ATTEMPTS: Final = 20


class SubjectSplit(NamedTuple):
    """Positions of the images in each part, in ascending order.

    Attributes
    ----------
    train, validation, test : ndarray of int
        Positions from 0. A part that was not requested is empty.

    Examples
    --------
    >>> from effboost.model_selection import subject_split
    >>> y, groups = ["ALL", "ALL", "HEM", "HEM"], ["S1", "S2", "S3", "S4"]
    >>> train, validation, test = subject_split(y, groups, test_size=0.5, random_state=0)
    >>> len(train), len(validation), len(test)
    (2, 0, 2)
    """

    train: _Indices
    validation: _Indices
    test: _Indices


def subject_folds(
    y: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    n_splits: int = 5,
    *,
    random_state: int | np.random.RandomState | None = None,
) -> list[tuple[_Indices, _Indices]]:
    """Split images into cross-validation folds by subject, stratified by class.

    The folds are those of `sklearn.model_selection.StratifiedGroupKFold` with shuffling. In
    addition, each training part contains each class.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The class of each image.
    groups : array-like of shape (n_samples,), default=None
        The subject of each image. None makes each image its own subject.
    n_splits : int, default=5
        Number of folds, 2 or more.
    random_state : int, RandomState instance or None, default=None
        Controls the order of the subjects.

    Returns
    -------
    list of (train, test)
        Positions of the images, from 0; each image is in one test part.

    Raises
    ------
    SplitError
        If there are fewer subjects than folds, or a class has too few of them.

    Examples
    --------
    >>> from effboost.model_selection import subject_folds
    >>> y = ["ALL", "ALL", "HEM", "HEM", "ALL", "HEM"]
    >>> groups = ["S1", "S1", "S2", "S2", "S3", "S4"]
    >>> [test.tolist() for _, test in subject_folds(y, groups, n_splits=2, random_state=0)]
    [[2, 3, 4], [0, 1, 5]]
    """
    y, groups = _check_y_groups(y, groups)
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise SplitError("all images are of one subject: a split by subject needs two or more")
    _check_subjects_per_class(y, groups, 2)
    if n_splits < 2 or n_splits > n_groups:
        numbers = "2" if n_groups == 2 else f"2 to {n_groups}"
        raise SplitError(
            f"{n_splits} folds (n_splits), but there are {n_groups} subjects: use {numbers}"
        )
    most = np.unique(y, return_counts=True)[1].max()
    if n_splits > most:
        raise SplitError(f"{n_splits} folds (n_splits), but no class has more than {most} images")
    rng = check_random_state(random_state)
    for _ in range(_ATTEMPTS):
        folds = _draw_folds(y, groups, n_splits, rng)
        if all(_holds_every_class(y, train) for train, _ in folds):
            return folds
    raise SplitError(
        f"no split into {n_splits} folds by subject keeps each class in each training part: use "
        "more folds, or drop the rarest class"
    )


def subject_split(
    y: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    test_size: float = 0.2,
    validation_size: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> SubjectSplit:
    """Split images into training, validation and test parts by subject, stratified by class.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The class of each image.
    groups : array-like of shape (n_samples,), default=None
        The subject of each image. None makes each image its own subject.
    test_size, validation_size : float, default=0.2 and 0.0
        Fraction of the images in each part, between 0 and 1; 0 for an empty part. Since subjects
        stay together, the fractions are approximate, limited by the subjects of the rarest class.
    random_state : int, RandomState instance or None, default=None
        Controls which subject goes into which part.

    Returns
    -------
    SubjectSplit
        Positions of the images in each part. Each requested part contains each class.

    Raises
    ------
    SplitError
        If a class has fewer subjects than there are parts, or a size is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.model_selection import subject_split
    >>> groups = np.repeat(np.arange(20), 5)
    >>> split = subject_split(groups % 2, groups, test_size=0.2, random_state=0)
    >>> len(split.train), len(split.test), set(groups[split.train]) & set(groups[split.test])
    (80, 20, set())
    """
    y, groups = _check_y_groups(y, groups)
    if min(test_size, validation_size) < 0 or not 0 < test_size + validation_size < 1:
        raise SplitError(
            f"test_size={test_size} and validation_size={validation_size} must be fractions of the "
            "images, 0 or more, with a sum above 0 and below 1"
        )
    _check_subjects_per_class(y, groups, 1 + (test_size > 0) + (validation_size > 0))
    rng = check_random_state(random_state)
    everything = np.arange(len(y))
    rest, test = _cut(everything, y, groups, test_size, 1 + (validation_size > 0), rng)
    train, validation = _cut(rest, y, groups, validation_size / (1 - test_size), 1, rng)
    return SubjectSplit(train, validation, test)


def _check_y_groups(y: Any, groups: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    y = check_label_column(y)
    if groups is None:
        return y, np.arange(len(y))
    groups = check_groups(groups, len(y))
    return y, np.unique(groups, return_inverse=True)[1]


def _check_subjects_per_class(
    y: npt.NDArray[Any], groups: npt.NDArray[Any], needed: int
) -> dict[Any, int]:
    counts = {label: len(np.unique(groups[y == label])) for label in np.unique(y).tolist()}
    for label, count in counts.items():
        if count < needed:
            raise SplitError(
                f"class {label!r} has {count} subject{'s' * (count != 1)}, but a split into "
                f"{needed} parts by subject needs {needed}: collect more subjects or drop the class"
            )
    return counts


def _draw_folds(
    y: npt.NDArray[Any], groups: npt.NDArray[Any], n_splits: int, rng: np.random.RandomState
) -> list[tuple[_Indices, _Indices]]:
    splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=rng)
    return list(splitter.split(np.zeros(len(y)), y, groups))


def _holds_every_class(y: npt.NDArray[Any], part: _Indices) -> bool:
    return len(np.unique(y[part])) == len(np.unique(y))


def _cut(
    positions: _Indices,
    y: npt.NDArray[Any],
    groups: npt.NDArray[Any],
    size: float,
    parts_left: int,
    rng: np.random.RandomState,
) -> tuple[_Indices, _Indices]:
    """Split off a part, and leave enough subjects of each class for the parts to follow."""
    if size == 0:
        return positions, positions[:0]
    y, groups = y[positions], groups[positions]
    rarest = min(_check_subjects_per_class(y, groups, parts_left + 1).values())
    share = _nearest_share(size, min(_FINEST, rarest))
    for _ in range(_ATTEMPTS):
        folds = _draw_folds(y, groups, share.denominator, rng)
        taken = np.sort(np.concatenate([test for _, test in folds[: share.numerator]]))
        left = np.setdiff1d(np.arange(len(y)), taken)
        enough = all(
            len(np.unique(groups[left][y[left] == label])) >= parts_left for label in np.unique(y)
        )
        if enough and _holds_every_class(y, taken):
            return positions[left], positions[taken]
    raise SplitError(
        "no split by subject was found that keeps each class in each part: use other sizes, or "
        "drop the rarest class"
    )


def _nearest_share(size: float, finest: int) -> Fraction:
    share = Fraction(size).limit_denominator(finest)
    return min(max(share, Fraction(1, finest)), Fraction(finest - 1, finest))
