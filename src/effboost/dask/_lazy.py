"""Lazy results of models on paths in partitions, and the tasks that compute them."""

from __future__ import annotations

import warnings
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pandas as pd
from dask import array as da
from dask import dataframe as dd

from effboost._images import ImageSequence
from effboost._iter_predictions import predict_images
from effboost._rejects import OnError
from effboost._utils.threads import limit_threads
from effboost.dask._model import find_model
from effboost.exceptions import DroppedRowsWarning

__all__ = ["lazy_features", "lazy_method", "lazy_predictions"]


def lazy_features(paths: da.Array, name: str, width: int) -> da.Array:
    """Return the features that a model computes, as an array (n_samples, width) of float32."""
    return _map(paths, "transform", name, np.dtype(np.float32), (width,))


def lazy_method(paths: da.Array, method: str, name: str, head: Any) -> da.Array:
    """Return what a method of a model returns, as an array.

    Parameters
    ----------
    paths : dask.array.Array of shape (n_samples,)
        The paths.
    method : str
        The method.
    name : str
        Name of the model: see `send_model`.
    head : ndarray
        What the method returns for some images: its type and further axes.
    """
    return _map(paths, method, name, head.dtype, head.shape[1:])


def _map(
    paths: da.Array, method: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> da.Array:
    chunks = (paths.chunks[0], *((n,) for n in shape))
    return da.map_blocks(
        _call,
        paths,
        method,
        name,
        dtype,
        shape,
        dtype=dtype,
        chunks=chunks,
        new_axis=list(range(1, 1 + len(shape))) or None,
        meta=np.empty((0, *shape), dtype=dtype),
        name=None,
        token=f"effboost-{method}",
    )


def _call(
    paths: npt.NDArray[np.object_],
    method: str,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> npt.NDArray[Any]:
    """Call a method of a model on the paths of a partition."""
    if not len(paths):
        return np.empty((0, *shape), dtype=dtype)
    # A worker runs a task in each of its threads.
    with limit_threads(1):
        return np.asarray(getattr(find_model(name), method)(ImageSequence(paths)), dtype=dtype)


def lazy_predictions(
    paths: da.Array, name: str, classes: npt.NDArray[Any], columns: list[str], on_error: OnError
) -> dd.DataFrame:
    """Return a table with a row for each path: see `DaskHybridClassifier.predict_table`."""
    meta = _to_table([], 0, classes, columns)
    parts = [
        dask.delayed(_predict_part)(part, i, name, columns, on_error)
        for i, part in enumerate(paths.to_delayed().ravel())
    ]
    return dd.from_delayed(parts, meta=meta, verify_meta=False)


def _predict_part(
    paths: npt.NDArray[np.object_],
    partition: int,
    name: str,
    columns: list[str],
    on_error: OnError,
) -> pd.DataFrame:
    with limit_threads(1), warnings.catch_warnings():
        # Rejected images are rows of the table.
        warnings.simplefilter("ignore", DroppedRowsWarning)
        model = find_model(name)
        table = _to_table(list(paths), partition, model.classes_, columns)
        if not len(paths):
            return table
        found = predict_images(model, ImageSequence(paths), on_error=on_error)
        table.loc[found.positions, "class"] = found.labels
        if found.probabilities is not None:
            table.loc[found.positions, columns] = found.probabilities
        for reject in found.rejects:
            table.loc[reject.position, "reason"] = reject.reason
        return table


def _to_table(
    paths: list[str], partition: int, classes: npt.NDArray[Any], columns: list[str]
) -> pd.DataFrame:
    """Return a table without results, whose types do not depend on its rows."""
    n = len(paths)
    table = pd.DataFrame(
        {
            "path": pd.array(paths, dtype="str"),
            "partition": np.full(n, partition, dtype=np.int64),
            "position": np.arange(n, dtype=np.int64),
            "class": pd.array([None] * n, dtype=pd.Series(classes).convert_dtypes().dtype),
        }
    )
    table[columns] = np.full((n, len(columns)), np.nan)
    table["reason"] = pd.array([None] * n, dtype="str")
    return table
