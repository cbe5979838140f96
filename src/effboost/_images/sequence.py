"""Images in every accepted form as a lazy sequence of RGB images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._images.decoding import Decoder
from effboost._images.errors import UnreadableError
from effboost._images.limits import MIN_SIDE, check_side
from effboost._images.sources import (
    ArraySource,
    BoxedSource,
    FramedSource,
    Handle,
    ItemSource,
    MappedSource,
    Source,
    as_source,
)
from effboost._utils.columns import check_groups
from effboost.exceptions import UnsupportedInputError

__all__ = ["ImageSequence", "as_images", "find_files", "find_rgb", "identify"]

_Result = TypeVar("_Result")
# A path, as the least that an image takes.
_BYTES_AN_IMAGE: Final = 64


class ImageSequence:
    """Lazy sequence of RGB images from paths, PIL images, arrays or tensors.

    An image is decoded when it is accessed, and is not kept in memory. Slices, index arrays and
    masks return another `ImageSequence` that shares the source, so that scikit-learn's splitters,
    `train_test_split` and searches split it without decoding.

    Parameters
    ----------
    X : images
        Paths, PIL images, arrays or tensors in any form that the estimators take: a sequence,
        Series or one-column DataFrame of paths, or of URLs that fsspec reads; a list of PIL images
        or of arrays, whose sizes may differ; an ``(n, h, w)``, ``(n, h, w, 1)``, ``(n, h, w, 3)``
        or ``(n, h, w, 4)`` array, uint8 or float in [0, 1]; an ``(n, c, h, w)`` torch tensor of the
        same types; or an ``(n, h * w * c)`` array together with `image_shape`.
    groups : array-like of shape (n_samples,), default=None
        The subject of each image. They are sliced together with the images.
    image_shape : tuple (h, w) or (h, w, c), default=None
        Height, width and channels of one image, in pixels, for images given as numeric rows.
    frame : int, default=None
        Side in pixels of the central square that larger images are cropped to.
    boxes : array-like of shape (n_samples, 4) of int, default=None
        The part of each image to use: left, upper, right and lower edge in pixels, the last two
        exclusive. Several items of `X` may be parts of one photo.
    white_level : float, default=None
        The pixel value that becomes 255 in images with more than 8 bits and in float images, such
        as 4095 for a camera with 12 bits. None means 65535 for integers and 1 for floats. Images
        with 8 bits are not changed.

    Attributes
    ----------
    shape : tuple (n_samples,)
        Number of images.
    groups : ndarray of shape (n_samples,) or None
        The subject of each image.

    Raises
    ------
    UnsupportedInputError
        If `X` has another form. The message says what was given and what is accepted.
    SplitError
        If the group of an image is missing.

    Notes
    -----
    Images are rotated upright by their EXIF orientation. Grey, palette, CMYK and 16-bit images
    become 8-bit RGB; an alpha channel is dropped. By default, 16-bit grey is divided by 257, the
    upper 8 bits of 16-bit colours are kept, and floats are multiplied by 255 and rounded. If an
    image uses few of the values of its type, or its tags give another value for white, an
    `ImageWarning` suggests a `white_level`. Only the first page of a file is read, with a warning.
    Each warning is raised once for a sequence and its slices.

    Images above 89 million pixels (WebP: 63 million) or below 8 x 8 pixels are refused. Decoding
    takes up to one gigabyte, for all threads together; see `decode`.

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
        boxes: npt.ArrayLike | None = None,
        white_level: float | None = None,
    ):
        source = as_source(X, image_shape, Decoder(white_level))
        if groups is None and isinstance(source, ItemSource):
            groups = source.groups()
        self._source: Source = source
        if boxes is not None:
            self._source = BoxedSource(self._source, _check_boxes(boxes, len(source)))
        if frame is not None:
            self._source = FramedSource(self._source, frame)
        self._index = np.arange(len(self._source))
        self.groups = None if groups is None else check_groups(groups)
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
        """Path of each image, as an object array of str; None if an image came from memory."""
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
            return self.decode(position, np.asarray)
        if isinstance(key, list) and not key:
            key = np.array([], dtype=np.intp)
        part = object.__new__(ImageSequence)
        part._source = self._source
        part._index = self._index[key]
        part.groups = None if self.groups is None else self.groups[key]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.object_]:
        """Return a column of shape (n_samples, 1) with references to the images.

        scikit-learn's meta-estimators convert `X` to an array where they require a table, as
        `BaggingClassifier` does. The column, or parts of it, is accepted wherever images are, and
        carries their groups. Nothing is decoded.
        """
        if dtype is not None and np.dtype(dtype) != np.dtype(object):
            raise TypeError(
                f"images cannot be converted to an array of {np.dtype(dtype)}: use "
                "np.stack(list(images)) for the pixels of images of one size"
            )
        column = np.empty((len(self), 1), dtype=object)
        groups = itertools.repeat(None) if self.groups is None else self.groups
        for i, (origin, group) in enumerate(zip(self._index.tolist(), groups, strict=False)):
            column[i, 0] = Handle(self._source, origin, group)
        return column

    @overload
    def decode(self, index: int) -> Image.Image: ...
    @overload
    def decode(self, index: int, function: Callable[[Image.Image], _Result]) -> _Result: ...
    def decode(self, index: int, function: Callable[[Image.Image], Any] | None = None) -> Any:
        """Read one image.

        Parameters
        ----------
        index : int
            Position of the image, from 0.
        function : callable, default=None
            Called with the image in mode RGB; its result is returned. All decoding threads share
            one gigabyte of memory, and a thread that would exceed it waits for the others. The
            memory of an image is reserved until this function returns, so threads that read large
            images should resize them in this function.

        Returns
        -------
        PIL.Image.Image
            The image in mode RGB, or what `function` returns.

        Raises
        ------
        ImageDecodeError
            If it cannot be read. The error names its position, path and the reason.
        StoreError
            If the store of its URL cannot be used.
        """
        origin = int(self._index[index])

        def use(image: Image.Image) -> Any:
            check_side(image)
            return image if function is None else function(image)

        try:
            return self._source.read(origin, use)
        except UnreadableError as error:
            reason = str(error)
            raise error.kind(index, self.path(index), reason, origin) from error.__cause__

    def map(self, function: Callable[[Image.Image], Image.Image]) -> ImageSequence:
        """Apply a function to each image when it is read.

        Parameters
        ----------
        function : callable
            Takes an image in mode RGB and returns another, of any size. It can be pickled if it
            is defined at the top level of a module.

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
        mapped._source = MappedSource(self._source, function)
        return mapped

    def fingerprint(self, index: int) -> str:
        """Return the SHA-256 of an image's content: of the file's bytes, or of pixels in memory.

        `frame` and `white_level` are included. If a function is applied (`map`), its result is
        hashed.

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
        return self._digest(index, self._source.fingerprint)

    def _digest(self, index: int, function: Callable[[int], str]) -> str:
        origin = int(self._index[index])
        try:
            return function(origin)
        except UnreadableError as error:
            raise error.kind(index, self.path(index), str(error), origin) from error.__cause__

    def name(self, index: int) -> str:
        """Return the path of an image, or its position in the original sequence.

        Parameters
        ----------
        index : int
            Position of the image, from 0.

        Returns
        -------
        str
            The path, or "position" and a number.
        """
        return self.path(index) or f"position {int(self._index[index])}"

    def path(self, index: int) -> str | None:
        """Return the path of an image, or None if it came from memory.

        Parameters
        ----------
        index : int
            Position of the image, from 0.

        Returns
        -------
        str or None
            The path.
        """
        return self._source.path(int(self._index[index]))

    def __sizeof__(self) -> int:
        # joblib on Dask sends what is large to the workers once, and the rest with each task.
        return super().__sizeof__() + _BYTES_AN_IMAGE * len(self)

    def __getstate__(self) -> dict[str, Any]:
        # A slice that is sent to another process takes only its own images along.
        return {
            "_source": self._source.take(self._index),
            "_index": np.arange(len(self)),
            "groups": self.groups,
        }

    def __repr__(self) -> str:
        groups = "" if self.groups is None else f", {len(np.unique(self.groups))} groups"
        return f"<ImageSequence of {len(self)} images{groups}>"


def _check_boxes(boxes: npt.ArrayLike, n_samples: int) -> npt.NDArray[np.intp]:
    given = np.asarray(boxes)
    if given.shape != (n_samples, 4) or given.dtype.kind not in "iu":
        raise UnsupportedInputError(
            f"boxes has shape {given.shape} and type {given.dtype}; give four integers (left, "
            f"upper, right, lower) for each of the {n_samples} images"
        )
    empty = np.flatnonzero((given[:, 0] >= given[:, 2]) | (given[:, 1] >= given[:, 3]))
    if empty.size:
        raise UnsupportedInputError(
            f"the box at position {empty[0]}, {tuple(given[empty[0]].tolist())}, is empty: give "
            "left, upper, right and lower edge"
        )
    return given.astype(np.intp)


def as_images(X: Any, *, image_shape: tuple[int, ...] | None = None) -> ImageSequence:
    """Convert images to an `ImageSequence`; one is returned unchanged.

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
        If `X` has another form.
    """
    return X if isinstance(X, ImageSequence) else ImageSequence(X, image_shape=image_shape)


def identify(images: ImageSequence, index: int) -> str:
    """Return the SHA-256 of what an image is made of: `fingerprint` without settings of reading.

    One file has the same, whatever `frame` and `white_level`.
    """
    return images._digest(index, images._source.content)


def find_files(images: ImageSequence) -> npt.NDArray[np.object_] | None:
    """Return the paths and URLs of images, with passwords.

    None is returned unless each image is what is read from a whole file by default.
    """
    source = images._source.take(images._index)
    return source.files() if isinstance(source, ItemSource) else None


def find_rgb(images: ImageSequence, index: int) -> npt.NDArray[np.uint8] | None:
    """Return the pixels of an image as a view of the given array, if that holds 8-bit RGB.

    None is returned for images that have to be read with `decode`, also because they are too small.
    """
    if not isinstance(images._source, ArraySource):
        return None
    pixels = images._source.rgb(int(images._index[index]))
    return pixels if pixels is not None and min(pixels.shape[:2]) >= MIN_SIDE else None
