"""XGBoost's classifiers as UBJ and plain parameters, checked before XGBoost sees them.

XGBoost 3.2 parses models natively and trusts them: of 400 models with one to four random bytes
replaced, 68 crashed the process, on loading or predicting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.compat import load_xgboost
from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError
from effboost.persistence._checks import check_numbers
from effboost.persistence._json import check_fields
from effboost.persistence._ubjson import parse_ubjson
from effboost.persistence._values import NotPlainError, decode, encode

__all__ = ["build_booster", "check_booster", "describe_booster", "is_booster"]

_Ints = npt.NDArray[np.int64]

_KINDS: Final = ("XGBClassifier", "XGBRFClassifier")
_OBJECTIVES: Final = {
    "binary:hinge",
    "binary:logistic",
    "binary:logitraw",
    "multi:softmax",
    "multi:softprob",
    "reg:logistic",
}
# How XGBoost marks the parent of a root, and what a node that was pruned away splits on.
_NONE: Final = 2**31 - 1
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_NUMBER: Final = re.compile(r"[-+0-9.eE]{1,40}")
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


def is_booster(estimator: Any) -> bool:
    """Tell whether an estimator is one of XGBoost's, of any kind."""
    return isinstance(estimator, load_xgboost().XGBModel)


def describe_booster(estimator: Any) -> tuple[dict[str, Any], bytes | None, list[str]]:
    """Describe one of XGBoost's classifiers.

    Returns
    -------
    description : dict
        Its class, parameters and metrics, as JSON has them.
    content : bytes or None
        Its trees as UBJ; None where it is not fitted.
    dropped : list of str
        Names of parameters that are code, and matter for training alone.

    Raises
    ------
    RefusedError
        If it cannot be kept.
    """
    kind = type(estimator).__name__
    if type(estimator) not in [getattr(load_xgboost(), name) for name in _KINDS]:
        raise RefusedError(f"a {kind} cannot be a head in a file; {' and '.join(_KINDS)} can")
    if callable(estimator.objective):
        raise RefusedError(
            f"the {kind} has an objective of its own, which is code; name one of XGBoost's"
        )
    params, dropped = {}, []
    for name, value in estimator.get_params(deep=False).items():
        try:
            params[name] = encode(value)
        except NotPlainError:
            params[name] = None
            dropped.append(name)
    description: dict[str, Any] = {"kind": kind, "params": params}
    if not estimator.__sklearn_is_fitted__():
        return description, None, dropped
    description["evals_result"] = encode(_plain_metrics(getattr(estimator, "evals_result_", None)))
    content = bytes(estimator.get_booster().save_raw("ubj"))
    check_booster(content)
    return description, content, dropped


def build_booster(description: Any, content: bytes | None, what: str) -> Any:
    """Make the classifier that `describe_booster` described, of checked parts."""
    fitted = {} if content is None else {"evals_result": (dict, type(None))}
    check_fields(description, what, {"kind": str, "params": dict, **fitted})
    if description["kind"] not in _KINDS:
        raise RefusedError(f"{what} is a {quote_name(description['kind'])}; {_KINDS} are known")
    params = {
        name: decode(value, f"{what}: parameter {quote_name(name)}")
        for name, value in description["params"].items()
    }
    if not all(name.isidentifier() and not name.startswith("_") for name in params):
        raise RefusedError(f"{what} has parameters whose names are none")
    kind = getattr(load_xgboost(), description["kind"])
    known = kind().get_params(deep=False).keys()
    estimator = kind(**{name: params[name] for name in params.keys() - known})
    estimator.n_jobs = params.get("n_jobs")
    check_numbers(estimator)
    if content is not None:
        _load_trees(estimator, content, what)
        metrics = decode(description["evals_result"], f"{what}: evals_result")
        if metrics is not None:
            estimator.evals_result_ = metrics
    # Not set_params: of a fitted booster, it would hand on what its native part cannot read.
    # Last: loading trees sets some of them by what the trees say.
    for name in known & params.keys():
        setattr(estimator, name, params[name])
    return estimator


def _load_trees(estimator: Any, content: bytes, what: str) -> None:
    check_booster(content)
    try:
        estimator.load_model(bytearray(content))
    except load_xgboost().core.XGBoostError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RefusedError(f"{what}: XGBoost does not take it ({reason})") from error


def check_booster(content: bytes) -> None:
    """Check a booster in UBJ, down to each split of each tree.

    Raises
    ------
    RefusedError
        If it is not as XGBoost writes one, or holds what effboost has no use for: categorical
        splits, several targets, an objective that is no classifier's.
    """
    model = check_fields(parse_ubjson(content), "the booster", {"learner": dict, "version": list})
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
        raise RefusedError("the booster has names or types of features; effboost's have none")
    shape = check_fields(
        learner["learner_model_param"],
        "the booster's shape",
        dict.fromkeys(("base_score", "num_class", "num_feature", "num_target"), str),
        {"boost_from_average": str},
    )
    n_features, n_groups = _count(shape, "num_feature"), max(1, _count(shape, "num_class"))
    if _count(shape, "num_target") != 1:
        raise RefusedError("the booster has several targets")
    _check_base_score(shape["base_score"], n_groups)
    _check_objective(learner["objective"], n_groups)
    n_rounds = _check_ensemble(learner["gradient_booster"], n_features, n_groups)
    _check_attributes(learner["attributes"], n_rounds)


def _check_base_score(text: str, n_groups: int) -> None:
    numbers = text.strip("[]").split(",")
    if len(numbers) not in (1, n_groups) or not all(map(_NUMBER.fullmatch, numbers)):
        raise RefusedError("the booster's base score is no number, or not one for each class")


def _check_objective(objective: dict[str, Any], n_groups: int) -> None:
    name = objective.get("name")
    if name not in _OBJECTIVES:
        raise RefusedError(f"the booster's objective {quote_name(str(name))} is unknown")
    if str(name).startswith("multi:") != (n_groups > 1):
        raise RefusedError("the booster's objective does not fit its number of classes")
    for key, group in objective.items():
        if key == "name":
            continue
        if not isinstance(group, dict) or not all(
            isinstance(value, str) and _NUMBER.fullmatch(value) for value in group.values()
        ):
            raise RefusedError("the booster's objective has parameters that are no numbers")
        if "num_class" in group and _count(group, "num_class") != n_groups:
            raise RefusedError("the booster's objective counts other classes than the booster")


def _check_attributes(attributes: dict[str, Any], n_rounds: int) -> None:
    if not all(isinstance(value, str) for value in attributes.values()):
        raise RefusedError("the booster has attributes that are no strings")
    if "best_iteration" in attributes and _count(attributes, "best_iteration") >= n_rounds:
        raise RefusedError("the booster's best round is behind its last one")
    if not _NUMBER.fullmatch(attributes.get("best_score", "0")) or "scikit_learn" in attributes:
        raise RefusedError("the booster's attributes are not as they should be")


def _check_ensemble(ensemble: dict[str, Any], n_features: int, n_groups: int) -> int:
    """Check trees, dropped trees or weights, and give the number of rounds."""
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
        return int(model.get("boosted_rounds", 0))
    raise RefusedError(f"the booster is of kind {quote_name(str(name))}, which is unknown")


def _check_trees(model: dict[str, Any], n_features: int, n_groups: int) -> int:
    check_fields(
        model,
        "the booster's trees",
        {"gbtree_model_param": dict, "tree_info": _LISTS, "trees": list},
        {"cats": dict, "iteration_indptr": _LISTS},
    )
    if any(len(part) for part in model.get("cats", {}).values()):
        raise RefusedError("the booster has categories, which features never have")
    counts = check_fields(
        model["gbtree_model_param"],
        "the booster's trees",
        {"num_parallel_tree": str, "num_trees": str},
    )
    n_trees = len(model["trees"])
    if _count(counts, "num_trees") != n_trees or _count(counts, "num_parallel_tree") < 1:
        raise RefusedError("the booster counts other trees than it has")
    groups = _ints(model, "tree_info", n_trees)
    if not ((groups >= 0) & (groups < n_groups)).all():
        raise RefusedError("a tree of the booster votes for a class that there is not")
    for number, tree in enumerate(model["trees"]):
        _check_tree(tree, number, n_features)
    rounds = _ints(model, "iteration_indptr", None)
    if len(rounds) < 1 or rounds[0] != 0 or rounds[-1] != n_trees or (np.diff(rounds) < 0).any():
        raise RefusedError("the booster's rounds do not add up to its trees")
    return len(rounds) - 1


def _check_tree(tree: Any, number: int, n_features: int) -> None:
    """Check that all splits lie within the features, and that all ways lead down to leaves."""
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
        raise RefusedError(f"{what} counts other nodes or features than it has")
    if _count(counts, "size_leaf_vector") > 1 if "size_leaf_vector" in counts else False:
        raise RefusedError(f"{what} has several targets")
    if (
        any(len(tree.get(name, ())) for name in _OF_CATEGORIES)
        or _ints(tree, "split_type", n).any()
    ):
        raise RefusedError(f"{what} has categories, which features never have")
    for name in ("base_weights", "loss_changes", "split_conditions", "sum_hessian"):
        _floats(tree, name, n)
    _check_ways(what, left, right, parents)
    inner = left >= 0
    if not (pruned | ((splits >= 0) & (splits < n_features))).all() or pruned[inner].any():
        raise RefusedError(f"{what} splits on a feature that there is not")
    if not np.isin(_ints(tree, "default_left", n), (0, 1)).all():
        raise RefusedError(f"{what} sends missing values nowhere")


def _check_ways(what: str, left: _Ints, right: _Ints, parents: _Ints) -> None:
    places = np.arange(len(left))
    inner = places[left != -1]
    children = np.stack([left[inner], right[inner]])
    # XGBoost numbers nodes as it makes them: a child behind its parent, so no way is a circle.
    if not ((children > inner) & (children < len(left))).all() or (right[left == -1] != -1).any():
        raise RefusedError(f"{what} has a node whose children are none")
    if (children[0] == children[1]).any() or (parents[children] != inner).any():
        raise RefusedError(f"{what} has a node with two parents")
    if parents[0] != _NONE or not ((parents[1:] >= 0) & (parents[1:] < places[1:])).all():
        raise RefusedError(f"{what} has a node without a parent")


def _count(values: Mapping[str, Any], name: str) -> int:
    text = values.get(name)
    if not isinstance(text, str) or not _COUNT.fullmatch(text):
        raise RefusedError(f"the booster's {name} is no number")
    return int(text)


def _ints(values: Mapping[str, Any], name: str, length: int | None) -> _Ints:
    return _numbers(values, name, length, (int,), "iu").astype(np.int64)


def _floats(values: Mapping[str, Any], name: str, length: int) -> None:
    if not np.isfinite(_numbers(values, name, length, (int, float), "f")).all():
        raise RefusedError(f"the booster's {name} hold NaN or infinity")


def _numbers(
    values: Mapping[str, Any], name: str, length: int | None, kinds: tuple[type, ...], codes: str
) -> npt.NDArray[Any]:
    items = values.get(name)
    if isinstance(items, list):
        if not all(type(item) in kinds for item in items):
            raise RefusedError(f"the booster's {name} are no numbers")
        items = np.array(items, dtype=np.int64 if codes == "iu" else np.float64)
    elif not isinstance(items, np.ndarray) or items.dtype.kind not in codes:
        raise RefusedError(f"the booster's {name} are no numbers")
    if length is not None and len(items) != length:
        raise RefusedError(f"the booster has {len(items)} {name}; {length} belong to it")
    return items


def _plain_metrics(metrics: Any) -> Any:
    # XGBoost's are ordered dictionaries.
    if metrics is None:
        return None
    return {rows: {k: list(map(float, v)) for k, v in of.items()} for rows, of in metrics.items()}
