"""A classifier that is read from an ONNX file and computed by onnxruntime alone."""

from __future__ import annotations

import os
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import validate_data

from effboost._images import ImageSequence, as_images
from effboost._utils.compat import DocumentedMixin
from effboost._utils.decision import predict_most_probable
from effboost._utils.threads import count_threads, map_ordered
from effboost.exceptions import ImageDecodeError, UnsupportedInputError
from effboost.onnx._model import OnnxModel

__all__ = ["OnnxClassifier"]


class OnnxClassifier(DocumentedMixin, ClassifierMixin, BaseEstimator):
    """Classify images by a model that `export_onnx` wrote, without torch.

    It is fitted by its file, which is read when it is first needed. numpy, Pillow, scikit-learn
    and onnxruntime are all that it loads.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        Number of columns of `X`; only where the model was fitted on one image per row.

    See Also
    --------
    export_onnx : Writes the file.

    Notes
    -----
    Images are decoded as everywhere in effboost; the graph crops and resizes them as
    `ImageTransform` does, to the bit. The probabilities are those of the model that was exported
    up to the last digits, where that computes its features by onnxruntime, too. They never depend
    on the images beside, to the bit. Memory holds the model, a few images and what the network
    computes for one in each thread, and the probabilities.

    The file may come from anywhere as far as code goes: it cannot run any, and a file that names
    other files or operators beyond the standard's is refused. It can still be wrong, or slow.

    A pickle of a classifier holds the whole file.

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
        """Refuse: the classifier is fitted by its file.

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
            "OnnxClassifier is fitted by its file and learns nothing: fit the model that it was "
            "exported from and export that, or wrap this in sklearn.frozen.FrozenEstimator"
        )

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict the class of images.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples,)
            A label of `classes_` for each image.
        """
        return predict_most_probable(self, X)

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
            If the file is damaged, was not exported by effboost, or holds more than an export.
        UnsupportedInputError, ImageDecodeError
            If `X` is of an unknown form, or an image cannot be read.
        """
        self._validate_params()
        model = self._open()
        images = self._check_images(X, model.image_shape)

        def work(index: int) -> npt.NDArray[np.float32]:
            row = model.run(images[index])
            if not np.isfinite(row).all():
                reason = "the model gives NaN or infinity for it: is its file damaged?"
                raise ImageDecodeError(index, images.path(index), reason)
            return row

        return np.stack(list(map_ordered(work, range(len(images)), count_threads())))

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """The labels."""
        return self._open().classes

    @property
    def n_features_in_(self) -> int:
        """Number of columns of `X`, where the model was fitted on one image per row."""
        shape = self._open().image_shape
        if shape is None:
            raise AttributeError("images have no columns; the model was not fitted on rows")
        return int(np.prod(shape))

    def _check_images(self, X: Any, image_shape: tuple[int, ...] | None) -> ImageSequence:
        if image_shape is None or isinstance(X, ImageSequence):
            return as_images(X)
        rows = validate_data(self, X, reset=False, dtype="numeric")
        return ImageSequence(rows, image_shape=image_shape)

    def _open(self) -> OnnxModel:
        """Give the model of the file, read once."""
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
