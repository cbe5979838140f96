"""A classifier that runs an exported ONNX file by onnxruntime."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from effboost._familiarity import ALPHA, REASONS, FamiliarityTable, check_alpha
from effboost._images import ImageSequence, as_images
from effboost._utils.compat import DocumentedMixin
from effboost._utils.decision import MostProbableMixin, predict_with_flags
from effboost._utils.probabilities import find_fault
from effboost._utils.shared_results import compute_once, find_shared
from effboost._utils.threads import count_threads, map_ordered
from effboost.exceptions import ImageDecodeError, UnsupportedInputError
from effboost.onnx._model import FAMILIARITY, OnnxModel

__all__ = ["OnnxClassifier"]


def _knows_familiarity(self: Any) -> bool:
    if self._open().description.usual is None:
        raise AttributeError(
            f"the model {os.fspath(self.path)!r} does not know which images are familiar: export a "
            "HybridClassifier that has `check_familiarity`"
        )
    return True


class OnnxClassifier(DocumentedMixin, MostProbableMixin, ClassifierMixin, BaseEstimator):
    """Classify images by a model that `export_onnx` wrote, without torch.

    It is already fitted: the file is read when it is first needed. Only numpy, Pillow, scikit-learn
    and onnxruntime are imported.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        Number of columns of `X`; exists only if the model was fitted on one image per row.
    feature_names_in_ : ndarray of shape (n_columns,), object
        Names of the columns; exists only if the model was fitted on a table with names.

    See Also
    --------
    export_onnx : Writes the file.

    Notes
    -----
    Images are decoded as everywhere in effboost; the graph crops and resizes them as
    `ImageTransform` does, to the bit. If the exported model also uses onnxruntime, the
    probabilities equal those of the model up to rounding. The probabilities of an image never
    depend on the other images, to the bit. Memory is needed for the model, for a few images, for
    the activations of one image in each thread, and for the probabilities.

    A file cannot run code. Files that name other files, or operators that are not standard, are
    refused. A file from an untrusted source can still give wrong results, or be slow.

    A pickle of a classifier contains the whole file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from effboost import OnnxClassifier, export_onnx, presets
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export_onnx(clf.fit(cells.images, cells.target), Path(folder, "cells.onnx"))
    ...     OnnxClassifier(path).predict_proba(cells.images).shape
    (20, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"path": [str, os.PathLike]}

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path

    def fit(self, X: Any, y: Any = None) -> NoReturn:
        """Raise an error: the classifier is already fitted.

        Parameters
        ----------
        X, y : ignored
            Not used, present for API consistency.

        Raises
        ------
        UnsupportedInputError
            Always.
        """
        raise UnsupportedInputError(
            "OnnxClassifier comes fitted with its file and cannot be fitted again; fit the model "
            "that it was exported from and export that, or wrap this one in "
            "sklearn.frozen.FrozenEstimator"
        )

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float32
            Probabilities between 0 and 1, in the order of `classes_`.

        Raises
        ------
        ModelFileError
            If the file is damaged, was not exported by effboost, or contains more than an export.
        UnsupportedInputError, ImageDecodeError
            If `X` is of an unknown form, an image cannot be read, or the outputs of the model for
            it are not probabilities.
        """
        self._validate_params()
        images = self._check_images(X)
        found = find_shared((self, images), FAMILIARITY)
        if found is not None:
            shared: npt.NDArray[np.float32] = found[0].copy()
            return shared
        model = self._open()

        def work(index: int) -> npt.NDArray[np.float32]:
            row = model.run(images[index])
            self._check_row(row, images, index)
            return row

        return self._join(map_ordered(work, range(len(images)), count_threads()))

    def predict(self, X: Any, *, flags: bool = False) -> Any:
        """Predict the class of images.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        flags : bool, default=False
            Also return which images are unlike those that the model was trained on.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            A label of `classes_` for each image.
        table : FamiliarityTable
            What `check_familiarity` returns; only with `flags`.
        """
        return predict_with_flags(self, self._check_images(X)) if flags else super().predict(X)

    @available_if(_knows_familiarity)
    def check_familiarity(self, X: Any, *, alpha: float = ALPHA) -> FamiliarityTable:
        """Find images that are unlike those that the model was trained on.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        alpha : float, default=0.02
            See `HybridClassifier.check_familiarity`.

        Returns
        -------
        FamiliarityTable
            A p-value for each image, whether it is familiar, and the reasons if it is not.

        Raises
        ------
        AttributeError
            If the exported model has not learnt it.
        ModelFileError, UnsupportedInputError, ImageDecodeError
            As `predict_proba`.
        """
        self._validate_params()
        share, images = check_alpha(alpha), self._check_images(X)
        usual = self._open().description.usual
        _, p_values, outside = compute_once(
            (self, images), FAMILIARITY, lambda: self._run_with_familiarity(images)
        )
        table: FamiliarityTable = usual.judge(p_values, outside, share)  # type: ignore[union-attr]
        return table

    def _run_with_familiarity(self, images: ImageSequence) -> tuple[Any, Any, Any]:
        """Return what `run_with_familiarity` of the model does, for all images."""
        model = self._open()

        def work(index: int) -> tuple[Any, float, Any]:
            pixels = images[index]
            row, p_value, outside = model.run_with_familiarity(pixels)
            self._check_row(row, images, index)
            if not 0 <= p_value <= 1:
                reason = "the model computes no p-value for it; its file may be damaged"
                raise ImageDecodeError(index, images.path(index), reason)
            return row, p_value, outside

        rows = list(map_ordered(work, range(len(images)), count_threads()))
        outside = np.array([row[2] for row in rows], dtype=bool).reshape(-1, len(REASONS) - 1)
        return self._join(row[0] for row in rows), np.array([row[1] for row in rows]), outside

    def _join(self, rows: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return np.array(list(rows), dtype=np.float32).reshape(-1, len(self.classes_))

    def _check_row(self, row: npt.NDArray[np.float32], images: ImageSequence, index: int) -> None:
        fault = find_fault(row[None], 1, len(self._open().description.classes))
        if fault is not None:
            reason = f"the model cannot predict it, for {fault}; its file may be damaged"
            raise ImageDecodeError(index, images.path(index), reason)

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """The labels."""
        return self._open().description.classes

    @property
    def n_features_in_(self) -> int:
        """Number of columns of `X`, if the model was fitted on one image per row."""
        shape = self._open().description.image_shape
        if shape is None:
            raise AttributeError("images have no columns; the model was not fitted on rows")
        return math.prod(shape)

    @property
    def feature_names_in_(self) -> npt.NDArray[np.object_]:
        """Names of the columns of `X`, if the model was fitted on a table with names."""
        names = self._open().description.feature_names
        if names is None:
            raise AttributeError("the model was not fitted on a table with names of columns")
        return names

    def _check_images(self, X: Any, *, reset: bool = False) -> ImageSequence:
        """Return `X` as a sequence of images; rows are checked as by the exported model."""
        image_shape = self._open().description.image_shape
        if image_shape is None or isinstance(X, ImageSequence):
            return as_images(X)
        rows = validate_data(self, X, reset=reset, dtype="numeric")
        return ImageSequence(rows, image_shape=image_shape)

    def _open(self) -> OnnxModel:
        """Return the model, whose file is read once."""
        model: OnnxModel | None = self.__dict__.get("_model")
        if model is None or model.name != os.fspath(self.path):
            model = self._model = OnnxModel.read(self.path)
        return model

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        # A pickle may be opened where the file is not.
        self._open()
        state: dict[str, Any] = super().__getstate__()
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags
