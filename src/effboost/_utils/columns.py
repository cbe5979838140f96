"""Validation of labels and subjects: one dimension, one type, no missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import column_or_1d

from effboost._utils.class_names import LONGEST_NAME, MISSING_TEXT, is_missing_text
from effboost.exceptions import SplitError, UnsupportedInputError

__all__ = ["check_groups", "check_label_column", "is_missing", "is_no_name"]

_Column = npt.NDArray[Any]


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or pandas' NA."""
    if value is None or type(value).__name__ == "NAType":
        return True
    # NaN and NaT are not equal to themselves.
    different = value != value
    return isinstance(different, bool | np.bool_) and bool(different)


def is_no_name(value: Any) -> bool:
    """Return whether a value is missing, or a text that stands for a missing value."""
    return is_missing(value) or (isinstance(value, str) and is_missing_text(value))


def check_groups(groups: Any, n_samples: int | None = None) -> _Column:
    """Validate that each image has a subject.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        The subject of each image.
    n_samples : int, default=None
        The expected number; None accepts any.

    Returns
    -------
    ndarray of shape (n_samples,)
        The subjects.

    Raises
    ------
    SplitError
        If their number is wrong, one is missing or overlong, or strings are mixed with other
        values.
    """
    subjects = _as_column(groups, "groups")
    if n_samples is not None and len(subjects) != n_samples:
        raise SplitError(
            f"groups has {len(subjects)} values, but there are {n_samples} images: pass the "
            "subject of each image"
        )
    missing = _find_missing(subjects)
    if missing.size:
        raise SplitError(
            f"groups is missing for {missing.size} images, the first at position {missing[0]}: "
            "name their subjects, or leave them out"
        )
    _check_one_kind(subjects, "groups", SplitError)
    _check_length(subjects, "groups", SplitError)
    return subjects


def check_label_column(y: Any) -> _Column:
    """Validate that each image has a label of a type that can be trained, scored and saved.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        The label of each image.

    Returns
    -------
    ndarray of shape (n_samples,)
        The labels.

    Raises
    ------
    UnsupportedInputError
        If a label is missing or overlong, strings are mixed with other values, or labels are dates
        or objects other than strings.
    """
    labels = _as_column(y, "y", warn=True)
    if labels.dtype.kind == "T":
        labels = labels.astype(object)
    missing = _find_missing(labels)
    if missing.size:
        value = _to_python(labels[missing[0]])
        raise UnsupportedInputError(
            f"the label at position {missing[0]} is missing ({value!r}): label the image, or leave "
            "it out"
        )
    _check_one_kind(labels, "y", UnsupportedInputError)
    _check_length(labels, "y", UnsupportedInputError)
    if labels.dtype.kind in "mM":
        raise UnsupportedInputError(
            f"y has dates or durations ({labels.dtype}) as labels: convert them to strings, for "
            "example by y.astype(str)"
        )
    if labels.dtype.kind == "O" and len(labels) and not isinstance(labels[0], str):
        # scikit-learn's metrics do not accept them: the model would fit, but `score` would fail.
        raise UnsupportedInputError(
            f"Unknown label type: y is an array of objects of type {type(labels[0]).__name__}; "
            "convert them to strings or integers, for example by y.astype(int)"
        )
    return labels


def _as_column(values: Any, name: str, *, warn: bool = False) -> _Column:
    """Convert values to a one-dimensional array without changing their types."""
    if isinstance(values, list | tuple):
        return _column_of_list(values, name, warn)
    if hasattr(values, "to_numpy"):  # pandas and polars
        values = values.to_numpy()
    array = np.asarray(values)
    if array.dtype.kind in "OT":
        plain = np.empty(array.shape, dtype=object)
        plain[...] = array
        array = plain
    column: _Column = column_or_1d(array, input_name=name, warn=warn)
    if np.asarray(values).dtype.kind == "T" and not _find_missing(column).size:
        return column.astype(str)
    return column


def _column_of_list(values: list[Any] | tuple[Any, ...], name: str, warn: bool) -> _Column:
    if any(isinstance(value, list | tuple | np.ndarray) for value in values):
        column: _Column = column_or_1d(np.asarray(values), input_name=name, warn=warn)
        return column
    # NumPy would convert all numbers beside a string to strings, including NaN.
    plain = np.empty(len(values), dtype=object)
    plain[:] = values
    if _find_missing(plain).size or len({isinstance(value, str) for value in values}) > 1:
        return plain
    return np.asarray(values)


def _find_missing(column: _Column) -> npt.NDArray[np.intp]:
    """Return the positions of missing values."""
    kind = column.dtype.kind
    if kind == "O":
        return np.flatnonzero([is_no_name(value) for value in column])
    if kind == "U":
        return np.flatnonzero((np.strings.strip(column) == "") | np.isin(column, MISSING_TEXT))
    if kind == "f":
        return np.flatnonzero(np.isnan(column))
    return np.flatnonzero(np.isnat(column)) if kind in "mM" else np.empty(0, np.intp)


def _check_one_kind(column: _Column, name: str, error: type[Exception]) -> None:
    if column.dtype.kind != "O":
        return
    strings = [isinstance(value, str) for value in column]
    if any(strings) and not all(strings):
        odd = strings.index(not strings[0])
        first, other = (_to_python(column[i]) for i in (0, odd))
        raise error(
            f"{name} mixes strings and other values: {first!r} at position 0, {other!r} at "
            f"position {odd}; convert all of them to strings"
        )


def _check_length(column: _Column, name: str, error: type[Exception]) -> None:
    if column.dtype.kind == "U" and column.dtype.itemsize <= 4 * LONGEST_NAME:
        return
    for i, value in enumerate(column if column.dtype.kind in "OU" else ()):
        if isinstance(value, str) and len(value) > LONGEST_NAME:
            raise error(
                f"{name} has a name of {len(value):,} characters at position {i}: shorten it to "
                f"{LONGEST_NAME:,} or fewer"
            )


def _to_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
