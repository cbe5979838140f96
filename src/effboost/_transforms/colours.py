"""Colours of a prepared image, as numbers to compare with those of other images."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["COLOURS_VERSION", "LEAST", "N_BLOCKS", "N_COLOURS", "measure_colours"]

# Of what `measure_colours` computes; to be raised with each change.
COLOURS_VERSION: Final = 1
N_COLOURS: Final = 18
# The image is divided into about so many blocks along each side.
N_BLOCKS: Final = 16
# Bounds logarithms and quotients.
LEAST: Final = 0.01


def measure_colours(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Measure the colours of an image and how they are distributed.

    Parameters
    ----------
    pixels : ndarray of shape (s, s, 3), uint8
        RGB pixels as `ImageTransform.prepare` returns them, at least 2 x 2.

    Returns
    -------
    ndarray of shape (18,), float64
        For each channel, scaled to [0, 1]: its mean; the logarithm of its standard deviation; the
        smallest and the largest mean of a block; and the logarithm of the mean difference between
        neighbours in a column. Then the correlations of red with green and blue, and of green with
        blue, over the blocks. An image and its rotations and mirror images have the same numbers,
        except for the differences between neighbours.
    """
    values = pixels.astype(np.float64) / 255
    side = len(values)
    size = max(1, side // N_BLOCKS)
    n = side // size
    blocks = values[: n * size, : n * size].reshape(n, size, n, size, 3).mean(axis=(1, 3))
    blocks = blocks.reshape(-1, 3)
    away = blocks - blocks.mean(axis=0)
    products = away.T @ away / len(away)
    variances = np.diag(products) + LEAST**2
    correlations = products / np.sqrt(np.outer(variances, variances))
    parts: tuple[Any, ...] = (
        values.mean(axis=(0, 1)),
        np.log(values.std(axis=(0, 1)) + LEAST),
        blocks.min(axis=0),
        blocks.max(axis=0),
        np.log(np.abs(np.diff(values, axis=0)).mean(axis=(0, 1)) + LEAST),
        correlations[0, 1:],
        correlations[1, 2:],
    )
    found: npt.NDArray[np.float64] = np.concatenate(parts)
    return found
