"""Work in threads, with results in the order of what was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

__all__ = ["in_order"]

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")
# Parts under way for each worker: enough that none waits, few enough to bound memory.
_AHEAD: Final = 4


def in_order(
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
