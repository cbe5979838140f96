"""Names that users chose, shown as what they are: taken for hostile."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

__all__ = ["OwnText", "escape_invisible", "escape_markdown", "quote_name"]

# Controls, marks that turn the direction of text, line separators, halves of characters.
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_SHOWN: Final = 80
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>#|~&$])")


def escape_invisible(text: Any) -> str:
    """Make characters that are not seen, or that turn others around, visible by their number."""
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _UNSEEN else char
        for char in str(text)
    )


def quote_name(name: str) -> str:
    """Show a name that came from a file: visible, and not too long."""
    plain = escape_invisible(name)
    return repr(plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}...")


class OwnText(str):
    """Text that effboost wrote itself, such as "0.75 [0.70, 0.80]"."""


def escape_markdown(value: Any) -> str:
    """Return text that Markdown shows as it is."""
    if isinstance(value, OwnText):
        return value
    return _MARKDOWN.sub(r"\\\1", escape_invisible(value))
