"""A strict reader of ONNX files, without the package onnx.

onnxruntime reads data from other files that a model names, and reserves memory for the size that a
tensor declares. Readers of Protocol Buffers interpret unusual bytes differently: tags of more than
32 bits, repeated fields, unknown fields. Here, all of these are refused, and the content that was
read is written again, so that a runtime reads nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import BinaryIO, Final

from effboost._utils.refusal import RefusedError

__all__ = ["check_outline", "read_metadata", "read_plain"]

_Part = bytes | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The messages of onnx.proto that an export consists of: the type of each field, by number. "*"
# marks fields that may repeat; other messages are named. The numbers of a field of integers or
# floats may come one by one or packed.
_MESSAGES: Final[dict[str, dict[int, str]]] = {
    "model": {
        1: "integer",
        2: "bytes",
        3: "bytes",
        4: "bytes",
        5: "integer",
        6: "bytes",
        7: "graph",
        8: "operators*",
        14: "pair*",
    },
    "operators": {1: "domain", 2: "integer"},
    "pair": {1: "bytes", 2: "bytes"},
    "graph": {
        1: "node*",
        2: "bytes",
        5: "tensor*",
        10: "bytes",
        11: "value*",
        12: "value*",
        13: "value*",
        16: "pair*",
    },
    "node": {
        1: "bytes*",
        2: "bytes*",
        3: "bytes",
        4: "bytes",
        5: "attribute*",
        6: "bytes",
        7: "domain",
        9: "pair*",
    },
    "attribute": {
        1: "bytes",
        2: "float",
        3: "integer",
        4: "bytes",
        5: "tensor",
        6: "graph",
        7: "float*",
        8: "integer*",
        9: "bytes*",
        10: "tensor*",
        11: "graph*",
        13: "bytes",
        14: "type",
        15: "type*",
        20: "integer",
    },
    "tensor": {
        1: "integer*",
        2: "integer",
        4: "float*",
        5: "integer*",
        6: "bytes*",
        7: "integer*",
        8: "bytes",
        9: "bytes",
        10: "double*",
        11: "integer*",
        12: "bytes",
        14: "zero",
        16: "pair*",
    },
    "value": {1: "bytes", 2: "type", 3: "bytes", 4: "pair*"},
    "type": {1: "tensor type", 6: "bytes"},
    "tensor type": {1: "integer", 2: "shape"},
    "shape": {1: "axis*"},
    "axis": {1: "integer", 2: "bytes", 3: "bytes"},
}
_WIRES: Final = {
    "integer": _VARINT,
    "zero": _VARINT,
    "float": _FIXED32,
    "double": _FIXED64,
    "bytes": _BYTES,
    "domain": _BYTES,
}
# What could name other files, hide operators or take memory without end.
_NAMED: Final[dict[tuple[str, int], str]] = {
    ("model", 20): "training steps",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse tensors",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("tensor", 13): "data in another file",
    ("tensor", 14): "data in another file",
}
_DOMAINS: Final = (b"", b"ai.onnx", b"ai.onnx.ml")
# Operators with any number of inputs. Of an input without a name, onnxruntime reads address 0.
_VARIADIC: Final = {
    b"Concat",
    b"Einsum",
    b"FeatureVectorizer",
    b"Loop",
    b"Max",
    b"Mean",
    b"Min",
    b"Scan",
    b"SequenceConstruct",
    b"SequenceMap",
    b"Sum",
}
_MAX_DEPTH: Final = 20
_MAX_TAG: Final = 2**32
_MAX_INTEGER: Final = 2**64
_METADATA: Final = 14
# Of a model: an export has about twenty.
_MAX_FIELDS: Final = 10_000
# Bytes of the longest tag with the longest length.
_MAX_HEAD: Final = 20
_INPUT: Final = 1
_OPERATOR: Final = 4
_DIMS: Final = 1


def check_outline(stream: BinaryIO, n_bytes: int) -> None:
    """Check that a file consists of fields of an ONNX model, without reading their content.

    Parameters
    ----------
    stream : binary file
        The file, at its start.
    n_bytes : int
        Its size.

    Raises
    ------
    RefusedError
        If it does not.
    """
    known = {*_MESSAGES["model"], *(number for message, number in _NAMED if message == "model")}
    at = n_fields = 0
    try:
        while at < n_bytes:
            n_fields += 1
            if n_fields > _MAX_FIELDS:
                raise IndexError("more fields than a model has")
            stream.seek(at)
            head = memoryview(stream.read(_MAX_HEAD))
            tag, length = _integer(head, 0)
            if tag >> 3 not in known:
                raise IndexError("a field that models do not have")
            value, end = _integer(head, length)
            at += end + (value if tag & 7 == _BYTES else 0)
            if tag & 7 not in (_VARINT, _BYTES) or at > n_bytes:
                raise IndexError("a field of unknown type, or longer than the file")
    except (IndexError, OverflowError) as error:
        raise RefusedError("is not an ONNX file, or is damaged or truncated") from error


def read_plain(content: bytes) -> bytes:
    """Read a self-contained ONNX file: one graph, standard operators, its own data.

    Nothing is run.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    bytes
        The content that was read, written again.

    Raises
    ------
    RefusedError
        If it is not an ONNX file, or contains something else.
    """
    try:
        parts, _ = _read_message(memoryview(content), "model", 0)
    except (IndexError, OverflowError) as error:
        raise RefusedError("is not an ONNX file, or is damaged or truncated") from error
    return b"".join(parts)


def read_metadata(content: bytes) -> dict[str, str]:
    """Read the metadata of an ONNX file, without reading the graph.

    Raises
    ------
    RefusedError
        If it is not an ONNX file.
    """
    metadata = {}
    try:
        for number, _, value in _fields(memoryview(content)):
            if number == _METADATA and isinstance(value, memoryview):
                pair = {part: text for part, _, text in _fields(value) if not isinstance(text, int)}
                key, text = (str(pair.get(part, b""), "utf-8") for part in (1, 2))
                metadata[key] = text
    except (IndexError, OverflowError, UnicodeDecodeError) as error:
        raise RefusedError("is not an ONNX file, or is damaged or truncated") from error
    return metadata


def _read_message(data: memoryview, message: str, depth: int) -> tuple[list[_Part], int]:
    """Check a message, and return it in parts, with its length."""
    if depth > _MAX_DEPTH:
        raise RefusedError("contains graphs within graphs, too deep to be an export of effboost")
    known, seen = _MESSAGES[message], set()
    parts: list[_Part] = []
    n_values = 1
    for number, wire, value in _fields(data):
        kind = known.get(number)
        if kind is None:
            raise _refuse(message, number)
        if number in seen and not kind.endswith("*"):
            raise RefusedError(f"has field {number} of a {message} twice")
        seen.add(number)
        plain = kind.removesuffix("*")
        if plain in _MESSAGES:
            if not isinstance(value, memoryview) or wire != _BYTES:
                raise IndexError("a number for a message")
            inner, length = _read_message(value, plain, depth + 1)
            parts += [_tag(number, _BYTES), _varint(length), *inner]
            continue
        packed = wire == _BYTES and kind.endswith("*")
        if wire != _WIRES[plain] and not packed:
            raise IndexError("a field of another type")
        _check_value(message, number, plain, value)
        if message == "tensor" and number == _DIMS:
            n_values *= math.prod(_integers(value))
        parts.append(_tag(number, wire))
        if isinstance(value, int):
            parts.append(_varint(value))
        else:
            parts += [_varint(len(value)), value] if wire == _BYTES else [value]
    if message == "node":
        _check_inputs(data)
    # Two values of half a byte are the smallest that ONNX knows.
    if message == "tensor" and n_values > 2 * len(data):
        raise RefusedError(f"declares a tensor of {n_values:,} values and has fewer")
    return parts, sum(map(len, parts))


def _check_value(message: str, number: int, kind: str, value: int | memoryview) -> None:
    if kind == "domain" and isinstance(value, memoryview) and bytes(value[:100]) not in _DOMAINS:
        raise RefusedError(f"needs operators of {bytes(value[:60])!r}, which are not standard")
    if kind == "zero" and value != 0:
        raise _refuse(message, number)


def _check_inputs(node: memoryview) -> None:
    """Check that operators with any number of inputs have none without a name."""
    texts = [
        (number, bytes(value)) for number, _, value in _fields(node) if not isinstance(value, int)
    ]
    if (_INPUT, b"") in texts:
        for number, operator in texts:
            if number == _OPERATOR and operator in _VARIADIC:
                raise RefusedError(f"has an operator {operator.decode()} without one of its inputs")


def _refuse(message: str, number: int) -> RefusedError:
    named = _NAMED.get((message, number), f"field {number} of a {message}")
    return RefusedError(f"contains {named}, which no export needs")


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield number, wire type and content of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _integer(data, at)
        number, wire = tag >> 3, tag & 7
        if tag >= _MAX_TAG or number < 1:
            raise OverflowError("a tag of more than 32 bits")
        if wire == _VARINT:
            value, at = _integer(data, at)
            yield number, wire, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            length, at = _integer(data, at)
        if length is None or length > len(data) - at:
            raise IndexError("a field of unknown type, or longer than its message")
        yield number, wire, data[at : at + length]
        at += length


def _integer(data: memoryview, at: int) -> tuple[int, int]:
    """Read an integer of seven bits per byte; return it and the start of the next field."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            if value >= _MAX_INTEGER or (byte == 0 and shift):
                raise OverflowError("an integer in more bytes than it needs")
            return value, at
    raise OverflowError("an integer of more than 64 bits")


def _integers(value: int | memoryview) -> list[int]:
    """Return the integers of a repeated field, which are stored one by one or packed."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _integer(value, at)
        found.append(number)
    return found


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    """Write an integer in as few bytes as possible."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
