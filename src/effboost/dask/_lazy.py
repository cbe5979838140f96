"""Lazy arrays of what models compute for paths in partitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from dask import array as da

from effboost._images import ImageSequence
from effboost._utils.threads import limit_threads
from effboost.dask._model import find_model

__all__ = ["lazy_features", "lazy_method"]


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
