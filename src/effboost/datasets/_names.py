"""Names of classes and subjects that look like one name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["find_similar_names"]


def find_similar_names(names: Iterable[str]) -> list[list[str]]:
    """Find names that differ in case, spaces or the form of Unicode alone.

    Returns
    -------
    list of list of str
        Groups of two names or more, sorted.
    """
    spellings: dict[str, set[str]] = {}
    for name in names:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        spellings.setdefault(plain, set()).add(name)
    return sorted(sorted(group) for group in spellings.values() if len(group) > 1)
