"""Files in stores, by URL: whatever fsspec reads and writes."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from effboost.exceptions import StoreError

__all__ = [
    "as_local_path",
    "is_url",
    "list_url",
    "open_url",
    "read_url",
    "read_with",
    "redact",
    "remove_url",
    "url_exists",
    "write_url",
]

_Result = TypeVar("_Result")

# Two letters or more: one is a drive of Windows.
_SCHEME: Final = r"[A-Za-z][A-Za-z0-9+.-]+://"
_URL: Final = re.compile(_SCHEME)
# A password may contain slashes, if it is not quoted; a number after a colon is a port.
_USER: Final = r"(?:[^\s/?#@'\"]*:(?!\d+/)[^\s?#'\"]*@|[^\s/?#@'\"]*@)"
_SECRETS: Final = re.compile(rf"({_SCHEME})({_USER})?([^\s?'\"<>]*)(\?[^\s'\"<>]*)?")
_HIDDEN: Final = "***"


def is_url(path: str) -> bool:
    """Return whether a path is the URL of a file in a store, such as s3://bucket/cell.png."""
    return _URL.match(path) is not None


def as_local_path(path: str) -> str:
    """Return a file:// URL as a path of this machine, and others as they are."""
    parts = urlsplit(path) if path[:7].lower() == "file://" else None
    if parts is None or parts.netloc not in ("", "localhost"):
        return path
    return url2pathname(path[7 + len(parts.netloc) :])


def redact(text: str) -> str:
    """Hide users, passwords and queries of the URLs in a text: they may be credentials."""
    if "://" not in text:
        return text

    def hide(match: re.Match[str]) -> str:
        scheme, user, rest, query = match.groups()
        shown = f"{scheme}{_HIDDEN}@" if user else scheme
        if scheme.lower().startswith("http"):
            rest, mark, _ = rest.partition("#")
            rest += mark and f"#{_HIDDEN}"
        return f"{shown}{rest}?{_HIDDEN}" if query else f"{shown}{rest}"

    return _SECRETS.sub(hide, text)


def read_url(url: str, limit: int) -> bytes:
    """Read a file of a store.

    Parameters
    ----------
    url : str
        The file.
    limit : int
        The largest number of bytes to read.

    Returns
    -------
    bytes
        The content; one byte more than `limit` if the file is larger.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    StoreError
        If the store cannot be read: credentials, connection, a package that is missing.
    """

    def read(system: Any, path: str) -> bytes:
        content = bytearray()
        with system.open(path, "rb") as file:
            # A response of unknown length gives what has arrived so far.
            while len(content) <= limit and (part := file.read(limit + 1 - len(content))):
                content += part
        return bytes(content)

    return _ask(url, read)


def read_with(url: str, function: Callable[[BinaryIO], _Result]) -> _Result:
    """Return what a function returns for a file of a store, of which it reads what it needs.

    Raises
    ------
    StoreError, FileNotFoundError
        As `read_url`, and also for the errors of the function.
    """

    def use(system: Any, path: str) -> _Result:
        with system.open(path, "rb") as file:
            return function(file)

    return _ask(url, use)


def url_exists(url: str) -> bool:
    """Return whether there is a file at a URL.

    Raises
    ------
    StoreError
        If the store does not say: credentials, connection, a package that is missing.
    """
    try:
        _ask(url, lambda system, path: system.info(path))
    except FileNotFoundError:
        return False
    return True


def remove_url(url: str) -> None:
    """Remove a file of a store.

    Raises
    ------
    StoreError
        If the store does not allow it.
    """
    _ask(url, lambda system, path: system.rm_file(path))


def write_url(url: str, content: bytes) -> None:
    """Write a file of a store in one step.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    _ask(url, lambda system, path: system.pipe_file(path, content))


def list_url(url: str) -> list[str]:
    """List the URLs of all files below one, sorted; empty if it is a file, or does not exist."""

    def find(system: Any, path: str) -> list[str]:
        found = system.find(path)
        return sorted(system.unstrip_protocol(name) for name in found if name != path)

    with suppress(FileNotFoundError):
        return _ask(url, find)
    return []


@contextmanager
def open_url(url: str) -> Iterator[BinaryIO]:
    """Open a file of a store for writing; it appears there when the block ends.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    file = _ask(url, lambda system, path: system.open(path, "wb"))
    try:
        yield file
    finally:
        _ask(url, lambda system, path: file.close())


def _ask(url: str, function: Callable[[Any, str], _Result]) -> _Result:
    """Call a function with the file system of a URL and the path there, and translate its errors.

    The errors of others are not chained: they may contain the URL with its credentials.
    """
    try:
        return function(*_find_system(url))
    except StoreError as error:
        failure: Exception = error
    except Exception as error:
        failure = _translate(url, error)
    raise failure


def _find_system(url: str) -> tuple[Any, str]:
    # Not kept: after a fork, fsspec builds its file systems anew.
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    if "://" in url.partition("::")[2]:
        raise StoreError(f"{redact(url)}: chained URLs are not supported")
    if "::" in url:  # in the name of an object, which `url_to_fs` would take for a chain
        kind = fsspec.get_filesystem_class(url.partition("://")[0])
        system, path = kind(**kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)
    else:
        system, path = fsspec.core.url_to_fs(url)
    if isinstance(system, LocalFileSystem):
        raise StoreError(f"{redact(url)}: name a file of this machine by its path")
    return system, path


def _translate(url: str, error: Exception) -> Exception:
    """Return what is raised for an error of fsspec or of a package that it uses."""
    name = redact(url)
    # The file system of HTTP reports every failed request as a missing file.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    if isinstance(cause, Exception) and not _is_missing(cause):
        error = cause
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such file in the store", name)
    reason = redact(str(error).strip().partition("\n")[0]) or type(error).__name__
    if isinstance(error, ImportError):
        return StoreError(
            f"{name}: {reason} (pip install 'effboost[stores]' has what s3:// and https:// need)"
        )
    if _is_refused(error):
        return StoreError(
            f"{name}: the store refuses access ({reason}): check the credentials, and that they "
            "allow it"
        )
    return StoreError(f"{name}: the store cannot be used ({reason})")


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or getattr(error, "status", None) == 404


def _is_refused(error: Exception) -> bool:
    return (
        isinstance(error, PermissionError)
        or getattr(error, "status", None) in (401, 403)
        or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError")
    )
