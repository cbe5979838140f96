"""Predictions for more images than anyone would hold in memory, as they come."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from effboost._images import ImageSequence, as_images
from effboost.exceptions import ImageDecodeError

__all__ = ["Prediction", "iter_predictions"]

_BLOCK: Final = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """What a classifier says about one image.

    Attributes
    ----------
    image : str
        Path of the image, or its position where it came from memory.
    label : label or None
        Its class; None where the image cannot be read.
    probabilities : ndarray of shape (n_classes,) or None
        Probability of each class, in the order of ``classes_``; None where the image cannot be
        read, or the classifier gives none.
    error : str or None
        Why the image cannot be read; None where it can.
    """

    image: str
    label: Any
    probabilities: npt.NDArray[Any] | None
    error: str | None = None


def iter_predictions(clf: Any, X: Any, *, block_size: int = _BLOCK) -> Iterator[Prediction]:
    """Predict images block by block, and go on after those that cannot be read.

    Parameters
    ----------
    clf : classifier
        Fitted, on images.
    X : images, n_samples of them
        What `ImageSequence` takes.
    block_size : int, default=64
        Images at a time: so many are read before the first prediction comes, and between any
        two.

    Yields
    ------
    Prediction
        One for each image, in their order: what ``predict_proba`` gives, and the class of the
        largest probability; what ``predict`` gives where there are no probabilities.

    Notes
    -----
    Memory holds one block's features, whatever the number of images. Images of a block in which
    one cannot be read are decoded twice.

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
    images = as_images(X)
    return _iterate(clf, images, block_size)


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
            labels, probabilities = _predict(clf, block[good])
            break
        except ImageDecodeError as error:
            errors[good[error.index]] = error.reason
            good = [i for i in good if i not in errors]
            # The others that are broken, too: each would cost a block's predictions.
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
            block.decode(i)
        except ImageDecodeError as error:
            broken[i] = error.reason
    return broken


def _predict(clf: Any, images: ImageSequence) -> tuple[Any, Any]:
    if not hasattr(clf, "predict_proba"):
        return clf.predict(images), None
    probabilities = clf.predict_proba(images)
    # Not `predict`, which would carry the images through the network once more.
    return np.asarray(clf.classes_)[probabilities.argmax(axis=1)], probabilities
