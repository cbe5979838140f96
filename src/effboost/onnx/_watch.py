"""Images that arrive in a folder, and the table of those that are already classified."""

from __future__ import annotations

import csv
import io
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from effboost._utils.csv_rows import write_row
from effboost.datasets._files import check_folder, find_images
from effboost.exceptions import DatasetError, DroppedRowsWarning

__all__ = ["resume_table", "watch_folder"]


def resume_table(path: str | os.PathLike[str], header: Sequence[str]) -> set[str]:
    """Prepare a CSV file for further rows, and return the first cells of its rows.

    A new file gets the header. A last row that is incomplete, since its process was killed, is
    removed.

    Raises
    ------
    DatasetError
        If the file is another table.
    """
    file = Path(path)
    text = ""
    if file.exists():
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            text = stream.read()
    start = io.StringIO(newline="")
    write_row(start, header)
    complete = _complete_rows(text)
    if not start.getvalue().startswith(text) and not complete.startswith(start.getvalue()):
        raise DatasetError(
            f"{str(file)!r} is not a table of this model, whose columns are {', '.join(header)}: "
            "name another file"
        )
    if len(complete) < len(start.getvalue()):
        complete = start.getvalue()
    if complete != text:
        with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(complete)
    return {row[0] for row in list(csv.reader(io.StringIO(complete, newline="")))[1:] if row}


def watch_folder(folder: Path, known: set[str], interval: float) -> Iterator[str]:
    """Yield the images that are in a folder, and those that arrive there, for ever.

    An image is yielded when its size and time have not changed between two looks, so that another
    program can finish writing it; and again, if they change later. Folders and links that cannot be
    read are left out, with a warning for each, until they can.

    Parameters
    ----------
    folder : Path
        The folder; images at any depth are found.
    known : set of str
        Paths that are left out.
    interval : float
        Seconds between two looks.
    """
    seen: dict[str, tuple[int, int]] = {}
    done: dict[str, tuple[int, int]] = {}
    told: set[str] = set()

    def tell(problem: str) -> None:
        if problem not in told:
            warnings.warn(f"{problem}; it is left out until then", DroppedRowsWarning, stacklevel=2)
        told.add(problem)

    check_folder(folder)
    while True:
        images, _ = find_images(folder, tell)
        for path in (str(folder / image) for image in images):
            if path in known:
                continue
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError:  # removed meanwhile
                continue
            now = status.st_size, status.st_mtime_ns
            if now == done.get(path):
                continue
            if now == seen.get(path) and status.st_size:
                done[path] = now
                yield path
            seen[path] = now
        time.sleep(interval)


def _complete_rows(text: str) -> str:
    """Return the rows of a CSV file without an incomplete last one."""
    while text and not (text.endswith("\n") and text.count('"') % 2 == 0):
        text = text[: text.rfind("\n", 0, -1) + 1]
    return text
