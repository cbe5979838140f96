"""The head of a hybrid: the paper's booster, and how any head is fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import has_fit_parameter

from effboost._utils.compat import load_xgboost
from effboost._utils.fit_callbacks import CallbackSteps
from effboost.exceptions import UnsupportedInputError

__all__ = ["count_rounds", "fit_head", "paper_booster", "stops_early"]

_Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def paper_booster() -> Any:
    """Give the paper's head, unfitted: XGBoost with a learning rate of 0.35."""
    return load_xgboost().XGBClassifier(learning_rate=0.35, tree_method="hist")


def stops_early(classifier: Any) -> bool:
    """Tell whether a classifier is a booster that needs validation rows to know when to stop."""
    return _is_booster(classifier) and bool(classifier.early_stopping_rounds)


def count_rounds(classifier: Any) -> int:
    """Give the rounds of a booster that can be followed; 0 for other classifiers."""
    # XGBoost's forests are boosters of one round, and take no callbacks.
    if not _is_booster(classifier) or isinstance(classifier, load_xgboost().XGBRFClassifier):
        return 0
    return int(classifier.get_num_boosting_rounds())


def fit_head(
    classifier: Any,
    train: _Rows,
    validation: _Rows | None,
    *,
    sample_weight: npt.NDArray[np.float64],
    device: torch.device,
    groups: npt.NDArray[Any] | None = None,
    rounds: CallbackSteps | None = None,
) -> dict[str, dict[str, list[float]]] | None:
    """Fit a classifier on features.

    Parameters
    ----------
    classifier : classifier
        The head; it is fitted in place.
    train : (features, classes)
        Features of shape (n_samples, n_features), and classes 0 to k - 1.
    validation : (features, classes) or None
        The same of rows that a booster is watched on, and that stop it early.
    sample_weight : ndarray of shape (n_samples,)
        Weights of the training rows.
    device : torch.device
        Where a booster computes, unless it says so itself.
    groups : ndarray of shape (n_samples,), default=None
        Subjects of the training rows, for a classifier whose `fit` takes them.
    rounds : CallbackSteps, default=None
        Follows the rounds of a booster, and may end them.

    Returns
    -------
    dict or None
        Of a booster, each metric in each round, on "train" and "validation".
    """
    takes_weights = has_fit_parameter(classifier, "sample_weight")
    if not takes_weights and not (sample_weight == 1).all():
        raise UnsupportedInputError(
            f"{type(classifier).__name__} takes no sample_weight, which class_weight and "
            "sample_weight need; leave them out, or choose another classifier"
        )
    rows, fit_params = train, {}
    if takes_weights:
        rows, sample_weight, kept = _merge_equal(train, sample_weight)
        groups = None if groups is None else groups[kept]
        if not (sample_weight == 1).all():
            fit_params["sample_weight"] = sample_weight
    if groups is not None and has_fit_parameter(classifier, "groups"):
        fit_params["groups"] = groups
    if not _is_booster(classifier):
        classifier.fit(*rows, **fit_params)
        return None
    if classifier.eval_metric is None:
        # The last one decides on early stopping: the loss is smoother than the error.
        binary = train[1].max() < 2
        metrics = ["error", "logloss"] if binary else ["merror", "mlogloss"]
        classifier.set_params(eval_metric=metrics)
    follows = classifier.device is None and device.type == "cuda"
    if follows:
        classifier.set_params(device=str(device))
    watched = [train] if validation is None else [train, validation]
    callbacks = classifier.callbacks
    if rounds is not None and count_rounds(classifier):
        classifier.callbacks = [*(callbacks or ()), _follow(rounds)]
    classifier.fit(*rows, eval_set=watched, verbose=False, **fit_params)
    # Not set_params: of a fitted booster, it would hand on the list of metrics, which the native
    # library cannot read.
    classifier.callbacks = callbacks
    if follows:
        # Features come from the CPU, and the model may be loaded where there is no GPU.
        classifier.device = "cpu"
        classifier.get_booster().set_param({"device": "cpu"})
    names = ("train", "validation")
    return dict(zip(names, classifier.evals_result().values(), strict=False))


def _follow(rounds: CallbackSteps) -> Any:
    """Pass the rounds of a booster on."""

    class Follower(load_xgboost().callback.TrainingCallback):  # type: ignore[misc]
        def before_iteration(self, *_: Any) -> bool:
            rounds.begin()
            return False

        def after_iteration(self, *_: Any) -> bool:
            return rounds.end()

    return Follower()


def _merge_equal(
    rows: _Rows, weight: npt.NDArray[np.float64]
) -> tuple[_Rows, npt.NDArray[np.float64], Any]:
    """Make equal rows one row of their joint weight; where all differ, leave them as they are.

    Also gives which rows were kept, as an index.

    A weight of 2 and an image that stands there twice are then the same, to the bit: otherwise
    the order in which a booster adds up its gradients would tell them apart.
    """
    features, classes = rows
    table = np.column_stack([features, classes.astype(np.float32)])
    keys = table.view([("", np.void, table.itemsize * table.shape[1])]).ravel()
    first, inverse = np.unique(keys, return_index=True, return_inverse=True)[1:]
    if len(first) == len(keys) and (weight == 1).all():
        return rows, weight, slice(None)
    joint: npt.NDArray[np.float64] = np.zeros(len(first))
    np.add.at(joint, inverse, weight)
    return (features[first], classes[first]), joint, first


def _is_booster(classifier: Any) -> bool:
    return isinstance(classifier, load_xgboost().XGBModel)
