"""Threads: how many this process may keep busy, and work in them that keeps its order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import joblib

__all__ = ["count_threads", "map_ordered"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")
# Parts under way for each worker: enough that none waits, few enough to bound memory.
_AHEAD: Final = 4


def count_threads() -> int:
    """Return the cores that this process may use, or its share of them.

    The share is what ``OMP_NUM_THREADS`` says, which joblib sets in the workers of ``n_jobs=2``
    so that they do not get in each other's way.
    """
    share = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = int(joblib.cpu_count())
    return max(1, min(cores, int(share))) if share.isdecimal() else cores


def map_ordered(
    work: Callable[[_Part], _Result], parts: Sequence[_Part], n_workers: int
) -> Iterator[_Result]:
    """Work on some parts at a time, a few ahead, and give the results in their order."""
    if min(n_workers, len(parts)) == 1:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(n_workers, thread_name_prefix="effboost") as pool:
        pending: deque[Future[_Result]] = deque()
        try:
            for part in parts:
                pending.append(pool.submit(work, part))
                if len(pending) > _AHEAD * n_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # After an error or Ctrl-C, what was not begun is not worth beginning.
            pool.shutdown(wait=True, cancel_futures=True)
