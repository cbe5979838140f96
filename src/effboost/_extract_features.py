"""Features of images some of which may be unreadable: at once, or block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from effboost._extraction.prepared_images import PreparedImages
from effboost._featurizer_base import BaseImageFeaturizer
from effboost._rejects import OnError, RejectTable, check_on_error, warn_of_rejects
from effboost.exceptions import ImageDecodeError, UnsupportedInputError

__all__ = ["FeatureTable", "extract_features", "iter_features"]

_BLOCK: Final = 256


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureTable:
    """The features of the images that could be read, and the table of the others.

    Attributes
    ----------
    features : ndarray of shape (n_read, n_features), float32
        A row for each image that could be read, in their order.
    positions : ndarray of shape (n_read,), int
        Position of each row's image in `X`: ``y[table.positions]`` are the labels of the rows.
    rejects : RejectTable
        The images that could not be read, with their positions in `X`.

    Examples
    --------
    Labels go with the rows by their positions:

    >>> import numpy as np
    >>> from effboost import FeatureTable, Reject, RejectTable
    >>> rejects = RejectTable([Reject("cells/1.png", 1, "the file is empty (0 bytes)")])
    >>> table = FeatureTable(np.zeros((2, 1280), np.float32), np.array([0, 2]), rejects)
    >>> np.array(["ALL", "HEM", "HEM"])[table.positions]
    array(['ALL', 'HEM'], dtype='<U3')
    """

    features: npt.NDArray[np.float32]
    positions: npt.NDArray[np.intp]
    rejects: RejectTable

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        n, width = self.features.shape
        return f"<FeatureTable of {n} x {width}, {len(self.rejects)} rejected>"


def extract_features(model: Any, X: Any, *, on_error: OnError = "raise") -> FeatureTable:
    """Compute the features of images, with a table of those that cannot be read.

    `transform` returns one row for each image, or raises an error. This function can leave images
    out, and says which.

    Parameters
    ----------
    model : ImageFeaturizer, HybridClassifier or CNNClassifier
        Fitted.
    X : images, n_samples of them
        What `ImageSequence` takes.
    on_error : {"raise", "skip"}, default="raise"
        Whether an image that cannot be read raises an error, or becomes a row of `rejects`.

    Returns
    -------
    FeatureTable
        ``features``, ``positions`` and ``rejects``. The features are those of `transform`, to the
        bit.

    Raises
    ------
    ImageDecodeError
        With ``on_error="raise"``, for the first image that cannot be read.
    UnsupportedInputError
        If `model` is no estimator with a featurizer, or `X` is of an unknown form.

    Warns
    -----
    DroppedRowsWarning
        If images were left out.

    See Also
    --------
    iter_features : The same block by block, for more images than memory has room for.
    predict_images : Predictions with a table of rejects.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from effboost import ImageFeaturizer, ImageTransform, extract_features
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> featurizer = ImageFeaturizer("resnet18", weights=None, training=None, transform=transform)
    >>> X = list(np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8))
    >>> X[2] = X[2][:4]  # too small to be an image
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     table = extract_features(featurizer.fit(X), X, on_error="skip")
    >>> table
    <FeatureTable of 3 x 512, 1 rejected>
    >>> table.positions, table.rejects[0].position
    (array([0, 1, 3]), 2)
    """
    skip = check_on_error(on_error)
    featurizer, images = _check(model, X)
    found = _extract(featurizer, images, 0, skip=skip)
    warn_of_rejects(found.rejects, len(images), "features")
    return found


def iter_features(
    model: Any,
    X: Any,
    *,
    on_error: OnError = "raise",
    block_size: int = _BLOCK,
    progress: bool = False,
) -> Iterator[FeatureTable]:
    """Compute the features of images block by block.

    Parameters
    ----------
    model : ImageFeaturizer, HybridClassifier or CNNClassifier
        Fitted.
    X : images, n_samples of them
        What `ImageSequence` takes.
    on_error : {"raise", "skip"}, default="raise"
        Whether an image that cannot be read raises an error, or becomes a row of `rejects`.
    block_size : int, default=256
        Number of images of a block.
    progress : bool, default=False
        Show a progress bar with rate and time left on stderr.

    Returns
    -------
    iterator of FeatureTable
        For each block of images, in their order, with positions in the whole of `X`. A block of
        which no image can be read has no rows.

    Raises
    ------
    ImageDecodeError
        With ``on_error="raise"``, for the first image that cannot be read.
    ValueError
        If `block_size` is less than 1, or `on_error` has another value.
    UnsupportedInputError
        If `model` is no estimator with a featurizer, or `X` is of an unknown form.

    Notes
    -----
    Memory holds the features of one block, whatever the number of images. No warning is issued for
    rejected images: the caller sees those of each block.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import ImageFeaturizer, ImageTransform, iter_features
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> featurizer = ImageFeaturizer("resnet18", weights=None, training=None, transform=transform)
    >>> X = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    >>> [block.positions.tolist() for block in iter_features(featurizer.fit(X), X, block_size=3)]
    [[0, 1, 2], [3, 4]]
    """
    skip = check_on_error(on_error)
    if block_size < 1:
        raise ValueError(f"block_size={block_size!r} must be 1 or more")
    featurizer, images = _check(model, X)
    return _iterate(featurizer, images, block_size, skip, progress)


def _iterate(
    featurizer: BaseImageFeaturizer,
    images: PreparedImages,
    block_size: int,
    skip: bool,
    progress: bool,
) -> Iterator[FeatureTable]:
    n = len(images)
    with tqdm(total=n, desc="features", unit="image", leave=None, disable=not progress) as bar:
        for start in range(0, n, block_size):
            block = images[start : start + block_size]
            yield _extract(featurizer, block, start, skip=skip, progress=False)
            bar.update(len(block))


def _extract(
    featurizer: BaseImageFeaturizer,
    images: PreparedImages,
    start: int,
    *,
    skip: bool,
    progress: bool | None = None,
) -> FeatureTable:
    """Compute the features of images that begin at a position of the whole."""
    errors: dict[int, ImageDecodeError] | None = {} if skip else None
    try:
        features = featurizer._compute_features(images, rejects=errors, progress=progress)
    except ImageDecodeError as error:
        position = start + error.index
        raise type(error)(position, error.path, error.reason, error.origin) from error.__cause__
    rejects = RejectTable.of(errors or {}, start)
    positions = np.arange(start, start + len(images))
    if rejects:
        kept = ~np.isin(positions, rejects.positions)
        features, positions = features[kept], positions[kept]
    return FeatureTable(features, positions, rejects)


def _check(model: Any, X: Any) -> tuple[BaseImageFeaturizer, PreparedImages]:
    """Return the fitted featurizer of an estimator, and images that it has checked."""
    check_is_fitted(model)
    featurizer = getattr(model, "featurizer_", model)
    if not isinstance(featurizer, BaseImageFeaturizer):
        raise UnsupportedInputError(
            f"got {type(model).__name__}; features come from a fitted ImageFeaturizer, "
            "HybridClassifier or CNNClassifier"
        )
    images = featurizer._check_images(X, reset=False)
    return featurizer, PreparedImages(images, featurizer.transform_)
