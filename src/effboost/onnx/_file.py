"""What an exported file says about itself, and whether it is one that may be run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._transforms import ImageTransform
from effboost._utils.refusal import RefusedError

__all__ = ["check_plain", "describe", "read_description", "read_metadata"]

_FORMAT: Final = 1
_LABEL_TYPES: Final = {"bool", "float64", "int64", "object", "str"}


def describe(
    classes: npt.NDArray[Any], transform: ImageTransform, image_shape: tuple[int, ...] | None
) -> dict[str, str]:
    """Give the metadata of an exported model, all of them text.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels.
    transform : ImageTransform
        What happens to an image before the network.
    image_shape : tuple or None
        Height, width and channels where images come as numeric rows.
    """
    kind = {"b": "bool", "f": "float64", "i": "int64", "u": "int64", "O": "object"}
    return {
        "effboost_format": str(_FORMAT),
        "effboost_version": version("effboost"),
        "classes": json.dumps(classes.tolist()),
        "classes_dtype": kind.get(classes.dtype.kind, "str"),
        "transform": json.dumps(transform.describe()),
        "image_shape": json.dumps(image_shape),
    }


def read_description(
    metadata: Mapping[str, str],
) -> tuple[npt.NDArray[Any], tuple[int, ...] | None]:
    """Give the classes and the image shape that `describe` put into a file.

    Raises
    ------
    RefusedError
        If they are missing, damaged, or of a format that is not known.
    """
    written = metadata.get("effboost_format")
    if written is None:
        raise RefusedError("was not exported by effboost: export a model by effboost.export_onnx")
    if written != str(_FORMAT):
        raise RefusedError(
            f"has format {written!r}, this effboost reads format {_FORMAT}: install the version "
            f"that it comes from, effboost {metadata.get('effboost_version')}, or a newer one"
        )
    try:
        return _read_classes(metadata), _read_shape(metadata)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RefusedError(f"has damaged metadata ({error})") from error


def _read_classes(metadata: Mapping[str, str]) -> npt.NDArray[Any]:
    kind, values = metadata["classes_dtype"], json.loads(metadata["classes"])
    if kind not in _LABEL_TYPES:
        raise ValueError(f"labels of type {kind!r}")
    classes = np.array(values, dtype=kind)
    if classes.ndim != 1 or len(set(values)) != len(values) or len(values) < 2:
        raise ValueError(f"classes {values!r:.60}")
    return classes


def _read_shape(metadata: Mapping[str, str]) -> tuple[int, ...] | None:
    shape = json.loads(metadata["image_shape"])
    if shape is None:
        return None
    if len(shape) not in (2, 3) or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"image_shape {shape!r:.60}")
    return tuple(shape)


# --- what stands in a file, as far as trust is concerned -------------------------------------

# The messages of onnx.proto: by the number of a field, the message that it holds. The package
# onnx would read them, but a machine that only runs models does not have it.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {},
}
# What no export of effboost contains, and what could name other files, hide operators or take
# memory without end.
_REFUSED: Final[dict[tuple[str, int], str]] = {
    ("model", 20): "training steps",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse tensors",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("tensor", 13): "data that lie in another file",
}
_DOMAINS: Final = (b"", b"ai.onnx", b"ai.onnx.ml")
_MAX_DEPTH: Final = 12
# Of a model in onnx.proto.
_METADATA: Final = 14


def check_plain(content: bytes) -> None:
    """Check that an ONNX file stands alone: one graph, standard operators, its own data.

    onnxruntime would read data from other files that a model names, and reserve memory for what
    a tensor declares. Nothing is run, and nothing is copied.

    Raises
    ------
    RefusedError
        If it is no ONNX file, or holds something else; the message goes on after its name.
    """
    try:
        _check_message(memoryview(content), "model", 0)
    except (IndexError, OverflowError) as error:
        raise RefusedError("is no ONNX file, or is damaged or truncated") from error


def read_metadata(content: bytes) -> dict[str, str]:
    """Give the metadata of an ONNX file; the graph is not looked at.

    Raises
    ------
    RefusedError
        If it is no ONNX file.
    """
    metadata = {}
    try:
        for number, value in _fields(memoryview(content)):
            if number == _METADATA and isinstance(value, memoryview):
                pair = {part: text for part, text in _fields(value) if not isinstance(text, int)}
                key, text = (str(pair.get(part, b""), "utf-8") for part in (1, 2))
                metadata[key] = text
    except (IndexError, OverflowError, UnicodeDecodeError) as error:
        raise RefusedError("is no ONNX file, or is damaged or truncated") from error
    return metadata


def _check_message(data: memoryview, message: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise RefusedError("holds graphs within graphs, too deep to be an export of effboost")
    n_values = 1
    for number, value in _fields(data):
        if (message, number) in _REFUSED:
            raise RefusedError(f"holds {_REFUSED[message, number]}, which no export needs")
        inner = _INSIDE[message].get(number)
        if inner is not None and isinstance(value, memoryview):
            _check_message(value, inner, depth + 1)
        elif message == "node" and number == 7 and bytes(value) not in _DOMAINS:
            raise RefusedError(f"needs operators of {bytes(value)!r:.60}, which are no standard")
        elif message == "tensor" and number == 14 and value != 0:
            raise RefusedError(f"holds {_REFUSED['tensor', 13]}, which no export needs")
        elif message == "tensor" and number == 1:
            n_values *= math.prod(_integers(value))
    # Two values of half a byte are the smallest that ONNX knows.
    if message == "tensor" and n_values > 2 * len(data):
        raise RefusedError(f"declares a tensor of {n_values:,} values and holds fewer")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Give number and content of each field of a Protocol Buffers message."""
    at = 0
    while at < len(data):
        key, at = _integer(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _integer(data, at)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, at = _integer(data, at)
        if length is None or length > len(data) - at:
            raise IndexError("a field of unknown kind, or longer than its message")
        yield number, data[at : at + length]
        at += length


def _integer(data: memoryview, at: int) -> tuple[int, int]:
    """Read an integer of seven bits a byte; give it and where the next field starts."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise OverflowError("an integer of more than 64 bits")


def _integers(value: int | memoryview) -> list[int]:
    """Give the integers of a repeated field, which come one by one or packed."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _integer(value, at)
        found.append(number)
    return found
