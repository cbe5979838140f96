"""How many threads this process may keep busy."""

from __future__ import annotations

import os

import joblib

__all__ = ["count_threads"]


def count_threads() -> int:
    """Give the cores that this process may use, or its share of them.

    The share is what ``OMP_NUM_THREADS`` says, which joblib sets in the workers of ``n_jobs=2``
    so that they do not get in each other's way.
    """
    share = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = int(joblib.cpu_count())
    return max(1, min(cores, int(share))) if share.isdecimal() else cores
