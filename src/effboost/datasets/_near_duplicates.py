"""Near duplicates: images that were re-encoded, resized, rotated by quarter turns or mirrored."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial import cKDTree

__all__ = ["DisjointSets", "join_near_duplicates", "make_thumbnail", "shrink"]

_Thumbnails = npt.NDArray[np.uint8]
_T = TypeVar("_T", bound=np.generic)
_FINE: Final = 64
_SIDE: Final = 16
# Range of the colours of an even background, such as the black around a segmented cell.
_EVEN: Final = 8
# Smallest share of an image that counts as its object: a few parts alone are noise.
_LEAST_OBJECT: Final = 1 / 16
# Number of images whose neighbours are looked up at a time, to bound the memory.
_BLOCK: Final = 64


class DisjointSets:
    """Disjoint sets of positions.

    Attributes
    ----------
    names : ndarray of shape (n,)
        The smallest member of the set of each position.
    """

    def __init__(self, n: int):
        self.names = np.arange(n)

    def join(self, i: int, j: int) -> None:
        """Merge the sets of two positions."""
        low, high = sorted((self.names[i], self.names[j]))
        self.names[self.names == high] = low

    def groups(self) -> list[list[int]]:
        """Return the sets of two or more positions, in order."""
        members: dict[int, list[int]] = {}
        for i, name in enumerate(self.names.tolist()):
            members.setdefault(name, []).append(i)
        return [group for group in members.values() if len(group) > 1]


def shrink(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Compute the mean colours of the 64 x 64 parts of an image."""
    # Pillow's box filter treats edges of parts that lie within a pixel differently in a mirrored
    # image.
    return np.asarray(image.resize((_FINE, _FINE), Image.Resampling.HAMMING))


def make_thumbnail(small: npt.NDArray[np.uint8]) -> _Thumbnails:
    """Compute the mean colours of 16 x 16 parts from the result of `shrink`."""
    size = (_SIDE, _SIDE)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BOX))


def join_near_duplicates(
    sets: DisjointSets,
    positions: npt.NDArray[np.intp],
    thumbnails: _Thumbnails,
    max_distance: float,
) -> None:
    """Merge the sets of images whose thumbnails are similar in one of their eight orientations.

    Parameters
    ----------
    sets : DisjointSets
        Modified in place.
    positions : ndarray of shape (n,)
        The positions of the images in `sets`.
    thumbnails : ndarray of shape (n, 16, 16, 3), uint8
        Their thumbnails.
    max_distance : float
        Root mean square of the differences between two thumbnails, in grey levels, over the parts
        that belong to the object in one of them. With an even background, such as the black
        around segmented cells, these are the other parts; otherwise all.

    Notes
    -----
    The mean of the eight orientations of a thumbnail is the same for all of them, and the means of
    two thumbnails are at most as far apart as any two of their orientations. A k-d tree of the
    means therefore finds every pair, and few others that have to be checked.
    """
    means = _mean_views(thumbnails)
    objects = np.stack([_find_object(thumbnail) for thumbnail in thumbnails])
    radius = max_distance * np.sqrt(thumbnails[0].size)
    # Tolerance for rounding.
    radius *= 1 + 1e-6
    tree = cKDTree(means)
    for start in range(0, len(means), _BLOCK):
        found = tree.query_ball_point(means[start : start + _BLOCK], radius)
        for i, near in enumerate(found, start):
            own, candidates = int(positions[i]), np.array(near)
            # Check each pair once, and skip those that are in one set already.
            new = (candidates > i) & (sets.names[positions[candidates]] != sets.names[own])
            for j in _select_similar(thumbnails, objects, i, candidates[new], max_distance):
                sets.join(own, int(positions[j]))


def _select_similar(
    thumbnails: _Thumbnails,
    objects: npt.NDArray[np.bool_],
    i: int,
    candidates: npt.NDArray[np.intp],
    max_distance: float,
) -> list[int]:
    """Select the candidates that are similar to image i in one of its eight orientations."""
    views = _orientations(thumbnails[i]).astype(np.float32)
    shapes = _orientations(objects[i])
    least = _LEAST_OBJECT * objects[i].size
    similar: list[int] = []
    for start in range(0, len(candidates), _BLOCK):
        some = candidates[start : start + _BLOCK, np.newaxis]
        squares = ((views - thumbnails[some]) ** 2).mean(axis=4).sum(axis=(2, 3))
        n_parts = (shapes | objects[some]).sum(axis=(2, 3))
        distances = np.sqrt(squares / np.maximum(n_parts, least)).min(axis=1)
        similar += some[distances <= max_distance, 0].tolist()
    return similar


def _find_object(thumbnail: _Thumbnails) -> npt.NDArray[np.bool_]:
    """Find the parts that are not an even background; all parts if there is none."""
    border = np.concatenate(
        [thumbnail[[0, -1]].reshape(-1, 3), thumbnail[:, [0, -1]].reshape(-1, 3)]
    )
    if np.ptp(border, axis=0).max() > _EVEN:
        return np.ones(thumbnail.shape[:2], dtype=bool)
    difference = np.abs(thumbnail.astype(np.int16) - np.median(border, axis=0))
    found: npt.NDArray[np.bool_] = difference.max(axis=2) > _EVEN
    return found


def _orientations(thumbnail: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """Return the eight orientations of a thumbnail: quarter turns, and their mirror images."""
    turned = [np.rot90(thumbnail, k) for k in range(4)]
    return np.stack([*turned, *(view[:, ::-1] for view in turned)])


def _mean_views(thumbnails: _Thumbnails) -> npt.NDArray[np.float64]:
    """Compute the mean of the eight orientations of each thumbnail, as points for a k-d tree.

    The mean is symmetric, so that an eighth of it suffices if each pixel is weighted by its number
    of occurrences. Distances are those of the whole means.
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
