"""Errors and warnings of effboost.

Each error is an :class:`EffboostError` and also the matching built-in exception, so that
``except ValueError`` and ``except FileNotFoundError`` work as usual.
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
    """Base class of the errors of effboost."""


class UnsupportedInputError(EffboostError, ValueError, TypeError):
    """The input has a form or type that effboost does not accept."""


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
    """The file of an image does not exist."""


class StoreError(EffboostError, OSError):
    """A store cannot be used: credentials, connection, or a package that is missing.

    It is not the fault of one image, so ``on_error="skip"`` does not skip it. The message names the
    URL, without users, passwords and queries.
    """


class DatasetError(EffboostError, ValueError):
    """A data folder or its table does not contain what the loader needs."""


class SplitError(EffboostError, ValueError):
    """The images cannot be split by subject as requested."""


class LeakageError(EffboostError, ValueError):
    """A subject or an image is in both parts of a split.

    Attributes
    ----------
    groups : tuple
        The subjects in both parts.
    duplicates : tuple of (str, str)
        Pairs of (training image, test image) with the same content, each given by its path or, for
        images in memory, by its position.
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
    """The training of a network failed, for example because the loss became NaN."""


class UnknownBackboneError(EffboostError, ValueError):
    """There is no backbone with this name."""


class WeightsError(EffboostError, ValueError):
    """A weight file cannot be used."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """The weights are not on this machine, and could not be downloaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        # tblib, which dask uses to pickle exceptions, would otherwise restore a plain ValueError.
        return type(self), self.args


class WeightsMismatchError(WeightsError):
    """The weights do not match the architecture of the network.

    Attributes
    ----------
    missing, unexpected, misshaped : tuple of str
        Names of the tensors that are missing in the file, that the network does not have, and
        whose shapes differ.
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
    """

    def __init__(self, path: str, reason: str):
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path!r}: {self.reason}"


class MissingDependencyError(EffboostError, ImportError):
    """A package that this feature needs is missing, or incompatible with others."""


class RuntimeUnavailableError(EffboostError, RuntimeError):
    """The chosen runtime cannot run this network."""


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
