"""Errors and warnings of effboost.

Each error is an :class:`EffboostError` and also the matching built-in exception, so that
``except ValueError`` and ``except FileNotFoundError`` work as usual.

Each kind of warning has a class of its own, so that it can be silenced, or raised as an error:

>>> import tempfile, warnings
>>> from effboost import Cache
>>> from effboost.exceptions import CacheWarning
>>> with tempfile.NamedTemporaryFile() as file, warnings.catch_warnings():
...     warnings.simplefilter("error", CacheWarning)
...     Cache(file.name).put({b"key": b"value"})
Traceback (most recent call last):
    ...
effboost.exceptions.CacheWarning: the cache ... cannot be used ...; nothing is kept
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CacheWarning",
    "DatasetError",
    "DeviceWarning",
    "DroppedRowsWarning",
    "EffboostError",
    "ImageDecodeError",
    "ImageNotFoundError",
    "ImageWarning",
    "IncompleteDataWarning",
    "LabelWarning",
    "LeakageError",
    "MissingDependencyError",
    "ModelFileError",
    "ModelFileWarning",
    "PrecisionWarning",
    "RuntimeFallbackWarning",
    "RuntimeUnavailableError",
    "SplitError",
    "StoreError",
    "TrainingError",
    "UnknownBackboneError",
    "UnsupportedInputError",
    "WeightsError",
    "WeightsMismatchError",
    "WeightsNotFoundError",
]


class EffboostError(Exception):
    """Base class of the errors of effboost.

    Examples
    --------
    >>> from effboost import ImageSequence
    >>> from effboost.exceptions import EffboostError
    >>> try:
    ...     ImageSequence(["cells/missing.png"])[0]
    ... except EffboostError as error:
    ...     print(type(error).__name__)
    ImageNotFoundError
    """


class UnsupportedInputError(EffboostError, ValueError, TypeError):
    """The input has a form or type that effboost does not accept.

    Examples
    --------
    >>> from effboost import ImageSequence
    >>> ImageSequence([1, 2])
    Traceback (most recent call last):
        ...
    effboost.exceptions.UnsupportedInputError: got an array of shape (2,); images can be ...
    """


class ImageDecodeError(EffboostError, ValueError, OSError):
    """An image could not be read, or has invalid pixels.

    Attributes
    ----------
    index : int
        Position of the image in the sequence that was being read, from 0.
    path : str or None
        Path of the file, if the image came from one.
    reason : str
        What is wrong with the image, and how to fix it.
    origin : int or None
        Position before the sequence was sliced, if that is known.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import ImageSequence
    >>> from effboost.exceptions import ImageDecodeError
    >>> images = ImageSequence([np.zeros((32, 32, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)])
    >>> try:
    ...     images[1]
    ... except ImageDecodeError as error:
    ...     print(error.index, error.reason)
    1 is 4 x 4 pixels; at least 8 x 8 are needed
    """

    def __init__(self, index: int, path: str | None, reason: str, origin: int | None = None):
        self.index = index
        self.path = path
        self.reason = reason
        self.origin = origin
        super().__init__(index, path, reason, origin)

    def __str__(self) -> str:
        where = f"image at position {self.index}"
        if self.origin is not None and self.origin != self.index:
            where += f" (position {self.origin} before slicing)"
        if self.path is not None:
            where += f", {self.path!r}"
        return f"{where}: {self.reason}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.index, self.path, self.reason, self.origin)


class ImageNotFoundError(ImageDecodeError, FileNotFoundError):
    """The file of an image does not exist.

    Attributes
    ----------
    index, path, reason, origin : int, str or None
        As of `ImageDecodeError`.

    Examples
    --------
    >>> from effboost import ImageSequence
    >>> ImageSequence(["cells/missing.png"])[0]
    Traceback (most recent call last):
        ...
    effboost.exceptions.ImageNotFoundError: image at position 0, 'cells/missing.png': there ...
    """


class StoreError(EffboostError, OSError):
    """A store cannot be used: credentials, connection, or a package that is missing.

    It is not the fault of one image, so ``on_error="skip"`` does not skip it. The message names the
    URL, without users, passwords and queries.

    Examples
    --------
    >>> from effboost import ImageSequence
    >>> ImageSequence(["nowhere://cells/1.png"])[0]
    Traceback (most recent call last):
        ...
    effboost.exceptions.StoreError: nowhere://cells/1.png: the store cannot be used ...
    """


class DatasetError(EffboostError, ValueError):
    """A data folder or its table does not contain what the loader needs.

    Examples
    --------
    >>> from effboost.datasets import load_image_folder
    >>> load_image_folder("missing")
    Traceback (most recent call last):
        ...
    effboost.exceptions.DatasetError: 'missing' does not exist; give the folder ...
    """


class SplitError(EffboostError, ValueError):
    """The images cannot be split by subject as requested.

    Examples
    --------
    >>> from effboost.model_selection import SubjectKFold
    >>> next(SubjectKFold(3).split([0, 1, 2, 3], [0, 1, 0, 1], groups=["S1", "S1", "S2", "S2"]))
    Traceback (most recent call last):
        ...
    effboost.exceptions.SplitError: 3 folds (n_splits), but there are 2 subjects: use 2
    """


class LeakageError(EffboostError, ValueError):
    """A subject or an image is in both parts of a split.

    The attributes `groups` and `duplicates` say what was found.

    Parameters
    ----------
    message : str
        The text of the error.
    groups : tuple, default=()
        The subjects in both parts.
    duplicates : tuple of (str, str), default=()
        Pairs of (training image, test image) with the same content, each given by its path or, for
        images in memory, by its position.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.exceptions import LeakageError
    >>> from effboost.model_selection import check_leakage
    >>> X = np.random.default_rng(0).integers(0, 256, (4, 32, 32), dtype=np.uint8)
    >>> try:
    ...     check_leakage(X[:2], X[2:], groups_train=["S1", "S2"], groups_test=["S2", "S3"])
    ... except LeakageError as error:
    ...     print(error.groups)
    ('S2',)
    """

    def __init__(
        self,
        message: str,
        groups: tuple[Any, ...] = (),
        duplicates: tuple[tuple[str, str], ...] = (),
    ):
        self.groups = groups
        self.duplicates = duplicates
        super().__init__(message, groups, duplicates)

    def __str__(self) -> str:
        return str(self.args[0])


class TrainingError(EffboostError, ArithmeticError):
    """The training of a network failed, for example because the loss became NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import FineTuning, ImageFeaturizer, ImageTransform
    >>> X = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> training = FineTuning(max_epochs=3, lr=1e30)
    >>> featurizer = ImageFeaturizer(
    ...     "resnet18", weights=None, training=training, transform=transform, random_state=0
    ... )
    >>> featurizer.fit(X, ["ALL", "HEM", "ALL", "HEM"])
    Traceback (most recent call last):
        ...
    effboost.exceptions.TrainingError: the loss became ... the learning rate (1e+30) is too ...
    """


class UnknownBackboneError(EffboostError, ValueError):
    """There is no backbone with this name.

    Examples
    --------
    >>> from effboost.backbones import get_backbone_spec
    >>> get_backbone_spec("efficientnet_b9")
    Traceback (most recent call last):
        ...
    effboost.exceptions.UnknownBackboneError: no backbone is named 'efficientnet_b9'; did you ...
    """


class WeightsError(EffboostError, ValueError):
    """A weight file cannot be used.

    Examples
    --------
    >>> from tempfile import NamedTemporaryFile
    >>> from effboost import ImageFeaturizer
    >>> with NamedTemporaryFile(suffix=".pth") as file:  # an empty one
    ...     ImageFeaturizer("resnet18", weights=file.name, training=None).fit(["cells/1.png"])
    Traceback (most recent call last):
        ...
    effboost.exceptions.WeightsError: ...
    """


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """The weights are not on this machine, and could not be downloaded.

    Examples
    --------
    >>> from effboost import ImageFeaturizer
    >>> ImageFeaturizer("resnet18", weights="missing.pth", training=None).fit(["cells/1.png"])
    Traceback (most recent call last):
        ...
    effboost.exceptions.WeightsNotFoundError: the weight file 'missing.pth' does not exist; ...
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # tblib, which dask uses to pickle exceptions, would otherwise restore a plain ValueError.
        return type(self), self.args


class WeightsMismatchError(WeightsError):
    """The weights do not match the architecture of the network.

    The attributes `missing`, `unexpected` and `misshaped` say what differs.

    Parameters
    ----------
    message : str
        The text of the error.
    missing, unexpected, misshaped : tuple of str, default=()
        Names of the tensors that are missing in the file, that the network does not have, and
        whose shapes differ.

    Examples
    --------
    >>> from tempfile import NamedTemporaryFile
    >>> import torch
    >>> from effboost import ImageFeaturizer
    >>> from effboost.exceptions import WeightsMismatchError
    >>> with NamedTemporaryFile(suffix=".pth") as file:
    ...     torch.save(torch.nn.Linear(512, 2).state_dict(), file.name)
    ...     try:
    ...         ImageFeaturizer("resnet18", weights=file.name, training=None).fit(["cells/1.png"])
    ...     except WeightsMismatchError as error:
    ...         print(error.unexpected)
    ('weight', 'bias')
    """

    def __init__(
        self,
        message: str,
        missing: tuple[str, ...] = (),
        unexpected: tuple[str, ...] = (),
        misshaped: tuple[str, ...] = (),
    ):
        self.missing = missing
        self.unexpected = unexpected
        self.misshaped = misshaped
        super().__init__(message, missing, unexpected, misshaped)

    def __str__(self) -> str:
        return str(self.args[0])


class ModelFileError(EffboostError, ValueError):
    """A model cannot be saved, or a file is not a model that can be loaded safely.

    Attributes
    ----------
    path : str
        The file.
    reason : str
        What is wrong, where in the file, and how to fix it.

    Examples
    --------
    >>> from tempfile import NamedTemporaryFile
    >>> import effboost
    >>> with NamedTemporaryFile(suffix=".effboost") as file:  # an empty one
    ...     effboost.load(file.name)
    Traceback (most recent call last):
        ...
    effboost.exceptions.ModelFileError: '...effboost': ...
    """

    def __init__(self, path: str, reason: str):
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path!r}: {self.reason}"


class MissingDependencyError(EffboostError, ImportError):
    """A package that this feature needs is missing, or incompatible with others.

    Examples
    --------
    >>> from effboost.exceptions import MissingDependencyError
    >>> try:
    ...     from effboost.dask import DaskHybridClassifier
    ... except MissingDependencyError as error:
    ...     print(error)  # which extra to install
    """


class RuntimeUnavailableError(EffboostError, RuntimeError):
    """The chosen runtime cannot run this network.

    Examples
    --------
    >>> from torch import nn
    >>> from effboost import ImageTransform
    >>> from effboost.runtime import export_graph
    >>> class Branching(nn.Module):  # on its data, which a graph cannot express
    ...     def forward(self, x):
    ...         return x.amax((2, 3)) if x.mean() > 0 else x.mean((2, 3))
    >>> export_graph(Branching(), ImageTransform(crop_size=None, image_size=32))
    Traceback (most recent call last):
        ...
    effboost.exceptions.RuntimeUnavailableError: the network cannot be exported: ...
    """


class CacheWarning(UserWarning):
    """A cache cannot be used, or is damaged; results are computed instead."""


class DeviceWarning(UserWarning):
    """A model runs on another device than requested."""


class RuntimeFallbackWarning(UserWarning):
    """Features are computed by a slower runtime than usual."""


class ImageWarning(UserWarning):
    """An image was read, but the result may not be what was intended."""


class IncompleteDataWarning(UserWarning):
    """A copy of a known data set differs from its release."""


class ModelFileWarning(UserWarning):
    """A model was saved without something that only training needs."""


class PrecisionWarning(UserWarning):
    """An export with fewer bits predicts other classes than the model for some images."""


class DroppedRowsWarning(UserWarning):
    """Images were left out: by a loader for want of a target, or since they cannot be read."""


class LabelWarning(UserWarning):
    """Some classes or subjects are probably the same name in different spellings."""
