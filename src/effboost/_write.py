"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write a file, text as UTF-8, replaced in one step if it exists."""
    target = Path(path)
    part = target.with_name(f"{target.name}.part")
    try:
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target
