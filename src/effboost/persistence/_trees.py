"""The nodes of decision trees, which compiled code follows without checks."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.refusal import RefusedError

__all__ = ["MAX_DEPTH", "check_paths", "tree"]

_Ints = npt.NDArray[Any]

# XGBoost calls itself once a level, in threads whose stack may be small. Trees that are grown on
# data are a few dozen levels deep.
MAX_DEPTH: Final = 512
_TOLERANCE: Final = 1e-6


def check_paths(what: str, left: _Ints, right: _Ints) -> int:
    """Check that all paths of a tree lead down to leaves, and return its depth.

    Parameters
    ----------
    what : str
        The tree's name in error messages.
    left, right : ndarray of shape (n_nodes,)
        The children of each node, whose numbers are higher than its own; -1 for leaves.

    Raises
    ------
    RefusedError
        If a child does not exist or has another parent as well, or if the tree is too deep.
    """
    places = np.arange(len(left))
    inner = places[left != -1]
    children = np.concatenate([left[inner], right[inner]])
    parents = np.concatenate([inner, inner])
    # A child comes after its parent, so no path is a circle.
    if not ((children > parents) & (children < len(left))).all() or (right[left == -1] != -1).any():
        raise RefusedError(f"{what} has a node whose children do not exist")
    if len(np.unique(children)) != len(children):
        raise RefusedError(f"{what} has a node with two parents")
    depth, level = 0, np.zeros(1, dtype=np.intp)
    while len(level := level[left[level] != -1]):
        level = np.concatenate([left[level], right[level]])
        depth += 1
        if depth > MAX_DEPTH:
            raise RefusedError(f"{what} is more than {MAX_DEPTH} levels deep")
    return depth


def tree(value: Any, dims: dict[str, int], what: str) -> None:
    """Check a decision tree of scikit-learn, as a rule for an attribute."""
    left, right, feature = value.children_left, value.children_right, value.feature
    n_features, n_classes = dims.get("d"), dims.get("k")
    if value.n_features != n_features or value.n_outputs != 1 or value.n_classes[0] != n_classes:
        raise RefusedError(f"{what} is not for {n_features} features and {n_classes} classes")
    if not len(left):
        raise RefusedError(f"{what} has no nodes")
    depth = check_paths(what, left, right)
    if not depth <= value.max_depth <= len(left):
        raise RefusedError(f"{what} is {depth} levels deep, not {value.max_depth}")
    inner = left != -1
    if 2 * inner.sum() != len(left) - 1:
        raise RefusedError(f"{what} has a node without a parent")
    if not ((feature[inner] >= 0) & (feature[inner] < value.n_features)).all():
        raise RefusedError(f"{what} splits on a feature that does not exist")
    if np.isnan(value.threshold[inner]).any():
        raise RefusedError(f"{what} has a threshold that is NaN")
    shares = value.value[~inner, 0, :]
    if not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise RefusedError(f"{what} has shares of classes that are negative or not finite")
    if (np.abs(shares.sum(axis=1) - 1) > _TOLERANCE).any():
        raise RefusedError(f"{what} has shares of classes that do not sum to 1")
