"""Checks of a file before it is decoded: existence, dimensions and memory."""

from __future__ import annotations

import io
import math
import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image

from effboost._images.budget import BUDGET
from effboost._images.errors import UnreadableError
from effboost._utils.pillow_compat import list_rawmodes
from effboost.exceptions import ImageNotFoundError

__all__ = [
    "BITS_PER_SAMPLE",
    "MAX_REMOTE_BYTES",
    "MIN_SIDE",
    "PLANAR_CONFIGURATION",
    "BoundedFile",
    "check_exif_size",
    "check_is_file",
    "check_memory",
    "check_remote_size",
    "check_side",
    "check_size",
    "check_webp_size",
    "count_bytes_per_pixel",
    "is_deep",
]

# Markers of JPEG.
_START_OF_SCAN: Final = 0xDA
_APP1: Final = 0xE1
# Tags of TIFF.
BITS_PER_SAMPLE: Final = 258
PLANAR_CONFIGURATION: Final = 284

# Pillow's own threshold for its bomb warning: a quarter of a gigabyte decoded.
_MAX_PIXELS: Final = 89_478_485
MIN_SIDE: Final = 8
# Of classic TIFF, BMP and WebP. Larger ones would take long to hash.
_MAX_BYTES: Final = 2**32 - 1
# Of a file in a store, which each thread reads into memory before it is decoded.
MAX_REMOTE_BYTES: Final = 2**26
_LARGE_READ: Final = 2**20
# No image below the limit of pixels needs larger reads.
_MAX_READ: Final = 2**29
# The standard allows 64 kB; some programs write more.
_MAX_EXIF: Final = 2**20
# Two canvases of the decoder, a copy as bytes, and the image.
_WEBP_BYTES_PER_PIXEL: Final = 17


def check_is_file(name: str) -> None:
    """Check that a path leads to a file that is neither empty nor larger than images are."""
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
        n_bytes = path.stat().st_size
        if n_bytes == 0:
            raise UnreadableError("the file is empty (0 bytes)")
        if n_bytes > _MAX_BYTES:
            raise UnreadableError(
                f"has {n_bytes:,} bytes; files of single images have {_MAX_BYTES:,} at most: cut "
                "it into cells first"
            )
    except (OSError, ValueError) as error:  # no permission, name too long, null byte
        raise UnreadableError(f"cannot be opened: {error}") from error


def check_remote_size(n_bytes: int) -> None:
    """Check the size of a file that was read from a store, up to one byte beyond the limit."""
    if n_bytes == 0:
        raise UnreadableError("the file is empty (0 bytes)")
    if n_bytes > MAX_REMOTE_BYTES:
        raise UnreadableError(
            f"has more than {MAX_REMOTE_BYTES:,} bytes, the limit for images in a store: copy it "
            "to this machine, or cut it into cells first"
        )


class BoundedFile(io.BufferedReader):
    """File that limits reads to its size.

    Otherwise, Python would reserve gigabytes of memory if a damaged file declares a large content.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > _LARGE_READ:
            left = max(0, os.fstat(self.fileno()).st_size - self.tell())
            size = left if size is None or size < 0 else min(size, left)
            if size > _MAX_READ:
                raise UnreadableError(
                    f"{size / 1e9:.1f} GB of it would have to be read at once; the limit is "
                    f"{_MAX_READ / 1e9:.1f} GB"
                )
        return super().read(size)


def check_size(image: Image.Image) -> None:
    """Check the number of pixels, and that Pillow supports the layout of the file."""
    if image.width * image.height > _MAX_PIXELS:
        raise UnreadableError(
            f"is {image.width} x {image.height} pixels, more than the {_MAX_PIXELS:,} that "
            "effboost decodes: cut it into cells first"
        )
    tags = getattr(image, "tag_v2", {})
    planar = tags.get(PLANAR_CONFIGURATION) == 2 and max(tags.get(BITS_PER_SAMPLE, (8,))) > 8
    if planar and any(tile.codec_name == "raw" for tile in getattr(image, "tile", ())):
        raise UnreadableError(
            "is an uncompressed TIFF with planar channels of more than 8 bits, which Pillow does "
            "not support: save it with interleaved channels"
        )


def check_side(image: Image.Image) -> None:
    """Check that an image is not too small to be one."""
    if min(image.size) < MIN_SIDE:
        raise UnreadableError(
            f"is {image.width} x {image.height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed"
        )


def check_webp_size(file: BinaryIO) -> None:
    """Check the dimensions of a WebP file before Pillow reserves memory for it."""
    head = file.read(30)
    file.seek(0)
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return
    if head[12:16] == b"VP8X":
        width, height = (1 + int.from_bytes(head[i : i + 3], "little") for i in (24, 27))
    elif head[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", head[21:25])
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", head[26:30]))
    check_memory((width, height), _WEBP_BYTES_PER_PIXEL, "WebP")


def check_exif_size(file: BinaryIO) -> None:
    """Check the EXIF data of a JPEG file, which Pillow joins in quadratic time."""
    n_bytes = 0
    try:
        if file.read(2) != b"\xff\xd8":
            return
        for marker in iter(lambda: _find_marker(file), _START_OF_SCAN):
            if marker < 0xC0 or 0xD0 <= marker <= 0xD9:  # without a length
                continue
            (length,) = struct.unpack(">H", file.read(2))
            end = file.tell() + max(0, length - 2)
            if marker == _APP1 and file.read(6) == b"Exif\0\0":
                n_bytes += length
            if n_bytes > _MAX_EXIF:
                raise UnreadableError(
                    f"has more than {_MAX_EXIF / 1e6:.1f} MB of EXIF data: remove them"
                )
            file.seek(end)
    except struct.error:  # the end of the file
        return
    finally:
        file.seek(0)


def _find_marker(file: BinaryIO) -> int:
    """Read up to the next marker of a JPEG file, past fill bytes and others that Pillow skips."""
    previous = 0
    while True:
        (byte,) = struct.unpack("B", file.read(1))
        if previous == 0xFF and byte not in (0, 0xFF):
            return int(byte)
        previous = byte


def check_memory(size: tuple[int, int], bytes_per_pixel: int, format: str | None) -> None:
    """Check that an image fits into the memory budget."""
    width, height = size
    if width * height * bytes_per_pixel > BUDGET.limit:
        raise UnreadableError(
            f"is {width} x {height} pixels; {format} images of its kind are decoded up to "
            f"{BUDGET.limit // bytes_per_pixel:,} pixels, since each pixel takes {bytes_per_pixel} "
            "bytes of memory: save it in another format, or cut it into cells first"
        )


def count_bytes_per_pixel(image: Image.Image, needs_low_bytes: bool) -> int:
    """Return the largest memory that decoding and converting an image takes, as measured."""
    own = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    if image.format == "WEBP":
        return _WEBP_BYTES_PER_PIXEL
    if image.info.get("progressive"):
        loading = own + 2 * len(image.getbands())  # coefficients of the whole image
    elif any(tile.codec_name == "libtiff" for tile in getattr(image, "tile", ())):
        # Strips may be as large as the picture.
        loading = own + math.ceil(sum(image.tag_v2.get(BITS_PER_SAMPLE, (8,))) / 8)  # type: ignore[attr-defined]
    else:
        loading = own
    if needs_low_bytes and is_deep(image):
        return max(loading + own, 3 * own) + 1
    turned = 2 * own
    converted = own if image.mode == "RGB" else own + 4
    return max(loading, turned, converted)


def is_deep(image: Image.Image) -> bool:
    """Return whether a file that has not been read yet has 16-bit channels."""
    if image.format == "PPM" and image.mode == "RGB":
        # Arguments of Pillow's decoder: the mode, and the value of white in the file.
        return any(t.codec_name.startswith("ppm") and t.args[-1] > 255 for t in image.tile)  # type: ignore[attr-defined]
    return image.format in ("PNG", "TIFF") and any(";16" in mode for mode in list_rawmodes(image))
