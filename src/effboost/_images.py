"""Every accepted form of images, as one lazy sequence of RGB pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._decode import (
    UnreadableError,
    check_dtype,
    cut_frame,
    digest_array,
    digest_file,
    digest_picture,
    read_array,
    read_file,
    read_picture,
)
from effboost.exceptions import UnsupportedInputError

__all__ = ["ImageSequence", "as_images"]

_MIN_SIDE: Final = 8
_ACCEPTED: Final = (
    "a sequence, Series or one-column DataFrame of paths; a list of PIL images or arrays; an "
    "(n, h, w), (n, h, w, 3) or (n, h, w, 4) array, uint8 or float in [0, 1]; an (n, c, h, w) "
    "torch tensor; or numeric rows together with image_shape=(h, w) or (h, w, c)"
)


class ImageSequence:
    """Images of one form or another, as a lazy sequence of RGB pictures.

    Nothing is decoded before a single image is asked for, and none is kept. Slices, index
    arrays and masks give another `ImageSequence` that shares the source, so that
    scikit-learn's splitters, `train_test_split` and searches cut it at no cost.

    Parameters
    ----------
    X : images
        Paths, PIL images, arrays or tensors in any form that the estimators take: a sequence,
        Series or one-column DataFrame of paths; a list of PIL images or of arrays, whose sizes
        may differ; an ``(n, h, w)``, ``(n, h, w, 1)``, ``(n, h, w, 3)`` or ``(n, h, w, 4)``
        array, uint8 or float in [0, 1]; an ``(n, c, h, w)`` torch tensor of the same types; or
        an ``(n, h * w * c)`` array together with `image_shape`.
    groups : array-like of shape (n_samples,), default=None
        The subject of each image. They are cut along with the images.
    image_shape : tuple (h, w) or (h, w, c), default=None
        Height, width and channels of one image, in pixels, for images given as numeric rows.
    frame : int, default=None
        Side in pixels: of larger images, the central square of this side is all that is seen.

    Attributes
    ----------
    shape : tuple (n_samples,)
        Number of images, the way scikit-learn asks for it.
    groups : ndarray of shape (n_samples,) or None
        The subject of each image.

    Raises
    ------
    UnsupportedInputError
        If `X` is of another form. The message says what came and what would do.

    Notes
    -----
    Pictures are turned upright by their EXIF orientation. Grey, palette, CMYK and 16-bit
    pictures become 8-bit RGB (16-bit values are divided by 257); an alpha channel is dropped.
    Float arrays are multiplied by 255 and rounded. Files of several pages give their first
    one, with a warning. Pictures above 89 million pixels or below 8 x 8 are refused.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import ImageSequence
    >>> images = ImageSequence(np.zeros((5, 32, 24), dtype=np.uint8), groups=list("aabbc"))
    >>> images.shape, images[0].shape
    ((5,), (32, 24, 3))
    >>> images[[0, 4]].groups
    array(['a', 'c'], dtype='<U1')
    """

    def __init__(
        self,
        X: Any,
        *,
        groups: npt.ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        frame: int | None = None,
    ):
        source = _as_source(X, image_shape)
        if groups is None and isinstance(source, _ItemSource):
            groups = source.groups()
        self._source: _Source = source if frame is None else _FramedSource(source, frame)
        self._index = np.arange(len(self._source))
        self.groups = None if groups is None else np.asarray(groups)
        if self.groups is not None and self.groups.shape != self.shape:
            raise UnsupportedInputError(
                f"groups has shape {self.groups.shape}, but there are {len(self)} images: "
                "give one group for each image"
            )

    @property
    def shape(self) -> tuple[int]:
        """Number of images, as a tuple."""
        return (len(self._index),)

    @property
    def paths(self) -> npt.NDArray[np.object_] | None:
        """Path of each image, as an object array of str, or None if any came from memory."""
        found = [self.path(i) for i in range(len(self))]
        return None if None in found else np.array(found, dtype=object)

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, key: int | np.integer) -> npt.NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, key: Any) -> ImageSequence: ...
    def __getitem__(self, key: Any) -> npt.NDArray[np.uint8] | ImageSequence:
        # scikit-learn indexes whatever has a shape by (key, ...).
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, tuple):
            raise IndexError(f"images have one axis to index by, got {len(key)} indices")
        if isinstance(key, int | np.integer) and not isinstance(key, bool | np.bool_):
            position = range(len(self))[key]
            return np.asarray(self.decode(position))
        if isinstance(key, list) and not key:
            key = np.array([], dtype=np.intp)
        part = object.__new__(ImageSequence)
        part._source = self._source
        part._index = self._index[key]
        part.groups = None if self.groups is None else self.groups[key]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.object_]:
        """Give a column of shape (n_samples, 1) that stands for the images; none is decoded.

        This is what scikit-learn's meta-estimators make of `X` where they insist on a table, such
        as `BaggingClassifier`. All that takes images takes the column, or parts of it, and the
        groups are still there.
        """
        if dtype is not None and np.dtype(dtype) != np.dtype(object):
            raise TypeError(
                f"images give no array of {np.dtype(dtype)}; np.stack(list(images)) has the pixels "
                "of images of one size"
            )
        column = np.empty((len(self), 1), dtype=object)
        groups = itertools.repeat(None) if self.groups is None else self.groups
        for i, (origin, group) in enumerate(zip(self._index.tolist(), groups, strict=False)):
            column[i, 0] = _Handle(self._source, origin, group)
        return column

    def decode(self, index: int) -> Image.Image:
        """Read one image.

        Parameters
        ----------
        index : int
            Position of the image, from 0.

        Returns
        -------
        PIL.Image.Image
            The image in mode RGB.

        Raises
        ------
        ImageDecodeError
            If it cannot be read. The error names its position, path and the reason.
        """
        origin = int(self._index[index])
        try:
            image = self._source.read(origin)
            if min(image.size) < _MIN_SIDE:
                raise UnreadableError(
                    f"is {image.width} x {image.height} pixels; at least {_MIN_SIDE} x "
                    f"{_MIN_SIDE} are needed"
                )
            return image
        except UnreadableError as error:
            reason = str(error)
            raise error.kind(index, self.path(index), reason, origin) from error.__cause__

    def map(self, function: Callable[[Image.Image], Image.Image]) -> ImageSequence:
        """Pass each image through a function when it is read.

        Parameters
        ----------
        function : callable
            Takes a picture in mode RGB and gives another, of any size. One that is defined at
            the top of a module can be pickled.

        Returns
        -------
        ImageSequence
            The same images, with their groups; nothing is read yet.

        Examples
        --------
        >>> import numpy as np
        >>> from effboost import ImageSequence
        >>> from PIL import ImageOps
        >>> images = ImageSequence(np.zeros((5, 32, 24), dtype=np.uint8))
        >>> images.map(ImageOps.invert)[0].max()
        np.uint8(255)
        """
        mapped = self[:]
        mapped._source = _MappedSource(self._source, function)
        return mapped

    def fingerprint(self, index: int) -> str:
        """SHA-256 of an image's content: of the file's bytes, or of the pixels in memory.

        Where a `frame` is cut out, its side is hashed as well. Of what a function gave (`map`),
        the pixels are hashed.

        Parameters
        ----------
        index : int
            Position of the image, from 0.

        Returns
        -------
        str
            64 hexadecimal digits.

        Raises
        ------
        ImageDecodeError
            If the file cannot be read. Its content is not decoded.
        """
        origin = int(self._index[index])
        try:
            return self._source.fingerprint(origin)
        except UnreadableError as error:
            raise error.kind(index, self.path(index), str(error), origin) from error.__cause__

    def name(self, index: int) -> str:
        """Path of an image, or its position in the original sequence where it has none."""
        return self.path(index) or f"position {int(self._index[index])}"

    def path(self, index: int) -> str | None:
        """Path of an image, or None if it came from memory."""
        return self._source.path(int(self._index[index]))

    def __getstate__(self) -> dict[str, Any]:
        # A part sent to another process takes its own images along, not the whole source.
        return {
            "_source": self._source.take(self._index),
            "_index": np.arange(len(self)),
            "groups": self.groups,
        }

    def __repr__(self) -> str:
        groups = "" if self.groups is None else f", {len(np.unique(self.groups))} groups"
        return f"<ImageSequence of {len(self)} images{groups}>"


def as_images(X: Any, *, image_shape: tuple[int, ...] | None = None) -> ImageSequence:
    """Give `X` as an `ImageSequence`; one that is one already comes back unchanged.

    Parameters
    ----------
    X : ImageSequence or images
        What `ImageSequence` takes.
    image_shape : tuple (h, w) or (h, w, c), default=None
        Height, width and channels of one image in pixels, for images given as numeric rows.

    Returns
    -------
    ImageSequence
        The images, not yet decoded.

    Raises
    ------
    UnsupportedInputError
        If `X` is of another form.
    """
    return X if isinstance(X, ImageSequence) else ImageSequence(X, image_shape=image_shape)


class _Source(Protocol):
    """Where pictures come from."""

    def __len__(self) -> int: ...

    def read(self, i: int) -> Image.Image: ...

    def path(self, i: int) -> str | None: ...

    def fingerprint(self, i: int) -> str: ...

    def take(self, index: npt.NDArray[np.intp]) -> _Source: ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Handle:
    """One image of a source, not read, with its group: an item of an array or data frame."""

    source: _Source
    origin: int
    group: Any

    def __repr__(self) -> str:
        return f"<image {self.source.path(self.origin) or self.origin}>"


class _ItemSource:
    """Paths, PIL images, arrays and handles, in any mixture, one object each."""

    def __init__(self, items: npt.NDArray[np.object_]):
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def read(self, i: int) -> Image.Image:
        item = self._items[i]
        if isinstance(item, str):
            return read_file(item)
        if isinstance(item, Image.Image):
            return read_picture(item)
        if isinstance(item, _Handle):
            return item.source.read(item.origin)
        return read_array(item)

    def path(self, i: int) -> str | None:
        item = self._items[i]
        if isinstance(item, _Handle):
            return item.source.path(item.origin)
        return item if isinstance(item, str) else None

    def fingerprint(self, i: int) -> str:
        item = self._items[i]
        if isinstance(item, str):
            return digest_file(item)
        if isinstance(item, Image.Image):
            return digest_picture(item)
        if isinstance(item, _Handle):
            return item.source.fingerprint(item.origin)
        return digest_array(item)

    def take(self, index: npt.NDArray[np.intp]) -> _ItemSource:
        return _ItemSource(self._items[index])

    def groups(self) -> npt.NDArray[Any] | None:
        """Give the groups that all items carry, or None."""
        carried = [item.group if isinstance(item, _Handle) else None for item in self._items]
        return None if any(group is None for group in carried) else np.array(carried)


class _ArraySource:
    """One array that holds images of one size: (n, h, w) or (n, h, w, c)."""

    def __init__(self, array: npt.NDArray[Any]):
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def read(self, i: int) -> Image.Image:
        return read_array(self._array[i])

    def path(self, i: int) -> None:
        return None

    def fingerprint(self, i: int) -> str:
        return digest_array(self._array[i])

    def take(self, index: npt.NDArray[np.intp]) -> _ArraySource:
        return _ArraySource(self._array[index])


class _FramedSource:
    """The central square of the pictures of another source."""

    def __init__(self, source: _Source, side: int):
        self._source, self._side = source, side

    def __len__(self) -> int:
        return len(self._source)

    def read(self, i: int) -> Image.Image:
        return cut_frame(self._source.read(i), self._side)

    def path(self, i: int) -> str | None:
        return self._source.path(i)

    def fingerprint(self, i: int) -> str:
        return hashlib.sha256(f"{self._source.fingerprint(i)}{self._side}".encode()).hexdigest()

    def take(self, index: npt.NDArray[np.intp]) -> _FramedSource:
        return _FramedSource(self._source.take(index), self._side)


class _MappedSource:
    """The pictures of another source, each passed through a function."""

    def __init__(self, source: _Source, function: Callable[[Image.Image], Image.Image]):
        self._source, self._function = source, function

    def __len__(self) -> int:
        return len(self._source)

    def read(self, i: int) -> Image.Image:
        return read_picture(self._function(self._source.read(i)))

    def path(self, i: int) -> str | None:
        return self._source.path(i)

    def fingerprint(self, i: int) -> str:
        # Not a name of the function: its code may change.
        return digest_picture(self.read(i))

    def take(self, index: npt.NDArray[np.intp]) -> _MappedSource:
        return _MappedSource(self._source.take(index), self._function)


# --- from what the user gave to a source ---------------------------------------------------


def _as_source(X: Any, image_shape: tuple[int, ...] | None) -> _ItemSource | _ArraySource:
    if isinstance(X, str | bytes | os.PathLike | Image.Image):
        raise UnsupportedInputError(
            f"got one {type(X).__name__} where a sequence of images is expected: put it into a "
            "list, or read a folder of images by effboost.datasets.load_image_folder"
        )
    if _is_tensor(X):
        return _tensor_source(X)
    if hasattr(X, "columns"):  # pandas and polars data frames
        X = _one_column(X, image_shape)
    elif hasattr(X, "to_numpy"):  # their series
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        return _array_source(X, image_shape)
    if isinstance(X, Sequence):
        return _sequence_source(X, image_shape)
    raise UnsupportedInputError(f"got {type(X).__name__}; images can be {_ACCEPTED}")


def _is_tensor(x: Any) -> bool:
    # Asked by name: importing torch to recognise its tensors would cost a second.
    return type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "detach")


def _tensor_source(X: Any) -> _ArraySource:
    array = X.detach().cpu().numpy()
    if array.ndim == 4 and array.shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)
    elif array.ndim != 3:
        raise UnsupportedInputError(
            f"got a tensor of shape {tuple(array.shape)}; tensors hold images as (n, c, h, w) "
            "with 1, 3 or 4 channels, or as (n, h, w)"
        )
    return _checked_array_source(array)


def _one_column(X: Any, image_shape: tuple[int, ...] | None) -> npt.NDArray[Any]:
    if image_shape is not None:
        return np.asarray(X.to_numpy())
    if len(X.columns) != 1:
        raise UnsupportedInputError(
            f"got a data frame with {len(X.columns)} columns {list(X.columns)[:5]}; give the "
            "one that holds the paths, such as X[['path']]"
        )
    return np.asarray(X.to_numpy()).ravel()


def _array_source(X: npt.NDArray[Any], image_shape: tuple[int, ...] | None) -> Any:
    if X.dtype.kind in "OUT":
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise UnsupportedInputError(
                f"got an array of {X.dtype} with shape {X.shape}; paths come as (n,) or (n, 1)"
            )
        return _sequence_source(X.tolist() if X.dtype.kind != "O" else list(X), image_shape)
    if X.ndim == 2 and image_shape is not None:
        X = _rows_to_images(X, image_shape)
    return _checked_array_source(X)


def _rows_to_images(X: npt.NDArray[Any], image_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if len(image_shape) not in (2, 3) or min(image_shape) < 1:
        raise UnsupportedInputError(
            f"image_shape={image_shape}; it is (height, width) or (height, width, channels)"
        )
    if X.shape[1] != np.prod(image_shape):
        raise UnsupportedInputError(
            f"X has {X.shape[1]} columns, but image_shape={tuple(image_shape)} needs "
            f"{np.prod(image_shape)}"
        )
    return X.reshape(len(X), *image_shape)


def _checked_array_source(X: npt.NDArray[Any]) -> _ArraySource:
    got = f"got an array of shape {X.shape}"
    if X.ndim == 2:
        raise UnsupportedInputError(f"{got}; images as rows also need image_shape=(h, w[, c])")
    if X.ndim not in (3, 4):
        raise UnsupportedInputError(f"{got}; images can be {_ACCEPTED}")
    if X.ndim == 3 and X.shape[2] in (3, 4):
        raise UnsupportedInputError(f"{got}, which looks like one image: give X[np.newaxis]")
    if X.ndim == 4 and X.shape[3] not in (1, 3, 4):
        remedy = (
            "; its channels seem to come first: give np.moveaxis(X, 1, -1)"
            if X.shape[1] in (1, 3, 4)
            else ""
        )
        raise UnsupportedInputError(
            f"{got}: images have 1, 3 or 4 channels on the last axis, not {X.shape[3]}{remedy}"
        )
    check_dtype(X.dtype, UnsupportedInputError)
    if len(X) == 0:
        raise UnsupportedInputError("got no images: X is empty")
    return _ArraySource(X)


def _sequence_source(X: Sequence[Any], image_shape: tuple[int, ...] | None) -> Any:
    if len(X) == 0:
        raise UnsupportedInputError("got no images: X is empty")
    if image_shape is not None or isinstance(X[0], int | float | list | tuple):
        try:
            array = np.asarray(X)
        except ValueError as error:
            raise UnsupportedInputError(f"got lists that make no array: {error}") from error
        if array.dtype.kind not in "biuf":
            raise UnsupportedInputError(
                f"got a list of {type(X[0]).__name__}; images can be {_ACCEPTED}"
            )
        return _array_source(array, image_shape)
    items = np.empty(len(X), dtype=object)
    for i, item in enumerate(X):
        items[i] = _as_item(i, item)
    return _ItemSource(items)


def _as_item(i: int, item: Any) -> str | Image.Image | npt.NDArray[Any] | _Handle:
    if isinstance(item, str | os.PathLike):
        path = os.fspath(item)
        if isinstance(path, str):
            return str(path)
    if isinstance(item, Image.Image | np.ndarray | _Handle):
        return item
    if _is_tensor(item):
        array = item.detach().cpu().numpy()
        return np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    if item is None or (isinstance(item, float) and np.isnan(item)):
        raise UnsupportedInputError(f"the path at position {i} is missing ({item!r})")
    raise UnsupportedInputError(
        f"got {type(item).__name__} at position {i}; images can be {_ACCEPTED}"
    )
