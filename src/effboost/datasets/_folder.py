"""Loader of labelled image folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from effboost._images import ImageSequence
from effboost.datasets._files import SUFFIXES, check_folder, find_images, warn_of_others
from effboost.datasets._layout import Columns, FolderData, read_folder
from effboost.datasets._names import find_similar_names
from effboost.datasets._table import TABLE, list_names
from effboost.exceptions import DatasetError, DroppedRowsWarning, LabelWarning

__all__ = ["list_images", "load_image_folder"]


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    target: str | None = None,
    group: str | None = None,
    split: str | None = None,
    parts: Iterable[str] | None = None,
    drop_classes: Iterable[str] = (),
    allow_outside: bool = False,
    white_level: float | None = None,
) -> Bunch:
    r"""Find the labelled images of a folder, without opening them.

    Three layouts are supported:

    - A folder with a table ``labels.csv``, which has one row for each image, with columns for its
      file (relative to the folder), its target, its group (the subject), its split and others.
    - A folder with class folders: each subfolder is a class and contains its images, at any depth.
    - A folder whose subfolders are named like splits ("train", "val", "test", "fold_0",
      "training_data", ...), each with one of the other layouts.
    - The folder of C-NMC 2019 (see `load_cnmc`): its training images, with the classes "ALL" and
      "HEM", subjects who share images as one group, and the official folds as splits.

    Links to files and folders are followed.

    Parameters
    ----------
    root : path
        The folder.
    target : str, default=None
        Column with the class. None uses the first of "target", "label" and "class" that exists.
    group : str, default=None
        In a table: column with the subject; None uses the first of "group", "subject" and
        "patient" that exists. In class folders: a regular expression whose first group matches
        the subject in the path of an image relative to the folder, such as ``r"UID_(H?\d+)_"``.
    split : str, default=None
        Column with the split. None uses the first of "split", "fold", "partition" and "subset"
        that exists.
    parts : iterable of str, default=None
        The splits to keep, such as ``["train"]``. None keeps the images of all.
    drop_classes : iterable of str, default=()
        Classes to leave out.
    allow_outside : bool, default=False
        Whether a table may name files outside of its folder, by absolute paths or "..". A table
        from somebody else could name any image on this machine.
    white_level : float, default=None
        See `ImageSequence`.

    Returns
    -------
    Bunch
        - paths : object ndarray of shape (n_samples,), the files' paths as str
        - images : ImageSequence of shape (n_samples,), carrying the groups
        - target : ndarray of shape (n_samples,), the classes as str
        - groups : ndarray of shape (n_samples,) of str, the subjects, or None if unknown
        - split : ndarray of shape (n_samples,) of str, the splits, or None if unknown
        - target_names : list of str, the classes in sorted order
        - table : dict of the table's columns, each an object ndarray of shape (n_samples,) of str;
          empty for class folders
        - n_dropped : int, number of images left out because they have no target, or because of
          `parts` or `drop_classes`
        - n_skipped : int, number of images in formats that effboost does not read

    Raises
    ------
    DatasetError
        If the folder, a file of the table or a column does not exist, a file name contains no
        subject, a target or subject is missing, the layout is ambiguous, or no labelled image is
        left.

    Warns
    -----
    DroppedRowsWarning
        If images have no target, or a format that effboost does not read.
    LabelWarning
        If classes or subjects differ only in case, spaces or Unicode form.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from effboost.datasets import load_image_folder
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("ALL/UID_1_1.png", "HEM/UID_H2_1.png"):
    ...         Path(folder, name).parent.mkdir()
    ...         Path(folder, name).touch()
    ...     data = load_image_folder(folder, group=r"UID_(H?\d+)_")
    >>> data.target.tolist(), data.groups.tolist()
    (['ALL', 'HEM'], ['1', 'H2'])
    """
    folder = check_folder(root)
    data = read_folder(folder, Columns(target, group, split, allow_outside), strict=True)
    warn_of_others(data.others, folder)
    _check_files(data, folder)
    kept = _keep_parts(data, parts, folder)
    dropped = {drop_classes} if isinstance(drop_classes, str) else set(drop_classes)
    kept &= _keep_classes(data, kept, dropped, folder)
    groups = _check_subjects(data, kept)
    _warn_of_similar_names(data.target[kept], groups)
    paths, labels = data.paths[kept], data.target[kept]
    return Bunch(
        paths=paths,
        images=ImageSequence(paths, groups=groups, white_level=white_level),
        target=labels,
        groups=groups,
        split=None if data.split is None else data.split[kept],
        target_names=sorted(set(labels.tolist())),
        table={name: column[kept] for name, column in data.table.items()},
        n_dropped=int((~kept).sum()),
        n_skipped=data.others.total(),
    )


def list_images(root: str | os.PathLike[str]) -> list[str]:
    """List the images of a folder, at any depth, without opening them.

    Parameters
    ----------
    root : path
        The folder.

    Returns
    -------
    list of str
        The paths of the files with the suffix of an image, sorted. Links are followed; hidden
        files and folders are left out.

    Raises
    ------
    DatasetError
        If the folder does not exist, or a link to a folder is broken.

    Warns
    -----
    DroppedRowsWarning
        If there are images in formats that effboost does not read.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from effboost.datasets import list_images
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("1.png", "2.tiff", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     [Path(path).name for path in list_images(folder)]
    ['1.png', '2.tiff']
    """
    folder = check_folder(root)
    images, others = find_images(folder)
    warn_of_others(others, folder)
    return [str(folder / image) for image in images]


def _check_files(data: FolderData, folder: Path) -> None:
    """Check that each file exists, and that a table names it once."""
    missing = [i for i, path in enumerate(data.paths) if not _is_file(path)]
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(data.paths)} images of {str(folder)!r} are missing, the "
            f"first is {data.name(missing[0])}"
        )
    if not data.table:
        return
    # One file has several names: "a.png", "./a.png", a link to it.
    real = [os.path.realpath(path) for path in data.paths]
    _, first, counts = np.unique(real, return_index=True, return_counts=True)
    if (counts > 1).any():
        raise DatasetError(
            f"{TABLE} names {(counts > 1).sum()} files more than once, such as "
            f"{os.path.relpath(data.paths[first[np.argmax(counts)]], folder)!r}: keep one row for "
            "each image"
        )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long, null byte
        return False


def _keep_parts(
    data: FolderData, parts: Iterable[str] | None, folder: Path
) -> npt.NDArray[np.bool_]:
    if parts is None:
        return np.ones(len(data.paths), dtype=bool)
    wanted = [parts] if isinstance(parts, str) else list(parts)
    split = np.full(len(data.paths), "") if data.split is None else data.split
    known = sorted(set(split.tolist()) - {""})
    unknown = [part for part in wanted if part not in known]
    if unknown:
        raise DatasetError(
            f"{str(folder)!r} has no split {unknown[0]!r}; its splits are "
            f"{list_names(known) or 'not known'}"
        )
    return np.isin(split, wanted)


def _keep_classes(
    data: FolderData, kept: npt.NDArray[np.bool_], dropped: set[str], folder: Path
) -> npt.NDArray[np.bool_]:
    known = set(data.target[kept].tolist()) - {""}
    unknown = dropped - known
    if unknown:
        raise DatasetError(
            f"there is no class {sorted(unknown)[0]!r} to drop; the classes are "
            f"{list_names(sorted(known))}"
        )
    without = data.target == ""
    left = ~without & ~np.isin(data.target, list(dropped))
    if not (kept & left).any():
        raise DatasetError(
            f"{str(folder)!r} has no labelled image: it needs a {TABLE}, or a subfolder of "
            f"images ({', '.join(sorted(SUFFIXES))}) for each class"
        )
    without &= kept
    if without.any():
        what = "have an empty target" if data.table else "are not in a class folder"
        warnings.warn(
            f"{without.sum()} of the {kept.sum()} images {what} and are left out",
            DroppedRowsWarning,
            stacklevel=3,
        )
    return left


def _check_subjects(data: FolderData, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.str_] | None:
    if data.groups is None:
        return None
    without = np.flatnonzero(kept & (data.groups == ""))
    if without.size:
        raise DatasetError(
            f"{without.size} of the {kept.sum()} images have no subject, the first is "
            f"{data.name(int(without[0]))}: name their subjects, or leave them out"
        )
    return data.groups[kept]


def _warn_of_similar_names(
    target: npt.NDArray[np.str_], groups: npt.NDArray[np.str_] | None
) -> None:
    for what, names in (("classes", target), ("subjects", groups)):
        similar = [] if names is None else find_similar_names(set(names.tolist()))
        if similar:
            shown = " and ".join(map(repr, similar[0]))
            warnings.warn(
                f"the {what} {shown} differ only in case, spaces or Unicode form, but are used as "
                "different ones",
                LabelWarning,
                stacklevel=3,
            )
