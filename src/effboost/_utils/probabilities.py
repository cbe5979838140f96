"""A check of probabilities."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

__all__ = ["find_fault"]

# More than the rounding of float32, summed over the classes.
_TOLERANCE: Final = 1e-3


def find_fault(values: Any, n_samples: int, n_classes: int) -> str | None:
    """Find what is wrong with probabilities.

    Parameters
    ----------
    values : array-like
        What a classifier returned.
    n_samples, n_classes : int
        The shape that it should have.

    Returns
    -------
    str or None
        What is wrong, for an error message; None if all rows are finite, between 0 and 1 and sum
        to 1.
    """
    found = np.asarray(values)
    if found.shape != (n_samples, n_classes) or found.dtype.kind != "f":
        return (
            f"its probabilities have shape {found.shape} and dtype {found.dtype}; expected floats "
            f"of shape {(n_samples, n_classes)}"
        )
    if not np.isfinite(found).all():
        return "its probabilities contain NaN or infinity"
    if found.size and (found.min() < -_TOLERANCE or found.max() > 1 + _TOLERANCE):
        return f"its probabilities are between {found.min():.3g} and {found.max():.3g}, not 0 and 1"
    if (np.abs(found.sum(axis=1) - 1) > _TOLERANCE).any():
        return "its probabilities do not sum to 1"
    return None
