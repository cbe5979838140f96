"""Cross-validation inside a head, by subject or, if none are known, by image.

Heads such as `LogisticRegressionCV` or `CalibratedClassifierCV` split their rows. Their rows are
images, or several views of each, and images of one subject are alike: parts that share a subject,
or an image, would not be independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, is_classifier
from sklearn.ensemble import VotingClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    BaseCrossValidator,
    FixedThresholdClassifier,
    PredefinedSplit,
    check_cv,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object

from effboost.exceptions import SplitError
from effboost.model_selection import subject_folds, subject_split

__all__ = [
    "GroupedSplitter",
    "check_listed_folds",
    "find_splitters",
    "lists_folds",
    "needs_groups",
    "split_by_subject",
    "split_rows",
]

_Ints = npt.NDArray[np.intp]
_Folds = list[tuple[_Ints, _Ints]]
# scikit-learn's default number of folds.
_N_FOLDS: Final = 5
# They hand all their rows to their parts, in order.
_WHOLE: Final = (
    FixedThresholdClassifier,
    OneVsRestClassifier,
    Pipeline,
    SelectFromModel,
    VotingClassifier,
)


@contextmanager
def split_by_subject(
    head: Any,
    features: npt.NDArray[np.float32],
    target: npt.NDArray[Any],
    images: _Ints,
    subjects: npt.NDArray[Any],
) -> Iterator[None]:
    """Make every `cv` inside a head split by subject while the head is fitted in this block.

    If `cv` is a number, the folds are `subject_folds`. If it is a splitter of scikit-learn, it
    splits the images, and gets their subjects; all views of an image are in the same part.

    Parameters
    ----------
    head : classifier
        Unfitted. Its parameters are restored at the end.
    features : ndarray of shape (n_rows, n_features)
        The rows that it is fitted on.
    target : ndarray of shape (n_rows,)
        Their classes.
    images : ndarray of shape (n_rows,)
        The image of each row.
    subjects : ndarray of shape (n_rows,)
        The subject of each row.

    Raises
    ------
    SplitError
        If there are too few subjects, or a nested `cv` sees rows whose subject cannot be found.
    """
    replaced, nested = [], False
    try:
        for node, whole in find_splitters(head):
            former, classifier = node.cv, is_classifier(node)
            if whole:
                cv: Any = split_rows(former, target, images, subjects, classifier)
            else:
                find = _FindByRow(features, images, subjects)
                cv, nested = GroupedSplitter(former, find, classifier), True
            node.set_params(cv=cv)
            replaced.append((node, former))
        yield
    finally:
        for node, former in replaced:
            node.set_params(cv=former)
        if nested:
            _restore(head, set())


def find_splitters(
    estimator: Any, whole: bool = True, *, skip: tuple[type, ...] = ()
) -> Iterator[tuple[Any, bool]]:
    """Find the estimators with a `cv`, and whether each is fitted on all rows, in order.

    Estimators of the types in `skip`, and fitted ones that are not fitted again, are not searched.
    """
    if not isinstance(estimator, BaseEstimator) or isinstance(estimator, (FrozenEstimator, *skip)):
        return
    params = estimator.get_params(deep=False)
    if "cv" in params and not isinstance(params["cv"], str):
        yield estimator, whole
    for name, value in params.items():
        inside = whole and (isinstance(estimator, _WHOLE) or name == "final_estimator")
        for part in _flatten(value):
            yield from find_splitters(part, inside, skip=skip)


def _flatten(value: Any) -> Iterator[Any]:
    """Find the parts of a pipeline, a vote or a grid of parameters."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        yield value
        return
    for part in value:
        yield from _flatten(part)


def lists_folds(head: Any) -> bool:
    """Return whether a `cv` inside a head gives the positions of its rows."""
    return any(
        isinstance(node.cv, PredefinedSplit)
        or not (node.cv is None or isinstance(node.cv, Real) or hasattr(node.cv, "split"))
        for node, _ in find_splitters(head)
    )


def check_listed_folds(head: Any, n_given: int, n_left: int) -> None:
    """Check that positions in a `cv` inside a head are those of the images that the user passed.

    Raises
    ------
    SplitError
        If it is fitted on fewer images, so that the positions would be those of other images.
    """
    if n_left < n_given and lists_folds(head):
        raise SplitError(
            f"the cv of the classifier lists positions, but it is fitted on {n_left} of the "
            f"{n_given} images: those with weight 0 and those that are set aside to validate, to "
            "calibrate or to fit the classifier are left out. Give a number of folds, or a "
            "splitter such as SubjectKFold"
        )


def needs_groups(cv: Any) -> bool:
    """Return whether a splitter asks for groups, such as `GroupKFold`."""
    if not hasattr(cv, "get_metadata_routing"):
        return False
    return bool(get_routing_for_object(cv).consumes("split", ["groups"]))


class GroupedSplitter(BaseCrossValidator):
    """The `cv` of a nested estimator, with the groups that belong to its rows.

    Parameters
    ----------
    cv : int, splitter, iterable or None
        The original one.
    find : callable
        Returns the image and the subject of each row of `X`.
    classifier : bool
        Whether the estimator is a classifier.
    """

    # Where metadata routing is on, groups are passed without further notice.
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    def __init__(
        self,
        cv: Any,
        find: Callable[[Any], tuple[npt.NDArray[Any], npt.NDArray[Any]]],
        classifier: bool,
    ):
        self.cv = cv
        self.find = find
        self.classifier = classifier

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        if isinstance(self.cv, Real) and not isinstance(self.cv, Integral):
            return 1
        return int(check_cv(self.cv).get_n_splits(X, y, groups))

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[_Ints, _Ints]]:
        try:
            images, subjects = self.find(X)
        except SplitError:
            if groups is None:
                raise
            # Which rows are of one image is not known, but that they are of one subject.
            by_subject = not hasattr(self.cv, "split") or needs_groups(self.cv)
            images, subjects = (np.arange(len(groups)) if by_subject else groups), groups
        yield from split_rows(self.cv, np.asarray(y), images, subjects, self.classifier)

    def __deepcopy__(self, memo: Any) -> GroupedSplitter:
        # `clone` copies it for each fold, and nothing in it changes.
        return self


class _FindByRow:
    """Find the image and the subject of rows by the numbers in them."""

    def __init__(self, features: npt.NDArray[Any], images: _Ints, subjects: npt.NDArray[Any]):
        self._position = {row.tobytes(): i for i, row in enumerate(_as_rows(features))}
        self._images, self._subjects = images, subjects

    def __call__(self, X: Any) -> tuple[_Ints, npt.NDArray[Any]]:
        found = [self._position.get(row.tobytes(), -1) for row in _as_rows(X)]
        if -1 in found:
            raise SplitError(
                "the cv of an estimator inside another cross-validation sees features that a "
                "transformer has changed, so their subjects are not known: enable metadata "
                "routing, or put the transformer before the outer estimator"
            )
        return self._images[found], self._subjects[found]


def _as_rows(features: Any) -> npt.NDArray[np.float32]:
    # Estimators may have converted them to float64, which changes no value.
    return np.ascontiguousarray(features, dtype=np.float32)


def split_rows(
    cv: Any,
    target: npt.NDArray[Any],
    images: npt.NDArray[Any],
    subjects: npt.NDArray[Any],
    classifier: bool,
) -> _Folds:
    """Split images, and return the positions of their rows."""
    first, image_of = np.unique(images, return_index=True, return_inverse=True)[1:]
    folds = _split_images(cv, target[first], subjects[first], classifier)
    return [
        (np.flatnonzero(np.isin(image_of, train)), np.flatnonzero(np.isin(image_of, test)))
        for train, test in folds
    ]


def _split_images(
    cv: Any, labels: npt.NDArray[Any], groups: npt.NDArray[Any], classifier: bool
) -> Any:
    if cv is None or isinstance(cv, Integral):
        n_splits = _N_FOLDS if cv is None else int(cv)
        return subject_folds(labels, groups, n_splits, random_state=0)
    if isinstance(cv, Real):
        # The share of images to validate on, of `TunedThresholdClassifierCV`.
        split = subject_split(labels, groups, test_size=float(cv), random_state=0)
        return [(split.train, split.test)]
    # Splitters that take no groups warn of those they are given.
    known = groups if needs_groups(cv) else None
    return list(check_cv(cv, labels, classifier=classifier).split(labels, labels, known))


def _restore(value: Any, seen: set[int]) -> None:
    """Restore the original `cv` in copies of nested estimators that were fitted with another."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        parts = value.ravel().tolist()
    elif type(value).__module__.startswith("sklearn.") or isinstance(value, BaseEstimator):
        parts = list(getattr(value, "__dict__", {}).values())
        if isinstance(getattr(value, "cv", None), GroupedSplitter):
            value.cv = value.cv.cv
    else:
        return
    for part in parts:
        _restore(part, seen)
