"""Number of threads of this process and of its BLAS, and ordered work in threads."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Final, TypeVar

import joblib
from threadpoolctl import ThreadpoolController

__all__ = ["count_threads", "limit_threads", "map_ordered", "one_blas_thread"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")
# Number of parts in progress per worker: enough to keep it busy, few enough to bound memory.
_AHEAD: Final = 4
_LIMIT: Final[ContextVar[int | None]] = ContextVar("limit", default=None)


@contextmanager
def limit_threads(n: int) -> Iterator[None]:
    """Limit `count_threads` in a block of this thread, which is one of several that do such work.

    A runtime takes its number of threads when it is started.
    """
    token = _LIMIT.set(n)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def count_threads() -> int:
    """Return the number of cores that this process may use.

    It is limited by ``OMP_NUM_THREADS``, which joblib sets in its workers so that they share the
    cores, and by `limit_threads`.
    """
    share = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = min(int(joblib.cpu_count()), _LIMIT.get() or sys.maxsize)
    return max(1, min(cores, int(share))) if share.isdecimal() else cores


def one_blas_thread() -> AbstractContextManager[object]:
    """Let the linear algebra of NumPy and SciPy use one thread in a block.

    For many small matrices: their threads wait for each other longer than they compute, and, since
    they spin, take the cores from those of XGBoost. The setting belongs to the process; where
    blocks of several threads overlap, that of the first counts. It reaches the libraries that are
    loaded at the first call.
    """
    block: AbstractContextManager[object] = _find_libraries().limit(limits=1, user_api="blas")
    return block


@cache
def _find_libraries() -> ThreadpoolController:
    return ThreadpoolController()


def map_ordered(
    work: Callable[[_Part], _Result], parts: Sequence[_Part], n_workers: int
) -> Iterator[_Result]:
    """Apply a function to parts in threads, and yield the results in order."""
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
            # After an error or Ctrl-C, do not start the remaining parts.
            pool.shutdown(wait=True, cancel_futures=True)
