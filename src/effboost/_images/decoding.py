"""From one file, picture or array to RGB pixels, whatever is wrong with it."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from effboost.exceptions import ImageDecodeError, ImageNotFoundError, ImageWarning

__all__ = [
    "UnreadableError",
    "check_dtype",
    "cut_frame",
    "digest_array",
    "digest_file",
    "digest_picture",
    "read_array",
    "read_file",
    "read_picture",
]

_Decoded = TypeVar("_Decoded")

# Named one by one: Pillow would otherwise try formats that call other programs (EPS), or that
# nobody's microscope writes, on any hostile file.
_FORMATS: Final = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pillow's own threshold for its bomb warning: a quarter of a gigabyte decoded.
_MAX_PIXELS: Final = 89_478_485
_LARGE_READ: Final = 2**20
_TURN: Final = threading.Lock()


class UnreadableError(Exception):
    """Says why one image cannot be read; the sequence adds which one."""

    def __init__(self, reason: str, kind: type[ImageDecodeError] = ImageDecodeError):
        self.kind = kind
        super().__init__(reason)


def check_dtype(dtype: np.dtype[Any], error: type[Exception]) -> None:
    """Refuse arrays whose values could mean anything, and say what would do."""
    if dtype == np.uint8 or dtype.kind == "f":
        return
    remedy = {
        "u": "divide by the largest value it can take to get floats in [0, 1]",
        "i": "use X.astype(np.uint8) if its values are 0 to 255",
        "b": "use X.astype(float)",
    }.get(dtype.kind, "convert it")
    raise error(f"pixels are of type {dtype}; uint8 or float in [0, 1] is needed: {remedy}")


def read_array(array: npt.NDArray[Any]) -> Image.Image:
    """Turn an array (h, w) or (h, w, 1|3|4), uint8 or float in [0, 1], into an RGB picture."""
    check_dtype(array.dtype, UnreadableError)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UnreadableError(
            f"its array has shape {array.shape}; (h, w) or (h, w, 1|3|4) is needed"
        )
    if array.size == 0:
        raise UnreadableError(f"its array is empty, with shape {array.shape}")
    if array.dtype.kind == "f":
        array = _float_to_uint8(array)
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return Image.fromarray(np.ascontiguousarray(array[:, :, :3]))


def _float_to_uint8(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if not np.isfinite(array).all():
        raise UnreadableError(
            f"holds {np.count_nonzero(~np.isfinite(array))} NaN or infinite pixels"
        )
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise UnreadableError(
            f"its float pixels range from {low:.6g} to {high:.6g}; they must lie in [0, 1]: "
            "divide by the largest possible value, such as 255"
        )
    return np.rint(array * 255).astype(np.uint8)


def _check_is_file(name: str) -> None:
    path = Path(name)
    try:
        if path.is_dir():
            raise UnreadableError(
                "is a folder, not an image: effboost.datasets.load_image_folder reads folders"
            )
        if not path.exists():
            where = "" if path.is_absolute() else f" (looked for it from {Path.cwd()})"
            raise UnreadableError(f"there is no such file{where}", ImageNotFoundError)
        if not path.is_file():
            raise UnreadableError("is not a regular file")
        if path.stat().st_size == 0:
            raise UnreadableError("the file is empty (0 bytes)")
    except (OSError, ValueError) as error:  # no permission, name too long, null byte
        raise UnreadableError(f"cannot be opened: {error}") from error


def read_picture(image: Image.Image) -> Image.Image:
    """Turn a picture upright, and into 8-bit RGB."""
    # Pillow reads pictures when they are first looked at, and not two at a time from one file.
    with _TURN:
        return _guarded(lambda: _to_rgb(ImageOps.exif_transpose(image)))


def read_file(name: str) -> Image.Image:
    """Read a file as an upright 8-bit RGB picture."""
    _check_is_file(name)
    return _guarded(lambda: _decode_file(name))


def _guarded(decode: Callable[[], _Decoded]) -> _Decoded:
    """Turn whatever Pillow's decoders raise on damaged data into one kind of error."""
    try:
        return decode()
    except (UnreadableError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(
            "is no image that effboost reads (BMP, PNG, JPEG, TIFF, GIF, WebP, PPM), or its "
            "header is damaged"
        ) from error
    except PermissionError as error:
        raise UnreadableError(f"cannot be opened: {error}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"is too large: {error}") from error
    # Decoders meet damaged bytes with whatever exception happens along: struct.error,
    # SyntaxError, IndexError, EOFError, ...
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UnreadableError(f"is damaged or truncated ({reason})") from error


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it has.

    Where a damaged file says that gigabytes follow, Python would reserve them before it looks.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGE_READ:
            size = min(size, os.fstat(self.fileno()).st_size)
        return super().read(size)


def _decode_file(name: str) -> Image.Image:
    with _Bounded(io.FileIO(name)) as file, Image.open(file, formats=_FORMATS) as image:
        if image.width * image.height > _MAX_PIXELS:
            raise UnreadableError(
                f"is {image.width} x {image.height} pixels, more than the {_MAX_PIXELS:,} that "
                "effboost decodes: cut it into cells first"
            )
        # MPO is a JPEG of a phone: its further frames are previews.
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if pages > 1:
            image.seek(0)
            warnings.warn(
                f"{name!r} holds {pages} pages; only the first is read",
                ImageWarning,
                stacklevel=2,
            )
        return _to_rgb(ImageOps.exif_transpose(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_sixteen_bit(np.asarray(image))
    if image.mode == "F":
        return read_array(np.asarray(image))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _from_sixteen_bit(grey: npt.NDArray[Any]) -> Image.Image:
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 65535:
        raise UnreadableError(f"its integer pixels range from {low} to {high}; 0 to 65535 is read")
    return read_array(np.rint(grey / 257).astype(np.uint8))


def cut_frame(image: Image.Image, side: int) -> Image.Image:
    """Cut the central square out of a picture, where it is larger."""
    width, height = min(image.width, side), min(image.height, side)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def digest_file(name: str) -> str:
    """Hash the bytes of a file."""
    _check_is_file(name)
    return _guarded(lambda: _file_digest(name))


def digest_picture(image: Image.Image) -> str:
    """Hash a picture in memory, with all that its colours depend on."""
    return _guarded(lambda: _picture_digest(image))


def _file_digest(name: str) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _picture_digest(image: Image.Image) -> str:
    # Without its palette, a picture's bytes are numbers of colours nobody knows.
    palette = bytes(image.getpalette() or [])
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    kind = f"{image.mode}{image.size}{orientation}{len(palette)}".encode()
    return hashlib.sha256(kind + palette + image.tobytes()).hexdigest()


def digest_array(array: npt.NDArray[Any]) -> str:
    """Hash the pixels of an array."""
    kind = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(kind + array.tobytes()).hexdigest()
