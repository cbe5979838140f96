"""Sources of images: files, PIL images and arrays."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from effboost._images.decoding import (
    Decoder,
    PilImage,
    cut_box,
    cut_frame,
    digest_array,
    digest_file,
)
from effboost._images.depth import check_dtype
from effboost._utils.columns import check_groups, is_missing
from effboost._utils.stores import as_local_path, redact
from effboost.exceptions import UnsupportedInputError

__all__ = [
    "ArraySource",
    "BoxedSource",
    "FramedSource",
    "Handle",
    "ItemSource",
    "MappedSource",
    "Source",
    "as_source",
]

_ACCEPTED: Final = (
    "a sequence, Series or one-column DataFrame of paths; a list of PIL images or arrays; an "
    "(n, h, w), (n, h, w, 3) or (n, h, w, 4) array, uint8 or float in [0, 1]; an (n, c, h, w) "
    "torch tensor; or numeric rows together with image_shape=(h, w) or (h, w, c)"
)


_Result = TypeVar("_Result")
_Use = Callable[[Image.Image], _Result]


class Source(Protocol):
    """Source of images."""

    def __len__(self) -> int: ...

    def read(self, i: int, function: _Use[_Result]) -> _Result:
        """Read an image and return what a function makes of it; see `ImageSequence.decode`."""

    def path(self, i: int) -> str | None: ...

    def fingerprint(self, i: int) -> str: ...

    def content(self, i: int) -> str:
        """Hash what an image is made of, whatever `white_level` and `frame` make of it."""

    def take(self, index: npt.NDArray[np.intp]) -> Source: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Handle:
    """Reference to one image of a source with its group, as an item of an array or data frame."""

    source: Source
    origin: int
    group: Any

    def __repr__(self) -> str:
        return f"<image {self.source.path(self.origin) or self.origin}>"


class ItemSource:
    """Source of paths, PIL images, arrays and handles in any mixture."""

    def __init__(self, items: npt.NDArray[np.object_], decoder: Decoder):
        self._items, self._decoder = items, decoder

    def __len__(self) -> int:
        return len(self._items)

    def read(self, i: int, function: _Use[_Result]) -> _Result:
        item = self._items[i]
        if isinstance(item, str):
            return self._decoder.read_file(item, function)
        if isinstance(item, PilImage):
            return function(self._decoder.read_pil_image(item))
        if isinstance(item, Handle):
            return item.source.read(item.origin, function)
        return function(self._decoder.read_array(item))

    def path(self, i: int) -> str | None:
        item = self._items[i]
        if isinstance(item, Handle):
            return item.source.path(item.origin)
        return redact(item) if isinstance(item, str) else None

    def fingerprint(self, i: int) -> str:
        item = self._items[i]
        if isinstance(item, Handle):
            return item.source.fingerprint(item.origin)
        if isinstance(item, PilImage):
            return self._decoder.digest_pil_image(item)
        return self._decoder.extend_digest(self.content(i))

    def content(self, i: int) -> str:
        item = self._items[i]
        if isinstance(item, Handle):
            return item.source.content(item.origin)
        if isinstance(item, str):
            return digest_file(item)
        if isinstance(item, PilImage):
            return Decoder().digest_pil_image(item)
        return digest_array(item)

    def take(self, index: npt.NDArray[np.intp]) -> ItemSource:
        return ItemSource(self._items[index], self._decoder)

    def files(self) -> npt.NDArray[np.object_] | None:
        """Return the paths and URLs, with passwords; None unless all are files read by default."""
        plain = self._decoder.white_level is None and all(isinstance(x, str) for x in self._items)
        return self._items if plain else None

    def groups(self) -> npt.NDArray[Any] | None:
        """Return the groups that all items carry, or None where no item carries one."""
        carried = [item.group if isinstance(item, Handle) else None for item in self._items]
        without = [i for i, group in enumerate(carried) if group is None]
        if len(without) == len(carried):
            return None
        if without:
            raise UnsupportedInputError(
                f"the image at position {without[0]} carries no group, but others do: give "
                "ImageSequence the groups of all images"
            )
        return check_groups(carried)


class ArraySource:
    """Source of images of one size in an array (n, h, w) or (n, h, w, c)."""

    def __init__(self, array: npt.NDArray[Any], decoder: Decoder):
        self._array, self._decoder = array, decoder

    def __len__(self) -> int:
        return len(self._array)

    def read(self, i: int, function: _Use[_Result]) -> _Result:
        return function(self._decoder.read_array(self._array[i]))

    def rgb(self, i: int) -> npt.NDArray[np.uint8] | None:
        """Return a view of RGB pixels (h, w, 3), or None if they have to be converted."""
        array = self._array[i]
        return array if array.dtype == np.uint8 and array.shape[2:] == (3,) else None

    def path(self, i: int) -> None:
        return None

    def fingerprint(self, i: int) -> str:
        return self._decoder.extend_digest(self.content(i))

    def content(self, i: int) -> str:
        return digest_array(self._array[i])

    def take(self, index: npt.NDArray[np.intp]) -> ArraySource:
        return ArraySource(self._array[index], self._decoder)


class BoxedSource:
    """Source of a part of each image of another source."""

    def __init__(self, source: Source, boxes: npt.NDArray[np.intp]):
        self._source, self._boxes = source, boxes

    def __len__(self) -> int:
        return len(self._source)

    def read(self, i: int, function: _Use[_Result]) -> _Result:
        return self._source.read(i, lambda image: function(cut_box(image, self._boxes[i])))

    def path(self, i: int) -> str | None:
        return self._source.path(i)

    def fingerprint(self, i: int) -> str:
        box = self._boxes[i].tolist()
        return hashlib.sha256(f"{self._source.fingerprint(i)}{box}".encode()).hexdigest()

    def content(self, i: int) -> str:
        box = self._boxes[i].tolist()
        return hashlib.sha256(f"{self._source.content(i)}{box}".encode()).hexdigest()

    def take(self, index: npt.NDArray[np.intp]) -> BoxedSource:
        return BoxedSource(self._source.take(index), self._boxes[index])


class FramedSource:
    """Source of the central squares of the images of another source."""

    def __init__(self, source: Source, side: int):
        self._source, self._side = source, side

    def __len__(self) -> int:
        return len(self._source)

    def read(self, i: int, function: _Use[_Result]) -> _Result:
        return self._source.read(i, lambda image: function(cut_frame(image, self._side)))

    def path(self, i: int) -> str | None:
        return self._source.path(i)

    def fingerprint(self, i: int) -> str:
        return hashlib.sha256(f"{self._source.fingerprint(i)}{self._side}".encode()).hexdigest()

    def content(self, i: int) -> str:
        return self._source.content(i)

    def take(self, index: npt.NDArray[np.intp]) -> FramedSource:
        return FramedSource(self._source.take(index), self._side)


class MappedSource:
    """Source of the images of another source, each passed through a function."""

    def __init__(self, source: Source, function: Callable[[Image.Image], Image.Image]):
        self._source, self._function = source, function

    def __len__(self) -> int:
        return len(self._source)

    def read(self, i: int, function: _Use[_Result]) -> _Result:
        def apply(image: Image.Image) -> _Result:
            found = self._function(image)
            if not isinstance(found, Image.Image):
                raise UnsupportedInputError(
                    f"the function given to map returned {type(found).__name__}, not a PIL image; "
                    "PIL.Image.fromarray converts arrays"
                )
            return function(Decoder().read_pil_image(PilImage.of(found)))

        return self._source.read(i, apply)

    def path(self, i: int) -> str | None:
        return self._source.path(i)

    def fingerprint(self, i: int) -> str:
        # Pixels are hashed, since the code of the function may change.
        return self.read(i, lambda image: Decoder().digest_pil_image(PilImage.of(image)))

    content = fingerprint

    def take(self, index: npt.NDArray[np.intp]) -> MappedSource:
        return MappedSource(self._source.take(index), self._function)


# --- conversion of the user's input to a source --------------------------------------------


def as_source(
    X: Any, image_shape: tuple[int, ...] | None, decoder: Decoder
) -> ItemSource | ArraySource:
    """Convert images in any accepted form to a source."""
    if isinstance(X, str | bytes | os.PathLike | Image.Image):
        raise UnsupportedInputError(
            f"got one {type(X).__name__} where a sequence of images is expected: put it into a "
            "list, or read a folder of images by effboost.datasets.load_image_folder"
        )
    if _is_tensor(X):
        return _tensor_source(X, decoder)
    if hasattr(X, "columns"):  # data frame of pandas or polars
        X = _one_column(X, image_shape)
    elif hasattr(X, "to_numpy"):  # series of pandas or polars
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        return _array_source(X, image_shape, decoder)
    if isinstance(X, Sequence):
        return _sequence_source(X, image_shape, decoder)
    raise UnsupportedInputError(f"got {type(X).__name__}; images can be {_ACCEPTED}")


def _is_tensor(x: Any) -> bool:
    # Recognised by name, since importing torch takes a second.
    return type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "detach")


def _tensor_source(X: Any, decoder: Decoder) -> ArraySource:
    array = X.detach().cpu().numpy()
    if array.ndim == 4 and array.shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, -1)
    elif array.ndim != 3:
        raise UnsupportedInputError(
            f"got a tensor of shape {tuple(array.shape)}; tensors hold images as (n, c, h, w) "
            "with 1, 3 or 4 channels, or as (n, h, w)"
        )
    return _checked_array_source(array, decoder)


def _one_column(X: Any, image_shape: tuple[int, ...] | None) -> npt.NDArray[Any]:
    if image_shape is not None:
        return np.asarray(X.to_numpy())
    if len(X.columns) != 1:
        raise UnsupportedInputError(
            f"got a data frame with {len(X.columns)} columns {list(X.columns)[:5]}; give the "
            "one that holds the paths, such as X[['path']]"
        )
    return np.asarray(X.to_numpy()).ravel()


def _array_source(
    X: npt.NDArray[Any], image_shape: tuple[int, ...] | None, decoder: Decoder
) -> Any:
    if X.dtype.kind in "OUT":
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise UnsupportedInputError(
                f"got an array of {X.dtype} with shape {X.shape}; paths come as (n,) or (n, 1)"
            )
        return _sequence_source(
            X.tolist() if X.dtype.kind != "O" else list(X), image_shape, decoder
        )
    if X.ndim == 2 and image_shape is not None:
        X = _rows_to_images(X, image_shape)
    return _checked_array_source(X, decoder)


def _rows_to_images(X: npt.NDArray[Any], image_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if len(image_shape) not in (2, 3) or min(image_shape) < 1:
        raise UnsupportedInputError(
            f"image_shape={image_shape} must be (height, width) or (height, width, channels)"
        )
    if X.shape[1] != np.prod(image_shape):
        raise UnsupportedInputError(
            f"X has {X.shape[1]} columns, but image_shape={tuple(image_shape)} needs "
            f"{np.prod(image_shape)}"
        )
    return X.reshape(len(X), *image_shape)


def _checked_array_source(X: npt.NDArray[Any], decoder: Decoder) -> ArraySource:
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
    check_dtype(X.dtype, UnsupportedInputError, decoder.white_level)
    if len(X) == 0:
        raise UnsupportedInputError("got no images: X is empty")
    return ArraySource(X, decoder)


def _sequence_source(
    X: Sequence[Any], image_shape: tuple[int, ...] | None, decoder: Decoder
) -> Any:
    if len(X) == 0:
        raise UnsupportedInputError("got no images: X is empty")
    if image_shape is not None or isinstance(X[0], int | float | list | tuple):
        try:
            array = np.asarray(X)
        except ValueError as error:
            raise UnsupportedInputError(
                f"got lists that cannot be converted to an array: {error}"
            ) from error
        if array.dtype.kind not in "biuf":
            raise UnsupportedInputError(
                f"got a list of {type(X[0]).__name__}; images can be {_ACCEPTED}"
            )
        return _array_source(array, image_shape, decoder)
    items = np.empty(len(X), dtype=object)
    for i, item in enumerate(X):
        items[i] = _as_item(i, item)
    return ItemSource(items, decoder)


def _as_item(i: int, item: Any) -> str | PilImage | npt.NDArray[Any] | Handle:
    if isinstance(item, str | os.PathLike):
        path = os.fspath(item)
        if not path:
            raise UnsupportedInputError(f"the path at position {i} is empty")
        if isinstance(path, str):
            return as_local_path(str(path))
    if isinstance(item, Image.Image):
        return PilImage.of(item)
    if isinstance(item, np.ndarray | Handle):
        return item
    if _is_tensor(item):
        array = item.detach().cpu().numpy()
        return np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    if is_missing(item):
        raise UnsupportedInputError(f"the path at position {i} is missing ({item!r})")
    raise UnsupportedInputError(
        f"got {type(item).__name__} at position {i}; images can be {_ACCEPTED}"
    )
