"""The files of a folder, at any depth, links included."""

from __future__ import annotations

import dataclasses
import mimetypes
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Final

from effboost.exceptions import DatasetError, DroppedRowsWarning

__all__ = ["SUFFIXES", "check_folder", "find_images", "warn_of_others"]

# Those that Pillow knows for the formats that effboost decodes.
SUFFIXES: Final = frozenset(
    (
        ".apng",
        ".bmp",
        ".dib",
        ".gif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pfm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    )
)
# Images of microscopes and others, which the system's list of types need not know.
_OTHER_IMAGES: Final = frozenset(
    (
        ".avif",
        ".bif",
        ".czi",
        ".dcm",
        ".heic",
        ".ims",
        ".j2k",
        ".jp2",
        ".jxl",
        ".lif",
        ".mrxs",
        ".nd2",
        ".ndpi",
        ".npy",
        ".oib",
        ".oif",
        ".scn",
        ".svs",
        ".vsi",
        ".zvi",
    )
)
# How often one folder may be reached by links: chains of links double with each step.
_MAX_VISITS: Final = 100


@dataclasses.dataclass
class _Walk:
    """What has been found so far."""

    images: list[Path] = dataclasses.field(default_factory=list)
    others: Counter[str] = dataclasses.field(default_factory=Counter)
    visits: Counter[tuple[int, int]] = dataclasses.field(default_factory=Counter)


def check_folder(root: str | os.PathLike[str]) -> Path:
    """Check that a folder exists."""
    folder = Path(root)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DatasetError(f"{str(folder)!r} {what}; give the folder that holds the images")
    return folder


def find_images(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Find the images of a folder, at any depth, by their suffixes.

    Links are followed; a link to a folder around it ends there. A link to an image that does not
    exist is found like a file. What lies in hidden folders is left out.

    Parameters
    ----------
    folder : path
        The folder, which exists.

    Returns
    -------
    images : list of path
        Relative to the folder, sorted.
    others : Counter of str
        Images of formats that effboost does not read, by their suffixes.

    Raises
    ------
    DatasetError
        If a folder cannot be read, or a link leads nowhere.
    """
    walk = _Walk()
    _visit(folder, Path(), (), walk)
    return sorted(walk.images), walk.others


def warn_of_others(others: Counter[str], folder: Path) -> None:
    """Warn of images of formats that effboost does not read, if there are any."""
    if others:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items()))
        warnings.warn(
            f"{others.total()} files in {str(folder)!r} are left out, since effboost does not read "
            f"their formats: {counts}",
            DroppedRowsWarning,
            stacklevel=3,
        )


def _visit(root: Path, below: Path, parents: tuple[tuple[int, int], ...], walk: _Walk) -> None:
    folder = root / below
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{str(folder)!r} cannot be read: {error}") from error
    own = (status.st_dev, status.st_ino)
    if own in parents:
        return
    walk.visits[own] += 1
    if walk.visits[own] > _MAX_VISITS:
        raise DatasetError(
            f"{str(folder)!r} is reached by more than {_MAX_VISITS} links: remove some of them"
        )
    for entry in entries:
        if _is_hidden(entry.name):
            continue
        if entry.is_dir():
            _visit(root, below / entry.name, (*parents, own), walk)
            continue
        suffix = Path(entry.name).suffix.lower()
        if suffix in SUFFIXES:
            walk.images.append(below / entry.name)
        elif not suffix and entry.is_symlink() and not entry.is_file():
            goal = str(Path(entry.path).readlink())
            raise DatasetError(
                f"the link {entry.path!r} leads to {goal!r}, which does not exist: correct or "
                "remove it"
            )
        elif suffix in _OTHER_IMAGES or _is_image_type(entry.name):
            walk.others[suffix] += 1


def _is_image_type(name: str) -> bool:
    return (mimetypes.guess_type(name)[0] or "").startswith("image/")


def _is_hidden(name: str) -> bool:
    """Return whether a name is one of notebooks, version control, or an archive packed on a Mac."""
    return name.startswith(".") or name == "__MACOSX"
