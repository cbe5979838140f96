"""A folder of labelled images."""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.utils import Bunch

from effboost.exceptions import DatasetError, DroppedRowsWarning

__all__ = ["list_images", "load_image_folder", "read_image_folder"]

_TABLE: Final = "labels.csv"
_SUFFIXES: Final = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
_FILE_COLUMNS: Final = ("file", "path", "filename", "image")
_TARGET_COLUMNS: Final = ("target", "label", "class")
_GROUP_COLUMNS: Final = ("group", "subject", "patient")


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    target: str | None = None,
    group: str | None = None,
    drop_classes: Iterable[str] = (),
) -> Bunch:
    r"""Find the labelled images of a folder; none is opened.

    Two layouts are known. A folder that holds ``labels.csv`` is a table: one row for each image,
    with columns for its file (relative to the folder), its target, its group (the subject) and
    whatever else. In any other folder, each sub-folder is a class and holds its images, at any
    depth.

    Parameters
    ----------
    root : path
        The folder.
    target : str, default=None
        Column with the class. None takes the first there is of "target", "label" and "class".
    group : str, default=None
        In a table: column with the subject; None takes the first there is of "group", "subject"
        and "patient". In class folders: a regular expression whose first group is the subject
        in an image's path below the folder, such as ``r"UID_(H?\d+)_"``.
    drop_classes : iterable of str, default=()
        Classes to leave out.

    Returns
    -------
    Bunch
        - paths : object ndarray of shape (n_samples,), the files' paths as str
        - target : ndarray of shape (n_samples,), the classes as str
        - groups : ndarray of shape (n_samples,) of str, or None where no subject is known
        - target_names : list of str, the classes in sorted order
        - table : dict of the table's columns, each an ndarray of shape (n_samples,) of str;
          empty for class folders
        - n_dropped : int, rows left out because their target was empty or dropped

    Warns
    -----
    DroppedRowsWarning
        If rows have an empty target. The message counts them.

    Raises
    ------
    DatasetError
        If the folder or a file of the table is missing, a column does not exist, a name has no
        subject in it, or no labelled image is left.

    Examples
    --------
    >>> from effboost.datasets import load_image_folder
    >>> data = load_image_folder("cells", group="patient")  # doctest: +SKIP
    >>> data.paths[:2], data.target[:2]  # doctest: +SKIP
    """
    folder = _check_folder(root)
    data = read_image_folder(folder, target, group)
    if data.table:
        _check_files(data.paths, folder)
    dropped = {drop_classes} if isinstance(drop_classes, str) else set(drop_classes)
    return _drop(data, dropped, folder)


def list_images(root: str | os.PathLike[str]) -> list[str]:
    """List the images of a folder, at any depth; none is opened.

    Parameters
    ----------
    root : path
        The folder.

    Returns
    -------
    list of str
        The paths of its files with the suffix of an image (.bmp, .gif, .jpeg, .jpg, .png, .ppm,
        .tif, .tiff, .webp), sorted. What lies in hidden folders is left out.

    Raises
    ------
    DatasetError
        If there is no such folder.

    Examples
    --------
    >>> from effboost.datasets import list_images
    >>> list_images("cells")  # doctest: +SKIP
    """
    folder = _check_folder(root)
    return [str(folder / below) for below in _find_below(folder)]


def _check_folder(root: str | os.PathLike[str]) -> Path:
    folder = Path(root)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DatasetError(f"{str(folder)!r} {what}; give the folder that holds the images")
    return folder


def _find_below(folder: Path) -> list[Path]:
    found = (
        path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    )
    return [below for below in found if not any(map(_is_hidden, below.parts))]


def read_image_folder(
    folder: Path, target: str | None, group: str | None, *, unlabelled: bool = False
) -> Bunch:
    """Read a folder as `load_image_folder` does, faults included: files may be missing.

    With `unlabelled`, the files of class folders that lie in none come, too, with an empty target.
    """
    if (folder / _TABLE).is_file():
        return _load_table(folder, target, group)
    return _load_class_folders(folder, target, group, 0 if unlabelled else 1)


def _load_table(folder: Path, target: str | None, group: str | None) -> Bunch:
    table = _read_table(folder / _TABLE)
    files = table[_choose_column(table, None, _FILE_COLUMNS, "file") or ""]
    targets = table[_choose_column(table, target, _TARGET_COLUMNS, "target") or ""]
    group_column = _choose_column(table, group, _GROUP_COLUMNS, "group", required=False)
    paths = np.array([str(folder / file) for file in files], dtype=object)
    groups = None if group_column is None else table[group_column]
    return Bunch(paths=paths, target=targets, groups=groups, table=table)


def _check_files(paths: np.ndarray, folder: Path) -> None:
    """Check that each file of a table is there, and named once."""
    missing = [(i, path) for i, path in enumerate(paths) if not Path(path).is_file()]
    if missing:
        row, path = missing[0]
        raise DatasetError(
            f"{len(missing)} of the {len(paths)} files in {_TABLE} are missing, the first {path!r} "
            f"(line {row + 2})"
        )
    # One file may be named in several ways: "a.png", "./a.png", a link to it.
    real = [os.path.realpath(path) for path in paths]
    _, first, counts = np.unique(real, return_index=True, return_counts=True)
    if (counts > 1).any():
        raise DatasetError(
            f"{_TABLE} names {(counts > 1).sum()} files more than once, such as "
            f"{os.path.relpath(paths[first[np.argmax(counts)]], folder)!r}: keep one row for each "
            "image"
        )


def _read_table(file: Path) -> dict[str, np.ndarray]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{str(file)!r} is not UTF-8 ({error}): save it as UTF-8") from error
    # Spreadsheets write semicolons where the comma is the decimal sign.
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    # Strict: an unclosed quote would otherwise swallow the lines behind it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        for row in filter(None, reader):
            rows.append(row)
            if len(row) != len(rows[0]):
                raise DatasetError(
                    f"line {reader.line_num} of {str(file)!r} has {len(row)} values, its header "
                    f"{len(rows[0])}"
                )
    except csv.Error as error:
        raise DatasetError(f"line {reader.line_num} of {str(file)!r}: {error}") from error
    if len(rows) < 2:
        raise DatasetError(f"{str(file)!r} holds no rows below its header")
    names, *body = rows
    twice = {name.strip() for name in names if names.count(name) > 1}
    if twice:
        raise DatasetError(f"{str(file)!r} has two columns {sorted(twice)[0]!r}: rename one")
    return {
        name.strip(): np.array([row[i].strip() for row in body]) for i, name in enumerate(names)
    }


def _choose_column(
    table: dict[str, np.ndarray],
    asked: str | None,
    usual: tuple[str, ...],
    role: str,
    *,
    required: bool = True,
) -> str | None:
    for name in usual if asked is None else (asked,):
        if name in table:
            return name
    if asked is None and not required:
        return None
    wanted = " or ".join(map(repr, usual)) if asked is None else repr(asked)
    raise DatasetError(
        f"{_TABLE} has no column {wanted} for the {role}; its columns are {', '.join(table)}"
    )


def _load_class_folders(
    folder: Path, target: str | None, group: str | None, depth: int = 1
) -> Bunch:
    if target is not None:
        raise DatasetError(
            f"target={target!r} names a column, but {str(folder)!r} holds no {_TABLE}: in class "
            "folders the folder's name is the target"
        )
    found = [below for below in _find_below(folder) if len(below.parts) > depth]
    groups = None
    if group is not None:
        groups = np.array([_subject_in(below.as_posix(), group) for below in found])
    return Bunch(
        paths=np.array([str(folder / below) for below in found], dtype=object),
        target=np.array([_class_of(below) for below in found], dtype=str),
        groups=groups,
        table={},
    )


def _class_of(below: Path) -> str:
    return below.parts[0] if len(below.parts) > 1 else ""


def _is_hidden(name: str) -> bool:
    # Of notebooks, of version control, and of archives that were packed on a Mac.
    return name.startswith(".") or name == "__MACOSX"


def _subject_in(name: str, pattern: str) -> str:
    try:
        match = re.search(pattern, name)
        subject = match and match[1]
    except (re.error, IndexError) as error:
        raise DatasetError(
            f"group={pattern!r} must be a regular expression with one group in parentheses "
            f"({error})"
        ) from error
    if not subject:
        raise DatasetError(f"group={pattern!r} finds no subject in {name!r}")
    return subject


def _drop(data: Bunch, classes: set[str], folder: Path) -> Bunch:
    unknown = classes - set(data.target.tolist())
    if unknown:
        raise DatasetError(
            f"there is no class {sorted(unknown)[0]!r} to drop; the classes are "
            f"{', '.join(sorted(set(data.target.tolist()) - {''})[:20])}"
        )
    empty = data.target == ""
    if empty.any():
        warnings.warn(
            f"{empty.sum()} of the {len(empty)} rows have an empty target and are left out",
            DroppedRowsWarning,
            stacklevel=3,
        )
    keep = ~empty & ~np.isin(data.target, list(classes))
    if not keep.any():
        raise DatasetError(
            f"{str(folder)!r} holds no labelled image: it needs a {_TABLE}, or a sub-folder of "
            f"images ({', '.join(sorted(_SUFFIXES))}) for each class"
        )
    target = data.target[keep]
    return Bunch(
        paths=data.paths[keep],
        target=target,
        groups=None if data.groups is None else data.groups[keep],
        target_names=sorted(set(target.tolist())),
        table={name: column[keep] for name, column in data.table.items()},
        n_dropped=int((~keep).sum()),
    )
