"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_atomic", "write_atomic"]


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write a file, text as UTF-8, replaced in one step if it exists."""
    with open_atomic(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
    return Path(path)


@contextmanager
def open_atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of another one in one step when the block ends well.

    What is written is on the disk before the old file goes: neither a killed process nor a power
    cut leaves half a file under this name. Several processes may write it at a time; the last
    one to end wins. After an error the old file stays, and nothing else.

    Parameters
    ----------
    path : str or path
        The file, in a folder that exists.

    Yields
    ------
    binary file
        Open for writing and reading, beside the target.
    """
    target = Path(path)
    # In the same folder: only within one file system can it be renamed in one step.
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb+") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # Windows opens no folders, and some network drives do not sync them.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
