"""The images that could not be read, as a table beside the results."""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TextIO, overload

import numpy as np
import numpy.typing as npt

from effboost._utils.atomic_write import write_atomic
from effboost._utils.csv_rows import write_row
from effboost.exceptions import DroppedRowsWarning, ImageDecodeError

__all__ = [
    "REJECT_COLUMNS",
    "OnError",
    "Reject",
    "RejectTable",
    "check_on_error",
    "warn_of_rejects",
    "write_reject",
]

OnError = Literal["raise", "skip"]
REJECT_COLUMNS: Final = ("path", "position", "partition", "reason")


@dataclasses.dataclass(frozen=True, slots=True)
class Reject:
    """An image that could not be read.

    Attributes
    ----------
    path : str or None
        Path of the image; None if it came from memory.
    position : int
        Its position, from 0: among all images or, if there is a `partition`, in this partition.
    reason : str
        Why it cannot be read.
    partition : int or None
        Number of its partition, from 0, if the images are in partitions.

    See Also
    --------
    predict_images : Returns a table of rejects.

    Examples
    --------
    >>> from effboost import Reject
    >>> reject = Reject("cells/3.png", 3, "the file is empty (0 bytes)")
    >>> print(reject.path, reject.reason)
    cells/3.png the file is empty (0 bytes)
    """

    path: str | None
    position: int
    reason: str
    partition: int | None = None

    @classmethod
    def of(cls, error: ImageDecodeError, position: int) -> Reject:
        """Return the row for an error.

        Parameters
        ----------
        error : ImageDecodeError
            Why the image cannot be read.
        position : int
            Position of the image, from 0.

        Returns
        -------
        Reject
            The row.
        """
        return cls(error.path, position, error.reason)


class RejectTable(Sequence[Reject]):
    """The images that could not be read, in their order: an immutable sequence of `Reject`.

    Parameters
    ----------
    rejects : iterable of Reject, default=()
        The rows.

    Examples
    --------
    >>> from effboost import Reject, RejectTable
    >>> table = RejectTable([Reject("cells/3.png", 3, "the file is empty (0 bytes)")])
    >>> table
    <RejectTable of 1 image>
    >>> table.positions
    array([3])
    >>> table[0].reason
    'the file is empty (0 bytes)'
    """

    def __init__(self, rejects: Iterable[Reject] = ()):
        self._rejects = tuple(rejects)

    @classmethod
    def of(cls, errors: Mapping[int, ImageDecodeError], start: int = 0) -> RejectTable:
        """Return the table of errors by position, of images that begin at a position.

        Parameters
        ----------
        errors : mapping of int to ImageDecodeError
            The errors, by position from `start`.
        start : int, default=0
            Position of the first image.

        Returns
        -------
        RejectTable
            A row for each error, in order.
        """
        return cls(Reject.of(errors[i], start + i) for i in sorted(errors))

    def __len__(self) -> int:
        return len(self._rejects)

    @overload
    def __getitem__(self, key: int) -> Reject: ...
    @overload
    def __getitem__(self, key: slice) -> RejectTable: ...
    def __getitem__(self, key: int | slice) -> Reject | RejectTable:
        found = self._rejects[key]
        return RejectTable(found) if isinstance(found, tuple) else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RejectTable) and self._rejects == other._rejects

    def __hash__(self) -> int:
        return hash(self._rejects)

    def __repr__(self) -> str:
        return f"<RejectTable of {len(self)} image{'' if len(self) == 1 else 's'}>"

    @property
    def positions(self) -> npt.NDArray[np.intp]:
        """Positions of the images, of shape (n_rejects,)."""
        return np.array([reject.position for reject in self], dtype=np.intp)

    def in_partition(self, partition: int) -> RejectTable:
        """Return the same rows as those of a partition.

        Parameters
        ----------
        partition : int
            Number of the partition, from 0.

        Returns
        -------
        RejectTable
            The rows, with this partition.
        """
        return RejectTable(dataclasses.replace(row, partition=partition) for row in self)

    def to_csv(self, path: str | os.PathLike[str], *, escape_formulas: bool = False) -> Path:
        """Write the table with the columns path, position, partition and reason.

        Parameters
        ----------
        path : str or path
            The file; replaced in one step if it exists.
        escape_formulas : bool, default=False
            Prefix cells that a spreadsheet would treat as formulas with an apostrophe.

        Returns
        -------
        Path
            The file.
        """
        text = io.StringIO(newline="")
        write_row(text, REJECT_COLUMNS)
        for reject in self:
            write_reject(text, reject, escape_formulas=escape_formulas)
        # File names may not be UTF-8; their bytes are written unchanged.
        return write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"))


def write_reject(file: TextIO, reject: Reject, *, escape_formulas: bool = False) -> None:
    """Write one row of a table, in the order of `REJECT_COLUMNS`."""
    row = [getattr(reject, name) for name in REJECT_COLUMNS]
    write_row(file, row, escape_formulas=escape_formulas)


def check_on_error(on_error: str) -> bool:
    """Return whether images that cannot be read are skipped; refuse other values."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r} must be 'raise' or 'skip'")
    return on_error == "skip"


def warn_of_rejects(rejects: RejectTable, n_images: int, what: str) -> None:
    """Warn the caller's caller that images have no result, if there are any."""
    if rejects:
        first = rejects[0]
        name = f"position {first.position}" if first.path is None else repr(first.path)
        warnings.warn(
            f"{len(rejects):,} of {n_images:,} images could not be read, and have no {what} (see "
            f"`rejects` of the result); the first is {name}: {first.reason}",
            DroppedRowsWarning,
            stacklevel=3,
        )
