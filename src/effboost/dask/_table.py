"""Labelled images of a cluster: paths stay in partitions, labels and subjects are gathered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
from dask import array as da

from effboost._images import ImageSequence
from effboost._utils.columns import check_groups
from effboost._validation import LabelledImages, check_labels, check_weight
from effboost.dask._columns import as_column, as_paths
from effboost.exceptions import UnsupportedInputError

__all__ = ["LabelledPaths", "to_arguments"]


@dataclasses.dataclass(frozen=True)
class LabelledPaths:
    """Paths in partitions, with their labels, subjects and weights.

    Attributes
    ----------
    paths : dask.array.Array of shape (n_samples,), object
        The paths.
    sizes : ndarray of shape (n_partitions,), int
        Number of paths in each partition.
    rows : LabelledImages
        Labels, subjects and weights of all images, in memory. Its images are their positions, from
        0; those of weight 0 are left out.
    """

    paths: da.Array
    sizes: npt.NDArray[np.int64]
    rows: LabelledImages

    @classmethod
    def read(cls, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> LabelledPaths:
        """Read the columns, gather all but the paths, and check them.

        `groups` default to those of an `ImageSequence`.

        Raises
        ------
        UnsupportedInputError, SplitError, ValueError
            If `X` is of an unknown form, lengths differ, or labels, subjects or weights are
            missing or of types that cannot be used.
        """
        if y is None:
            raise UnsupportedInputError(
                "y is missing: pass the labels, or the name of their column"
            )
        if groups is None and isinstance(X, ImageSequence):
            groups = X.groups
        paths = as_paths(X)
        given = {"y": y, "groups": groups, "sample_weight": sample_weight}
        columns = {name: as_column(values, name, X, paths) for name, values in given.items()}
        sizes, *parts = dask.compute(
            [dask.delayed(len)(part) for part in paths.to_delayed().ravel()],
            *([] if column is None else list(column.to_delayed()) for column in columns.values()),
        )
        for name, some in zip(columns, parts, strict=True):
            _check_sizes(name, sizes, some)
        labels, subjects, weight = parts
        n = sum(sizes)
        if not n:
            raise UnsupportedInputError("got no images: X is empty")
        rows = LabelledImages(
            np.arange(n),
            _join(labels, check_labels, n),
            _join(subjects, check_groups, n) if subjects else None,
            check_weight(range(n), np.concatenate(weight) if weight else None),
        )
        rows = rows if rows.weight.all() else rows.take(rows.weight > 0)
        return cls(paths, np.array(sizes), rows)

    def gather(self, rows: LabelledImages) -> LabelledImages:
        """Return some rows with an array of their paths as images.

        Only the paths of these rows are gathered.
        """
        ends = np.cumsum(self.sizes)
        owner = np.searchsorted(ends, rows.images, side="right")
        wanted = [rows.images[owner == i] - (end - size) for i, (end, size) in self._bounds()]
        parts = self.paths.to_delayed().ravel()
        chosen = [
            dask.delayed(_take)(part, index)
            for part, index in zip(parts, wanted, strict=True)
            if len(index)
        ]
        paths = np.empty(len(rows.images), dtype=object)
        order = np.argsort(owner, kind="stable")
        paths[order] = np.concatenate(dask.compute(*chosen))
        return dataclasses.replace(rows, images=paths)

    def split(self, values: npt.NDArray[Any]) -> da.Array:
        """Turn an array with a value for each path into a Dask array with the same partitions."""
        return da.from_array(values, chunks=(tuple(map(int, self.sizes)),))

    def _bounds(self) -> Any:
        return enumerate(zip(np.cumsum(self.sizes), self.sizes, strict=True))


def to_arguments(rows: LabelledImages, suffix: str) -> dict[str, Any]:
    """Return gathered rows as arguments of `fit`, whose names end in a suffix."""
    data = {
        f"X{suffix}": ImageSequence(rows.images, groups=rows.groups),
        f"y{suffix}": rows.labels,
        f"groups{suffix}": rows.groups,
    }
    return data if suffix else data | {"sample_weight": rows.weight}


def _take(part: npt.NDArray[Any], index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return part[index]


def _check_sizes(name: str, sizes: list[int], parts: list[Any]) -> None:
    for i, part in enumerate(parts):
        if len(part) != sizes[i]:
            raise UnsupportedInputError(
                f"partition {i} of X has {sizes[i]} images, but that of {name} {len(part)} values: "
                "pass one for each image"
            )


def _join(parts: list[Any], check: Callable[[Any], npt.NDArray[Any]], n: int) -> npt.NDArray[Any]:
    """Join the partitions of a column, and check it as a whole."""
    kinds = {part.dtype for part in map(np.asarray, parts)}
    if len(kinds) == 1 and kinds != {np.dtype(object)}:
        return check(np.concatenate(parts))
    joined = np.empty(n, dtype=object)
    joined[:] = [value for part in parts for value in np.asarray(part).tolist()]
    return check(joined.tolist())
