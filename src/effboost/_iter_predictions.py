"""Predictions for images some of which may be unreadable: at once, or block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from effboost._images import ImageSequence, as_images
from effboost._rejects import OnError, RejectTable, check_on_error, warn_of_rejects
from effboost._utils.decision import find_check, predict_both
from effboost._utils.shared_results import share_results
from effboost.exceptions import ImageDecodeError

__all__ = [
    "Prediction",
    "PredictionTable",
    "adapts_to_call",
    "check_call",
    "images_for",
    "iter_predictions",
    "predict_images",
]

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
    familiarity : float or None
        The p-value of its features, small for images that are unlike the training images; None
        without ``flags=True``.
    familiar : bool or None
        Whether it is like the training images; None without ``flags=True``.
    reasons : tuple of str
        Why it is not: some of "features", "size", "exposure" and "blur".

    See Also
    --------
    iter_predictions : Returns one for each image.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import Prediction
    >>> prediction = Prediction("cells/1.png", "ALL", np.array([0.9, 0.1]))
    >>> print(prediction.error or f"{prediction.label}: {prediction.probabilities.max():.0%}")
    ALL: 90%
    """

    image: str
    label: Any
    probabilities: npt.NDArray[Any] | None
    error: str | None = None
    familiarity: float | None = None
    familiar: bool | None = None
    reasons: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class PredictionTable:
    """The predictions for the images that could be read, and the table of the others.

    Attributes
    ----------
    labels : ndarray of shape (n_read,)
        The predicted class of each image that could be read, in their order.
    probabilities : ndarray of shape (n_read, n_classes) or None
        Probability of each class, in the order of ``classes_``; None if the classifier has no
        ``predict_proba``.
    positions : ndarray of shape (n_read,), int
        Position of each row's image in `X`.
    rejects : RejectTable
        The images that could not be read, with their positions in `X`.

    See Also
    --------
    predict_images : Returns such a table.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import PredictionTable, Reject, RejectTable
    >>> rejects = RejectTable([Reject("cells/1.png", 1, "the file is empty (0 bytes)")])
    >>> table = PredictionTable(np.array(["ALL", "HEM"]), None, np.array([0, 2]), rejects)
    >>> dict(zip(table.positions.tolist(), table.labels.tolist()))
    {0: 'ALL', 2: 'HEM'}
    """

    labels: npt.NDArray[Any]
    probabilities: npt.NDArray[Any] | None
    positions: npt.NDArray[np.intp]
    rejects: RejectTable

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<PredictionTable of {len(self)}, {len(self.rejects)} rejected>"


def predict_images(
    clf: Any, X: Any, *, on_error: OnError = "raise", block_size: int = _BLOCK
) -> PredictionTable:
    """Predict images, with a table of those that cannot be read.

    `predict` returns one label for each image, or raises an error. This function can leave images
    out, and says which.

    Parameters
    ----------
    clf : classifier
        Fitted, on images.
    X : images, n_samples of them
        What `ImageSequence` takes.
    on_error : {"raise", "skip"}, default="raise"
        Whether an image that cannot be read raises an error, or becomes a row of `rejects`.
    block_size : int, default=64
        Number of images that are read and predicted together. A classifier that adapts to the
        images of a call, such as `SiteAdaptedClassifier`, gets all at once.

    Returns
    -------
    PredictionTable
        ``labels``, ``probabilities``, ``positions`` and ``rejects``.

    Raises
    ------
    ImageDecodeError
        With ``on_error="raise"``, for the first image that cannot be read.

    Warns
    -----
    DroppedRowsWarning
        If images were left out.

    See Also
    --------
    iter_predictions : The same block by block, for more images than memory has room for.
    extract_features : Features with a table of rejects.

    Examples
    --------
    >>> import warnings
    >>> from effboost import predict_images, presets
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> X = [*cells.images[:2], cells.images[2][:4]]  # the last one is too small to be an image
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     table = predict_images(clf.fit(cells.images, cells.target), X, on_error="skip")
    >>> table
    <PredictionTable of 2, 1 rejected>
    >>> table.rejects[0].position
    2
    """
    skip = check_on_error(on_error)
    clf = check_call(clf, block_size)
    images = images_for(clf, X)
    block_size = _choose_block_size(clf, len(images), block_size)
    labels, probabilities, positions = [], [], []
    errors: dict[int, ImageDecodeError] = {}
    for start in range(0, len(images), block_size):
        block = _Block(clf, images[start : start + block_size], start, skip=skip)
        errors |= block.errors
        positions += block.positions
        if block.positions:
            labels.append(block.labels)
            probabilities.append(block.probabilities)
    rejects = RejectTable.of(errors)
    warn_of_rejects(rejects, len(images), "prediction")
    return PredictionTable(
        np.concatenate(labels) if labels else clf.classes_[:0],
        _join(probabilities, clf),
        np.array(positions, dtype=np.intp),
        rejects,
    )


def iter_predictions(
    clf: Any, X: Any, *, block_size: int = _BLOCK, flags: bool = False
) -> Iterator[Prediction]:
    """Predict images block by block; images that cannot be read do not stop it.

    Parameters
    ----------
    clf : classifier
        Fitted, on images.
    X : images, n_samples of them
        What `ImageSequence` takes.
    block_size : int, default=64
        Number of images that are read and predicted together. A classifier that adapts to the
        images of a call, such as `SiteAdaptedClassifier`, gets all at once.
    flags : bool, default=False
        Also tell which images are unlike those that the classifier was trained on, by its
        `check_familiarity`.

    Returns
    -------
    iterator of Prediction
        One for each image, in their order, with what ``predict`` and ``predict_proba`` return.

    Raises
    ------
    UnsupportedInputError
        With `flags`, if the classifier has no `check_familiarity`, with the reason.
    ValueError
        If `block_size` is less than 1.

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
    clf = check_call(clf, block_size)
    if flags:
        find_check(clf)
    images = images_for(clf, X)
    return _iterate(clf, images, _choose_block_size(clf, len(images), block_size), flags)


def adapts_to_call(clf: Any) -> bool:
    """Return whether the prediction of an image depends on the others of the call.

    Parameters
    ----------
    clf : classifier
        On images, fitted or not.
    """
    todo, seen = [clf], set()
    while todo:
        part = todo.pop()
        if isinstance(part, list | tuple):
            todo.extend(part)
        elif hasattr(part, "predict") and id(part) not in seen:
            if getattr(part, "_adapts_to_call", False):
                return True
            seen.add(id(part))
            # Its parameters, and what was fitted: of a search, only the latter is the chosen one.
            todo.extend(getattr(part, "__dict__", {}).values())
    return False


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


def check_call(clf: Any, block_size: int) -> Any:
    """Check a classifier and the size of blocks, before the work.

    Parameters
    ----------
    clf : classifier
        On images.
    block_size : int
        Number of images that are predicted together.

    Returns
    -------
    classifier
        The counterpart on one machine of one on Dask; others unchanged.
    """
    check_is_fitted(clf)
    if block_size < 1:
        raise ValueError(f"block_size={block_size!r} must be 1 or more")
    return clf.to_local() if hasattr(clf, "to_local") else clf


def _choose_block_size(clf: Any, n_images: int, block_size: int) -> int:
    return max(1, n_images) if adapts_to_call(clf) else block_size


def _iterate(clf: Any, images: ImageSequence, block_size: int, flags: bool) -> Iterator[Prediction]:
    for start in range(0, len(images), block_size):
        block = images[start : start + block_size]
        yield from _Block(clf, block, start, skip=True, flags=flags).rows()


class _Block:
    """The predictions for a block of images.

    Attributes
    ----------
    labels, probabilities : ndarray or None
        For the images that can be read.
    positions : list of int
        Their positions in the whole.
    errors : dict of int to ImageDecodeError
        The errors of the others, by position in the whole.
    table : FamiliarityTable or None
        Which images are familiar, with `flags`.
    """

    def __init__(
        self, clf: Any, images: ImageSequence, start: int, *, skip: bool, flags: bool = False
    ):
        self._images, self._start = images, start
        self.labels: Any = ()
        self.probabilities: Any = None
        self.errors: dict[int, ImageDecodeError] = {}
        self.table: Any = None
        good = list(range(len(images)))
        while good:
            try:
                self._predict(clf, images[good], flags)
                break
            except ImageDecodeError as error:
                broken = self._relocate(error, good[error.index])
                if not skip:
                    raise broken from error.__cause__
                # Find all that are broken at once: each would cost the predictions of a block.
                self._find_broken(good)
                self.errors.setdefault(broken.index, broken)
                good = [i for i in good if start + i not in self.errors]
        self.positions = [start + i for i in good]

    def rows(self) -> Iterator[Prediction]:
        """Yield a row for each image, in their order."""
        row_of = {position: row for row, position in enumerate(self.positions)}
        for i in range(len(self._images)):
            row = row_of.get(self._start + i)
            name = self._images.name(i)
            if row is None:
                yield Prediction(name, None, None, self.errors[self._start + i].reason)
            else:
                shares = None if self.probabilities is None else self.probabilities[row]
                found = Prediction(name, self.labels[row], shares)
                yield found if self.table is None else self._with_flags(found, row)

    def _predict(self, clf: Any, images: ImageSequence, flags: bool) -> None:
        with share_results():
            # First: it needs more of each image than predictions do.
            self.table = find_check(clf)(images) if flags else None
            self.labels, self.probabilities = predict_both(clf, images)

    def _with_flags(self, found: Prediction, row: int) -> Prediction:
        table = self.table
        return dataclasses.replace(
            found,
            familiarity=float(table.p_values[row]),
            familiar=bool(table.familiar[row]),
            reasons=table.reasons[row],
        )

    def _find_broken(self, positions: list[int]) -> None:
        for i in positions:
            try:
                self._images.decode(i, lambda image: None)
            except ImageDecodeError as error:
                self.errors[self._start + i] = self._relocate(error, i)

    def _relocate(self, error: ImageDecodeError, i: int) -> ImageDecodeError:
        """Return an error with the position in the whole."""
        return type(error)(self._start + i, error.path, error.reason, error.origin)


def _join(probabilities: list[Any], clf: Any) -> npt.NDArray[Any] | None:
    if probabilities:
        return None if probabilities[0] is None else np.concatenate(probabilities)
    return np.empty((0, len(clf.classes_))) if hasattr(clf, "predict_proba") else None
