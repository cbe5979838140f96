"""Numbers inside of estimators that native code trusts, checked."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.svm import SVC, NuSVC
from sklearn.tree import DecisionTreeClassifier

from effboost._utils.refusal import RefusedError

__all__ = ["check_numbers"]

_KERNELS: Final = ("linear", "poly", "rbf", "sigmoid")
_MAX_JOBS: Final = 1024


def check_numbers(estimator: Any) -> None:
    """Check what an estimator that came from a file would hand to native code.

    scikit-learn looks its trees and support vectors up without checking that they are there:
    numbers of a hostile file would have it read, or write, anywhere in memory.

    Parameters
    ----------
    estimator : object
        Fitted, unfitted, or no estimator at all.

    Raises
    ------
    RefusedError
        If its numbers do not fit one another.
    """
    values = getattr(estimator, "__dict__", {})
    jobs = values.get("n_jobs")
    if jobs is not None and not (isinstance(jobs, int) and abs(jobs) <= _MAX_JOBS):
        raise RefusedError(f"n_jobs={jobs!r} of a {type(estimator).__name__} is no number of jobs")
    if values.get("memory") is not None:
        # A folder of pickles, which a later fit would read.
        raise RefusedError(f"a {type(estimator).__name__} has a memory; set memory=None")
    try:
        if isinstance(estimator, DecisionTreeClassifier) and "tree_" in values:
            _check_tree(estimator)
        elif isinstance(estimator, RandomForestClassifier | ExtraTreesClassifier):
            _check_forest(estimator)
        elif isinstance(estimator, SVC | NuSVC) and "support_" in values:
            _check_support_vectors(estimator)
    except (AttributeError, TypeError, ValueError) as error:
        raise RefusedError(f"a {type(estimator).__name__} lacks a part ({error})") from error


def _check_tree(estimator: Any) -> None:
    tree = estimator.tree_
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    places = np.arange(len(left))
    inner = left != -1
    children = np.stack([left[inner], right[inner]])
    fits = (
        len(left) > 0
        and tree.n_features == estimator.n_features_in_
        # A child stands behind its parent, so no way is a circle.
        and ((children > places[inner]) & (children < len(left))).all()
        and ((feature[inner] >= 0) & (feature[inner] < tree.n_features)).all()
    )
    if not fits:
        raise RefusedError("a decision tree has nodes or features that there are not")


def _check_forest(forest: Any) -> None:
    trees = vars(forest).get("estimators_", [])
    # A forest checks images' features once, by its own number of them, for all of its trees.
    if not all(
        isinstance(tree, DecisionTreeClassifier) and tree.n_features_in_ == forest.n_features_in_
        for tree in trees
    ):
        raise RefusedError("a forest has trees that look at other features than it does")


def _check_support_vectors(machine: Any) -> None:
    k, (n_vectors, n_features) = len(machine.classes_), machine.support_vectors_.shape
    pairs = k * (k - 1) // 2
    counts = machine._n_support
    fits = (
        machine.kernel in _KERNELS
        and machine._sparse is False
        and n_features == machine.n_features_in_
        and counts.shape == (k,)
        and (counts >= 0).all()
        and counts.sum() == n_vectors
        and machine.support_.shape == (n_vectors,)
        and machine._dual_coef_.shape == (k - 1, n_vectors)
        and machine._intercept_.shape == (pairs,)
        and machine._probA.shape == machine._probB.shape
        and machine._probA.size in (0, pairs)
    )
    if not fits:
        raise RefusedError("a support vector machine has other vectors than it counts")
