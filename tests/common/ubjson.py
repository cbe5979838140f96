"""Universal Binary JSON, as far as XGBoost writes it."""

import struct

import numpy as np

__all__ = ["length_prefix", "write_ubjson"]


def write_ubjson(value):
    """Write what `parse_ubjson` reads."""
    if isinstance(value, dict):
        parts = [length_prefix(key.encode()) + write_ubjson(item) for key, item in value.items()]
        return b"{" + b"".join(parts) + b"}"
    if isinstance(value, np.ndarray):
        codes = {"i1": b"i", "u1": b"U", "i2": b"I", "i4": b"l", "i8": b"L", "f4": b"d", "f8": b"D"}
        code = codes[value.dtype.str[1:]]
        return b"[$" + code + b"#" + length_prefix(None, len(value)) + value.tobytes()
    if isinstance(value, list):
        return b"[#" + length_prefix(None, len(value)) + b"".join(map(write_ubjson, value))
    if isinstance(value, str):
        return b"S" + length_prefix(value.encode())
    if value is None or isinstance(value, bool):
        return {None: b"Z", True: b"T", False: b"F"}[value]
    return (
        b"L" + struct.pack(">q", value)
        if isinstance(value, int)
        else struct.pack(">cd", b"D", value)
    )


def length_prefix(text, length=None):
    return b"L" + struct.pack(">q", len(text) if length is None else length) + (text or b"")
