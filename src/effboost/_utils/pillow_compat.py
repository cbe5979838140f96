"""The only contact with parts of Pillow that it does not document.

Each entry says when it can go.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from PIL import Image

__all__ = ["free_webp_decoder", "keep_low_bytes", "large_blocks", "list_rawmodes"]

_BLOCK_SIZE: Final = 2**26


class _Blocks:
    """How many threads want large blocks, and the size before the first of them."""

    lock = threading.Lock()
    n_users = 0
    former = 0


@contextmanager
def large_blocks() -> Iterator[None]:
    """Let Pillow reserve the memory of large pictures in blocks that are given back when freed.

    The C library keeps freed blocks of Pillow's usual size for each thread: four threads that
    decode large pictures would hold twice the memory of what is in use. Can go when Pillow maps
    large pictures by itself.
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
    """Return how Pillow is going to unpack the pixels of a file that it has not read yet.

    Can go when Pillow tells how many bits a file has for each channel.
    """
    args = [tile.args for tile in getattr(image, "tile", ())]
    modes = [part[0] if isinstance(part, tuple) and part else part for part in args]
    return [mode if isinstance(mode, str) else "" for mode in modes]


def keep_low_bytes(image: Any) -> None:
    """Make Pillow keep the lower 8 of 16 bits of a file that it has not read yet.

    Read in the other byte order, the byte that Pillow keeps is the lower one. Can go when Pillow
    reads colours of 16 bits.
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
    """Drop what a WebP picture no longer needs once it is read: two more copies of its pixels.

    Can go when Pillow drops its decoder after the only frame.
    """
    vars(image).pop("_decoder", None)
