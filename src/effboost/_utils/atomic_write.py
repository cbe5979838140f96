"""Atomic writing of files and folders."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "check_empty_folder",
    "check_target",
    "name_path",
    "new_folder",
    "open_atomic",
    "write_atomic",
]


def check_target(path: str | os.PathLike[str]) -> Path:
    """Check that a path can name a file.

    Raises
    ------
    IsADirectoryError, FileNotFoundError
        If it is a folder, or its folder does not exist.
    """
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"{str(file)!r} is a folder; name a file")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of {str(file)!r} does not exist")
    return file


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write a file in one step, text as UTF-8."""
    with open_atomic(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
    return Path(path)


@contextmanager
def name_path(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Add a path to system errors without one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None and path is not None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def open_atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces the target when the block ends without an error.

    The content is on the disk before the old file is replaced, so that neither a killed process
    nor a power failure leaves an incomplete file. If several processes write the file, the last
    one to finish wins. After an error, the old file is unchanged.

    Parameters
    ----------
    path : str or path
        The file, in an existing folder.

    Yields
    ------
    binary file
        The temporary file, open for writing and reading.

    Raises
    ------
    IsADirectoryError, FileNotFoundError
        As `check_target`.
    """
    target = check_target(path)
    # In the same folder, since renaming is atomic only within a file system.
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with name_path(target):
            with part.open("xb+") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
            _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def check_empty_folder(path: str | os.PathLike[str]) -> Path:
    """Check that a folder is empty or does not exist, and return its path.

    Raises
    ------
    FileExistsError
        If it has files, or is one.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{str(folder)!r} is not an empty folder; choose another one")
    return folder


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a temporary folder that becomes the target when the block ends without an error.

    Parameters
    ----------
    path : str or path
        The folder, which is empty or does not exist.

    Yields
    ------
    Path
        The temporary folder.

    Raises
    ------
    FileExistsError
        If the target is not empty.
    """
    target = check_empty_folder(path)
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    part.mkdir()
    try:
        with name_path(target):
            yield part
            if target.exists():
                target.rmdir()
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open folders, and some network drives cannot sync them.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
