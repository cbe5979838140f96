"""Rules for the attributes of an estimator, which can be combined."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from effboost._utils.refusal import RefusedError

__all__ = [
    "Dims",
    "Rule",
    "array",
    "each",
    "either",
    "estimator",
    "flag",
    "integer",
    "is_plain",
    "nothing",
    "number",
    "record",
    "table",
    "word",
]

# The lengths of axes by name, such as "d" for the number of features. A rule that meets a name
# for the first time sets it.
Dims = dict[str, int]
# Refuses a value, which `what` names.
Rule = Callable[[Any, Dims, str], None]

# Far above what training gives, and far below what overflows in a sum over features.
_LARGEST: Final = 1e30
_MAX_RECORD_DEPTH: Final = 8
_FLOATS: Final = (np.float32, np.float64)
_KINDS: Final = {"f": "floats", "i": "integers", "u": "unsigned integers", "b": "booleans"}


def array(
    kinds: str,
    *shapes: str,
    low: float = -_LARGEST,
    high: float = _LARGEST,
    above: float | None = None,
    finite: bool = True,
    dtype: Any = None,
) -> Rule:
    """Make a rule for an array.

    Parameters
    ----------
    kinds : str
        The kinds of dtypes that it may have, as in `numpy.dtype.kind`. Floats are of single or
        double precision.
    *shapes : str
        The shapes that it may have: names of axes with spaces between them; "*" is any length,
        and digits are a length.
    low, high : float
        The smallest and the largest value.
    above : float, optional
        An exclusive lower bound.
    finite : bool, default=True
        Whether NaN and infinity are refused. If False, values are not compared with bounds.
    dtype : dtype, optional
        The only dtype that it may have. The array must then be in C order, as compiled code needs.
    """

    def check(value: Any, dims: Dims, what: str) -> None:
        if type(value) is not np.ndarray or value.dtype.kind not in kinds:
            wanted = " or ".join(_KINDS.get(kind, "text") for kind in kinds)
            raise RefusedError(f"{what} is not an array of {wanted}")
        if value.dtype.kind == "f" and value.dtype not in _FLOATS:
            raise RefusedError(f"{what} is of {value.dtype}, not of float32 or float64")
        if dtype is not None and (value.dtype != dtype or not value.flags.c_contiguous):
            raise RefusedError(f"{what} is of {value.dtype}, not of {np.dtype(dtype)} in C order")
        _check_shape(value.shape, shapes, dims, what)
        if value.dtype.kind in "fiu" and finite and value.size:
            _check_range(value, low, high, above, what)
        if value.dtype.kind == "O" and not all(_is_scalar(one) for one in value):
            raise RefusedError(f"{what} contains objects, not numbers or strings")

    return check


def integer(low: int = 0, high: int = 2**62) -> Rule:
    """Make a rule for an integer from `low` to `high`."""

    def check(value: Any, dims: Dims, what: str) -> None:
        if type(value) is not int and not isinstance(value, np.integer):
            raise RefusedError(f"{what} is a {type(value).__name__}, not an integer")
        if not low <= value <= high:
            raise RefusedError(f"{what} is not between {low} and {high}")

    return check


def number(low: float = -_LARGEST, high: float = _LARGEST, above: float | None = None) -> Rule:
    """Make a rule for a finite number from `low` to `high`, and above `above`."""

    def check(value: Any, dims: Dims, what: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise RefusedError(f"{what} is a {type(value).__name__}, not a number")
        if not low <= value <= high or (above is not None and not value > above):
            raise RefusedError(f"{what} is out of range")

    return check


def flag(value: Any, dims: Dims, what: str) -> None:
    """Check that a value is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise RefusedError(f"{what} is a {type(value).__name__}, not a bool")


def nothing(value: Any, dims: Dims, what: str) -> None:
    """Check that a value is None."""
    if value is not None:
        raise RefusedError(f"{what} is a {type(value).__name__}, not None")


def word(*choices: str) -> Rule:
    """Make a rule for one of some strings."""

    def check(value: Any, dims: Dims, what: str) -> None:
        if not isinstance(value, str) or value not in choices:
            raise RefusedError(f"{what} is not one of {', '.join(choices)}")

    return check


def record(value: Any, dims: Dims, what: str) -> None:
    """Check a record of the training that predictions do not use: any plain data."""
    if not is_plain(value):
        raise RefusedError(f"{what} contains something other than numbers and strings")


def estimator(*names: str) -> Rule:
    """Make a rule for an estimator, of one of some classes if any are named."""

    def check(value: Any, dims: Dims, what: str) -> None:
        if not isinstance(value, BaseEstimator) and type(value).__name__ not in names:
            raise RefusedError(f"{what} is a {type(value).__name__}, not an estimator")
        if names and type(value).__name__ not in names:
            raise RefusedError(f"{what} is a {type(value).__name__}, not a {' or '.join(names)}")

    return check


def each(rule: Rule, n: str = "*") -> Rule:
    """Make a rule for a list or tuple of `n` values, all of which follow one rule."""

    def check(value: Any, dims: Dims, what: str) -> None:
        if not isinstance(value, list | tuple):
            raise RefusedError(f"{what} is a {type(value).__name__}, not a list")
        _check_shape((len(value),), (n,), dims, what)
        for position, item in enumerate(value):
            rule(item, dims, f"item {position} of {what}")

    return check


def table(rule: Rule) -> Rule:
    """Make a rule for a dictionary whose keys are plain and whose values follow one rule."""

    def check(value: Any, dims: Dims, what: str) -> None:
        if not isinstance(value, dict) or not all(_is_scalar(key) for key in value):
            raise RefusedError(f"{what} is not a dictionary with plain keys")
        for item in value.values():
            rule(item, dims, f"a value of {what}")

    return check


def either(*rules: Rule) -> Rule:
    """Make a rule for a value that follows one of some rules."""

    def check(value: Any, dims: Dims, what: str) -> None:
        for rule in rules[:-1]:
            tried = dict(dims)
            try:
                rule(value, tried, what)
            except RefusedError:
                continue
            dims.update(tried)
            return
        rules[-1](value, dims, what)

    return check


def is_plain(value: Any, depth: int = 0) -> bool:
    """Return whether a value is a number, text, or a container or array of such."""
    if _is_scalar(value):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufU" or (
            value.dtype.kind == "O" and all(_is_scalar(one) for one in value.ravel())
        )
    if depth > _MAX_RECORD_DEPTH:
        return False
    if isinstance(value, dict):
        return all(_is_scalar(key) and is_plain(item, depth + 1) for key, item in value.items())
    return isinstance(value, list | tuple) and all(is_plain(item, depth + 1) for item in value)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, np.generic):
        return value.dtype.kind in "biufU"
    return value is None or isinstance(value, bool | int | float | str)


def _check_shape(shape: tuple[int, ...], allowed: tuple[str, ...], dims: Dims, what: str) -> None:
    for axes in allowed:
        names = axes.split()
        if len(names) != len(shape):
            continue
        found = dict(dims)
        for name, length in zip(names, shape, strict=True):
            if name != "*" and found.setdefault(name, _length(name, length)) != length:
                break
        else:
            dims.update(found)
            return
    wanted = " or ".join(f"({', '.join(_named(n, dims) for n in s.split())})" for s in allowed)
    raise RefusedError(f"{what} has shape {shape}; expected {wanted}")


def _length(name: str, length: int) -> int:
    return int(name) if name.isdigit() else length


def _named(name: str, dims: Dims) -> str:
    return str(dims.get(name, name))


def _check_range(
    value: npt.NDArray[Any], low: float, high: float, above: float | None, what: str
) -> None:
    smallest, largest = value.min(), value.max()
    # The smallest of an array with NaN is NaN, which is not above anything.
    if not (smallest >= low and largest <= high) or (above is not None and not smallest > above):
        bounds = f"{above if above is not None else low:g} and {high:g}"
        found = "NaN" if math.isnan(smallest) else "values"
        raise RefusedError(f"{what} contains {found} outside of {bounds}")
