"""Rows that are computed once and read often, in memory or in an unnamed temporary file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["RowCache", "map_temporary_file"]

# Up to here rows are kept in memory; beyond, in a file, which the system keeps there if it can.
_MAX_IN_MEMORY: Final = 2**28


class RowCache:
    """An array whose rows are computed when they are first read.

    If the array is in a file, the file has no name, so it is removed when the process ends, however
    it ends. If no disk has room for the file, rows are not kept, and are computed each time.

    Parameters
    ----------
    shape : tuple of int
        Number of rows, and the shape of one.
    dtype : dtype
        Of the values.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike):
        self._rows = _allocate(shape, np.dtype(dtype))
        self._filled = np.zeros(shape[0], dtype=bool)

    def take(
        self,
        index: npt.NDArray[np.intp],
        compute: Callable[[Sequence[int]], Sequence[npt.NDArray[Any]] | npt.NDArray[Any]],
    ) -> npt.NDArray[Any]:
        """Return some rows.

        Parameters
        ----------
        index : ndarray of int
            Which rows.
        compute : callable
            Called with positions in `index`; returns these rows.
        """
        if self._rows is None:
            return np.stack(list(compute(range(len(index)))))
        # A row that is asked for twice has one place.
        places = {int(i): place for place, i in enumerate(index) if not self._filled[i]}
        missing = list(places.values())
        if missing:
            found = compute(missing)
            for place, row in zip(missing, found, strict=True):
                self._rows[index[place]] = row
                self._filled[index[place]] = True
        return np.asarray(self._rows[index])


def _allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if n_bytes <= _MAX_IN_MEMORY:
        return np.empty(shape, dtype)
    try:
        return map_temporary_file(shape, dtype)
    except OSError:  # no room
        return None


def map_temporary_file(shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.memmap[Any, Any]:
    """Return an array in a temporary file without a name, which is removed with the array.

    Raises
    ------
    OSError
        If no disk has room for it.
    """
    n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            # Reserved at once: a disk that fills up later would kill the process.
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        return np.memmap(file, dtype, "r+", shape=shape)
