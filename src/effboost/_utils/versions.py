"""The installed versions of packages, for the keys of what is kept."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

__all__ = ["find_versions"]


@cache
def find_versions(*packages: str) -> tuple[str, ...]:
    """Return the version of each package; the files that tell it are read once."""
    return tuple(version(package) for package in packages)
