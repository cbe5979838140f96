"""Decoding of files, PIL images and arrays to RGB."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from effboost._images.budget import BUDGET
from effboost._images.depth import (
    assemble,
    check_dtype,
    describe_darkness,
    find_declared_white,
    scale_pixels,
)
from effboost._images.errors import UnreadableError
from effboost._images.limits import (
    MAX_REMOTE_BYTES,
    PLANAR_CONFIGURATION,
    BoundedFile,
    check_exif_size,
    check_is_file,
    check_memory,
    check_remote_size,
    check_size,
    check_webp_size,
    count_bytes_per_pixel,
    is_deep,
)
from effboost._utils.locks import ForkableLock
from effboost._utils.pillow_compat import (
    free_webp_decoder,
    keep_low_bytes,
    large_blocks,
    list_rawmodes,
)
from effboost._utils.stores import is_url, read_url, redact
from effboost.exceptions import ImageNotFoundError, ImageWarning, UnsupportedInputError

__all__ = [
    "Decoder",
    "PilImage",
    "cut_frame",
    "digest_array",
    "digest_file",
]

_Result = TypeVar("_Result")

# Pillow would otherwise also try formats that call other programs (EPS) or that no microscope
# writes.
_FORMATS: Final = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Tag of TIFF.
_PHOTOMETRIC: Final = 262
# Number of pixels from which Pillow reserves memory in large blocks.
_LARGE: Final = 2**22
_LOCK: Final = ForkableLock()


@dataclasses.dataclass(frozen=True, slots=True)
class PilImage:
    """A PIL image, and what Pillow forgets of its file when it reads, copies or pickles the pixels.

    Attributes
    ----------
    image : PIL.Image.Image
        The image.
    deep : bool
        Whether its file has colours of 16 bits, of which Pillow reads the upper 8.
    inverted : bool
        Whether 0 is white in its file.
    """

    image: Image.Image
    deep: bool
    inverted: bool

    @classmethod
    def of(cls, image: Image.Image) -> PilImage:
        """Look at an image whose pixels may not have been read yet."""
        deep = image.mode in ("RGB", "RGBA") and is_deep(image)
        return cls(image, deep, _is_inverted(image))


class Decoder:
    """Reader of files, PIL images and arrays as upright 8-bit RGB images.

    Parameters
    ----------
    white_level : float or None
        The value that becomes 255 in images with more than 8 bits and in float images; None means
        65535 for integers and 1 for floats.
    """

    def __init__(self, white_level: float | None = None):
        if white_level is not None and not (0 < white_level < math.inf):
            raise UnsupportedInputError(
                f"white_level={white_level!r} must be a number above 0, such as 4095 for 12 bits"
            )
        self.white_level = white_level
        self._warned: set[str] = set()

    def read_file(self, name: str, function: Callable[[Image.Image], _Result]) -> _Result:
        """Read a file and return what a function makes of the image.

        The memory of the image is held in the budget until the function returns.
        """
        content = _read_content(name)
        with ExitStack() as held:
            return function(_guarded(lambda: self._decode_file(name, content, held)))

    def read_pil_image(self, item: PilImage) -> Image.Image:
        """Convert a PIL image to upright 8-bit RGB."""
        # Pillow reads the pixels on first use; two threads must not do so from one file.
        with _LOCK:
            return _guarded(lambda: self._convert_pil_image(item))

    def digest_pil_image(self, item: PilImage) -> str:
        """Hash a PIL image with everything that the result of `read_pil_image` depends on."""
        self._check_depth(item)
        with _LOCK:
            return self.extend_digest(_guarded(lambda: _pil_image_digest(item)))

    def read_array(self, array: npt.NDArray[Any]) -> Image.Image:
        """Convert an array (h, w) or (h, w, 1|3|4), uint8 or float in [0, 1], to an image."""
        check_dtype(array.dtype, UnreadableError, self.white_level)
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
            raise UnreadableError(
                f"its array has shape {array.shape}; (h, w) or (h, w, 1|3|4) is needed"
            )
        if array.size == 0:
            raise UnreadableError(f"its array is empty, with shape {array.shape}")
        if array.ndim == 3:
            array = array[:, :, :3]
        if array.dtype == np.uint8:
            channels = array if array.ndim == 3 else array[:, :, np.newaxis]
            rgb = np.broadcast_to(channels, (*array.shape[:2], 3))
            return Image.fromarray(np.ascontiguousarray(rgb))
        size = (array.shape[1], array.shape[0])
        return self._scale("an array", size, lambda top, bottom: array[top:bottom])

    def extend_digest(self, digest: str) -> str:
        """Add the settings of this decoder to the hash of an image's content."""
        if self.white_level is None:
            return digest
        return hashlib.sha256(f"{digest} white {float(self.white_level)}".encode()).hexdigest()

    # --- files -----------------------------------------------------------------------------

    def _decode_file(self, name: str, content: bytes | None, held: ExitStack) -> Image.Image:
        shown = redact(name)
        with BoundedFile(io.FileIO(name)) if content is None else io.BytesIO(content) as file:
            check_webp_size(file)
            check_exif_size(file)
            with Image.open(file, formats=_FORMATS) as image:
                check_size(image)
                per_pixel = count_bytes_per_pixel(image, self._needs_low_bytes())
                check_memory(image.size, per_pixel, image.format)
                n_pixels = image.width * image.height
                n_bytes = n_pixels * per_pixel + len(content or b"")
                held.enter_context(BUDGET.hold(n_bytes))
                self._warn_of_pages(image, shown)
                with large_blocks() if n_pixels > _LARGE else nullcontext():
                    return self._convert_file(image, file, repr(shown))

    def _convert_file(self, image: Image.Image, file: BinaryIO, name: str) -> Image.Image:
        declared = find_declared_white(image, file)
        deep = image.mode in ("RGB", "RGBA") and is_deep(image)
        if deep and self._needs_low_bytes():
            return self._convert_deep_colors(image, file, name)
        image.load()
        free_webp_decoder(image)
        inverted = _is_inverted(image)
        # In place, since a copy would double the memory.
        ImageOps.exif_transpose(image, in_place=True)
        picture = self._to_rgb(image, name, declared, inverted=inverted)
        if deep:
            largest = _find_largest_deep(picture, file)
            self._warn_of_darkness(name, largest, 65535, declared)
        return picture

    def _warn_of_pages(self, image: Image.Image, name: str) -> None:
        # MPO is a JPEG written by phones; its other frames are previews.
        if image.format != "MPO" and getattr(image, "is_animated", False):
            image.seek(0)
            self._warn(f"{name!r} has several pages; only the first is read", "pages")

    # --- PIL images ------------------------------------------------------------------------

    def _convert_pil_image(self, item: PilImage) -> Image.Image:
        self._check_depth(item)
        upright = ImageOps.exif_transpose(item.image)
        return self._to_rgb(upright, "a PIL image", None, inverted=item.inverted)

    def _check_depth(self, item: PilImage) -> None:
        if item.deep and self._needs_low_bytes():
            raise UnreadableError(
                "Pillow reduces its 16-bit colours to 8 bits, so white_level cannot be applied: "
                "give the path of the file instead of a PIL image"
            )

    def _to_rgb(
        self, image: Image.Image, name: str, declared: float | None, *, inverted: bool
    ) -> Image.Image:
        if image.mode == "RGB":
            image.load()
            return image
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            return self._scale(
                name,
                image.size,
                lambda top, bottom: np.asarray(_crop_rows(image, top, bottom)),
                declared,
                inverted=inverted,
            )
        return assemble(
            image.size, lambda top, bottom: _convert_colors(_crop_rows(image, top, bottom))
        )

    def _scale(
        self,
        name: str,
        size: tuple[int, int],
        read_values: Callable[[int, int], npt.NDArray[Any]],
        declared: float | None = None,
        *,
        inverted: bool = False,
    ) -> Image.Image:
        picture, largest, white = scale_pixels(
            size, read_values, self.white_level, inverted=inverted
        )
        self._warn_of_darkness(name, largest, white, declared)
        return picture

    # --- 16-bit colours --------------------------------------------------------------------

    def _needs_low_bytes(self) -> bool:
        # The upper bytes that Pillow reads are the result for 65535.
        return self.white_level not in (None, 65535)

    def _convert_deep_colors(self, image: Image.Image, file: BinaryIO, name: str) -> Image.Image:
        if not _has_low_bytes(image):
            raise UnreadableError(
                "has 16-bit channels in a layout of which Pillow only reads the upper 8 bits, so "
                "white_level cannot be applied: save it as 16-bit RGB, or leave white_level out"
            )
        halves = [_read_half(file, low=low) for low in (False, True)]

        def read_values(top: int, bottom: int) -> npt.NDArray[np.uint16]:
            upper, lower = (
                np.asarray(_crop_rows(half, top, bottom))[:, :, :3].astype(np.uint16)
                for half in halves
            )
            return 256 * upper + lower

        return self._scale(name, halves[0].size, read_values)

    # --- warnings --------------------------------------------------------------------------

    def _warn_of_darkness(
        self, name: str, largest: float, white: float, declared: float | None
    ) -> None:
        if self.white_level is None:
            found = describe_darkness(largest, white, declared)
            if found is not None:
                self._warn(f"{name}: {found}", "dark")

    def _warn(self, message: str, kind: str) -> None:
        """Warn once for each kind of problem: a folder may have thousands of such images."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(
                f"{message}. Other images like it are not reported", ImageWarning, stacklevel=2
            )


def _is_inverted(image: Image.Image) -> bool:
    """Return whether 0 is white; Pillow inverts such images only if they have up to 8 bits."""
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _guarded(decode: Callable[[], _Result]) -> _Result:
    """Convert the various errors of Pillow's decoders to `UnreadableError`."""
    try:
        return decode()
    # A user may turn warnings into errors.
    except (UnreadableError, MemoryError, Warning):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(
            "is not an image that effboost reads (BMP, PNG, JPEG, TIFF, GIF, WebP, PPM), or its "
            "header is damaged"
        ) from error
    except PermissionError as error:
        raise UnreadableError(f"cannot be opened: {error}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"is too large: {error}") from error
    # Damaged data make decoders raise many kinds of errors: struct.error, SyntaxError, IndexError,
    # EOFError, ...
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UnreadableError(f"is damaged or truncated ({reason})") from error


def _has_low_bytes(image: Image.Image) -> bool:
    """Return whether Pillow can read the lower bytes of the 16-bit channels of a file."""
    modes = {mode[:-1] for mode in list_rawmodes(image)}
    planar = getattr(image, "tag_v2", {}).get(PLANAR_CONFIGURATION) == 2
    return modes <= {"RGB;16", "RGBA;16", "RGBX;16"} and not planar


def _read_half(file: BinaryIO, *, low: bool) -> Image.Image:
    """Read the upper or the lower bytes of 16-bit channels, upright."""
    file.seek(0)
    with Image.open(file, formats=_FORMATS) as half:
        if low:
            keep_low_bytes(half)
        half.load()
        ImageOps.exif_transpose(half, in_place=True)
    return half


def _find_largest_deep(picture: Image.Image, file: BinaryIO) -> int:
    """Return the largest 16-bit value of an image of which the upper bytes were read."""
    largest = int(np.max(picture.getextrema()))
    if largest:
        return 256 * largest + 255
    # The image is black, or has 8 bits stored as 16.
    file.seek(0)
    with Image.open(file, formats=_FORMATS) as image:
        if not _has_low_bytes(image):
            return 0
    return int(np.max(_read_half(file, low=True).convert("RGB").getextrema()))


def _crop_rows(image: Image.Image, top: int, bottom: int) -> Image.Image:
    return image if bottom - top == image.height else image.crop((0, top, image.width, bottom))


def _convert_colors(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def cut_frame(image: Image.Image, side: int) -> Image.Image:
    """Crop an image to its central square, where it is larger."""
    width, height = min(image.width, side), min(image.height, side)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def cut_box(image: Image.Image, box: npt.NDArray[np.intp]) -> Image.Image:
    """Crop an image to the part inside a box; what the box has outside is left out."""
    left, upper, right, lower = box.tolist()
    inside = max(left, 0), max(upper, 0), min(right, image.width), min(lower, image.height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise UnreadableError(
            f"the box {tuple(box.tolist())} is outside of the image, which is {image.width} x "
            f"{image.height} pixels"
        )
    return image.crop(inside)


def digest_file(name: str) -> str:
    """Hash the bytes of a file, or of one in a store."""
    content = _read_content(name)
    if content is not None:
        return hashlib.sha256(content).hexdigest()
    return _guarded(lambda: _file_digest(name))


def _read_content(name: str) -> bytes | None:
    """Check that a file can be an image; return the bytes of one in a store, None for others."""
    if not is_url(name):
        check_is_file(name)
        return None
    try:
        content = read_url(name, MAX_REMOTE_BYTES)
    except FileNotFoundError as error:
        missing = UnreadableError(str(error.strerror), ImageNotFoundError)
    else:
        check_remote_size(len(content))
        return content
    raise missing


def _file_digest(name: str) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pil_image_digest(item: PilImage) -> str:
    image = item.image
    # The bytes of an image with a palette are only indices into it.
    palette = bytes(image.getpalette() or [])
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    inverted = "inverted" if item.inverted else ""
    kind = f"{image.mode}{image.size}{orientation}{len(palette)}{inverted}".encode()
    return hashlib.sha256(kind + palette + image.tobytes()).hexdigest()


def digest_array(array: npt.NDArray[Any]) -> str:
    """Hash the pixels of an array."""
    kind = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(kind + array.tobytes()).hexdigest()
