"""Parameters as typed JSON, which keeps values and types."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from effboost._training.config import FineTuning, Regularization, Schedule
from effboost._transforms import Augmentation, ImageTransform
from effboost._utils.escape import quote_name
from effboost._utils.refusal import RefusedError

__all__ = ["NotPlainError", "decode", "encode", "is_group"]

# Groups of parameters: numbers, strings and groups of them.
_GROUPS: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (Augmentation, FineTuning, ImageTransform, Regularization, Schedule)
}
_ODD_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_MAX_ARRAY_BYTES: Final = 2**26


class NotPlainError(Exception):
    """A value is neither a number, nor a string, nor a container of these."""


def encode(value: Any) -> Any:
    """Encode a value as JSON.

    Raises
    ------
    NotPlainError
        If it is code, or of a class that may contain code.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [encode(item) for item in value]
    if kind is tuple:
        return {"tuple": [encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return {"scalar": [value.dtype.str, encode(value.item())]}
    if kind is np.ndarray and value.ndim == 1 and value.dtype.kind in "biufUO":
        return {"array": [value.dtype.str, [encode(item) for item in value.tolist()]]}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if is_group(value):
        params = value.get_params(deep=False)
        return {kind.__name__: {name: encode(param) for name, param in params.items()}}
    name = getattr(value, "__name__", None)
    if isinstance(value, type) and vars(torch.optim).get(str(name)) is value:
        return {"optimizer": name}
    raise NotPlainError(f"{kind.__module__}.{kind.__qualname__}")


def decode(value: Any, what: str) -> Any:
    """Return the value that `encode` described.

    Raises
    ------
    RefusedError
        If `encode` cannot have returned it.
    """
    if isinstance(value, list):
        return [decode(item, what) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise RefusedError(f"{what} is of an unknown kind")
    kind, content = next(iter(value.items()))
    if kind in _GROUPS:
        return _decode_group(kind, content, what)
    if kind not in _DECODERS:
        raise RefusedError(f"{what} is of kind {quote_name(kind)}, which is unknown")
    try:
        return _DECODERS[kind](content, what)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise RefusedError(f"{what} is not a valid {kind}") from error


def is_group(value: Any) -> bool:
    """Return whether a value is a group of parameters that a file can hold."""
    return _GROUPS.get(type(value).__name__) is type(value)


def _decode_group(kind: str, content: Any, what: str) -> Any:
    if not isinstance(content, dict):
        raise RefusedError(f"{what} is not a {kind}")
    try:
        group = _GROUPS[kind](**{name: decode(param, what) for name, param in content.items()})
        group._validate_params()
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{what} is not a {kind}: {error}") from error
    return group


def _decode_optimizer(content: Any, what: str) -> Any:
    kind = vars(torch.optim).get(content) if isinstance(content, str) else None
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise RefusedError(f"{what} is not an optimizer of torch")
    return kind


def _decode_list(content: Any, what: str) -> list[Any]:
    if not isinstance(content, list):
        raise TypeError
    return [decode(item, what) for item in content]


def _decode_dict(content: Any, what: str) -> dict[Any, Any]:
    return dict(_decode_list(content, what))


def _decode_scalar(content: Any, what: str) -> Any:
    dtype, item = _decode_list(content, what)
    return _make_array(dtype, [item])[0]


def _decode_array(content: Any, what: str) -> npt.NDArray[Any]:
    dtype, items = _decode_list(content, what)
    return _make_array(dtype, items)


def _make_array(name: Any, items: Any) -> npt.NDArray[Any]:
    dtype = np.dtype(name) if isinstance(name, str) else None
    if dtype is None or dtype.str != name or dtype.kind not in "biufUO":
        raise TypeError
    if not isinstance(items, list) or dtype.itemsize * len(items) > _MAX_ARRAY_BYTES:
        raise ValueError
    if not all(isinstance(item, bool | int | float | str) for item in items):
        raise TypeError
    array = np.empty(len(items), dtype)
    for i, item in enumerate(items):
        array[i] = item
    if array.tolist() != items and dtype.kind != "f":
        raise ValueError
    return array


_DECODERS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "float": lambda content, what: _ODD_FLOATS[content],
    "tuple": lambda content, what: tuple(_decode_list(content, what)),
    "dict": _decode_dict,
    "scalar": _decode_scalar,
    "array": _decode_array,
    "path": lambda content, what: Path(content),
    "optimizer": _decode_optimizer,
}
