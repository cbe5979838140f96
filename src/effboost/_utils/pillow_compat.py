"""The only use of undocumented parts of Pillow.

Each entry says when it can be removed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from PIL import Image

from effboost._utils.locks import ForkableLock

__all__ = ["free_webp_decoder", "keep_low_bytes", "large_blocks", "list_rawmodes"]

_BLOCK_SIZE: Final = 2**26


class _Blocks:
    """State of `large_blocks`: number of users, and the former size."""

    lock = ForkableLock()
    n_users = 0
    former = 0


@contextmanager
def large_blocks() -> Iterator[None]:
    """Make Pillow allocate large images in blocks that are returned to the system when freed.

    The C library keeps freed blocks of Pillow's default size for each thread, so that four threads
    would hold twice the memory in use. Can be removed when Pillow maps large images itself.
    """
    core: Any = Image.core
    with _Blocks.lock:
        if _Blocks.n_users == 0:
            _Blocks.former = core.get_block_size()
            core.set_block_size(_BLOCK_SIZE)
        _Blocks.n_users += 1
    try:
        yield
    finally:
        with _Blocks.lock:
            _Blocks.n_users -= 1
            if _Blocks.n_users == 0:
                core.set_block_size(_Blocks.former)


def list_rawmodes(image: Any) -> list[str]:
    """Return the raw modes of a file whose pixels have not been read yet.

    Can be removed when Pillow exposes the number of bits per channel.
    """
    args = [tile.args for tile in getattr(image, "tile", ())]
    modes = [part[0] if isinstance(part, tuple) and part else part for part in args]
    return [mode if isinstance(mode, str) else "" for mode in modes]


def keep_low_bytes(image: Any) -> None:
    """Make Pillow read the lower instead of the upper 8 bits of 16-bit channels.

    The pixels must not have been read yet. In the opposite byte order, the byte that Pillow keeps
    is the lower one. Can be removed when Pillow supports 16-bit colours.
    """
    native = "L" if sys.byteorder == "little" else "B"
    other = {"L": "B", "B": "L", "N": "B" if native == "L" else "L"}
    tiles = []
    for tile, mode in zip(image.tile, list_rawmodes(image), strict=True):
        swapped = mode[:-1] + other[mode[-1]]
        args = (swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped
        tiles.append(tile._replace(args=args))
    image.tile = tiles


def free_webp_decoder(image: Any) -> None:
    """Free the decoder of a WebP image, which holds two copies of its pixels.

    Can be removed when Pillow frees it after the last frame.
    """
    vars(image).pop("_decoder", None)
