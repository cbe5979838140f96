"""Paths, labels, subjects and weights as Dask arrays with one chunk for each partition."""

from __future__ import annotations

import math
import os
from typing import Any, Final

import dask
import numpy as np
import numpy.typing as npt
from dask import array as da
from dask import bag as db
from dask import dataframe as dd
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from effboost._images import ImageSequence, find_files
from effboost.exceptions import UnsupportedInputError

__all__ = ["PARTITION_SIZE", "as_column", "as_paths"]

# Images of a task where the caller has not made partitions: seconds of work, megabytes of features.
PARTITION_SIZE: Final = 256
_ACCEPTED: Final = (
    "a Dask dataframe with a column of paths, a Dask series, bag or one-dimensional array of "
    "paths; the path of a parquet file or folder; or a list of paths"
)
_Collection = da.Array


def as_paths(X: Any) -> _Collection:
    """Convert paths to a Dask array of str; nothing is computed.

    Parameters
    ----------
    X : paths
        A Dask dataframe, whose paths are in the column "path" or in its only column; a series, bag
        or array; the path of a parquet file or folder, which is read as such a dataframe in
        partitions of about 256 rows; or paths in memory, which go with the graph: a data frame, a
        list, or an `ImageSequence` of files.

    Returns
    -------
    dask.array.Array of shape (n_samples,), object
        The paths; each partition is a chunk, and sizes of chunks may be unknown.

    Raises
    ------
    UnsupportedInputError
        If `X` has another form.
    """
    X = _as_table(X)
    if isinstance(X, dd.DataFrame):
        if "path" not in X.columns and len(X.columns) != 1:
            raise UnsupportedInputError(
                f"X has the columns {list(X.columns)}; paths are in the column 'path', or in the "
                "only one: pass X[[name]]"
            )
        X = X["path" if "path" in X.columns else X.columns[0]]
    if isinstance(X, ImageSequence):
        X = find_files(X)
        if X is None:
            raise UnsupportedInputError(
                "the images of X are no files that are read whole and unchanged (they are arrays, "
                "or have boxes, frame, white_level or map), but tasks get paths alone: use "
                "effboost.dask.iter_predictions, or the local estimator"
            )
    if isinstance(X, list | tuple) or (hasattr(X, "to_numpy") and not dask.is_dask_collection(X)):
        X = np.array([os.fspath(path) if _is_path(path) else path for path in X], dtype=object)
    column = _as_array(X, PARTITION_SIZE)
    if column is None or column.ndim != 1:
        raise UnsupportedInputError(f"got {type(X).__name__}; X can be {_ACCEPTED}")
    return da.map_blocks(_check_paths, column, dtype=object)


def as_column(values: Any, name: str, X: Any, paths: _Collection) -> _Collection | None:
    """Convert labels, subjects or weights to a Dask array with the partitions of the paths.

    Parameters
    ----------
    values : str, Dask series, bag or array, or array-like of shape (n_samples,)
        The values, or the name of a column of `X`; None is returned.
    name : str
        Name of the argument, for errors.
    X, paths : paths
        What was passed to, and returned by, `as_paths`.

    Raises
    ------
    UnsupportedInputError
        If there is no such column, or its partitions are not those of the paths.
    """
    if values is None:
        return None
    if isinstance(values, str):
        table = _as_table(X)
        if not isinstance(table, dd.DataFrame) or values not in table.columns:
            raise UnsupportedInputError(f"{name}={values!r} is not the name of a column of X")
        values = table[values]
    if not dask.is_dask_collection(values):
        # The sizes of partitions are needed to distribute values from memory.
        sizes = paths.chunks[0] if _known(paths) else _sizes(paths)
        values = np.asarray(values)
        if values.shape != (sum(sizes),):
            raise UnsupportedInputError(
                f"{name} has shape {values.shape}, but there are {sum(sizes)} images"
            )
        values = da.from_array(values, chunks=(tuple(sizes),))
    column = _as_array(values, PARTITION_SIZE)
    if column is None or column.ndim != 1:
        raise UnsupportedInputError(
            f"got {type(values).__name__}; {name} can be the name of a column, a Dask series, bag "
            "or one-dimensional array, or an array in memory"
        )
    if column.numblocks != paths.numblocks and _known(column) and _known(paths):
        column = column.rechunk(paths.chunks)
    if column.numblocks != paths.numblocks:
        raise UnsupportedInputError(
            f"{name} has {column.numblocks[0]} partitions, and X {paths.numblocks[0]}: take both "
            "from one Dask dataframe, or repartition one of them"
        )
    return column


def _as_table(X: Any) -> Any:
    """Turn a parquet file or folder, or a data frame, into a Dask one; return others unchanged."""
    if hasattr(X, "columns") and not dask.is_dask_collection(X):  # of pandas or polars
        columns = {name: X[name].to_numpy() for name in X.columns}
        return dd.from_dict(columns, npartitions=math.ceil(len(X) / PARTITION_SIZE) or 1)
    if not isinstance(X, str | os.PathLike):
        return X
    table = dd.read_parquet(os.fspath(X))
    # The number of rows comes from the footers of the files.
    wanted = math.ceil(len(table) / PARTITION_SIZE)
    return table.repartition(npartitions=wanted) if wanted > table.npartitions else table


def _as_array(values: Any, size: int) -> _Collection | None:
    if isinstance(values, dd.Series | db.Bag):
        # The optimiser of dataframes joins partitions, fewer or more by the columns that are read.
        plain = values.simplify() if isinstance(values, dd.Series) else values
        parts = plain.to_delayed(optimize_graph=False)
        name = f"effboost-column-{tokenize(values)}"
        graph: dict[Any, Any] = {(name, i): (_to_numpy, part.key) for i, part in enumerate(parts)}
        layers = HighLevelGraph.from_collections(name, graph, dependencies=parts[:1])
        return da.Array(layers, name, chunks=((math.nan,) * len(parts),), dtype=object)
    if isinstance(values, np.ndarray):
        return da.from_array(values, chunks=size)
    return values if isinstance(values, da.Array) else None


def _to_numpy(part: Any) -> npt.NDArray[Any]:
    values = list(part)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _check_paths(part: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    paths = np.empty(len(part), dtype=object)
    for i, path in enumerate(part):
        if not _is_path(path):
            raise UnsupportedInputError(
                f"got {type(path).__name__} at position {i} of a partition; X can be {_ACCEPTED}"
            )
        paths[i] = str(os.fspath(path))
    return paths


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _known(column: _Collection) -> bool:
    return not any(math.isnan(size) for size in column.chunks[0])


def _sizes(column: _Collection) -> list[int]:
    sizes = dask.compute(*(dask.delayed(len)(part) for part in column.to_delayed().ravel()))
    return [int(size) for size in sizes]
