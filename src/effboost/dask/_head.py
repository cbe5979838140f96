"""XGBoost as a head, trained where the features are."""

from __future__ import annotations

from typing import Any, Final

import dask
import dask.array as da
from distributed import Client
from sklearn.base import clone

from effboost._utils.compat import load_xgboost

__all__ = ["fit_on_cluster", "is_distributed"]

_History = dict[str, dict[str, list[float]]]
_COUNTERPARTS: Final = {
    "XGBClassifier": "DaskXGBClassifier",
    "XGBRFClassifier": "DaskXGBRFClassifier",
}
# What `load_model` of XGBoost sets besides the trees, but its `fit` leaves as it is.
_UNTOUCHED: Final = ("booster", "base_score", "feature_types", "enable_categorical")


def is_distributed(classifier: Any) -> bool:
    """Return whether `xgboost.dask` has a counterpart of a classifier."""
    xgboost = load_xgboost()
    return any(type(classifier) is getattr(xgboost, name) for name in _COUNTERPARTS)


def fit_on_cluster(
    client: Client,
    classifier: Any,
    train: tuple[da.Array, da.Array],
    validation: tuple[da.Array, da.Array] | None,
    weight: da.Array | None,
    n_classes: int,
) -> tuple[Any, _History]:
    """Fit a classifier of XGBoost by `xgboost.dask`, without gathering the features.

    The training is one task of Dask. `xgboost.dask` fails if it loses a worker; Dask then runs the
    task again, as often as it allows a task to lose its worker, with the workers that there are.

    Parameters
    ----------
    client : Client
        Of the cluster.
    classifier : XGBClassifier or XGBRFClassifier
        Unfitted; it is not changed.
    train, validation : (features, classes)
        Persisted arrays of shape (n_samples, n_features) and (n_samples,), with classes 0 to
        k - 1.
    weight : dask.array.Array of shape (n_samples,) or None
        Weights of the training images.
    n_classes : int
        Number of classes.

    Returns
    -------
    classifier : XGBClassifier or XGBRFClassifier
        The fitted classifier, in the memory of the client.
    history : dict
        Each metric in each round, on "train" and "validation".
    """
    from xgboost import dask as xgboost_dask

    counterpart = getattr(xgboost_dask, _COUNTERPARTS[type(classifier).__name__])
    booster = counterpart(**classifier.get_params())
    if booster.eval_metric is None:
        binary = n_classes == 2 and not str(booster.objective).startswith("multi:")
        booster.eval_metric = ["error", "logloss"] if binary else ["merror", "mlogloss"]
    eval_set = [train] if validation is None else [train, validation]
    training = client.submit(
        _train,
        booster,
        *train,
        eval_set,
        weight,
        retries=dask.config.get("distributed.scheduler.allowed-failures"),
        pure=False,
    )
    content, history = training.result()
    fitted = clone(classifier)
    fitted.load_model(bytearray(content))
    for name in _UNTOUCHED:
        setattr(fitted, name, getattr(classifier, name))
    fitted.evals_result_ = history
    return fitted, dict(zip(("train", "validation"), history.values(), strict=False))


def _train(
    booster: Any, X: da.Array, y: da.Array, eval_set: Any, weight: da.Array | None
) -> tuple[bytes, Any]:
    """Train in a task, from which `xgboost.dask` starts its own on all workers with data."""
    booster.fit(X, y, sample_weight=weight, eval_set=eval_set, verbose=False)
    return bytes(booster.get_booster().save_raw("ubj")), booster.evals_result()
