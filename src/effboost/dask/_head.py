"""XGBoost as a head, trained where the features are."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from typing import Any, Final

import dask
import dask.array as da
import distributed
from distributed import Client, Future, futures_of
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
# Seconds between two looks at the workers, and until workers whose training has failed are free.
_INTERVAL: Final = 1.0
_PATIENCE: Final = 10.0


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

    `xgboost.dask` fails if it loses a worker, or waits for it without end. Training therefore
    begins anew with the workers that there are, as often as Dask lets a task lose its worker
    ("distributed.scheduler.allowed-failures"). Workers that still wait for the lost one are
    ended, and started by their nannies; Dask computes their features again.

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
    booster.client = client

    async def fit() -> None:
        await booster.fit(*train, sample_weight=weight, eval_set=eval_set, verbose=False)

    data = [*train, *(validation or ()), *(() if weight is None else (weight,))]
    _repeat_if_workers_are_lost(client, futures_of(data), fit)
    content, history = booster.get_booster().save_raw("ubj"), booster.evals_result()
    fitted = clone(classifier)
    fitted.load_model(content)
    for name in _UNTOUCHED:
        setattr(fitted, name, getattr(classifier, name))
    fitted.evals_result_ = history
    return fitted, dict(zip(("train", "validation"), history.values(), strict=False))


def _repeat_if_workers_are_lost(
    client: Client, data: list[Future], work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Do work in the event loop of a client; begin anew where a worker with data is lost."""
    allowed = dask.config.get("distributed.scheduler.allowed-failures")
    loop: Any = client.loop
    for _ in range(1 + allowed):
        distributed.wait(data)
        workers = {worker for holders in client.who_has(data).values() for worker in holders}
        job = asyncio.run_coroutine_threadsafe(work(), loop.asyncio_loop)
        lost = False
        try:
            while not lost and not wait([job], timeout=_INTERVAL).done:
                lost = not workers <= set(client.nthreads())
        finally:
            job.cancel()
        if not job.cancelled() and job.exception() is None:
            return
        if not lost:
            # Perhaps the error was faster than the news of the lost worker.
            time.sleep(_INTERVAL)
            if workers <= set(client.nthreads()):
                job.result()  # raises the error
        _end_what_still_trains(client)
    raise RuntimeError(
        f"training lost a worker {1 + allowed} times, more often than Dask's setting "
        f"'distributed.scheduler.allowed-failures' lets it ({allowed})"
    )


def _end_what_still_trains(client: Client) -> None:
    """End workers whose thread is not free soon: XGBoost waits there for a lost worker.

    It does so where the worker is lost before all have joined, and then obeys no time limit.
    """
    deadline = time.monotonic() + _PATIENCE
    while training := [at for at, busy in client.run(_trains, on_error="ignore").items() if busy]:
        if time.monotonic() > deadline:
            # As if they had been killed: their nannies start them anew.
            client.run(os._exit, 1, workers=training, nanny=False, on_error="ignore")
            return
        time.sleep(_INTERVAL)


def _trains(dask_worker: Any) -> bool:
    # The name that `xgboost.dask` gives its tasks.
    return any(str(task.key).startswith("fn-") for task in dask_worker.state.executing)
