"""XGBoost as the head of a hybrid: the paper's, and how any of its classifiers is fitted."""

from __future__ import annotations

import copy
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from effboost._utils.compat import load_xgboost
from effboost._utils.fit_callbacks import CallbackSteps
from effboost.exceptions import UnsupportedInputError

__all__ = [
    "check_objective",
    "count_rounds",
    "fit_booster",
    "is_booster",
    "paper_booster",
    "watches_validation",
]

_Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
# Those of XGBoost for two classes that give probabilities. It replaces others for more classes.
_OBJECTIVES: Final = (
    "binary:hinge",
    "binary:logistic",
    "multi:softmax",
    "multi:softprob",
    "reg:logistic",
)


def paper_booster() -> Any:
    """Build the paper's head, unfitted: XGBoost with a learning rate of 0.35."""
    return load_xgboost().XGBClassifier(learning_rate=0.35, tree_method="hist")


def is_booster(classifier: Any) -> bool:
    """Return whether an estimator is one of XGBoost's."""
    return isinstance(classifier, load_xgboost().XGBModel)


def check_objective(booster: Any) -> None:
    """Check that an objective for two classes returns probabilities; functions are not checked.

    Raises
    ------
    UnsupportedInputError
        If it returns something else.
    """
    objective = booster.objective
    if isinstance(objective, str) and objective not in _OBJECTIVES:
        raise UnsupportedInputError(
            f"objective={objective!r} of {type(booster).__name__} does not give probabilities of "
            f"two classes; choose one of {', '.join(_OBJECTIVES)}"
        )


def watches_validation(booster: Any) -> bool:
    """Return whether a booster needs validation rows to know when to stop."""
    return bool(booster.early_stopping_rounds) or any(map(_stops, booster.callbacks or ()))


def count_rounds(classifier: Any) -> int:
    """Return the number of rounds that callbacks can follow; 0 for classifiers without rounds."""
    # XGBoost's forests are boosters of one round, and take no callbacks.
    if not is_booster(classifier) or isinstance(classifier, load_xgboost().XGBRFClassifier):
        return 0
    return int(classifier.get_num_boosting_rounds())


def fit_booster(
    booster: Any,
    train: _Rows,
    validation: _Rows | None,
    *,
    watched: _Rows,
    device: torch.device,
    rounds: CallbackSteps | None = None,
    **fit_params: Any,
) -> dict[str, dict[str, list[float]]]:
    """Fit a booster in place, and return its metrics in each round. See `fit_head`.

    Parameters
    ----------
    booster : XGBModel
        It is fitted in place.
    train, validation : (features, classes)
        The training rows, and the rows for early stopping.
    watched : (features, classes)
        The training rows that its metrics are computed on.
    device : torch.device
        Where it computes, unless its own `device` is set.
    rounds : CallbackSteps, default=None
        Callbacks for the rounds, which may stop the training.
    **fit_params : dict
        Further parameters of its `fit`.

    Returns
    -------
    dict
        Each metric in each round, on "train" and "validation".
    """
    follows_device = booster.device is None and device.type == "cuda"
    former = {name: getattr(booster, name) for name in ("callbacks", "device", "eval_metric")}
    if booster.eval_metric is None:
        # The last one decides on early stopping: the loss is smoother than the error.
        binary = watched[1].max() < 2 and not str(booster.objective).startswith("multi:")
        booster.eval_metric = ["error", "logloss"] if binary else ["merror", "mlogloss"]
    if follows_device:
        booster.device = str(device)
    if former["callbacks"]:
        booster.callbacks = [_watch_validation(callback) for callback in former["callbacks"]]
    if rounds is not None and count_rounds(booster):
        booster.callbacks = [*(booster.callbacks or ()), _follow(rounds)]
    eval_set = [watched] if validation is None else [watched, validation]
    try:
        booster.fit(*train, eval_set=eval_set, verbose=False, **fit_params)
    finally:
        # Parameters are as the user set them. The native library cannot read a list of metrics:
        # a later set_params, which hands all parameters on, would break the booster.
        for name, value in former.items():
            setattr(booster, name, value)
    if follows_device:
        # Features come from the CPU, and the model may be loaded where there is no GPU.
        booster.device = "cpu"
        booster.get_booster().set_param({"device": "cpu"})
    return dict(zip(("train", "validation"), booster.evals_result().values(), strict=False))


def _stops(callback: Any) -> bool:
    return isinstance(callback, load_xgboost().callback.EarlyStopping)


def _watch_validation(callback: Any) -> Any:
    """Return a copy of an early stopping callback that uses the last rows, whatever their name."""
    if not _stops(callback):
        return callback
    callback = copy.deepcopy(callback)
    callback.data = None
    return callback


def _follow(rounds: CallbackSteps) -> Any:
    """Build a callback of XGBoost that reports the rounds of a booster."""

    class Follower(load_xgboost().callback.TrainingCallback):  # type: ignore[misc]
        def before_iteration(self, *_: Any) -> bool:
            rounds.begin()
            return False

        def after_iteration(self, *_: Any) -> bool:
            return rounds.end()

    return Follower()
