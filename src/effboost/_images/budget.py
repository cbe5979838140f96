"""One memory budget for all threads that decode."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["BUDGET", "MemoryBudget"]


class MemoryBudget:
    """Limits the memory that threads take together.

    Parameters
    ----------
    limit : int
        Bytes.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._reset()

    def _reset(self) -> None:
        self._used = 0
        self._changed = threading.Condition()
        # Whoever waits keeps this: small requests do not overtake a large one forever.
        self._turn = threading.Lock()
        self._own = threading.local()

    @contextmanager
    def hold(self, n_bytes: int) -> Iterator[None]:
        """Take a part of the budget, and wait until it is free.

        A thread that holds a part already does not wait for more: it would wait for itself.
        """
        n_bytes = min(n_bytes, self.limit)
        held = getattr(self._own, "held", 0)
        if held:
            with self._changed:
                self._used += n_bytes
        else:
            with self._turn, self._changed:
                self._changed.wait_for(lambda: self._used + n_bytes <= self.limit)
                self._used += n_bytes
        self._own.held = held + n_bytes
        try:
            yield
        finally:
            self._own.held = held
            with self._changed:
                self._used -= n_bytes
                self._changed.notify_all()


BUDGET: Final = MemoryBudget(2**30)
if hasattr(os, "register_at_fork"):
    # Threads that held a part do not exist in the child.
    os.register_at_fork(after_in_child=BUDGET._reset)
