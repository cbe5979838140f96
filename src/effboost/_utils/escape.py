"""Escaping of names from users and files, which may be hostile."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

__all__ = ["OwnText", "escape_invisible", "escape_markdown", "quote_name"]

# Control characters, marks of text direction, line separators, and surrogates.
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_SHOWN: Final = 80
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>#|~&$@!])")
# Beginnings of lines that become lists, rules or headings.
_BLOCK: Final = re.compile(r"^([-+=]|\d{1,9}(?=[.)]))")
# Beginnings of addresses that GitHub converts to links.
_LINK: Final = re.compile(r"\b(www|https?|ftp)(\.|:(?=//))", re.IGNORECASE)


def escape_invisible(text: Any) -> str:
    """Replace invisible and control characters by their escape sequences."""
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _UNSEEN else char
        for char in str(text)
    )


def quote_name(name: str) -> str:
    """Quote a name from a file, escaped and shortened."""
    plain = escape_invisible(name)
    return repr(plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}...")


class OwnText(str):
    """Text that needs no escaping, such as "0.75 [0.70, 0.80]"."""


def escape_markdown(value: Any) -> str:
    """Escape text so that Markdown shows it literally, anywhere in a line."""
    if isinstance(value, OwnText):
        return value
    text = _MARKDOWN.sub(r"\\\1", escape_invisible(value).strip())
    text = _LINK.sub(r"\1\\\2", text)
    return _BLOCK.sub(_escape_block, text)


def _escape_block(found: re.Match[str]) -> str:
    # For a number, the dot after it is escaped.
    return f"{found[0]}\\" if found[0].isdecimal() else f"\\{found[0]}"
