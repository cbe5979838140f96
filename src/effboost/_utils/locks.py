"""Locks for what all threads of a process share. In a forked child, no other thread holds them."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

__all__ = ["ForkableLock", "QueuedLock", "SharedLock", "ignore_warnings"]

_LOCKS: Final[weakref.WeakSet[_Forkable]] = weakref.WeakSet()


class _Forkable:
    """A lock that is free in a forked child, unless the thread that forked holds it."""

    def __init__(self) -> None:
        self.reset()
        _LOCKS.add(self)

    def reset(self) -> None:
        """Forget the threads that a forked child does not have."""
        raise NotImplementedError


def _reset_locks() -> None:
    for lock in list(_LOCKS):
        lock.reset()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_locks)


class ForkableLock(_Forkable):
    """A reentrant lock."""

    _owner: int | None = None
    _depth = 0

    def reset(self) -> None:
        if self._owner != threading.get_ident():
            self._lock = threading.RLock()
            self._owner, self._depth = None, 0

    def __enter__(self) -> Self:
        self._lock.acquire()
        self._owner, self._depth = threading.get_ident(), self._depth + 1
        return self

    def __exit__(self, *_: Any) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
        self._lock.release()


class QueuedLock(_Forkable):
    """A reentrant lock that threads get in the order in which they asked for it.

    Unlike with Python's own lock, a thread that hands it on gets it again only after the threads
    that wait for it.
    """

    _owner: int | None = None
    _depth = 0

    def reset(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        if self._owner != threading.get_ident():
            self._owner, self._depth = None, 0

    def __enter__(self) -> Self:
        if not self.is_mine():
            self._acquire()
        self._depth += 1
        return self

    def __exit__(self, *_: Any) -> None:
        # Where waiting was interrupted in `hand_on`, there is nothing to give back.
        if self.is_mine():
            self._depth -= 1
            if not self._depth:
                self._release()

    def is_mine(self) -> bool:
        """Return whether this thread holds the lock."""
        return self._owner == threading.get_ident()

    def is_wanted(self) -> bool:
        """Return whether other threads wait for the lock."""
        return bool(self._queue)

    def hand_on(self) -> None:
        """Let the threads that wait hold the lock first, and then hold it again."""
        depth, self._depth = self._depth, 0
        self._release()
        self._acquire()
        self._depth = depth

    def _acquire(self) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._owner is None and self._queue[0] is ticket)
                self._owner = threading.get_ident()
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _release(self) -> None:
        with self._changed:
            self._owner = None
            self._changed.notify_all()


class SharedLock(_Forkable):
    """A lock that many threads hold together, or one alone; new sharers wait for that one."""

    _owner: int | None = None

    def __init__(self) -> None:
        self._own = threading.local()
        super().__init__()

    def reset(self) -> None:
        self._changed = threading.Condition()
        self._n_waiting = 0
        self._n_sharing = int(self._depth > 0)
        if self._owner != threading.get_ident():
            self._owner = None

    @property
    def _depth(self) -> int:
        return getattr(self._own, "depth", 0)

    def is_mine(self) -> bool:
        """Return whether this thread holds the lock, together with others or alone."""
        return self._depth > 0 or self._owner == threading.get_ident()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with others."""
        nested = self.is_mine()
        if not nested:
            with self._changed:
                self._changed.wait_for(lambda: self._owner is None and not self._n_waiting)
                self._n_sharing += 1
        self._own.depth = self._depth + 1
        try:
            yield
        finally:
            self._own.depth -= 1
            if not nested:
                with self._changed:
                    self._n_sharing -= 1
                    self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock alone. An error in a thread that shares it, which would wait for itself."""
        if self._owner == threading.get_ident():
            yield
            return
        if self._depth:
            raise RuntimeError("a thread that shares a lock cannot hold it alone")
        with self._changed:
            self._n_waiting += 1
            try:
                self._changed.wait_for(lambda: self._owner is None and not self._n_sharing)
                self._owner = threading.get_ident()
            finally:
                self._n_waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._owner = None
                self._changed.notify_all()


_FILTERS: Final = ForkableLock()


@contextmanager
def ignore_warnings(category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings in a block.

    Python's filters belong to the whole process: if two threads change them at the same time, they
    can remain changed.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
