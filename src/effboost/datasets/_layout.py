"""Layouts of image folders: tables, class folders and splits."""

from __future__ import annotations

import dataclasses
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from effboost.datasets._cnmc import TARGET_NAMES, CnmcImage, list_training_images
from effboost.datasets._files import find_images
from effboost.datasets._table import (
    TABLE,
    Table,
    blank_missing,
    check_names,
    choose_column,
    find_files,
    read_table,
)
from effboost.exceptions import DatasetError

__all__ = ["Columns", "FolderData", "find_held_out", "join_folders", "read_folder"]

_FILE_COLUMNS: Final = ("file", "path", "filename", "image")
_TARGET_COLUMNS: Final = ("target", "label", "class")
_GROUP_COLUMNS: Final = ("group", "subject", "patient")
_SPLIT_COLUMNS: Final = ("split", "fold", "partition", "subset")

_WHAT: Final = r"([ _-]?(data|set|images?|split))?"
_HELD_OUT: Final = re.compile(
    rf"(val(id(ation)?)?|dev|test(ing)?|hold[ _-]?out){_WHAT}", re.IGNORECASE
)
_SPLIT: Final = re.compile(
    rf"(train(ing)?{_WHAT}|(fold|split)[ _-]?\d+)|{_HELD_OUT.pattern}", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of the table to use, and whether it may name files outside of its folder."""

    target: str | None = None
    group: str | None = None
    split: str | None = None
    allow_outside: bool = False


@dataclasses.dataclass(frozen=True)
class FolderData:
    """Images of a folder with their labels, subjects and splits; "" if unknown.

    Attributes
    ----------
    paths : ndarray of str objects
        The files, which may not exist.
    target : ndarray of str
        Their classes.
    groups, split : ndarray of str or None
        Their subjects and splits; None if none is known.
    lines : ndarray of int
        Their lines in the table; 0 without a table.
    table : dict of str to ndarray of str objects
        The columns of the tables.
    others : Counter of str
        Images of formats that effboost does not read.
    """

    paths: npt.NDArray[np.object_]
    target: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_] | None
    split: npt.NDArray[np.str_] | None
    lines: npt.NDArray[np.intp]
    table: Table
    others: Counter[str] = dataclasses.field(default_factory=Counter)

    def name(self, position: int) -> str:
        """Return the path of an image, with its line in the table."""
        line = int(self.lines[position])
        return f"{self.paths[position]!r}" + (f" (line {line} of {TABLE})" if line else "")


@dataclasses.dataclass(frozen=True)
class _Part:
    """Folder with a table or class folders, and the split that its name denotes."""

    split: str
    folder: Path
    images: list[Path]


def read_folder(folder: Path, columns: Columns, *, strict: bool) -> FolderData:
    """Find the images of a folder with their classes, subjects and splits.

    The folder has a table, or class folders, or folders that are named like splits ("train",
    "test", "fold_0", ...), each with one of these layouts; or it is that of C-NMC 2019, of which
    the training images are read, with their merged subjects.

    Parameters
    ----------
    folder : path
        The folder, which exists.
    columns : Columns
        The columns with classes, subjects and splits.
    strict : bool
        Whether missing values and file names without a subject raise an error. Otherwise, they
        are unknown.

    Raises
    ------
    DatasetError
        If the layout is ambiguous, or a table cannot be read.
    """
    if not (folder / TABLE).is_file():
        cnmc = list_training_images(folder)
        if cnmc is not None:
            return _read_cnmc(folder, cnmc, columns)
    images, others = find_images(folder)
    parts = _find_parts(folder, images, "")
    if strict and parts[0].split and not any(_has_labels(part) for part in parts):
        names = ", ".join(repr(part.folder.name) for part in parts)
        raise DatasetError(
            f"the folders {names} in {str(folder)!r} are named like splits, but have neither class "
            f"folders nor a {TABLE} in them: add them, or rename the folders if they are classes"
        )
    found = [
        _read_table(part, columns, strict=strict)
        if (part.folder / TABLE).exists()
        else _read_class_folders(folder, part, columns, strict=strict)
        for part in parts
    ]
    return dataclasses.replace(join_folders(found), others=others)


def _read_cnmc(folder: Path, images: list[CnmcImage], columns: Columns) -> FolderData:
    """Read the training images of C-NMC 2019; their folds are the splits."""
    if (columns.target, columns.group, columns.split) != (None, None, None):
        raise DatasetError(
            f"{str(folder)!r} is C-NMC 2019, whose classes, subjects and folds are known: leave "
            "out target, group and split"
        )
    return FolderData(
        paths=np.array([image.path for image in images], dtype=object),
        target=np.array([TARGET_NAMES[image.target] for image in images]),
        groups=np.array([image.group for image in images]),
        split=np.array([f"fold_{image.fold}" for image in images]),
        lines=np.zeros(len(images), dtype=np.intp),
        table={},
    )


def join_folders(found: list[FolderData]) -> FolderData:
    """Concatenate several folders; values that one of them lacks are unknown."""
    if len(found) == 1:
        return found[0]

    def join(columns: list[npt.NDArray[np.str_] | None]) -> npt.NDArray[np.str_] | None:
        if all(column is None for column in columns):
            return None
        return np.concatenate(
            [
                np.full(len(data.paths), "") if column is None else column
                for column, data in zip(columns, found, strict=True)
            ]
        )

    names = dict.fromkeys(itertools.chain.from_iterable(data.table for data in found))
    empty = [np.full(len(data.paths), "", dtype=object) for data in found]
    return FolderData(
        paths=np.concatenate([data.paths for data in found]),
        target=np.concatenate([data.target for data in found]),
        groups=join([data.groups for data in found]),
        split=join([data.split for data in found]),
        lines=np.concatenate([data.lines for data in found]),
        table={
            name: np.concatenate(
                [data.table.get(name, blank) for data, blank in zip(found, empty, strict=True)]
            )
            for name in names
        },
        others=sum((data.others for data in found), Counter()),
    )


def find_held_out(split: Iterable[str]) -> list[str]:
    """Return the splits that are named like validation or test sets, sorted."""
    return sorted(
        name
        for name in set(split)
        if any(_HELD_OUT.fullmatch(part) for part in name.replace("\\", "/").split("/"))
    )


# --- splits --------------------------------------------------------------------------------


def _find_parts(folder: Path, images: list[Path], split: str) -> list[_Part]:
    """Return the subfolders that are splits, or the folder itself if there are none."""
    if (folder / TABLE).exists():
        return [_Part(split, folder, images)]
    below: dict[str, list[Path]] = {
        place.parent.name: [] for place in sorted(folder.glob(f"*/{TABLE}")) if _is_split(place)
    }
    for image in images:
        if len(image.parts) > 1:
            below.setdefault(image.parts[0], []).append(image.relative_to(image.parts[0]))
    splits = [name for name in sorted(below) if _SPLIT.fullmatch(name)]
    if not splits:
        return [_Part(split, folder, images)]
    classes = [name for name in sorted(below) if name not in splits]
    if classes:
        raise DatasetError(
            f"{str(folder)!r} has folders that are named like splits ({', '.join(splits[:5])}) "
            f"beside others ({', '.join(classes[:5])}): move the class folders into those of the "
            f"splits, rename those that are classes, or add a {TABLE}"
        )
    parts = [
        part
        for name in splits
        for part in _find_parts(folder / name, below[name], f"{split}/{name}" if split else name)
    ]
    loose = [image for image in images if len(image.parts) == 1]
    return [*parts, _Part(split, folder, loose)] if loose else parts


def _is_split(table: Path) -> bool:
    return _SPLIT.fullmatch(table.parent.name) is not None


def _has_labels(part: _Part) -> bool:
    return (part.folder / TABLE).exists() or any(len(image.parts) > 1 for image in part.images)


# --- a table -------------------------------------------------------------------------------


def _read_table(part: _Part, columns: Columns, *, strict: bool) -> FolderData:
    table, lines = read_table(part.folder / TABLE)
    file = choose_column(table, None, _FILE_COLUMNS, "file")
    target = choose_column(table, columns.target, _TARGET_COLUMNS, "target")
    group = choose_column(table, columns.group, _GROUP_COLUMNS, "group", required=False)
    split = choose_column(table, columns.split, _SPLIT_COLUMNS, "split", required=False)
    paths = find_files(table[file or ""], lines, part.folder, allow_outside=columns.allow_outside)
    n = len(paths)

    def read(name: str | None, role: str) -> npt.NDArray[np.str_] | None:
        if name is None:
            return None
        check_names(table[name], lines, role, missing=strict)
        values = table[name] if strict else blank_missing(table[name])
        return None if role != "target" and not any(values) else values.astype(str)

    # Within such a folder, only a column that is asked for.
    within = None if part.split and columns.split is None else read(split, "split")
    return FolderData(
        paths=paths,
        target=np.full(n, "") if (found := read(target, "target")) is None else found,
        groups=read(group, "subject"),
        split=_join_split(part.split, within, n),
        lines=np.array(lines),
        table=table,
    )


def _join_split(
    folder: str, column: npt.NDArray[np.str_] | None, n: int
) -> npt.NDArray[np.str_] | None:
    """Return the splits of a column in a folder that is named like a split."""
    if not folder or column is None:
        return np.full(n, folder) if folder else column
    return np.array([f"{folder}/{name}" if name else folder for name in column.tolist()])


# --- class folders -------------------------------------------------------------------------


def _read_class_folders(root: Path, part: _Part, columns: Columns, *, strict: bool) -> FolderData:
    for role in ("target", "split"):
        name = getattr(columns, role)
        if name is not None:
            raise DatasetError(
                f"{role}={name!r} names a column, but {str(part.folder)!r} has no {TABLE}: there, "
                f"the name of a folder is the {role}"
            )
    target = np.array([_class_of(image) for image in part.images], dtype=str)
    names = [(part.folder / image).relative_to(root).as_posix() for image in part.images]
    groups = None
    if columns.group is not None:
        groups = _find_subjects(names, columns.group, target != "", strict=strict)
    split = [part.split or _split_within(image) for image in part.images]
    return FolderData(
        paths=np.array([str(part.folder / image) for image in part.images], dtype=object),
        target=target,
        groups=groups,
        split=np.array(split, dtype=str) if any(split) else None,
        lines=np.zeros(len(names), dtype=np.intp),
        table={},
    )


def _class_of(image: Path) -> str:
    return unicodedata.normalize("NFC", image.parts[0]) if len(image.parts) > 1 else ""


def _split_within(image: Path) -> str:
    """Return the first folder inside of a class folder that is named like a split."""
    return next((name for name in image.parts[1:-1] if _SPLIT.fullmatch(name)), "")


def _find_subjects(
    names: list[str], pattern: str, labelled: npt.NDArray[np.bool_], *, strict: bool
) -> npt.NDArray[np.str_]:
    try:
        matches = [re.search(pattern, name) for name in names]
        found = [(match and match[1]) or "" for match in matches]
    except (re.error, IndexError) as error:
        raise DatasetError(
            f"group={pattern!r} must be a regular expression with one group in parentheses "
            f"({error})"
        ) from error
    without = [
        name
        for name, subject, known in zip(names, found, labelled, strict=True)
        if not subject and known
    ]
    if without and (strict or not any(found)):
        raise DatasetError(f"group={pattern!r} finds no subject in {without[0]!r}")
    return np.array(found, dtype=str)
