"""A cache that all fits of an evaluation share, and that is deleted after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory

from effboost._extraction.cache import Cache

__all__ = ["find_temporary_cache", "share_cache", "temporary_cache"]

_SHARED: ContextVar[Cache | None] = ContextVar("temporary_cache", default=None)


@contextmanager
def temporary_cache() -> Iterator[None]:
    """Let the frozen networks in a ``with`` block of this thread compute features once.

    It is for networks whose own `cache` is None. A block inside another uses its folder.
    """
    if find_temporary_cache() is not None:
        yield
        return
    folder = None
    # Without a place for temporary files, features are computed again.
    with suppress(OSError):
        folder = TemporaryDirectory(prefix="effboost-", ignore_cleanup_errors=True)
    if folder is None:
        yield
        return
    with folder as name, share_cache(Cache(name)):
        yield


@contextmanager
def share_cache(cache: Cache | None) -> Iterator[None]:
    """Use the cache of a `temporary_cache` in a ``with`` block of another thread or process.

    Nothing is kept where its folder does not exist, such as on another machine.
    """
    token = _SHARED.set(cache if cache is not None and Path(cache.folder).is_dir() else None)
    try:
        yield
    finally:
        _SHARED.reset(token)


def find_temporary_cache() -> Cache | None:
    """Return the cache of the block of `temporary_cache` that this runs in, or None."""
    return _SHARED.get()
