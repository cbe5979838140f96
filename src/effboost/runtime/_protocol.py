"""The interface of every runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Runtime"]


class Runtime(Protocol):
    """Interface of runtimes: a loaded network that computes features.

    Attributes
    ----------
    name : str
        Its name, a value of the parameter `runtime` of `ImageFeaturizer`.
    batch_size : int
        Number of images that `run` takes. It is constant, so that the arithmetic for an image never
        depends on the number of other images.
    n_workers : int
        Number of threads that may use it at the same time; each decodes images and calls `run`.

    Examples
    --------
    A runtime that computes the mean colour, without a network:

    >>> import numpy as np
    >>> class MeanColour:
    ...     name, batch_size, n_workers = "mean_colour", 8, 1
    ...     def run(self, pixels):
    ...         return pixels.mean(axis=(1, 2), dtype=np.float32)
    >>> MeanColour().run(np.zeros((8, 32, 32, 3), dtype=np.uint8)).shape
    (8, 3)
    """

    name: str
    batch_size: int
    n_workers: int

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute the features of one batch. Threads may call this at the same time.

        Parameters
        ----------
        pixels : ndarray of shape (batch_size, image_size, image_size, 3), uint8
            Prepared RGB images.

        Returns
        -------
        ndarray of shape (batch_size, n_features), float32
            The features. Row i depends only on image i, to the bit.
        """
        ...
