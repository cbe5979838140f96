"""Checks of a data set for faults before training."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import numpy.typing as npt
from sklearn.utils import check_consistent_length
from tqdm.auto import tqdm

from effboost._images import ImageSequence, as_images, identify
from effboost._utils.columns import is_no_name
from effboost._utils.threads import count_threads
from effboost.datasets._files import check_folder, warn_of_others
from effboost.datasets._findings import KINDS, DataCheck, Finding, sort_findings
from effboost.datasets._layout import Columns, FolderData, join_folders, read_folder
from effboost.datasets._names import find_similar_names
from effboost.datasets._near_duplicates import (
    DisjointSets,
    join_near_duplicates,
    make_thumbnail,
    shrink,
)
from effboost.exceptions import DatasetError, ImageDecodeError, LeakageError
from effboost.model_selection._leakage import check_group_leakage

__all__ = ["check_image_folder", "check_images"]

# Range of the means of the 64 x 64 parts of a uniform image, after sensor noise and JPEG.
_BLANK: Final = 8
# Largest mean of the 64 x 64 parts of an image that uses a quarter of its range.
_DARK: Final = 64


def check_images(
    X: Any,
    *,
    target: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    split: npt.ArrayLike | None = None,
    crop_size: int | None = None,
    max_distance: float | None = 3.0,
    progress: bool = False,
) -> DataCheck:
    """Check images for faults that would harm a model or make its evaluation too optimistic.

    It finds images that cannot be read, are blank or nearly black, differ in size from most, or
    have no label or subject; duplicates and near duplicates, also under several labels, subjects
    or splits; subjects in several splits; and labels or subjects that are one name in different
    spellings.

    Parameters
    ----------
    X : images, n_samples of them
        What `ImageSequence` takes. Each image is read once; 1 kB of it is kept.
    target : array-like of shape (n_samples,), default=None
        The label of each image; None or empty if it is unknown.
    groups : array-like of shape (n_samples,), default=None
        The subject of each image; None takes the groups that an `ImageSequence` carries.
    split : array-like of shape (n_samples,), default=None
        The part of the data that each image belongs to, such as "train" and "test".
    crop_size : int, default=None
        Also find images that are smaller than this, in pixels.
    max_distance : float, default=3.0
        Largest difference between near duplicates in grey levels: root mean square over the
        16 x 16 parts of the images, without an even background that both share, such as the
        black around segmented cells. None finds only files with identical bytes.
    progress : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    DataCheck
        The findings. It prints as a table.

    See Also
    --------
    check_image_folder : The same for a folder.
    effboost.model_selection.check_leakage : Raises an error if a split leaks.

    Notes
    -----
    Near duplicates are found if they were re-encoded, resized, rotated by quarter turns or
    mirrored; not if they were cropped, shifted, or changed in brightness. An image is blank if the
    means of its 64 x 64 parts lie within 8 grey levels in each channel, and nearly black if all of
    them lie below 64, as in 12-bit images that are stored with 16 bits (see `white_level` of
    `ImageSequence`). Sizes are compared if most images have the same size.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.datasets import check_images
    >>> X = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    >>> X[1], X[3] = X[0, ::-1], 7
    >>> found = check_images(X, target=["ALL", "HEM", "HEM", "ALL"])
    >>> found.counts
    {'several_labels': 1, 'near_duplicate': 1, 'blank': 1}
    >>> found.findings[0]
    Finding(kind='several_labels', images=('position 0', 'position 1'), detail='ALL, HEM')
    """
    images = as_images(X)
    rows = _Rows.of(images, target, images.groups if groups is None else groups, split)
    looks = _look_at_all(images, progress)
    sizes = Counter(look.size for look in looks if look.size is not None)
    findings = [
        *_find_leaking_subjects(rows),
        *_find_copies(rows, looks, max_distance),
        *_find_similar_names(rows),
        *_find_alone(rows, looks),
        *_find_sizes(rows, looks, sizes, crop_size),
    ]
    return DataCheck(
        sort_findings(findings),
        n_images=len(images),
        n_subjects=rows.count_subjects(range(len(images))),
        classes=rows.count_by(rows.target),
        splits=rows.count_by(rows.split),
        sizes=dict(sizes.most_common()),
    )


def check_image_folder(
    root: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    target: str | None = None,
    group: str | None = None,
    split: str | None = None,
    allow_outside: bool = False,
    white_level: float | None = None,
    crop_size: int | None = None,
    max_distance: float | None = 3.0,
    progress: bool = False,
) -> DataCheck:
    r"""Check a folder of labelled images for faults; see `check_images`.

    Parameters
    ----------
    root : path, or sequence of paths
        A folder as `load_image_folder` reads it, or several folders, each a split.
    target, group, split : str, default=None
        Columns or pattern of class, subject and split; see `load_image_folder`.
    allow_outside : bool, default=False
        Whether a table may name files outside of its folder; see `load_image_folder`.
    white_level : float, default=None
        See `ImageSequence`.
    crop_size : int, default=None
        See `check_images`.
    max_distance : float or None, default=3.0
        See `check_images`.
    progress : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    DataCheck
        The findings. Missing files of a table are found as unreadable.

    Raises
    ------
    DatasetError
        If the folder or a column does not exist, there are no images, or the layout is ambiguous.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from effboost.datasets import check_image_folder
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("ALL/UID_1_1.png", "HEM/UID_H2_1.png"):
    ...         Path(folder, name).parent.mkdir()
    ...         Path(folder, name).touch()
    ...     check_image_folder(folder, group=r"UID_(H?\d+)_").counts
    {'unreadable': 2}
    """
    roots = [root] if isinstance(root, str | os.PathLike) else list(root)
    folders = [check_folder(place) for place in roots]
    columns = Columns(target, group, split, allow_outside)
    found = [read_folder(folder, columns, strict=False) for folder in folders]
    for data, folder in zip(found, folders, strict=True):
        warn_of_others(data.others, folder)
    if len(found) > 1:
        found = [_as_split(data, folder) for data, folder in zip(found, folders, strict=True)]
    data = join_folders(found)
    if not len(data.paths):
        raise DatasetError(f"there is no image in {', '.join(repr(str(place)) for place in roots)}")
    return check_images(
        ImageSequence(data.paths, white_level=white_level),
        target=data.target,
        groups=data.groups,
        split=data.split,
        crop_size=crop_size,
        max_distance=max_distance,
        progress=progress,
    )


def _as_split(data: FolderData, folder: Path) -> FolderData:
    """Use one of several folders as a split, divided by the splits inside it."""
    within = np.full(len(data.paths), "") if data.split is None else data.split
    split = [f"{folder}/{part}" if part else str(folder) for part in within]
    return dataclasses.replace(data, split=np.array(split, dtype=str))


# --- images one by one ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """Summary of one image."""

    fingerprint: str | None = None
    size: tuple[int, int] | None = None
    thumbnail: npt.NDArray[np.uint8] | None = None
    range: int = 0
    brightest: int = 255
    error: str | None = None


def _look_at_all(images: ImageSequence, progress: bool) -> list[_Look]:
    # Threads suffice, since Pillow releases the GIL while it decodes.
    workers = joblib.Parallel(count_threads(), backend="threading", return_as="generator")
    looks = workers(joblib.delayed(_look_at)(images, i) for i in range(len(images)))
    bar = tqdm(looks, "check", len(images), unit="image", leave=None, disable=not progress)
    return list(bar)


def _look_at(images: ImageSequence, index: int) -> _Look:
    try:
        fingerprint = identify(images, index)
        size, small = images.decode(index, lambda picture: (picture.size, shrink(picture)))
    except ImageDecodeError as error:
        return _Look(error=error.reason)
    flat = small.reshape(-1, 3)
    spread = int((flat.max(axis=0).astype(int) - flat.min(axis=0)).max())
    return _Look(fingerprint, size, make_thumbnail(small), spread, int(flat.max()))


# --- labels, subjects and splits -----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Name, label, subject and split of each image; None if it is unknown."""

    names: list[str]
    target: list[str | None] | None
    groups: list[str | None] | None
    split: list[str | None] | None

    @classmethod
    def of(cls, images: ImageSequence, target: Any, groups: Any, split: Any) -> _Rows:
        columns = [_as_text(column) for column in (target, groups, split)]
        check_consistent_length(images, *columns)
        return cls([images.name(i) for i in range(len(images))], *columns)

    def name(self, positions: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.names[i] for i in positions)

    def count_subjects(self, positions: Iterable[int]) -> int | None:
        if self.groups is None:
            return None
        return len({self.groups[i] for i in positions} - {None})

    def count_by(self, column: list[str | None] | None) -> dict[str, tuple[int, int | None]]:
        """Count images and subjects for each value of a column."""
        where: dict[str, list[int]] = {}
        for i, value in enumerate(column or ()):
            if value is not None:
                where.setdefault(value, []).append(i)
        return {
            value: (len(where[value]), self.count_subjects(where[value])) for value in sorted(where)
        }


def _as_text(column: Any) -> list[str | None] | None:
    if column is None:
        return None
    return [None if is_no_name(value) else str(value) for value in np.asarray(column, dtype=object)]


# --- faults --------------------------------------------------------------------------------


def _find_leaking_subjects(rows: _Rows) -> Iterator[Finding]:
    if rows.groups is None or rows.split is None:
        return
    subjects: dict[str, dict[str, int]] = {}
    for i, (subject, part) in enumerate(zip(rows.groups, rows.split, strict=True)):
        if subject is not None and part is not None:
            subjects.setdefault(part, {}).setdefault(subject, i)
    leaking: dict[str, dict[str, int]] = {}
    for one, other in itertools.combinations(subjects, 2):
        try:
            check_group_leakage(list(subjects[one]), list(subjects[other]))
        except LeakageError as error:
            for subject in error.groups:
                found = leaking.setdefault(subject, {})
                found.update({part: subjects[part][subject] for part in (one, other)})
    for subject, first in leaking.items():
        detail = f"subject {subject} in {', '.join(first)}"
        yield Finding("leaking_subject", rows.name(first.values()), detail)


def _find_copies(rows: _Rows, looks: list[_Look], max_distance: float | None) -> Iterator[Finding]:
    sets = DisjointSets(len(looks))
    first: dict[str, int] = {}
    for i, look in enumerate(looks):
        if look.fingerprint is not None:
            sets.join(first.setdefault(look.fingerprint, i), i)
    for group in sets.groups():
        yield Finding("duplicate", rows.name(group), "identical bytes")
    if max_distance is not None:
        # Blank images are similar to each other, and are reported as blank.
        alone = [i for i in first.values() if looks[i].range > _BLANK]
        if alone:
            thumbnails = np.array([looks[i].thumbnail for i in alone], dtype=np.uint8)
            join_near_duplicates(sets, np.array(alone), thumbnails, max_distance)
    originals = set(first.values())
    for group in sets.groups():
        different = [i for i in group if i in originals]
        if len(different) > 1:
            yield Finding("near_duplicate", rows.name(different), "similar pixels")
        yield from _find_conflicts(rows, group)


def _find_conflicts(rows: _Rows, group: list[int]) -> Iterator[Finding]:
    columns = {
        "leaking_image": rows.split,
        "several_labels": rows.target,
        "several_subjects": rows.groups,
    }
    for kind, column in columns.items():
        values = [] if column is None else sorted({column[i] for i in group} - {None}, key=str)
        if len(values) > 1:
            yield Finding(kind, rows.name(group), ", ".join(map(str, values)))


def _find_alone(rows: _Rows, looks: list[_Look]) -> Iterator[Finding]:
    """Find faults of single images."""
    for name, look in zip(rows.names, looks, strict=True):
        if look.error is not None:
            yield Finding("unreadable", (name,), look.error)
        elif look.range <= _BLANK:
            yield Finding("blank", (name,), f"its colours vary by {look.range} of 255 levels")
        elif look.brightest < _DARK:
            detail = f"its brightest part is at {look.brightest} of 255 levels"
            yield Finding("dark", (name,), detail)
    for kind, column in (("no_label", rows.target), ("no_subject", rows.groups)):
        for name, value in zip(rows.names, column or (), strict=False):
            if value is None:
                yield Finding(kind, (name,), KINDS[kind].replace("images", "an image"))


def _find_similar_names(rows: _Rows) -> Iterator[Finding]:
    """Find labels and subjects that are one name in different spellings."""
    for kind, column in (("similar_labels", rows.target), ("similar_subjects", rows.groups)):
        for names in find_similar_names({name for name in column or () if name is not None}):
            first = [(column or []).index(name) for name in names]
            yield Finding(kind, rows.name(first), " and ".join(map(repr, names)))


def _find_sizes(
    rows: _Rows, looks: list[_Look], sizes: Counter[Any], crop_size: int | None
) -> Iterator[Finding]:
    usual, n = sizes.most_common(1)[0] if sizes else ((0, 0), 0)
    # Cells that were cropped one by one have no common size.
    one_size = 2 * n > sizes.total()
    for name, look in zip(rows.names, looks, strict=True):
        if look.size is None:
            continue
        reasons = []
        if one_size and look.size != usual:
            reasons.append(f"{n} of {sizes.total()} are {usual[0]} x {usual[1]}")
        if crop_size is not None and min(look.size) < crop_size:
            reasons.append(f"the crop is {crop_size} x {crop_size}")
        if reasons:
            detail = f"{look.size[0]} x {look.size[1]}; {'; '.join(reasons)}"
            yield Finding("size", (name,), detail)
