"""XGBoost's UBJ files, checked before XGBoost reads them.

XGBoost 3.2 parses models natively and trusts them: of 400 models with one to four random bytes
replaced, 68 crashed the process, on loading or predicting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._json import check_fields
from effboost.persistence._trees import check_paths
from effboost.persistence._ubjson import parse_ubjson

__all__ = ["check_booster"]

_Ints = npt.NDArray[np.int64]

_OBJECTIVES: Final = {
    "binary:hinge",
    "binary:logistic",
    "binary:logitraw",
    "multi:softmax",
    "multi:softprob",
    "reg:logistic",
}
# XGBoost's number for the parent of a root, and for the feature of a node that was pruned.
_NONE: Final = 2**31 - 1
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_NUMBER: Final = re.compile(r"[-+0-9.eE]{1,40}")
_MAX_FEATURES: Final = 2**20
# XGBoost reserves memory for each class. A booster has a tree for each; one without trees has
# few.
_MAX_CLASSES: Final = 1000
# A sum over a million trees stays below what float32 holds.
_LARGEST: Final = 1e30
_LISTS: Final = (list, np.ndarray)
_TREE: Final = {
    "base_weights": _LISTS,
    "default_left": _LISTS,
    "id": int,
    "left_children": _LISTS,
    "loss_changes": _LISTS,
    "parents": _LISTS,
    "right_children": _LISTS,
    "split_conditions": _LISTS,
    "split_indices": _LISTS,
    "split_type": _LISTS,
    "sum_hessian": _LISTS,
    "tree_param": dict,
}
_OF_CATEGORIES: Final = dict.fromkeys(
    ("categories", "categories_nodes", "categories_segments", "categories_sizes"), _LISTS
)
_TREE_COUNTS: Final = dict.fromkeys(("num_deleted", "num_feature", "num_nodes"), str)


def check_booster(content: bytes) -> None:
    """Check a booster in UBJ, down to each split of each tree.

    Raises
    ------
    RefusedError
        If it is not in the form that XGBoost writes, or contains what effboost does not use:
        categorical splits, several targets, an objective that is not for classification.
    """
    model = check_fields(parse_ubjson(content), "the booster", {"learner": dict, "version": list})
    if len(model["version"]) != 3 or not all(type(part) is int for part in model["version"]):
        raise RefusedError("the booster has no version")
    learner = check_fields(
        model["learner"],
        "the booster",
        {
            "attributes": dict,
            "feature_names": list,
            "feature_types": list,
            "gradient_booster": dict,
            "learner_model_param": dict,
            "objective": dict,
        },
    )
    if learner["feature_names"] or learner["feature_types"]:
        raise RefusedError("the booster has names or types of features; features here have none")
    shape = check_fields(
        learner["learner_model_param"],
        "the booster's shape",
        dict.fromkeys(("base_score", "num_class", "num_feature", "num_target"), str),
        {"boost_from_average": str},
    )
    n_features, n_groups = _count(shape, "num_feature"), max(1, _count(shape, "num_class"))
    if not 1 <= n_features <= _MAX_FEATURES:
        raise RefusedError(
            f"the booster has {n_features:,} features; the limit is {_MAX_FEATURES:,}"
        )
    if not _is_number(shape.get("boost_from_average", "1")):
        raise RefusedError("the booster's boost_from_average is not a number")
    if _count(shape, "num_target") != 1:
        raise RefusedError("the booster has several targets")
    _check_base_score(shape["base_score"], n_groups)
    _check_objective(learner["objective"], n_groups)
    n_rounds = _check_ensemble(learner["gradient_booster"], n_features, n_groups)
    _check_attributes(learner["attributes"], n_rounds)


def _check_base_score(text: str, n_groups: int) -> None:
    numbers = text.removeprefix("[").removesuffix("]").split(",")
    if len(numbers) not in (1, n_groups) or not all(_is_number(one) for one in numbers):
        raise RefusedError("the booster's base score is not a number, or not one for each class")


def _is_number(text: str) -> bool:
    """Return whether a string is a number of moderate size."""
    if not _NUMBER.fullmatch(text):
        return False
    try:
        return abs(float(text)) <= _LARGEST
    except ValueError:
        return False


def _check_objective(objective: dict[str, Any], n_groups: int) -> None:
    name = objective.get("name")
    if not isinstance(name, str) or name not in _OBJECTIVES:
        raise RefusedError(f"the booster's objective {quote_name(str(name))} is unknown")
    if str(name).startswith("multi:") != (n_groups > 1):
        raise RefusedError("the booster's objective does not fit its number of classes")
    for key, group in objective.items():
        if key == "name":
            continue
        if not isinstance(group, dict) or not all(
            isinstance(value, str) and _is_number(value) for value in group.values()
        ):
            raise RefusedError("the booster's objective has parameters that are not numbers")
        if "num_class" in group and _count(group, "num_class") != n_groups:
            raise RefusedError("the booster's objective has another number of classes")


def _check_attributes(attributes: dict[str, Any], n_rounds: int) -> None:
    if not all(isinstance(value, str) for value in attributes.values()):
        raise RefusedError("the booster has attributes that are not strings")
    if "best_iteration" in attributes and _count(attributes, "best_iteration") >= n_rounds:
        raise RefusedError("the booster's best round comes after its last one")
    if not _is_number(attributes.get("best_score", "0")) or "scikit_learn" in attributes:
        raise RefusedError("the booster has an attribute that XGBoost does not write like this")


def _check_ensemble(ensemble: dict[str, Any], n_features: int, n_groups: int) -> int:
    """Check trees, dropped trees or weights, and return the number of rounds."""
    name = ensemble.get("name")
    if name == "gbtree":
        check_fields(ensemble, "the booster", {"model": dict, "name": str})
        return _check_trees(ensemble["model"], n_features, n_groups)
    if name == "dart":
        check_fields(ensemble, "the booster", {"gbtree": dict, "name": str, "weight_drop": _LISTS})
        inner = check_fields(ensemble["gbtree"], "the booster", {"model": dict, "name": str})
        n_rounds = _check_trees(inner["model"], n_features, n_groups)
        _floats(ensemble, "weight_drop", _count(inner["model"]["gbtree_model_param"], "num_trees"))
        return n_rounds
    if name == "gblinear":
        check_fields(ensemble, "the booster", {"model": dict, "name": str})
        model = check_fields(
            ensemble["model"], "the booster", {"weights": _LISTS}, {"boosted_rounds": int}
        )
        _floats(model, "weights", (n_features + 1) * n_groups)
        if n_groups > _MAX_CLASSES:
            raise RefusedError(f"the booster has {n_groups:,} classes")
        return int(model.get("boosted_rounds", 0))
    raise RefusedError(f"the booster is of kind {quote_name(str(name))}, which is unknown")


def _check_trees(model: dict[str, Any], n_features: int, n_groups: int) -> int:
    check_fields(
        model,
        "the booster's trees",
        {"gbtree_model_param": dict, "tree_info": _LISTS, "trees": list},
        {"cats": dict, "iteration_indptr": _LISTS},
    )
    for part in model.get("cats", {}).values():
        if not isinstance(part, _LISTS) or len(part):
            raise RefusedError("the booster has categories, which features never have")
    counts = check_fields(
        model["gbtree_model_param"],
        "the booster's trees",
        {"num_parallel_tree": str, "num_trees": str},
    )
    n_trees = len(model["trees"])
    n_parallel = _count(counts, "num_parallel_tree")
    if _count(counts, "num_trees") != n_trees or not 1 <= n_parallel <= max(n_trees, 1000):
        raise RefusedError("the booster declares a wrong number of trees")
    if n_groups > max(n_trees, _MAX_CLASSES):
        raise RefusedError(f"the booster has {n_groups:,} classes and {n_trees:,} trees")
    groups = _ints(model, "tree_info", n_trees)
    if not ((groups >= 0) & (groups < n_groups)).all():
        raise RefusedError("a tree of the booster is for a class that does not exist")
    for number, tree in enumerate(model["trees"]):
        _check_tree(tree, number, n_features)
    rounds = _ints(model, "iteration_indptr", None)
    if len(rounds) < 1 or rounds[0] != 0 or rounds[-1] != n_trees or (np.diff(rounds) < 0).any():
        raise RefusedError("the booster's rounds do not add up to its trees")
    return len(rounds) - 1


def _check_tree(tree: Any, number: int, n_features: int) -> None:
    """Check that all splits are on features, and that all paths lead down to leaves."""
    what = f"tree {number} of the booster"
    check_fields(tree, what, _TREE, _OF_CATEGORIES)
    left = _ints(tree, "left_children", None)
    n = len(left)
    right, parents = _ints(tree, "right_children", n), _ints(tree, "parents", n)
    splits = _ints(tree, "split_indices", n)
    counts = tree["tree_param"]
    check_fields(
        counts,
        what,
        dict.fromkeys(("num_deleted", "num_feature", "num_nodes"), str),
        {"size_leaf_vector": str},
    )
    pruned = splits == _NONE
    expected = {"num_deleted": pruned.sum(), "num_feature": n_features, "num_nodes": n}
    if tree["id"] != number or any(_count(counts, k) != v for k, v in expected.items()) or not n:
        raise RefusedError(f"{what} declares wrong numbers of nodes or features")
    if "size_leaf_vector" in counts and _count(counts, "size_leaf_vector") > 1:
        raise RefusedError(f"{what} has several targets")
    if (
        any(len(tree.get(name, ())) for name in _OF_CATEGORIES)
        or _ints(tree, "split_type", n).any()
    ):
        raise RefusedError(f"{what} has categories, which features never have")
    for name in ("base_weights", "loss_changes", "split_conditions", "sum_hessian"):
        _floats(tree, name, n)
    check_paths(what, left, right)
    _check_parents(what, left, right, parents)
    inner = left >= 0
    if not (pruned | ((splits >= 0) & (splits < n_features))).all() or pruned[inner].any():
        raise RefusedError(f"{what} splits on a feature that does not exist")
    if not np.isin(_ints(tree, "default_left", n), (0, 1)).all():
        raise RefusedError(f"{what} has a default direction other than left or right")


def _check_parents(what: str, left: _Ints, right: _Ints, parents: _Ints) -> None:
    places = np.arange(len(left))
    inner = places[left != -1]
    if (parents[np.stack([left[inner], right[inner]])] != inner).any():
        raise RefusedError(f"{what} has a node with two parents")
    # Of nodes that were pruned as well.
    if parents[0] != _NONE or not ((parents[1:] >= 0) & (parents[1:] < places[1:])).all():
        raise RefusedError(f"{what} has a node without a parent")


def _count(values: Mapping[str, Any], name: str) -> int:
    text = values.get(name)
    if not isinstance(text, str) or not _COUNT.fullmatch(text):
        raise RefusedError(f"the booster's {name} is not a number")
    return int(text)


def _ints(values: Mapping[str, Any], name: str, length: int | None) -> _Ints:
    return _numbers(values, name, length, (int,), "iu").astype(np.int64)


def _floats(values: Mapping[str, Any], name: str, length: int) -> None:
    numbers = _numbers(values, name, length, (int, float), "f")
    # Not `>`: NaN is not larger than anything.
    if not (np.abs(numbers) <= _LARGEST).all():
        raise RefusedError(f"the booster's {name} contain NaN, infinity or very large numbers")


def _numbers(
    values: Mapping[str, Any], name: str, length: int | None, kinds: tuple[type, ...], codes: str
) -> npt.NDArray[Any]:
    items = values.get(name)
    if isinstance(items, list):
        if not all(type(item) in kinds for item in items):
            raise RefusedError(f"the booster's {name} are not numbers")
        try:
            items = np.array(items, dtype=np.int64 if codes == "iu" else np.float64)
        except OverflowError as error:
            raise RefusedError(f"the booster's {name} are too large") from error
    elif not isinstance(items, np.ndarray) or items.dtype.kind not in codes:
        raise RefusedError(f"the booster's {name} are not numbers")
    if length is not None and len(items) != length:
        raise RefusedError(f"the booster has {len(items)} {name}; expected {length}")
    return items
