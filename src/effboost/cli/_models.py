"""Loading of models, and listing of input images."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from effboost._utils.stores import as_local_path, is_url, list_url, redact, url_exists

__all__ = ["can_read_again", "keep_bytes", "list_inputs", "load_model", "number_images"]


def load_model(path: Path) -> Any:
    """Load an .onnx file without torch, or a file written by `effboost.save`."""
    import effboost

    if path.suffix.lower() == ".onnx":
        return effboost.OnnxClassifier(path)
    return effboost.load(path)


def list_inputs(names: Iterable[str]) -> list[str]:
    """List the images of files, folders, URLs, and "-" for a list of paths or URLs on stdin."""
    from effboost.exceptions import DatasetError

    # Each image once, in the given order.
    found = list(dict.fromkeys(_expand(names)))
    if not found:
        raise DatasetError("there are no images: name image files, or folders with images")
    # Rows are found again by names, in which a query does not appear.
    if len({redact(name) for name in found}) < len(found):
        raise DatasetError(
            "some URLs differ only in user, password or query, which are not written since they "
            "may be credentials: their rows could not be told apart"
        )
    return found


def number_images(images: Sequence[str]) -> dict[str, int]:
    """Return the position of each image, by its name without passwords."""
    return {redact(image): i for i, image in enumerate(images)}


def _expand(names: Iterable[str]) -> Iterator[str]:
    from effboost.datasets import list_images
    from effboost.datasets._files import SUFFIXES

    for name in names:
        if name == "-":
            keep_bytes(sys.stdin, newline="\n")
            # Remove one carriage return of Windows line ends; file names may contain others.
            lines = (line.removesuffix("\n").removesuffix("\r") for line in sys.stdin)
            yield from filter(None, lines)
            continue
        name = as_local_path(name)
        if is_url(name):
            is_file = Path(redact(name).removesuffix("?***")).suffix.lower() in SUFFIXES
            below = [] if is_file else list_url(name)
            yield from [url for url in below if Path(url).suffix.lower() in SUFFIXES] or [name]
        elif Path(name).is_dir():
            yield from list_images(name)
        else:
            yield name


def can_read_again(name: str) -> bool:
    """Return whether a name in an output file leads to its image: a URL may be redacted."""
    return url_exists(name) if is_url(name) and "***" not in name else Path(name).is_file()


def keep_bytes(stream: TextIO, newline: str | None = None) -> None:
    """Keep file names that are not UTF-8, and set the line end."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="surrogateescape", newline=newline)
