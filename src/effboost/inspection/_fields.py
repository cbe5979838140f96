"""Pooled features as means over positions, and maps on a common grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from effboost.backbones._stage_features import GEM_LEAST, GEM_POWER

__all__ = ["refine", "spread"]

_Floats = npt.NDArray[np.float32]


def spread(maps: _Floats, pooling: str) -> _Floats:
    """Compute values at the positions whose mean is the pooled feature; see `POOLINGS`.

    Parameters
    ----------
    maps : ndarray of shape (n, c, h, w), float32
        Feature maps.
    pooling : {"avg", "max", "std", "gem"}
        How a feature was pooled from each channel.

    Returns
    -------
    ndarray of shape (n, c, h, w), float32
        "avg": the map itself. "std": the squared deviation from the mean of the channel, divided
        by the standard deviation s, since s is the mean of these. "gem": by Euler's theorem on
        homogeneous functions, each position's power times a factor of the channel. "max": the
        positions with the largest value share it.
    """
    if pooling == "avg":
        return maps
    if pooling == "max":
        largest = maps == maps.max(axis=(2, 3), keepdims=True)
        n_positions = maps.shape[2] * maps.shape[3]
        return np.where(largest, maps * (n_positions / largest.sum((2, 3), keepdims=True)), 0)
    if pooling == "std":
        squares = (maps - maps.mean(axis=(2, 3), keepdims=True)) ** 2
        deviation = np.sqrt(squares.mean(axis=(2, 3), keepdims=True))
        return np.divide(squares, deviation, out=np.zeros_like(squares), where=deviation > 0)
    if pooling == "gem":
        powers = np.maximum(maps, GEM_LEAST) ** GEM_POWER
        mean = powers.mean(axis=(2, 3), keepdims=True) ** (1 / GEM_POWER)
        return np.asarray(powers * mean ** (1 - GEM_POWER), dtype=np.float32)
    raise ValueError(f"pooling={pooling!r} is unknown")


def refine(maps: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Divide the values of maps over the positions of a finer grid.

    Parameters
    ----------
    maps : ndarray of shape (..., h, w)
        The values.
    height, width : int
        The finer grid, of the same area.

    Returns
    -------
    ndarray of shape (..., height, width)
        Each value is divided in proportion to the overlap with finer positions. Sums are kept.
    """
    rows = _overlap(maps.shape[-2], height)
    columns = _overlap(maps.shape[-1], width)
    return np.asarray(rows @ maps @ columns.T)


def _overlap(coarse: int, fine: int) -> npt.NDArray[np.float64]:
    """Compute the share of each coarse interval in each fine one, of shape (fine, coarse)."""
    edges, ends = np.arange(coarse + 1) / coarse, np.arange(fine + 1) / fine
    low = np.maximum(edges[:-1], ends[:-1, np.newaxis])
    high = np.minimum(edges[1:], ends[1:, np.newaxis])
    shares: npt.NDArray[np.float64] = np.maximum(high - low, 0) * coarse
    return shares / shares.sum(axis=0)
