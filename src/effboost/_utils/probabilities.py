"""Checks of probabilities, and their gaps to what is true."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["N_BINS", "are_probabilities", "calibration_gaps", "find_fault"]

# More than the rounding of float32, summed over the classes.
_TOLERANCE: Final = 1e-3
# Bins of confidence, by default.
N_BINS: Final = 15


def are_probabilities(values: npt.NDArray[Any]) -> bool:
    """Return whether all values are between 0 and 1, but for rounding, and none is NaN."""
    return bool(((values >= -_TOLERANCE) & (values <= 1 + _TOLERANCE)).all())


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
    if not are_probabilities(found):
        return f"its probabilities are between {found.min():.3g} and {found.max():.3g}, not 0 and 1"
    if (np.abs(found.sum(axis=1) - 1) > _TOLERANCE).any():
        return "its probabilities do not sum to 1"
    return None


def calibration_gaps(
    codes: npt.NDArray[np.intp], proba: npt.NDArray[np.float64], n_bins: int = N_BINS
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the bin of each row, and whether it is correct (1 or 0) minus its confidence."""
    confidence = proba.max(axis=1)
    right = proba.argmax(axis=1) == codes
    bins = np.clip((confidence * n_bins).astype(np.intp), 0, n_bins - 1)
    return bins, right - confidence
