"""Reader of ``labels.csv``."""

from __future__ import annotations

import csv
import itertools
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from effboost._utils.escape import quote_name
from effboost.datasets._files import find_images
from effboost.exceptions import DatasetError

__all__ = [
    "TABLE",
    "Table",
    "blank_missing",
    "check_names",
    "choose_column",
    "find_files",
    "list_names",
    "read_table",
]

TABLE: Final = "labels.csv"
_MAX_BYTES: Final = 2**28
# The texts that pandas reads as missing values, except for the empty one.
_MISSING: Final = frozenset(
    (
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "NaT",
        "None",
        "n/a",
        "nan",
        "null",
    )
)
# The arrays of classes and subjects repeat a name for each image.
_MAX_NAME: Final = 1000
_SHOWN: Final = 20

# Columns by name. Arrays of objects, so that one long cell does not enlarge all others.
Table = dict[str, npt.NDArray[np.object_]]


def read_table(file: Path) -> tuple[Table, list[int]]:
    """Read a CSV file in any of the common dialects.

    Cells are separated by commas, semicolons, tabs, or the character of a first line such as
    ``sep=;``. They are stripped and normalised to composed Unicode (NFC), so that names that look
    the same are equal. Empty rows and columns are left out.

    Returns
    -------
    columns : dict of str to ndarray of shape (n_rows,) of str objects
        The columns.
    lines : list of int
        The line of the file in which each row ends.

    Raises
    ------
    DatasetError
        If the file is no regular file, larger than 256 MB, or not UTF-8, or a row does not match
        the header.
    """
    status = file.stat()
    # Before it is opened: opening a pipe waits for a writer.
    if not stat.S_ISREG(status.st_mode):
        raise DatasetError(f"{str(file)!r} is not a regular file")
    if status.st_size > _MAX_BYTES:
        raise DatasetError(
            f"{str(file)!r} has {status.st_size:,} bytes; tables are read up to {_MAX_BYTES:,}"
        )
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows, lines = _read_rows(stream, file)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{str(file)!r} is not UTF-8 ({error}): save it as UTF-8") from error
    if len(rows) < 2:
        raise DatasetError(f"{str(file)!r} has no rows below its header")
    names, body = rows[0], rows[1:]
    columns = {
        name: np.fromiter((row[i] for row in body), dtype=object, count=len(body))
        for i, name in enumerate(names)
        if name
    }
    return columns, lines[1:]


def _read_rows(stream: Iterable[str], file: Path) -> tuple[list[list[str]], list[int]]:
    text, n_skipped = iter(stream), 0
    first = next(text, "")
    if first.lower().startswith("sep="):
        # Written by Excel.
        delimiter = first[4:].strip("\r\n")[:1] or ","
        n_skipped, first = 1, next(text, "")
    else:
        # Spreadsheets write semicolons in countries with decimal commas.
        delimiter = max(",;\t", key=first.count)
    # Strict, since the lines after an unclosed quote would otherwise be part of a cell.
    reader = csv.reader(itertools.chain([first], text), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            row = [unicodedata.normalize("NFC", cell.strip()) for cell in cells]
            line = reader.line_num + n_skipped
            if any(row):
                rows.append(_fit(row, rows[0], line, file) if rows else _check_header(row, file))
                lines.append(line)
    except csv.Error as error:
        line = reader.line_num + n_skipped
        raise DatasetError(f"line {line} of {str(file)!r}: {error}") from error
    return rows, lines


def _check_header(names: list[str], file: Path) -> list[str]:
    # Spreadsheets keep the separators of columns that were cleared.
    while names and not names[-1]:
        names.pop()
    twice = [name for name, n in Counter(names).items() if n > 1 and name]
    if twice:
        raise DatasetError(
            f"{str(file)!r} has two columns {quote_name(twice[0])}, which differ at most in spaces "
            "and Unicode form: rename one"
        )
    return names


def _fit(row: list[str], names: list[str], line: int, file: Path) -> list[str]:
    """Check that a row has as many cells as the header, except for empty cells at its end."""
    n = len(names)
    if len(row) < n or any(row[n:]):
        while row and not row[-1] and len(row) > n:
            row.pop()
        raise DatasetError(f"line {line} of {str(file)!r} has {len(row)} values, its header {n}")
    unnamed = [cell for name, cell in zip(names, row[:n], strict=True) if cell and not name]
    if unnamed:
        raise DatasetError(
            f"line {line} of {str(file)!r} has the value {quote_name(unnamed[0])} in a column "
            "without a name: name the column, or remove it"
        )
    return row[:n]


def choose_column(
    table: Table,
    asked: str | None,
    usual: tuple[str, ...],
    role: str,
    *,
    required: bool = True,
) -> str | None:
    """Return the name of the column with a role: the requested one, or one with a usual name."""
    for name in usual if asked is None else (unicodedata.normalize("NFC", asked),):
        if name in table:
            return name
    if asked is None and not required:
        return None
    wanted = " or ".join(map(repr, usual)) if asked is None else repr(asked)
    raise DatasetError(
        f"{TABLE} has no column {wanted} for the {role}; its columns are {list_names(table)}"
    )


def list_names(names: Iterable[str]) -> str:
    """Join names by commas, and shorten long lists."""
    shown = list(itertools.islice(names, _SHOWN + 1))
    more = ", ..." if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def check_names(values: Iterable[str], lines: list[int], role: str, *, missing: bool) -> None:
    """Check the cells with classes, subjects or splits.

    Parameters
    ----------
    values : iterable of str
        The cells.
    lines : list of int
        Their lines.
    role : str
        Their role in messages.
    missing : bool
        Whether cells such as "NA", which represent a missing value, raise an error.
    """
    for value, line in zip(values, lines, strict=True):
        if len(value) > _MAX_NAME:
            raise DatasetError(
                f"line {line} of {TABLE}: its {role} has {len(value):,} characters; {_MAX_NAME:,} "
                "are accepted"
            )
        if missing and value in _MISSING:
            raise DatasetError(
                f"line {line} of {TABLE}: its {role} is {value!r}, which represents a missing "
                "value: leave the cell empty, or use another name"
            )


def blank_missing(values: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Replace cells that represent a missing value by empty ones."""
    return np.array(["" if value in _MISSING else value for value in values], dtype=object)


# --- files ---------------------------------------------------------------------------------


def find_files(
    names: Iterable[str], lines: list[int], folder: Path, *, allow_outside: bool
) -> npt.NDArray[np.object_]:
    """Return the paths of the files that a table names.

    If a file does not exist under the given name, slashes instead of backslashes and other Unicode
    forms are tried.

    Raises
    ------
    DatasetError
        If a cell is empty, or names a file outside of the folder without `allow_outside`.
    """
    lookup: dict[str, Path] | None = None
    found = []
    for name, line in zip(names, lines, strict=True):
        if not name:
            raise DatasetError(f"line {line} of {TABLE} names no file")
        if not allow_outside and _is_outside(name, folder):
            raise DatasetError(
                f"line {line} of {TABLE} names {quote_name(name)}, which is outside of "
                f"{str(folder)!r}: name files relative to the folder, or give allow_outside=True"
            )
        path = folder / name
        if not _exists(path):
            if lookup is None:
                lookup = {_plain(below.as_posix()): below for below in find_images(folder)[0]}
            other = lookup.get(_plain(os.path.normpath(name.replace("\\", "/"))))
            path = path if other is None else folder / other
        found.append(str(path))
    return np.array(found, dtype=object)


def _is_outside(name: str, folder: Path) -> bool:
    for spelled in {name, name.replace("\\", "/")}:
        full = os.path.normpath(folder.absolute() / spelled)
        if not Path(full).is_relative_to(os.path.normpath(folder.absolute())):
            return True
    return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, null byte
        return False


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
