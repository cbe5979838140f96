"""What every engine offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Runtime"]


class Runtime(Protocol):
    """An engine with a network loaded.

    Attributes
    ----------
    name : str
        What `ImageFeaturizer` calls it.
    batch_size : int
        The number of images that `run` takes, always the same: the arithmetic behind an image
        then never depends on how many others there are.
    n_workers : int
        How many threads may keep it busy, each decoding its images and calling `run` on them.
    """

    name: str
    batch_size: int
    n_workers: int

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Carry one batch through the network. Threads may call this at the same time.

        Parameters
        ----------
        pixels : ndarray of shape (batch_size, image_size, image_size, 3), uint8
            Resized RGB pictures.

        Returns
        -------
        ndarray of shape (batch_size, n_features), float32
            Row i depends on picture i alone, to the bit.
        """
        ...
