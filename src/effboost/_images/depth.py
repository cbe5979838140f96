"""Pixels of more than 8 bits, and float pixels: which value is white, and how to scale them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._images.errors import UnreadableError
from effboost._images.limits import BITS_PER_SAMPLE

__all__ = [
    "DeepPixels",
    "assemble",
    "check_dtype",
    "describe_darkness",
    "find_declared_white",
    "scale_pixels",
]

_Values = npt.NDArray[Any]
# Part of a picture, from one row to another, as an array (h, w) or (h, w, c).
DeepPixels = Callable[[int, int], _Values]

_WHITE_16: Final = 65535
# What cameras give: 8 bits are those of pictures that were only stored with 16.
_CAMERA_BITS: Final = (8, 10, 12, 14)
# Below a quarter of the range, a picture keeps 64 of 256 grey levels or fewer.
_DARK: Final = 0.25
_STRIP_PIXELS: Final = 2**20
# Tags of TIFF.
_MAX_SAMPLE_VALUE: Final = 281
_S_MAX_SAMPLE_VALUE: Final = 341


def check_dtype(dtype: np.dtype[Any], error: type[Exception], white_level: float | None) -> None:
    """Refuse arrays whose values could mean anything, and say what is accepted."""
    if dtype == np.uint8 or dtype.kind == "f" or (dtype.kind == "u" and white_level is not None):
        return
    remedy = {
        "u": "set white_level of ImageSequence to the value of white, such as 4095 for 12 bits, or "
        "divide by it to get floats in [0, 1]",
        "i": "use X.astype(np.uint8) if its values are 0 to 255",
        "b": "use X.astype(float)",
    }.get(dtype.kind, "convert it")
    raise error(f"pixels are of type {dtype}; uint8 or float in [0, 1] is needed: {remedy}")


def assemble(size: tuple[int, int], read_strip: Callable[[int, int], Image.Image]) -> Image.Image:
    """Build an RGB picture from strips: intermediate forms of the whole would fill the memory."""
    width, height = size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return read_strip(0, height)
    picture = Image.new("RGB", size)
    for top in range(0, height, rows):
        picture.paste(read_strip(top, min(top + rows, height)), (0, top))
    return picture


def scale_pixels(
    size: tuple[int, int],
    read_values: DeepPixels,
    white_level: float | None,
    *,
    inverted: bool = False,
) -> tuple[Image.Image, float, float]:
    """Scale pixels to 8-bit RGB.

    Parameters
    ----------
    size : tuple (width, height)
        Of the picture, in pixels.
    read_values : callable
        Gives some rows.
    white_level : float or None
        The value that becomes 255; None means 65535 for integers and 1 for floats.
    inverted : bool, default=False
        Whether 0 is white.

    Returns
    -------
    picture : PIL.Image.Image
        In mode RGB.
    largest, white : float
        The largest value, and the value that became 255.
    """
    low, high, is_float = _find_range(size, read_values)
    white = white_level or (1 if is_float else _WHITE_16)
    # A level that was computed in float64 need not be exact in float32.
    if low < 0 or high > white * (1 if white_level is None else 1 + 1e-6):
        raise UnreadableError(_describe_range(low, high, is_float, white_level))
    # Multiplied in the array's own type: that of single values is float64 only for integers.
    factor = 255 / white
    if 0 < high * factor < 0.5:
        raise UnreadableError(
            f"its largest pixel is {high:.6g}, which white_level={white:.6g} turns black: leave "
            "white_level out, or set the value of white"
        )

    def read_strip(top: int, bottom: int) -> Image.Image:
        values = read_values(top, bottom)
        if inverted:
            values = white - values
        if values.dtype == np.float16 and white_level is not None:
            values = values.astype(np.float32)
        grey = np.rint(values * factor).astype(np.uint8)
        if grey.ndim == 2:
            grey = grey[:, :, np.newaxis]
        return Image.fromarray(np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3))))

    return assemble(size, read_strip), high, white


def _find_range(size: tuple[int, int], read_values: DeepPixels) -> tuple[float, float, bool]:
    """Return the least and the largest value, and whether values are floats."""
    width, height = size
    rows = max(1, _STRIP_PIXELS // width)
    low, high, n_wrong, is_float = math.inf, -math.inf, 0, False
    for top in range(0, height, rows):
        values = read_values(top, min(top + rows, height))
        if values.dtype.kind == "f":
            is_float = True
            n_wrong += int(np.count_nonzero(~np.isfinite(values)))
        low, high = min(low, values.min().item()), max(high, values.max().item())
    if n_wrong:
        raise UnreadableError(f"has {n_wrong} NaN or infinite pixels")
    return low, high, is_float


def _describe_range(low: float, high: float, is_float: bool, white_level: float | None) -> str:
    kind = "float" if is_float else "integer"
    found = f"its {kind} pixels range from {low:.6g} to {high:.6g}"
    if white_level is not None:
        return f"{found}; with white_level={white_level:.6g}, 0 to {white_level:.6g} is accepted"
    if not is_float:
        return f"{found}; 0 to 65535 is accepted: set white_level to the value of white"
    return (
        f"{found}; they must lie in [0, 1]: divide by the largest possible value, such as 255, or "
        "set white_level to it"
    )


def describe_darkness(largest: float, white: float, declared: float | None) -> str | None:
    """Describe a picture that becomes darker than it was; None where nothing suggests that.

    Parameters
    ----------
    largest : float
        The largest pixel.
    white : float
        The value that became 255, by default.
    declared : float or None
        The value of white by the file's own tags.
    """
    remedy = (
        "set white_level={} (an option of ImageSequence and load_image_folder), or "
        f"white_level={white} if it is meant to be dark"
    )
    if declared is not None and largest <= declared:
        if declared >= white:
            return None
        return (
            f"its own tags say that {declared:.6g} is white; it is read as if {white} were, and "
            f"becomes darker: {remedy.format(f'{declared:.6g}')}"
        )
    if not 0 < largest < _DARK * white:
        return None
    found = f"its largest pixel is {largest:.6g}; as {white} is white, few grey levels are left"
    if white != _WHITE_16:
        return f"{found}: {remedy.format('VALUE with the value of white')}"
    bits = next(bits for bits in _CAMERA_BITS if largest < 2**bits)
    return f"{found}; if these are pixels of {bits} bits, {remedy.format(2**bits - 1)}"


# --- files ---------------------------------------------------------------------------------


def find_declared_white(image: Image.Image, file: BinaryIO) -> float | None:
    """Return the value of white by a file's own tags, None where it says nothing."""
    if image.format == "PNG":
        bits = _find_significant_bits(file)
        return None if bits is None else 2**bits - 1
    tags = getattr(image, "tag_v2", {})
    for tag in (_MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE):
        value = tags.get(tag)
        values = value if isinstance(value, tuple) else (value,)
        if all(isinstance(v, int | float) and v > 0 for v in values):
            return float(max(values))
    # Of the depths that Pillow reads, 12 alone has no type of its own.
    return 2**12 - 1 if tags.get(BITS_PER_SAMPLE) == (12,) else None


def _find_significant_bits(file: BinaryIO) -> int | None:
    """Read PNG's chunk sBIT, which Pillow passes over."""
    place = file.tell()
    try:
        file.seek(8)
        while True:
            length, kind = struct.unpack(">I4s", file.read(8))
            if kind == b"sBIT":
                bits = file.read(min(length, 4))
                return max(bits[:3]) if bits and 0 < max(bits[:3]) <= 16 else None
            if kind in (b"PLTE", b"IDAT", b"IEND"):
                return None
            file.seek(length + 4, 1)
    except struct.error:
        return None
    finally:
        file.seek(place)
