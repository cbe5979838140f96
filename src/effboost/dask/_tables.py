"""Results as Dask dataframes, with a row for each image and the reasons of those without any."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import fsspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from effboost._extract_features import iter_features
from effboost._images import ImageSequence
from effboost._iter_predictions import iter_predictions
from effboost._rejects import (
    REJECT_COLUMNS,
    OnError,
    Reject,
    RejectTable,
    check_on_error,
    warn_of_rejects,
)
from effboost._utils.threads import limit_threads
from effboost.dask._model import find_model
from effboost.exceptions import ImageDecodeError

__all__ = ["check_new_folder", "lazy_feature_table", "lazy_prediction_table", "write_table"]

_Fill = Callable[[pd.DataFrame, Any, ImageSequence, OnError], RejectTable]


def lazy_feature_table(
    paths: da.Array, name: str, names: npt.NDArray[np.object_], on_error: OnError
) -> dd.DataFrame:
    """Return a table of features: see `DaskImageFeaturizer.transform_table`."""
    blank = _make_blank({feature: np.dtype(np.float32) for feature in names})
    return _make_lazy(paths, name, blank, _fill_features, on_error)


def lazy_prediction_table(paths: da.Array, name: str, clf: Any, on_error: OnError) -> dd.DataFrame:
    """Return a table of predictions: see `DaskHybridClassifier.predict_table`."""
    kinds: dict[str, Any] = {"class": pd.Series(clf.classes_).convert_dtypes().dtype}
    if hasattr(clf, "predict_proba"):
        kinds |= {f"p_{label}": np.dtype(np.float64) for label in clf.classes_}
    return _make_lazy(paths, name, _make_blank(kinds), _fill_predictions, on_error)


def _make_blank(kinds: dict[str, Any]) -> pd.DataFrame:
    """Return a table without rows: the image, its results, and why there are none."""
    columns = {"path": "str", "partition": "int64", "position": "int64", **kinds, "reason": "str"}
    return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in columns.items()})


def _make_lazy(
    paths: da.Array, name: str, blank: pd.DataFrame, fill: _Fill, on_error: OnError
) -> dd.DataFrame:
    check_on_error(on_error)
    # One copy in the graph for all tasks.
    shared = dask.delayed(blank)
    parts = [
        dask.delayed(_compute_part)(part, i, name, shared, fill, on_error)
        for i, part in enumerate(paths.to_delayed().ravel())
    ]
    return dd.from_delayed(parts, meta=blank, verify_meta=False)


def _compute_part(
    paths: npt.NDArray[np.object_],
    partition: int,
    name: str,
    blank: pd.DataFrame,
    fill: _Fill,
    on_error: OnError,
) -> pd.DataFrame:
    n = len(paths)
    images = ImageSequence(paths) if n else None
    # Without the passwords of URLs.
    names = [] if images is None else [images.name(i) for i in range(n)]
    table = blank.reindex(range(n)).assign(
        path=pd.array(names, dtype=blank.path.dtype),
        partition=np.full(n, partition, dtype=np.int64),
        position=np.arange(n, dtype=np.int64),
    )
    if images is not None:
        with limit_threads(1):
            for reject in fill(table, find_model(name), images, on_error):
                table.loc[reject.position, "reason"] = reject.reason
    return table


def _fill_features(
    table: pd.DataFrame, model: Any, images: ImageSequence, on_error: OnError
) -> RejectTable:
    # One block. Unlike `extract_features`, it does not warn: rejected images are rows here.
    (found,) = iter_features(model, images, on_error=on_error, block_size=len(images))
    table.iloc[found.positions, 3:-1] = found.features
    return found.rejects


def _fill_predictions(
    table: pd.DataFrame, model: Any, images: ImageSequence, on_error: OnError
) -> RejectTable:
    rows = list(iter_predictions(model, images, block_size=len(images)))
    rejects = [Reject(images.path(i), i, row.error) for i, row in enumerate(rows) if row.error]
    if rejects and on_error == "raise":
        first = rejects[0]
        raise ImageDecodeError(first.position, first.path, first.reason)
    good = [i for i, row in enumerate(rows) if not row.error]
    shares: list[Any] = [rows[i].probabilities for i in good]
    if good:
        table.iloc[good, 3] = [rows[i].label for i in good]
    if good and shares[0] is not None:
        table.iloc[good, 4:-1] = np.stack(shares)
    return RejectTable(rejects)


def check_new_folder(folder: str | os.PathLike[str]) -> None:
    """Check that a folder, or what a URL names, is empty or does not exist.

    Raises
    ------
    FileExistsError
        If it is not empty.
    """
    files, place = fsspec.core.url_to_fs(os.fspath(folder))
    if files.exists(place) and files.ls(place):
        raise FileExistsError(f"{os.fspath(folder)!r} is not empty: name another folder")


def write_table(table: dd.DataFrame, folder: str | os.PathLike[str], what: str) -> RejectTable:
    """Write a table as parquet, one file for each partition; return the rows with a reason.

    Warns
    -----
    DroppedRowsWarning
        If there are such rows.
    """
    table.to_parquet(os.fspath(folder), write_index=False)
    written = dd.read_parquet(os.fspath(folder))
    rejected = written[written["reason"].notnull()][list(REJECT_COLUMNS)].compute()
    rejects = RejectTable(
        Reject(row.path, row.position, row.reason, row.partition) for row in rejected.itertuples()
    )
    warn_of_rejects(rejects, len(written), what)
    return rejects
