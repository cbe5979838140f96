"""Images prepared for the network, each decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._extraction.cache import Cache, digest_of
from effboost._extraction.row_cache import RowCache
from effboost._images import ImageSequence
from effboost._images.measures import MEASURES, MEASURES_VERSION, measure
from effboost._transforms import ImageTransform
from effboost._transforms.colours import COLOURS_VERSION, N_COLOURS, measure_colours
from effboost._utils.threads import count_threads, map_ordered

__all__ = ["PreparedImages"]

_N_NUMBERS: Final = len(MEASURES) + N_COLOURS
_BLOCK: Final = 256  # images measured between two writes to the cache


class PreparedImages:
    """Images that a transform has prepared for the network, computed when they are needed.

    Slices, index arrays and masks return a part that shares the prepared images.

    Parameters
    ----------
    images : ImageSequence
        The images.
    transform : ImageTransform
        Its `prepare` is applied to each.
    keep : bool, default=False
        Keep each prepared image in memory or in a temporary file, so that it is decoded only once.
    measured : bool, default=False
        Also measure each image when it is decoded, for `measures`.
    """

    def __init__(
        self,
        images: ImageSequence,
        transform: ImageTransform,
        *,
        keep: bool = False,
        measured: bool = False,
    ):
        side = transform.side
        self._measures = np.full((len(images), _N_NUMBERS), np.nan) if measured else None
        self.images, self.transform = images, transform
        self._rows = RowCache((len(images), side, side, 3), np.uint8) if keep else None
        self._positions = np.arange(len(images))

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def groups(self) -> npt.NDArray[Any] | None:
        """The subject of each image, or None."""
        return self.images.groups

    def __getitem__(self, index: Any) -> PreparedImages:
        part = object.__new__(PreparedImages)
        part.images, part.transform, part._rows = self.images[index], self.transform, self._rows
        part._positions, part._measures = self._positions[index], self._measures
        return part

    def measures(self, cache: Cache | None = None) -> npt.NDArray[np.float64]:
        """Measure the images that were not measured when they were decoded.

        Parameters
        ----------
        cache : Cache, default=None
            Where measures are looked up and stored.

        Returns
        -------
        ndarray of shape (n_samples, 23), float64
            For each image, what `measure` returns for it, and what `measure_colours` returns for
            the prepared image.

        Raises
        ------
        ImageDecodeError
            If an image cannot be read.
        """
        rows = np.full((len(self), _N_NUMBERS), np.nan)
        if self._measures is not None:
            rows = self._measures[self._positions]
        missing = np.flatnonzero(np.isnan(rows[:, 0])).tolist()
        if missing:
            rows[missing] = _measure_all(self.images[missing], self.transform, cache)
        return rows

    def _decode(self, i: int) -> npt.NDArray[np.uint8]:
        def prepare(image: Image.Image) -> npt.NDArray[np.uint8]:
            pixels = np.asarray(self.transform.prepare(image))
            if self._measures is not None:
                self._measures[self._positions[i]] = _measure_both(image, pixels)
            return pixels

        return self.images.decode(i, prepare)

    def pixels(self, positions: npt.NDArray[np.intp] | Sequence[int]) -> npt.NDArray[np.uint8]:
        """Return some images as pixels.

        Parameters
        ----------
        positions : sequence of int
            Their positions.

        Returns
        -------
        ndarray of shape (len(positions), image_size, image_size, 3), uint8
            A copy of their pixels.

        Raises
        ------
        ImageDecodeError
            If an image cannot be read.
        """

        def decode(places: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
            return [self._decode(int(positions[place])) for place in places]

        if self._rows is None:
            return np.stack(decode(range(len(positions))))
        return self._rows.take(self._positions[np.asarray(positions, dtype=np.intp)], decode)


def _measure_all(
    images: ImageSequence, transform: ImageTransform, cache: Cache | None
) -> npt.NDArray[np.float64]:
    """Measure images, in blocks: the cache is asked once for each, and written once."""

    def measure_one(i: int) -> npt.NDArray[np.float64]:
        return images.decode(
            i, lambda image: _measure_both(image, np.asarray(transform.prepare(image)))
        )

    origin = {"measures": [MEASURES_VERSION, COLOURS_VERSION], "transform": transform.describe()}

    def key_of(i: int) -> bytes:
        return digest_of({**origin, "image": images.fingerprint(i)})

    n_threads = count_threads()
    rows = np.full((len(images), _N_NUMBERS), np.nan)
    for start in range(0, len(images), _BLOCK):
        block = range(start, min(start + _BLOCK, len(images)))
        keys = {}
        if cache is not None:
            keys = dict(zip(block, map_ordered(key_of, block, n_threads), strict=True))
            found = cache.get(list(keys.values()))
            for i, key in keys.items():
                if len(numbers := found.get(key, b"")) == 8 * _N_NUMBERS:
                    rows[i] = np.frombuffer(numbers, dtype="<f8")
        new = [i for i in block if np.isnan(rows[i, 0])]
        for i, row in zip(new, map_ordered(measure_one, new, n_threads), strict=True):
            rows[i] = row
        if cache is not None and new:
            # A file that was replaced between hashing and decoding has another key.
            same = [i for i in new if key_of(i) == keys[i]]
            cache.put({keys[i]: rows[i].astype("<f8").tobytes() for i in same})
    return rows


def _measure_both(image: Image.Image, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return np.concatenate([measure(image), measure_colours(pixels)])
