"""OpenMP in forked children."""

from __future__ import annotations

import os
import sys
import threading

from threadpoolctl import threadpool_limits

__all__ = ["limit_threads_after_fork"]


class _Forks:
    """State of the forks that led to this process."""

    is_child = False
    torch_is_limited = False
    limited = threading.local()


def _after_fork_in_child() -> None:
    _Forks.is_child, _Forks.torch_is_limited = True, False
    _Forks.limited = threading.local()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)


def limit_threads_after_fork() -> None:
    """Make torch, XGBoost and scikit-learn compute in one thread in a forked child.

    A forked child does not have the threads of GNU OpenMP, but OpenMP would wait for them forever,
    unless it is set to use one thread. Whether the parent had such threads is not known.
    """
    if not _Forks.is_child or hasattr(_Forks.limited, "done"):
        return
    _Forks.limited.done = True
    torch = sys.modules.get("torch")
    if torch is not None and not _Forks.torch_is_limited:
        # Once, so that a child may set another number afterwards.
        _Forks.torch_is_limited = True
        torch.set_num_threads(1)
    # Each copy of OpenMP that is loaded has a limit for each thread.
    threadpool_limits(limits=1, user_api="openmp")
