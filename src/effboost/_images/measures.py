"""Size, exposure and sharpness of an image, as numbers to compare with those of other images."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["HIGHLIGHTS", "LEAST", "MAX_SIDE", "MEASURES", "MEASURES_VERSION", "measure"]

# What each number says: shorter and longer side, brightness, that of the highlights, sharpness.
MEASURES: Final = ("size", "size", "exposure", "exposure", "blur")
# Of what `measure` computes; to be raised with each change.
MEASURES_VERSION: Final = 1
# Grey levels are measured on an image whose longer side has at most this many pixels.
MAX_SIDE: Final = 512
HIGHLIGHTS: Final = 95
# For images without edges.
LEAST: Final = 0.01

_Grey = npt.NDArray[np.float32]


def measure(image: Image.Image) -> npt.NDArray[np.float64]:
    """Measure an image.

    Parameters
    ----------
    image : PIL.Image.Image
        In mode RGB, of any size.

    Returns
    -------
    ndarray of shape (5,), float64
        The base-2 logarithms of the shorter and the longer side in pixels; the mean and the 95th
        percentile of the grey levels, 0 to 255; and the sharpness, the base-2 logarithm of the
        ratio of second to first derivatives (root mean squares). It depends on the width of edges
        in pixels, not on their number or contrast.
    """
    short, long = sorted(image.size)
    grey_image = image.convert("L")
    factor = -(-long // MAX_SIDE)
    if factor > 1:
        grey_image = grey_image.reduce(factor)
    levels = np.asarray(grey_image)
    exposure = levels.mean(dtype=np.float64), float(np.percentile(levels, HIGHLIGHTS))
    sharpness = _measure_sharpness(levels.astype(np.float32))
    return np.array([np.log2(short), np.log2(long), *exposure, sharpness])


def _measure_sharpness(grey: _Grey) -> float:
    if min(grey.shape) < 4:
        return 0.0
    down, right = np.diff(grey, axis=0), np.diff(grey, axis=1)
    first = np.sqrt(_mean_square(down) + _mean_square(right))
    # Means of 2 x 2 pixels, since noise of single pixels is not sharpness.
    rows = grey[:-1] + grey[1:]
    mean = (rows[:, :-1] + rows[:, 1:]) / 4
    around = mean[:-2, 1:-1] + mean[2:, 1:-1] + mean[1:-1, :-2] + mean[1:-1, 2:]
    second = np.sqrt(_mean_square(4 * mean[1:-1, 1:-1] - around))
    return float(np.log2((second + LEAST) / (first + LEAST)))


def _mean_square(values: npt.NDArray[Any]) -> float:
    return float(np.square(values).mean(dtype=np.float64))
