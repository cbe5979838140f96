"""Predictions for more images than memory holds, block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import numpy.typing as npt
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from effboost._images import ImageSequence, as_images
from effboost._utils.decision import predict_both
from effboost.exceptions import ImageDecodeError

__all__ = ["Prediction", "images_for", "iter_predictions"]

_BLOCK: Final = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one image.

    Attributes
    ----------
    image : str
        Path of the image, or its position if it came from memory.
    label : label or None
        Its predicted class; None if the image cannot be read.
    probabilities : ndarray of shape (n_classes,) or None
        Probability of each class, in the order of ``classes_``; None if the image cannot be read,
        or the classifier has no ``predict_proba``.
    error : str or None
        Why the image cannot be read; None if it can.
    """

    image: str
    label: Any
    probabilities: npt.NDArray[Any] | None
    error: str | None = None


def iter_predictions(clf: Any, X: Any, *, block_size: int = _BLOCK) -> Iterator[Prediction]:
    """Predict images block by block; images that cannot be read do not stop it.

    Parameters
    ----------
    clf : classifier
        Fitted, on images.
    X : images, n_samples of them
        What `ImageSequence` takes.
    block_size : int, default=64
        Number of images that are read and predicted together.

    Yields
    ------
    Prediction
        One for each image, in their order, with what ``predict`` and ``predict_proba`` return.

    Notes
    -----
    Memory holds the features of one block, whatever the number of images. If an image cannot be
    read, the others of its block are decoded twice.

    Examples
    --------
    >>> from effboost import iter_predictions, presets
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> clf = clf.fit(cells.images, cells.target)
    >>> for prediction in iter_predictions(clf, cells.images[:2]):
    ...     print(prediction.image, prediction.label, prediction.probabilities.shape)
    position 0 ALL (2,)
    position 1 ALL (2,)
    """
    check_is_fitted(clf)
    if block_size < 1:
        raise ValueError(f"block_size={block_size!r} must be 1 or more")
    return _iterate(clf, images_for(clf, X), block_size)


def images_for(clf: Any, X: Any) -> ImageSequence:
    """Return images in the form that a classifier of images reads.

    Numeric rows are images of the shape that the classifier was fitted on. Their columns are
    checked as in its ``predict``.

    Parameters
    ----------
    clf : classifier
        On images, fitted or not.
    X : images, n_samples of them
        What `ImageSequence` takes.
    """
    if isinstance(X, ImageSequence):
        return X
    reader = _find_reader(clf)
    if hasattr(reader, "n_features_in_"):
        if hasattr(reader, "_check_images"):
            images: ImageSequence = reader._check_images(X, reset=False)
            return images
        validate_data(reader, X, reset=False, skip_check_array=True)
    shapes = (
        value for name, value in clf.get_params().items() if name.split("__")[-1] == "image_shape"
    )
    shape = getattr(reader, "image_shape", None) or next(filter(None, shapes), None)
    return as_images(X, image_shape=shape)


def _find_reader(clf: Any) -> Any:
    """Return the fitted part of a classifier that reads images."""
    for name in ("featurizer_", "best_estimator_", "estimator_"):
        if hasattr(clf, name):
            return _find_reader(getattr(clf, name))
    if isinstance(clf, Pipeline) and hasattr(clf.steps[0][1], "_check_images"):
        return clf.steps[0][1]
    return clf


def _iterate(clf: Any, images: ImageSequence, block_size: int) -> Iterator[Prediction]:
    for start in range(0, len(images), block_size):
        yield from _predict_block(clf, images[start : start + block_size])


def _predict_block(clf: Any, block: ImageSequence) -> Iterator[Prediction]:
    errors: dict[int, str] = {}
    labels: Any = ()
    probabilities: Any = None
    good = list(range(len(block)))
    while good:
        try:
            labels, probabilities = predict_both(clf, block[good])
            break
        except ImageDecodeError as error:
            errors[good[error.index]] = error.reason
            good = [i for i in good if i not in errors]
            # Find all that are broken at once: each would cost the predictions of a block.
            errors |= _find_broken(block, good)
            good = [i for i in good if i not in errors]
    rows = {i: row for row, i in enumerate(good)}
    for i in range(len(block)):
        if i in errors:
            yield Prediction(block.name(i), None, None, errors[i])
        else:
            shares = None if probabilities is None else probabilities[rows[i]]
            yield Prediction(block.name(i), labels[rows[i]], shares)


def _find_broken(block: ImageSequence, positions: list[int]) -> dict[int, str]:
    broken = {}
    for i in positions:
        try:
            block.decode(i, lambda image: None)
        except ImageDecodeError as error:
            broken[i] = error.reason
    return broken
