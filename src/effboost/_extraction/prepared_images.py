"""Images prepared for the network, each decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._extraction.row_cache import RowCache
from effboost._images import ImageSequence
from effboost._transforms import ImageTransform

__all__ = ["PreparedImages"]


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
    """

    def __init__(self, images: ImageSequence, transform: ImageTransform, *, keep: bool = False):
        side = transform.image_size
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
        part._positions = self._positions[index]
        return part

    def _prepare(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        return np.asarray(self.transform.prepare(image))

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
            chosen = [int(positions[place]) for place in places]
            return [self.images.decode(i, self._prepare) for i in chosen]

        if self._rows is None:
            return np.stack(decode(range(len(positions))))
        return self._rows.take(self._positions[np.asarray(positions, dtype=np.intp)], decode)
