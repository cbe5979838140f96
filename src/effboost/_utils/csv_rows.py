"""Writing of CSV rows that are safe to read, print, and open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

from effboost._utils.escape import escape_invisible

__all__ = ["unescape_formula", "write_row", "write_rows"]

# Beginnings of formulas in spreadsheets, and the apostrophe that marks text.
_FORMULA: Final = tuple("=+-@\t\r'")


def write_rows(
    file: TextIO, rows: Iterable[Sequence[Any]], *, escape_formulas: bool = False
) -> None:
    """Write several rows; see `write_row`."""
    for row in rows:
        write_row(file, row, escape_formulas=escape_formulas)


def write_row(file: TextIO, row: Sequence[Any], *, escape_formulas: bool = False) -> None:
    """Write one row, terminated by a line feed.

    Cells with a carriage return are quoted, unlike by `csv.writer` of Python 3.11 with this line
    terminator. On a terminal, control characters are escaped.

    Parameters
    ----------
    file : text file
        Opened with ``newline=""``.
    row : sequence
        The cells.
    escape_formulas : bool, default=False
        Prefix cells that a spreadsheet would treat as formulas with an apostrophe.
    """
    cells = ["" if cell is None else str(cell) for cell in row]
    if escape_formulas:
        cells = [f"'{cell}" if _is_formula(cell) else cell for cell in cells]
    if file.isatty():
        cells = [escape_invisible(cell) for cell in cells]
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    file.write(line.getvalue().removesuffix("\r\n") + "\n")


def unescape_formula(cell: str) -> str:
    """Return the original of a cell that `write_row` wrote with `escape_formulas`."""
    return cell[1:] if cell.startswith("'") else cell


def _is_formula(cell: str) -> bool:
    if not cell.startswith(_FORMULA):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return cell[0] == "'"
