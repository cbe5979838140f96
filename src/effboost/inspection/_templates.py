"""From what a report says to HTML and Markdown. All that is filled in is taken for hostile."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from effboost._compat import load_extra

__all__ = ["escape_markdown", "render_card", "render_page", "show_plainly"]

# Controls, marks that turn the direction of text, line separators, halves of characters.
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>#|~&$])")


def show_plainly(text: Any) -> str:
    """Make characters that are not seen, or that turn others around, visible by their number."""
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _UNSEEN else char
        for char in str(text)
    )


def render_page(content: Mapping[str, Any]) -> str:
    """Fill the page in; Jinja2 escapes everything."""
    environment = _environment(autoescape=True)
    environment.filters["plain"] = show_plainly
    page: str = environment.get_template("report.html").render(content)
    return page


def render_card(content: Mapping[str, Any]) -> str:
    """Fill the model card in; Markdown's own characters are escaped."""
    environment = _environment(autoescape=False, finalize=escape_markdown)
    environment.filters["number"] = _Number
    card: str = environment.get_template("model_card.md").render(content)
    return card.rstrip() + "\n"


def _environment(**options: Any) -> Any:
    jinja2 = load_extra("jinja2", "report")
    return jinja2.Environment(
        loader=jinja2.PackageLoader("effboost.inspection"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        **options,
    )


class _Number(str):
    """Text that effboost wrote itself, such as "0.75 [0.70, 0.80]"."""


def escape_markdown(value: Any) -> str:
    """Give text that Markdown shows as it is."""
    if isinstance(value, _Number):
        return value
    return _MARKDOWN.sub(r"\\\1", show_plainly(value))
