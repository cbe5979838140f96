"""Recursive listing of image files."""

from __future__ import annotations

import dataclasses
import mimetypes
import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from effboost.exceptions import DatasetError, DroppedRowsWarning

__all__ = ["SUFFIXES", "check_folder", "find_images", "warn_of_others"]

# The suffixes that Pillow registers for the formats that effboost decodes.
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
# Other image formats, which the MIME types of the system may not include.
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
# How often links may lead to one folder, since chains of links can multiply.
_MAX_VISITS: Final = 100


@dataclasses.dataclass
class _Walk:
    """State of a recursive listing."""

    images: list[Path] = dataclasses.field(default_factory=list)
    others: Counter[str] = dataclasses.field(default_factory=Counter)
    visits: Counter[tuple[int, int]] = dataclasses.field(default_factory=Counter)
    left_out: Callable[[str], object] | None = None

    def fail(self, problem: str, cause: OSError | None = None) -> None:
        """Raise an error, or tell what is left out."""
        if self.left_out is None:
            raise DatasetError(problem) from cause
        self.left_out(problem)


def check_folder(root: str | os.PathLike[str]) -> Path:
    """Check that a folder exists."""
    folder = Path(root)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DatasetError(f"{str(folder)!r} {what}; give the folder that holds the images")
    return folder


def find_images(
    folder: Path, left_out: Callable[[str], object] | None = None
) -> tuple[list[Path], Counter[str]]:
    """Find the images of a folder, at any depth, by their suffixes.

    Links are followed, except to a folder that contains them. A broken link with the suffix of an
    image is listed like a file. Hidden files and folders are left out.

    Parameters
    ----------
    folder : path
        The folder, which exists.
    left_out : callable, default=None
        Called with the reason for each folder or link that cannot be read, and is left out. None
        raises an error.

    Returns
    -------
    images : list of path
        Relative to the folder, sorted.
    others : Counter of str
        Images of formats that effboost does not read, by their suffixes.

    Raises
    ------
    DatasetError
        If a folder cannot be read, or a link to a folder is broken.
    """
    walk = _Walk(left_out=left_out)
    _visit(folder, Path(), (), walk)
    return sorted(walk.images), walk.others


def warn_of_others(others: Counter[str], folder: Path) -> None:
    """Warn about images of formats that effboost does not read."""
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
        walk.fail(f"{str(folder)!r} cannot be read: {error}", error)
        return
    own = (status.st_dev, status.st_ino)
    if own in parents:
        return
    walk.visits[own] += 1
    if walk.visits[own] > _MAX_VISITS:
        walk.fail(f"more than {_MAX_VISITS} links lead to {str(folder)!r}: remove some of them")
        return
    for entry in entries:
        if _is_hidden(entry.name):
            continue
        if _is(entry, os.DirEntry.is_dir):
            _visit(root, below / entry.name, (*parents, own), walk)
            continue
        suffix = Path(entry.name).suffix.lower()
        if suffix in SUFFIXES:
            walk.images.append(below / entry.name)
        elif not suffix and entry.is_symlink() and not _is(entry, os.DirEntry.is_file):
            goal = str(Path(entry.path).readlink())
            walk.fail(
                f"the link {entry.path!r} leads to {goal!r}, which does not exist: correct or "
                "remove it"
            )
        elif suffix in _OTHER_IMAGES or _is_image_type(entry.name):
            walk.others[suffix] += 1


def _is(entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    try:
        return kind(entry)
    except OSError:  # a link to itself, or a folder of a network that is gone
        return False


def _is_image_type(name: str) -> bool:
    return (mimetypes.guess_type(name)[0] or "").startswith("image/")


def _is_hidden(name: str) -> bool:
    """Return whether a file is hidden, or metadata that macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"
