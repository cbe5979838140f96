"""Model files and the images that they are asked about."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

__all__ = ["keep_bytes", "list_inputs", "load_model"]


def load_model(path: Path) -> Any:
    """Load a model file: .onnx without torch, or what `effboost.save` wrote."""
    import effboost

    if path.suffix.lower() == ".onnx":
        return effboost.OnnxClassifier(path)
    return effboost.load(path)


def list_inputs(names: Iterable[str]) -> list[str]:
    """Return the paths of images: files, those in folders, and those listed on stdin."""
    from effboost.exceptions import DatasetError

    # Once each, in their order.
    found = list(dict.fromkeys(_expand(names)))
    if not found:
        raise DatasetError("there are no images: name files or folders that hold some")
    return found


def _expand(names: Iterable[str]) -> Iterator[str]:
    from effboost.datasets import list_images

    for name in names:
        if name == "-":
            keep_bytes(sys.stdin)
            lines = (line.rstrip("\r\n") for line in sys.stdin)
            yield from filter(None, lines)
        elif Path(name).is_dir():
            yield from list_images(name)
        else:
            yield name


def keep_bytes(stream: TextIO) -> None:
    """Let names of files through that are no UTF-8."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="surrogateescape")
