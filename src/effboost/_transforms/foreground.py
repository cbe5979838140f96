"""Detection of the cell in an image."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops
from scipy.ndimage import find_objects, label

__all__ = [
    "BLACK",
    "MASKED_BORDER",
    "MIN_SIDE",
    "SPECK",
    "cell_box",
    "crop_foreground",
    "crop_masked",
    "otsu_threshold",
]

_Box = tuple[int, int, int, int]

# Smaller pictures are refused when they are read.
MIN_SIDE: Final = 8
# What stands on each side of the cell, as a share of the longer side of its box.
_MARGIN: Final = 0.1
# Of an image whose background was cut out: the largest grey level of a black pixel, which lossy
# compression may have changed; one in how many pixels of the border may belong to the cell; and one
# in how many pixels of a row or column must, so that specks do not count.
BLACK: Final = 8
MASKED_BORDER: Final = 8
SPECK: Final = 32


def crop_foreground(image: Image.Image) -> Image.Image:
    """Crop an image to a square around the cell, with a margin.

    Parameters
    ----------
    image : PIL.Image.Image
        An image in mode RGB.

    Returns
    -------
    PIL.Image.Image
        The cropped image; the whole image if no cell is found. If the square extends beyond the
        image, it is moved and, if that is not enough, cut; nothing is padded.
    """
    grey = np.asarray(image.convert("L"))
    bright = grey > otsu_threshold(grey)
    # Cells are darker than the light of a microscope, brighter than what was cut away around them.
    box = cell_box(~bright if _border(bright).mean() > 0.5 else bright)
    return image if box is None else image.crop(_square(box, image.size, _MARGIN))


def crop_masked(image: Image.Image) -> Image.Image:
    """Crop an image whose background was cut out to the square around what is left.

    Parameters
    ----------
    image : PIL.Image.Image
        An image in mode RGB.

    Returns
    -------
    PIL.Image.Image
        The cropped image; the whole image if its border is not black, or nothing is left. The
        square is placed as by `crop_foreground`, without a margin.
    """
    bands = image.split()
    bright = np.asarray(ImageChops.lighter(ImageChops.lighter(*bands[:2]), bands[2])) > BLACK
    border = _border(bright)
    if MASKED_BORDER * np.count_nonzero(border) > border.size:
        return image
    spans = []
    for axis in (0, 1):
        counts = np.count_nonzero(bright, axis=axis)
        used = np.flatnonzero(counts * SPECK >= bright.shape[axis])
        if not used.size:
            return image
        spans.append((int(used[0]), int(used[-1]) + 1))
    (left, right), (top, bottom) = spans
    if min(right - left, bottom - top) < MIN_SIDE:
        return image
    return image.crop(_square((left, top, right, bottom), image.size, margin=0))


def _border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def cell_box(foreground: npt.NDArray[np.bool_]) -> _Box | None:
    """Return the bounding box of the largest connected part.

    Parameters
    ----------
    foreground : ndarray of shape (h, w), bool
        Which pixels may belong to the cell.

    Returns
    -------
    (left, top, right, bottom) or None
        In pixels; None if it would be below 8 x 8 pixels.
    """
    parts, n_parts = label(foreground)
    if n_parts == 0:
        return None
    rows, columns = find_objects(parts)[np.bincount(parts.ravel())[1:].argmax()]
    if min(rows.stop - rows.start, columns.stop - columns.start) < MIN_SIDE:
        return None
    return int(columns.start), int(rows.start), int(columns.stop), int(rows.stop)


def otsu_threshold(grey: npt.NDArray[np.uint8]) -> int:
    """Return the grey level with the lowest variance within the parts below and above it.

    Parameters
    ----------
    grey : ndarray of uint8
        Grey levels.

    Returns
    -------
    int
        The largest level of the darker part; if the image has only one level, this level.

    References
    ----------
    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on
    Systems, Man, and Cybernetics 9, 1979.
    """
    counts = np.bincount(grey.ravel(), minlength=256)
    darker, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * np.arange(256))
    # The variance between the parts, times the square of the number of pixels, without division
    # by the size of an empty one.
    split = np.flatnonzero((darker > 0) & (darker < total))
    if split.size == 0:
        return int(grey.flat[0])
    n, m = darker[split].astype(np.float64), mass[split].astype(np.float64)
    between = (total * m - n * mass[-1]) ** 2 / (n * (total - n))
    return int(split[between.argmax()])


def _square(box: _Box, size: tuple[int, int], margin: float) -> _Box:
    left, top, right, bottom = box
    side = round(max(right - left, bottom - top) * (1 + 2 * margin))
    (left, right), (top, bottom) = (
        _span((low + high) / 2, min(side, length), length)
        for low, high, length in ((left, right, size[0]), (top, bottom, size[1]))
    )
    return left, top, right, bottom


def _span(centre: float, side: int, length: int) -> tuple[int, int]:
    start = min(max(round(centre - side / 2), 0), length - side)
    return start, start + side
