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
    batch_size : int
        The number of images that `run` takes, always the same: the arithmetic behind an image
        then never depends on how many others there are.
    """

    batch_size: int

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Carry one batch through the network.

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
