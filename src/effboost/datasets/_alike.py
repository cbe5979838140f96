"""Images that show the same: copies that were re-encoded, resized, turned or mirrored."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial import cKDTree

__all__ = ["DisjointSets", "join_alike", "make_thumbnail", "shrink"]

_Thumbnails = npt.NDArray[np.uint8]
_FINE: Final = 64
_SIDE: Final = 16
# Images whose neighbours are looked up at a time: bounds memory where all of them are alike.
_BLOCK: Final = 64


class DisjointSets:
    """Positions that are joined two by two.

    Attributes
    ----------
    names : ndarray of shape (n,)
        For each position the least one of its set.
    """

    def __init__(self, n: int):
        self.names = np.arange(n)

    def join(self, i: int, j: int) -> None:
        """Make one set of the sets of two positions."""
        low, high = sorted((self.names[i], self.names[j]))
        self.names[self.names == high] = low

    def groups(self) -> list[list[int]]:
        """Return the sets of two or more positions, in order."""
        members: dict[int, list[int]] = {}
        for i, name in enumerate(self.names.tolist()):
            members.setdefault(name, []).append(i)
        return [group for group in members.values() if len(group) > 1]


def shrink(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the mean colours of 64 x 64 parts of a picture."""
    return np.asarray(image.resize((_FINE, _FINE), Image.Resampling.BOX))


def make_thumbnail(small: npt.NDArray[np.uint8]) -> _Thumbnails:
    """Return the mean colours of 16 x 16 parts of a picture that `shrink` gave."""
    size = (_SIDE, _SIDE)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BOX))


def join_alike(
    sets: DisjointSets,
    positions: npt.NDArray[np.intp],
    thumbnails: _Thumbnails,
    max_distance: float,
) -> None:
    """Join the positions of images whose thumbnails are alike, however turned or mirrored.

    Parameters
    ----------
    sets : DisjointSets
        Joined in place.
    positions : ndarray of shape (n,)
        Where the images stand in `sets`.
    thumbnails : ndarray of shape (n, 16, 16, 3), uint8
        Their thumbnails.
    max_distance : float
        Root mean square of the differences between two thumbnails, in grey levels.

    Notes
    -----
    The mean of a thumbnail's eight views is the same for all of them, and the means of two
    thumbnails are never further apart than any two of their views. So a tree of the means finds
    every pair, in far less than n² steps unless all are alike, and few others to be checked.
    """
    means = _mean_views(thumbnails)
    radius = max_distance * np.sqrt(thumbnails[0].size)
    # A hair wider, for rounding.
    radius *= 1 + 1e-6
    tree = cKDTree(means)
    for start in range(0, len(means), _BLOCK):
        found = tree.query_ball_point(means[start : start + _BLOCK], radius)
        for i, near in enumerate(found, start):
            _join_near(sets, positions, thumbnails, i, np.array(near), max_distance)


def _join_near(
    sets: DisjointSets,
    positions: npt.NDArray[np.intp],
    thumbnails: _Thumbnails,
    i: int,
    near: npt.NDArray[np.intp],
    max_distance: float,
) -> None:
    own = int(positions[i])
    # Each pair once; what is joined already tells nothing new.
    new = (near > i) & (sets.names[positions[near]] != sets.names[own])
    views = _turn(thumbnails[i]).astype(np.float32)
    for j in near[new].tolist():
        squares = ((views - thumbnails[j]) ** 2).mean(axis=(1, 2, 3))
        if squares.min() <= max_distance**2:
            sets.join(own, int(positions[j]))


def _turn(thumbnail: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the eight views of a thumbnail: turned by quarters, and mirrored."""
    turned = [np.rot90(thumbnail, k) for k in range(4)]
    return np.stack([*turned, *(view[:, ::-1] for view in turned)])


def _mean_views(thumbnails: _Thumbnails) -> npt.NDArray[np.float64]:
    """Return the mean of each thumbnail's eight views, as coordinates with the same distances.

    Such a mean is symmetric: an eighth of it says it all, each place counted as often as it
    stands in the whole.
    """
    summed = np.zeros(thumbnails.shape, dtype=np.uint16)
    for k in range(4):
        view = np.rot90(thumbnails, k, axes=(1, 2))
        summed += view
        summed += view[:, :, ::-1]
    rows, columns = np.triu_indices(_SIDE // 2)
    times = np.where(rows == columns, 4, 8)
    eighth = summed[:, rows, columns] / 8.0
    weighted: npt.NDArray[np.float64] = eighth * np.sqrt(times)[:, np.newaxis]
    return weighted.reshape(len(thumbnails), -1)
