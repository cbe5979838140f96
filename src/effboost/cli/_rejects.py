"""The table of images that could not be read, written as they come."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from effboost._utils.atomic_write import name_path, write_atomic
from effboost._utils.csv_rows import unescape_formula, write_row
from effboost.cli._output import check_new, output_path
from effboost.cli._rows import read_records

__all__ = ["RejectFile", "add_reject_options", "check_rejects"]


def add_reject_options(parser: argparse.ArgumentParser, *, rows: bool) -> None:
    """Add --on-error and --rejects; `rows` is whether the output has rows for errors."""
    kept = "row: a row with the error; " if rows else ""
    parser.add_argument(
        "--on-error",
        choices=["row", "raise", "skip"] if rows else ["raise", "skip"],
        default="row" if rows else "raise",
        help=f"what becomes of images that cannot be read; {kept}raise: stop at the first; skip: "
        "leave them out, and write them to --rejects (default: %(default)s)",
    )
    parser.add_argument(
        "--rejects",
        type=output_path,
        metavar="FILE",
        help="CSV file for --on-error skip: path, position, partition and reason of each image",
    )


def check_rejects(arguments: argparse.Namespace) -> None:
    """Check the options of `add_reject_options` before the work."""
    if arguments.on_error != "skip":
        if arguments.rejects is not None:
            raise ValueError("--rejects needs --on-error skip, which leaves images out")
        return
    if arguments.rejects is None:
        raise ValueError("--on-error skip needs --rejects FILE, which names the images left out")
    if isinstance(arguments.rejects, str):
        raise ValueError("--rejects needs a file of this machine, which grows row by row")
    if arguments.rejects == arguments.out:
        raise ValueError("--rejects and --out name the same file")
    check_new(arguments.rejects, force=arguments.force or arguments.resume)


class RejectFile:
    """A table of rejects that grows, and that --resume continues.

    Parameters
    ----------
    path : Path
        The file.
    stack : ExitStack
        Closes it.
    resume : bool
        Keep the rows that it has.
    escape_formulas : bool
        Prefix cells that a spreadsheet would treat as formulas with an apostrophe.
    positions : mapping of str to int
        Position of each image among all of this run; others have -1 in the rows that are kept.

    Attributes
    ----------
    images : set of str
        The paths of the images in the table.
    """

    def __init__(
        self,
        path: Path,
        stack: ExitStack,
        *,
        resume: bool,
        escape_formulas: bool,
        positions: Mapping[str, int],
    ):
        self._path, self._escape = path, escape_formulas
        self.images: set[str] = set()
        size = self._read(positions) if resume and path.exists() else 0
        with name_path(path):
            if size:
                # Remove an incomplete row.
                with path.open("r+b") as whole:
                    whole.truncate(size)
            # File names may not be UTF-8; their bytes are written unchanged.
            file = path.open(
                "a" if size else "w", newline="", encoding="utf-8", errors="surrogateescape"
            )
            self._file: TextIO = stack.enter_context(file)
            if not size:
                write_row(self._file, _columns())
                self._file.flush()

    @classmethod
    def open(
        cls, arguments: argparse.Namespace, stack: ExitStack, positions: Mapping[str, int]
    ) -> RejectFile | None:
        """Open the file of --rejects, or return None without the option."""
        if arguments.rejects is None:
            return None
        return cls(
            arguments.rejects,
            stack,
            resume=arguments.resume,
            escape_formulas=arguments.escape_formulas,
            positions=positions,
        )

    def write(self, reject: Any) -> None:
        """Add a row, at once: the image must not be missing in both files after a kill."""
        from effboost._rejects import write_reject

        with name_path(self._path):
            write_reject(self._file, reject, escape_formulas=self._escape)
            self._file.flush()
        self.images.add(reject.path or "")

    def describe(self, n_images: int) -> str:
        """Return the number of images in the table, in words."""
        return (
            f"{len(self.images):,} of {n_images:,} images could not be read, see "
            f"{str(self._path)!r}"
        )

    def _read(self, positions: Mapping[str, int]) -> int:
        """Read the paths in the file, and return its size up to the last complete row.

        Positions among other images than those of this run are corrected.
        """
        size, changed = 0, False
        corrected = io.StringIO(newline="")
        for number, record in enumerate(read_records(self._path, _is_whole), 1):
            cells = next(csv.reader([record.decode("utf-8", "surrogateescape")], strict=True), [])
            if len(cells) != len(_columns()) or (number == 1 and cells != list(_columns())):
                raise ValueError(
                    f"{str(self._path)!r} cannot be continued, since its row {number} is not one "
                    f"of {', '.join(_columns())}: use another --rejects, or --force instead of "
                    "--resume"
                )
            if number > 1:
                image = unescape_formula(cells[0]) if self._escape else cells[0]
                self.images.add(image)
                former, cells[1] = cells[1], str(positions.get(image, -1))
                changed = changed or former != cells[1]
            write_row(corrected, cells)
            size += len(record)
        if changed:
            content = corrected.getvalue().encode("utf-8", "surrogateescape")
            write_atomic(self._path, content)
            return len(content)
        return size


def _columns() -> tuple[str, ...]:
    # Imported late, since numpy takes a while to load.
    from effboost._rejects import REJECT_COLUMNS

    return REJECT_COLUMNS


def _is_whole(record: bytes) -> bool:
    # A line feed between quotes is part of a name.
    return record.count(b'"') % 2 == 0
