"""Images prepared for the network, each decoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._extraction.cache import Cache, digest_of
from effboost._extraction.row_cache import RowCache
from effboost._images import ImageSequence, find_rgb
from effboost._images.measures import MEASURES, MEASURES_VERSION, measure
from effboost._transforms import ImageTransform, keeps_pixels
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
        Also measure each image when it is decoded, for `measures`, and hash it only once.
    hashed : bool, default=False
        Hash each image before it is decoded, so that the fingerprint of a kept image is that of its
        pixels, whatever the file contains later.
    """

    def __init__(
        self,
        images: ImageSequence,
        transform: ImageTransform,
        *,
        keep: bool = False,
        measured: bool = False,
        hashed: bool = False,
    ):
        side = transform.side
        self._measures = np.full((len(images), _N_NUMBERS), np.nan) if measured else None
        self._fingerprints: dict[int, str] | None = {} if measured or hashed else None
        self._hashed = hashed
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
        part._fingerprints, part._hashed = self._fingerprints, self._hashed
        return part

    def fingerprint(self, index: int) -> str:
        """Return the SHA-256 of an image's content; see `ImageSequence.fingerprint`.

        With `measured` or `hashed`, it is hashed once.
        """
        if self._fingerprints is None:
            return self.images.fingerprint(index)
        position = int(self._positions[index])
        if position not in self._fingerprints:
            self._fingerprints[position] = self.images.fingerprint(index)
        return self._fingerprints[position]

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
            rows[missing] = self[missing]._measure_all(cache)
        return rows

    def measure_entries(self, positions: Sequence[int]) -> dict[bytes, bytes]:
        """Return the measures of images as entries of a cache, of those that were measured.

        Parameters
        ----------
        positions : sequence of int
            The positions of images whose content is still that of `fingerprint`.
        """
        if self._measures is None:
            return {}
        rows = self._measures[self._positions[list(positions)]]
        key_of = self._measures_key()
        return {
            key_of(self.fingerprint(i)): _to_entry(row)
            for i, row in zip(positions, rows, strict=True)
            if not np.isnan(row[0])
        }

    def _measures_key(self) -> Callable[[str], bytes]:
        """Return a function from the hash of an image to the key of its measures."""
        versions = [MEASURES_VERSION, COLOURS_VERSION]
        origin = {"measures": versions, "transform": self.transform.describe()}
        return lambda fingerprint: digest_of({**origin, "image": fingerprint})

    def _measure_all(self, cache: Cache | None) -> npt.NDArray[np.float64]:
        """Measure all images, in blocks: the cache is asked once for each, and written once."""

        def measure_one(i: int) -> npt.NDArray[np.float64]:
            return self.images.decode(
                i, lambda image: _measure_both(image, np.asarray(self.transform.prepare(image)))
            )

        key_of, n_threads = self._measures_key(), count_threads()
        rows = np.full((len(self), _N_NUMBERS), np.nan)
        for start in range(0, len(self), _BLOCK):
            block = range(start, min(start + _BLOCK, len(self)))
            keys = {}
            if cache is not None:
                keys = {i: key_of(self.fingerprint(i)) for i in block}
                found = cache.get(list(keys.values()))
                for i, key in keys.items():
                    if len(numbers := found.get(key, b"")) == 8 * _N_NUMBERS:
                        rows[i] = np.frombuffer(numbers, dtype="<f8")
            new = [i for i in block if np.isnan(rows[i, 0])]
            for i, row in zip(new, map_ordered(measure_one, new, n_threads), strict=True):
                rows[i] = row
            if cache is not None and new:
                # A file that was replaced between hashing and decoding has another key.
                same = [i for i in new if key_of(self.images.fingerprint(i)) == keys[i]]
                cache.put({keys[i]: _to_entry(rows[i]) for i in same})
        return rows

    def _decode(self, i: int) -> npt.NDArray[np.uint8]:
        if self._hashed:
            self.fingerprint(i)
        ready = find_rgb(self.images, i) if self._measures is None else None
        if ready is not None and keeps_pixels(self.transform, ready.shape):
            return ready

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


def _to_entry(row: npt.NDArray[np.float64]) -> bytes:
    return row.astype("<f8").tobytes()


def _measure_both(image: Image.Image, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return np.concatenate([measure(image), measure_colours(pixels)])
