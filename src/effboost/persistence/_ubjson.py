"""A strict reader of Universal Binary JSON, as far as XGBoost writes it.

XGBoost's own reader is compiled code that trusts the file.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.refusal import RefusedError

__all__ = ["parse_ubjson"]

_MAX_DEPTH: Final = 16
_MAX_VALUES: Final = 1_000_000
_CODES: Final = {"i": "i1", "U": "u1", "I": "i2", "l": "i4", "L": "i8", "d": "f4", "D": "f8"}
_DTYPES: Final = {ord(kind): np.dtype(f">{code}") for kind, code in _CODES.items()}
_WORDS: Final = {ord("T"): True, ord("F"): False, ord("Z"): None}


def parse_ubjson(content: bytes) -> dict[str, Any]:
    """Parse an object: numbers, strings, lists, objects, and arrays of one type of number.

    Raises
    ------
    RefusedError
        If it is damaged, nested too deeply, or has too many parts.
    """
    reader = _Reader(content)
    value = reader.read_value(0)
    if reader.place != len(content):
        raise RefusedError("there are bytes after the booster's end")
    if not isinstance(value, dict):
        raise RefusedError("the booster is not an object")
    return value


class _Reader:
    def __init__(self, content: bytes):
        self._content = content
        self.place = 0
        self._n_values = 0

    def read_value(self, depth: int) -> Any:
        self._n_values += 1
        if depth > _MAX_DEPTH or self._n_values > _MAX_VALUES:
            raise RefusedError(
                f"the booster is nested too deeply, or has more than {_MAX_VALUES:,} values"
            )
        kind = self._take(1)[0]
        if kind in _DTYPES:
            dtype = _DTYPES[kind]
            return np.frombuffer(self._take(dtype.itemsize), dtype)[0].item()
        if kind in _WORDS:
            return _WORDS[kind]
        if kind == ord("S"):
            return self._read_text()
        if kind == ord("{"):
            return self._read_object(depth)
        if kind == ord("["):
            return self._read_array(depth)
        raise RefusedError(f"the booster is damaged at byte {self.place - 1}")

    def _take(self, size: int) -> bytes:
        part = self._content[self.place : self.place + size]
        if len(part) != size:
            raise RefusedError("the booster is truncated")
        self.place += size
        return part

    def _expect(self, token: bytes) -> None:
        if self._take(len(token)) != token:
            raise RefusedError(f"the booster is damaged at byte {self.place - len(token)}")

    def _read_length(self) -> int:
        self._expect(b"L")
        length = int.from_bytes(self._take(8), "big", signed=True)
        # Each part takes at least a byte.
        if not 0 <= length <= len(self._content) - self.place:
            raise RefusedError(f"the booster is damaged: {length:,} parts do not fit into it")
        return length

    def _read_text(self) -> str:
        text = self._take(self._read_length())
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RefusedError(f"the booster has a string that is not UTF-8 ({error})") from error

    def _read_object(self, depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        while self._content[self.place : self.place + 1] == b"L":
            name = self._read_text()
            if name in fields:
                raise RefusedError("the booster has a field twice")
            fields[name] = self.read_value(depth + 1)
        self._expect(b"}")
        return fields

    def _read_array(self, depth: int) -> list[Any] | npt.NDArray[Any]:
        dtype = None
        if self._content[self.place : self.place + 1] == b"$":
            self.place += 1
            dtype = _DTYPES.get(self._take(1)[0])
            if dtype is None:
                raise RefusedError("the booster has an array of an unknown type")
        self._expect(b"#")
        length = self._read_length()
        if dtype is None:
            return [self.read_value(depth + 1) for _ in range(length)]
        return np.frombuffer(self._take(length * dtype.itemsize), dtype)
