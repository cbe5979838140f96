"""The orientations of an image for which features are computed."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["ORIGINAL", "Views"]

_COUNTS: Final = {"original": 1, "rotations": 4, "dihedral": 8}


@dataclasses.dataclass(frozen=True)
class Views:
    """The views of an image for which features are computed, and whether these are averaged.

    Parameters
    ----------
    kind : {"original", "rotations", "dihedral"}
        The image itself, its four quarter turns, or these and their mirror images.
    average : bool, default=True
        Whether the features of the views are averaged; otherwise, they are returned one after
        another.
    """

    kind: str
    average: bool = True

    @property
    def count(self) -> int:
        """Number of views of an image."""
        return _COUNTS[self.kind]

    def show(self, picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
        """Return the views of a square image of shape (h, w, 3), the image itself first."""
        turned = [np.rot90(picture, quarter) for quarter in range(min(self.count, 4))]
        return turned if self.count <= 4 else turned + [view[:, ::-1] for view in turned]

    def turn_back(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn the feature maps of the views, (count, d, h, w), back, and return their mean."""
        if self.count == 1:
            return maps[0]
        turned = [*maps[:4], *maps[4:, :, :, ::-1]]
        upright = [np.rot90(view, -k % 4, axes=(1, 2)) for k, view in enumerate(turned)]
        return np.mean(upright, axis=0, dtype=np.float32)

    def gather(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return one row for each image, from rows of shape (n_images * count, n_features)."""
        if self.count == 1:
            return rows
        of_picture = rows.reshape(-1, self.count, rows.shape[1])
        if self.average:
            return of_picture.mean(axis=1)
        return of_picture.reshape(len(of_picture), -1)


ORIGINAL: Final = Views("original")
