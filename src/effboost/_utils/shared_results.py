"""Results that several calls on the same images share, instead of computing them again.

`predict` and `predict_proba` of one classifier need the same features. Calling both is the only way
to get its own predictions and its probabilities for any classifier, also inside another one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["compute_once", "find_shared", "share_results"]

_Results = dict[tuple[Any, ...], tuple[tuple[Any, ...], Any]]
_SHARED: ContextVar[_Results | None] = ContextVar("shared_results", default=None)


@contextmanager
def share_results() -> Iterator[None]:
    """Share results between the calls in a ``with`` block of this thread; then drop them.

    A block inside another shares its results with it.
    """
    if _SHARED.get() is not None:
        yield
        return
    token = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(token)


def compute_once(owners: tuple[Any, ...], name: Hashable, compute: Callable[[], Any]) -> Any:
    """Return the result of a computation, computed once in a block of `share_results`.

    Parameters
    ----------
    owners : tuple of objects
        What the result depends on, compared by identity.
    name : hashable
        The name of the result.
    compute : callable
        Returns the result. Outside a block, it is called each time.

    Returns
    -------
    object
        The result; a copy of it in a block, so that a caller may change it.
    """
    results = _SHARED.get()
    if results is None:
        return compute()
    key = (*map(id, owners), name)
    if key not in results:
        # The owners are kept, so that no new object can have their identity.
        results[key] = owners, compute()
    return copy.copy(results[key][1])


def find_shared(owners: tuple[Any, ...], name: Hashable) -> Any:
    """Return a copy of a result that was computed in this block, or None. See `compute_once`."""
    results = _SHARED.get() or {}
    found = results.get((*map(id, owners), name))
    return None if found is None else copy.copy(found[1])
