"""Every error and warning that effboost raises on purpose.

Each error is an :class:`EffboostError` and also the built-in exception that a caller would
think of catching, so ``except ValueError`` and ``except FileNotFoundError`` work as usual.
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
    "LeakageError",
    "MissingDependencyError",
    "ModelFileError",
    "ModelFileWarning",
    "SplitError",
    "TrainingError",
    "UnknownBackboneError",
    "UnsupportedInputError",
    "WeightsError",
    "WeightsMismatchError",
    "WeightsNotFoundError",
]


class EffboostError(Exception):
    """Base class of every error that effboost raises on purpose."""


class UnsupportedInputError(EffboostError, ValueError, TypeError):
    """The images were given in a form that effboost does not take."""


class ImageDecodeError(EffboostError, ValueError, OSError):
    """An image could not be read, or holds what no image holds.

    Attributes
    ----------
    index : int
        Position of the image in the sequence that was being read, from 0.
    path : str or None
        Path of the file, if the image came from one.
    reason : str
        What is wrong with the image and what would help.
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
    """There is no file at the path of an image."""


class DatasetError(EffboostError, ValueError):
    """A data folder or its table does not hold what the loader needs."""


class SplitError(EffboostError, ValueError):
    """The samples cannot be split by subject as asked."""


class LeakageError(EffboostError, ValueError):
    """The same subject, or the same image, stands on both sides of a split.

    Attributes
    ----------
    groups : tuple
        The subjects that stand on both sides.
    duplicates : tuple of (str, str)
        Pairs of (training image, test image) with the same content, named by path, or by
        position where they came from memory.
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
    """The training of a network went astray."""


class UnknownBackboneError(EffboostError, ValueError):
    """No backbone has this name."""


class WeightsError(EffboostError, ValueError):
    """A weight file cannot be used."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """The weights are neither on this machine nor to be had from the network."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Where dask was imported, exceptions are pickled by tblib, which would make a ValueError
        # of it that is no file error.
        return type(self), self.args


class WeightsMismatchError(WeightsError):
    """The weights belong to another architecture.

    Attributes
    ----------
    missing, unexpected, misshaped : tuple of str
        Names of the tensors that the file lacks, that the network does not have, and whose
        shapes differ.
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
    """A model cannot be written to a file, or a file is no model that can be read safely.

    Attributes
    ----------
    path : str
        The file.
    reason : str
        What is wrong, where in the file, and what would help.
    """

    def __init__(self, path: str, reason: str):
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path!r}: {self.reason}"


class MissingDependencyError(EffboostError, ImportError):
    """A package that this feature needs is missing or does not fit the others."""


class RuntimeUnavailableError(EffboostError, RuntimeError):
    """The chosen runtime cannot run this network."""


class CacheWarning(UserWarning):
    """A cache could not be used, or was damaged; results are computed instead."""


class DeviceWarning(UserWarning):
    """A model computes on another device than it was set to."""


class RuntimeFallbackWarning(UserWarning):
    """Features are computed by another runtime than the fastest one."""


class ImageWarning(UserWarning):
    """An image was read, but not as its owner may expect."""


class IncompleteDataWarning(UserWarning):
    """A known data set on disk does not have the images that its release has."""


class ModelFileWarning(UserWarning):
    """A model was saved without something that only its training used."""


class DroppedRowsWarning(UserWarning):
    """A loader left rows out because they carry no target."""
