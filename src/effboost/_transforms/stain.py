"""Stains of an image: normalised, or varied at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["STAINS", "jitter_stain", "normalize_stain"]

_Floats = npt.NDArray[np.float64]

# Light that no stain took away, in grey levels, as Macenko et al. set it.
_LIGHT: Final = 240.0
# Where this share of a picture was cut away, so was the background that would show its light.
_CUT_AWAY: Final = 0.01
# What is as dark as this in all channels was cut away, not stained: nuclei leave blue through.
_BLACK: Final = 16
# Stained pixels absorb this much in at least one channel: bright backgrounds do not.
_FAINTEST: Final = 0.3
# Statistics of fewer pixels, or of a smaller share of a picture, say nothing about its stains.
_FEWEST_PIXELS: Final = 64
_SMALLEST_SHARE: Final = 0.005
# The hues of two stains, as an angle in radians: below, there is one stain, not two.
_LEAST_ANGLE: Final = 0.05
_LEAST_SPREAD: Final = 3e-4

# The look that all pictures are brought to: medians over the white cells of BCCD (MIT licence),
# stained by Wright's method. One for all, and nothing that is learned from the images at hand.
_REFERENCE_STAINS: Final = np.array([[0.472, 0.881, 0.0], [0.366, 0.669, 0.647]])
_REFERENCE_AMOUNTS: Final = np.array([0.904, 0.474])
_REFERENCE_MEANS: Final = np.array([-0.277, -0.110, 0.0089])
_REFERENCE_SPREADS: Final = np.array([0.060, 0.0535, 0.0025])

# From RGB to the responses of the eye's three cones, and from their logarithms to brightness,
# yellow against blue, and red against green, as in Reinhard et al.
_TO_CONES: Final = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)
_TO_OPPONENT: Final = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ [[1, 1, 1], [1, 1, -2], [1, -1, 0]]
# Absorption of haematoxylin, eosin and diaminobenzidine in red, green and blue, as measured by
# Ruifrok and Johnston.
_HED: Final = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def normalize_stain(image: Image.Image, method: str) -> Image.Image:
    """Normalise the stains of an image to those of a fixed reference.

    Black pixels, which were cut away, stay black. An image in which no stain is found is not
    changed.

    Parameters
    ----------
    image : PIL.Image.Image
        An image in mode RGB.
    method : {"reinhard", "macenko"}
        How; see `STAINS`.

    Returns
    -------
    PIL.Image.Image
        An image of the same size.
    """
    pixels = np.asarray(image)
    seen = pixels.max(axis=2) > _BLACK
    colours = pixels[seen].astype(np.float64)
    if len(colours) < _FEWEST_PIXELS:
        return image
    # Microscopes' light is rarely white, and its colour is no stain's.
    light = np.percentile(colours, 99, axis=0) if seen.mean() > 1 - _CUT_AWAY else _LIGHT
    if np.min(light) <= _BLACK:  # a channel that was not recorded
        return image
    absorbance = _absorbance(colours, light)
    stained = absorbance.max(axis=1) > _FAINTEST
    if stained.sum() < max(_FEWEST_PIXELS, _SMALLEST_SHARE * len(colours)):
        return image
    changed = STAINS[method](absorbance, stained)
    return image if changed is None else _put(pixels, seen, changed)


def jitter_stain(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Scale and shift each of three stains at random, as Tellez et al. do.

    Parameters
    ----------
    image : PIL.Image.Image
        An image in mode RGB. Its black pixels stay black.
    strength : float
        Largest relative change of the amount of a stain, and largest number added to it.
    rng : numpy.random.Generator
        Source of the six random numbers.

    Returns
    -------
    PIL.Image.Image
        An image of the same size.
    """
    factor, added = rng.uniform(-strength, strength, (2, 3))
    pixels = np.asarray(image)
    seen = pixels.max(axis=2) > _BLACK
    stains = _HED / np.linalg.norm(_HED, axis=1, keepdims=True)
    amounts = _absorbance(pixels[seen].astype(np.float64)) @ np.linalg.inv(stains)
    return _put(pixels, seen, _transmit((amounts * (1 + factor) + added) @ stains))


def _reinhard(absorbance: _Floats, stained: npt.NDArray[np.bool_]) -> _Floats | None:
    """Shift and scale colours to the mean and standard deviation of the reference."""
    opponent = np.log10(np.exp(-absorbance) @ _TO_CONES.T) @ _TO_OPPONENT.T
    means, spreads = opponent[stained].mean(axis=0), opponent[stained].std(axis=0)
    if spreads.min() < _LEAST_SPREAD:
        return None
    changed = (opponent - means) / spreads * _REFERENCE_SPREADS + _REFERENCE_MEANS
    cones = 10 ** (changed @ np.linalg.inv(_TO_OPPONENT).T)
    colours: _Floats = cones @ np.linalg.inv(_TO_CONES).T * _LIGHT - 1
    return colours


def _macenko(absorbance: _Floats, stained: npt.NDArray[np.bool_]) -> _Floats | None:
    """Replace the two stains that the colours consist of by those of the reference."""
    stains = _find_stains(absorbance[stained])
    if stains is None:
        return None
    amounts = absorbance @ np.linalg.pinv(stains)
    most = np.percentile(amounts[stained], 99, axis=0)
    if most.min() < _LEAST_SPREAD:
        return None
    return _transmit(amounts / most * _REFERENCE_AMOUNTS @ _REFERENCE_STAINS)


def _find_stains(absorbance: _Floats) -> _Floats | None:
    """Return the absorption of two stains, the bluer one first, or None if there is only one."""
    _, vectors = np.linalg.eigh(absorbance.T @ absorbance)
    # All absorb, so that all angles lie within a right angle of the first axis.
    plane = vectors[:, :0:-1] * np.where(vectors[:, 2].sum() < 0, -1, 1)
    along, across = (absorbance @ plane).T
    angles = np.percentile(np.arctan2(across, along), [1, 99])
    if np.ptp(angles) < _LEAST_ANGLE:
        return None
    stains = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    # Nuclei are the bluer: their dye absorbs more of the red than of the blue.
    return stains[np.argsort(stains[:, 2] - stains[:, 0])]


STAINS: Final[dict[str, Callable[[_Floats, npt.NDArray[np.bool_]], _Floats | None]]] = {
    "macenko": _macenko,
    "reinhard": _reinhard,
}


def _absorbance(colours: _Floats, light: float | _Floats = _LIGHT) -> _Floats:
    absorbance: _Floats = np.log(light / (colours + 1))
    return absorbance


def _transmit(absorbance: _Floats) -> _Floats:
    colours: _Floats = _LIGHT * np.exp(-absorbance) - 1
    return colours


def _put(pixels: npt.NDArray[np.uint8], seen: Any, colours: _Floats) -> Image.Image:
    out = pixels.copy()
    out[seen] = np.clip(np.rint(colours), 0, 255)
    return Image.fromarray(out)
