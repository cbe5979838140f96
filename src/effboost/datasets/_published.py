"""Loader of published sets of blood cells, from folders that users download themselves."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from effboost._images import ImageSequence
from effboost.datasets._files import find_images
from effboost.datasets._published_sets import PUBLISHED, PublishedSet
from effboost.exceptions import DatasetError, DroppedRowsWarning, IncompleteDataWarning

__all__ = ["load_published"]

_PARTS: Final = ("train", "val", "test")
_LEAST_SIDE: Final = 8
_MAX_BYTES: Final = 2**26
_Box = tuple[int, int, int, int]


class _Item(NamedTuple):
    """An image of a set; "" where a group or a part is not known."""

    path: str
    target: str
    group: str
    part: str


class _Found(NamedTuple):
    """The images of a set, with boxes for parts of photos, or pixels for arrays."""

    items: list[_Item]
    boxes: list[_Box] | None = None
    pixels: npt.NDArray[np.uint8] | None = None


def load_published(
    name: str,
    root: str | os.PathLike[str],
    *,
    version: str | None = None,
    allow_incomplete: bool = False,
) -> Bunch:
    """Find the images of a published set, which has to be downloaded by hand.

    Parameters
    ----------
    name : str
        A key of `PUBLISHED`: "all-idb1", "all-idb2", "sn-am", "taleqani", "pbc", "munich-aml",
        "raabin", "bccd", "lisc", "malaria", "bloodmnist" or "medmnist".
    root : path
        The folder into which the download was unpacked, or any folder in it that contains all of
        its images; for MedMNIST, the ``.npz`` file or its folder.
    version : str, default=None
        For "taleqani": "original" (the default) or "segmented".
    allow_incomplete : bool, default=False
        Whether a copy may have fewer or more images than the published set. It is then a warning.

    Returns
    -------
    Bunch
        - paths : object ndarray of shape (n_samples,), the files' paths as str, or None for
          "bloodmnist" and "medmnist"; for "bccd", the photos, repeated for each object
        - images : ImageSequence of shape (n_samples,), carrying the groups if they are known
        - target : ndarray of shape (n_samples,) of str, the classes
        - target_names : list of str, the classes in sorted order
        - groups : ndarray of shape (n_samples,) of str, or None if they are not published; see
          DESCR for what a group is
        - site : ndarray of shape (n_samples,) of str, where the images are from
        - split : ndarray of shape (n_samples,) of str, the official parts, or None without any
        - DESCR : str, what the images show, source, licence, citation, what a group is, known
          faults. What is uncertain is called so.

    Raises
    ------
    DatasetError
        If images or classes of the set are missing. The message says which, and where to get the
        set under which licence.
    ValueError
        If there is no such set or version.

    Warns
    -----
    IncompleteDataWarning
        With `allow_incomplete`, if the number of images of a class is not that of the set.
    DroppedRowsWarning
        If objects of "bccd" are smaller than 8 x 8 pixels, and left out.

    See Also
    --------
    load_cnmc : C-NMC 2019.
    combine : Use several sets as one.

    Examples
    --------
    A copy with two of the images, without the warning that it is incomplete:

    >>> import warnings
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from effboost.datasets import load_published
    >>> with TemporaryDirectory() as folder, warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     for name in ("Im001_1.jpg", "Im002_0.jpg"):
    ...         Path(folder, name).touch()
    ...     data = load_published("all-idb1", folder, allow_incomplete=True)
    >>> data.target.tolist(), data.groups.tolist()
    (['ALL', 'healthy'], ['001', '002'])
    """
    if name not in PUBLISHED:
        raise ValueError(f"name={name!r} is not a published set; they are {', '.join(PUBLISHED)}")
    known = PUBLISHED[name]
    where = Path(root)
    if not where.exists():
        raise DatasetError(f"{str(where)!r} does not exist. {_say_source(known)}")
    found = _READERS[known.reader](known, where, _choose_version(known, version))
    if not found.items:
        raise DatasetError(
            f"{str(where)!r} has no image of {known.title}: no path ends like "
            f"{known.example!r}. {_say_source(known)}"
        )
    _check_counts(known, found.items, where, allow_incomplete=allow_incomplete)
    return _make_bunch(known, found)


# --- reading -------------------------------------------------------------------------------


def _read_files(known: PublishedSet, root: Path, version: str) -> _Found:
    """Find the images whose paths have the form of the set."""
    _check_folder(known, root)
    pattern = _compile(known)
    wanted = re.compile(version, re.IGNORECASE)
    group_of = {name: "+".join(names) for names in known.merged for name in names}
    items = []
    for below in find_images(root)[0]:
        # The folder itself may be that of a class or a version.
        full = "/".join(("", *root.absolute().parts[-2:], below.as_posix()))
        match = pattern.search(full)
        if match is None or not wanted.search(full):
            continue
        parts = match.groupdict()
        group = (parts.get("group") or "").upper()
        items.append(
            _Item(
                str(root / below),
                known.classes[match["label"].lower()],
                group_of.get(group, group),
                (parts.get("part") or "").lower(),
            )
        )
    return _Found(items)


def _read_boxes(known: PublishedSet, root: Path, version: str) -> _Found:
    """Find the objects of photos, by their boxes in the XML files of Pascal VOC."""
    _check_folder(known, root)
    pattern = _compile(known)
    photos = {below.stem: str(root / below) for below in find_images(root)[0]}
    items: list[_Item] = []
    boxes: list[_Box] = []
    n_small = 0
    for file in sorted(root.rglob("*.xml")):
        match = pattern.search(f"/{file.absolute().as_posix()}")
        if match is None:
            continue
        if match["group"] not in photos:
            raise DatasetError(
                f"the photo of {str(file)!r} is missing: there is no image {match['group']!r} "
                f"below {str(root)!r}. {_say_source(known)}"
            )
        for label, box in _parse_objects(file):
            if label.lower() not in known.classes:
                raise DatasetError(f"{str(file)!r} has an object of the unknown class {label!r}")
            if min(box[2] - box[0], box[3] - box[1]) < _LEAST_SIDE:
                n_small += 1
                continue
            target = known.classes[label.lower()]
            items.append(_Item(photos[match["group"]], target, match["group"], ""))
            boxes.append(box)
    if n_small:
        warnings.warn(
            f"{n_small} objects of {known.title} are smaller than {_LEAST_SIDE} x {_LEAST_SIDE} "
            "pixels and are left out",
            DroppedRowsWarning,
            stacklevel=3,
        )
    return _Found(items, boxes)


def _parse_objects(file: Path) -> list[tuple[str, _Box]]:
    if file.stat().st_size > _MAX_BYTES:
        raise DatasetError(f"{str(file)!r} has more than {_MAX_BYTES:,} bytes: it is no annotation")
    text = file.read_bytes()
    if b"<!ENTITY" in text:
        # Nested entities grow to any size.
        raise DatasetError(f"{str(file)!r} defines XML entities, which annotations do not need")
    try:
        objects = ElementTree.fromstring(text).iter("object")
        return [(_text(item, "name"), _parse_box(item)) for item in objects]
    except (ElementTree.ParseError, ValueError) as error:
        raise DatasetError(f"{str(file)!r} is not a Pascal VOC annotation: {error}") from error


def _parse_box(item: ElementTree.Element) -> _Box:
    left, upper, right, lower = (
        round(float(_text(item, f"bndbox/{side}"))) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return left, upper, right, lower


def _text(item: ElementTree.Element, path: str) -> str:
    text = item.findtext(path)
    if text is None:
        raise ValueError(f"an object has no {path}")
    return text.strip()


def _read_npz(known: PublishedSet, root: Path, version: str) -> _Found:
    """Read the arrays of a file of MedMNIST."""
    pattern = _compile(known)
    files = [root] if root.is_file() else sorted(root.glob("*.npz"))
    files = [file for file in files if pattern.search(f"/{file.name}")]
    if len(files) > 1:
        raise DatasetError(
            f"{str(root)!r} has {len(files)} files of {known.title}: give one, such as {files[0]}"
        )
    if not files:
        return _Found([])
    names = [f"{part}_{what}" for part in _PARTS for what in ("images", "labels")]
    try:
        # numpy leaves a damaged file open that it opened itself.
        with files[0].open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            missing = [name for name in names if name not in arrays]
            if missing:
                raise DatasetError(
                    f"{str(files[0])!r} lacks the arrays {', '.join(missing)}. {_say_source(known)}"
                )
            images = [arrays[f"{part}_images"] for part in _PARTS]
            labels = [arrays[f"{part}_labels"] for part in _PARTS]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{str(files[0])!r} is not a file of MedMNIST: {error}") from error
    for pixels, numbers in zip(images, labels, strict=True):
        _check_arrays(files[0], pixels, numbers)
    parts = np.repeat(_PARTS, [len(pixels) for pixels in images]).tolist()
    numbers = np.concatenate([part.ravel() for part in labels]).tolist()
    items = [
        _Item("", known.classes.get(str(number), str(number)), "", part)
        for number, part in zip(numbers, parts, strict=True)
    ]
    return _Found(items, pixels=np.concatenate(images))


def _check_arrays(file: Path, pixels: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 3)
    ):
        raise DatasetError(
            f"{str(file)!r} has images of shape {pixels.shape} and type {pixels.dtype}; "
            "two-dimensional images, (n, h, w) or (n, h, w, 3) of uint8, are read"
        )
    if labels.dtype.kind not in "iu" or labels.size != len(pixels):
        raise DatasetError(
            f"{str(file)!r} has labels of shape {labels.shape} for {len(pixels)} images; sets with "
            "one number for each image are read"
        )


_READERS: Final[dict[str, Callable[[PublishedSet, Path, str], _Found]]] = {
    "files": _read_files,
    "boxes": _read_boxes,
    "npz": _read_npz,
}


# --- checks --------------------------------------------------------------------------------


def _check_folder(known: PublishedSet, root: Path) -> None:
    if not root.is_dir():
        raise DatasetError(
            f"{str(root)!r} is a file; give the folder with the unpacked images of {known.title}"
        )


def _choose_version(known: PublishedSet, version: str | None) -> str:
    """Return the regular expression for the paths of a version."""
    if not known.versions:
        if version is not None:
            raise ValueError(f"version={version!r}, but {known.title} has one version")
        return ""
    chosen = next(iter(known.versions)) if version is None else version
    if chosen not in known.versions:
        names = " or ".join(f'"{name}"' for name in known.versions)
        raise ValueError(f"version={version!r} must be {names}")
    return known.versions[chosen]


def _check_counts(
    known: PublishedSet, items: list[_Item], where: Path, *, allow_incomplete: bool
) -> None:
    counts = Counter(item.target for item in items)
    missing = sorted(set(known.classes.values()) - set(counts))
    wrong = [
        f"{counts[label]:,} of {n:,} {label} images"
        for label, n in known.counts.items()
        if counts[label] != n
    ] or [f"no {label} image" for label in missing]
    if not wrong:
        return
    text = f"{str(where)!r} is not the whole set {known.title}: it has {', '.join(wrong)}"
    if not allow_incomplete:
        raise DatasetError(
            f"{text}. {_say_source(known)} allow_incomplete=True accepts a part of it."
        )
    warnings.warn(text, IncompleteDataWarning, stacklevel=3)


def _say_source(known: PublishedSet) -> str:
    return f"Get {known.title} from {known.source}; licence: {known.licence}."


def _compile(known: PublishedSet) -> re.Pattern[str]:
    return re.compile(f"/{known.pattern}$", re.IGNORECASE)


def _make_bunch(known: PublishedSet, found: _Found) -> Bunch:
    paths, targets, groups, parts = zip(*found.items, strict=True)
    n = len(paths)
    subjects = np.array(groups) if known.has_groups else None
    files = None if found.pixels is not None else np.array(paths, dtype=object)
    source = files if found.pixels is None else found.pixels
    return Bunch(
        paths=files,
        images=ImageSequence(source, groups=subjects, boxes=found.boxes),
        target=np.array(targets),
        target_names=sorted(set(targets)),
        groups=subjects,
        site=np.array([known.sites.get(part, known.title) for part in parts]),
        split=np.array(parts) if any(parts) else None,
        DESCR=f"{known.describe()}This copy has {n:,} images.\n",
    )
