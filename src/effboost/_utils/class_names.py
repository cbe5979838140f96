"""What can be the name of a class or a subject."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

__all__ = ["LONGEST_NAME", "MISSING_TEXT", "are_classes", "is_missing_text"]

# None, NaN, pandas' NA and NaT after a conversion to text.
MISSING_TEXT: Final = ("nan", "None", "<NA>", "NaT")
# Characters; tables and figures show names in full.
LONGEST_NAME: Final = 1000


def is_missing_text(text: str) -> bool:
    """Return whether a text is blank, or a missing value that was converted to text."""
    return not text.strip() or text in MISSING_TEXT


def are_classes(values: Any) -> bool:
    """Return whether a list from a file can be the classes of a model.

    There are at least two, sorted, each once, none missing, and no name is overlong.
    """
    if not isinstance(values, list) or len(values) < 2:
        return False
    if any(isinstance(v, str) and (is_missing_text(v) or len(v) > LONGEST_NAME) for v in values):
        return False
    try:
        return all(first < second for first, second in pairwise(values))
    except TypeError:
        return False
