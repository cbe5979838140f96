"""Rendering of a report to HTML and Markdown. All content is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effboost._utils.compat import load_extra
from effboost._utils.escape import OwnText, escape_invisible, escape_markdown

__all__ = ["render_card", "render_page"]


def render_page(content: Mapping[str, Any]) -> str:
    """Render the page; Jinja2 escapes all content."""
    environment = _environment(autoescape=True)
    environment.filters["plain"] = escape_invisible
    page: str = environment.get_template("report.html").render(content)
    return page


def render_card(content: Mapping[str, Any]) -> str:
    """Render the model card; the special characters of Markdown are escaped."""
    environment = _environment(autoescape=False, finalize=escape_markdown)
    environment.filters["number"] = OwnText
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
