import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from effboost._utils.escape import OwnText, escape_invisible, escape_markdown, quote_name

NAMES = [
    "1. item",
    "1) item",
    "- item",
    "+ item",
    "* item",
    "> quote",
    "# heading",
    "===",
    "---",
    "    code",
    "\titem",
    "[a](http://b.c)",
    "![a](b.png)",
    "<script>",
    "**bold** _it_ `code` ~~gone~~ $x$ | cell",
    "&amp;",
    "http://evil.example/x",
    "www.evil.example",
    "a@b.example",
    "B-ALL",
    "0.75",
    "line\nbreak",
]


def text_of(markdown):
    """Return the text of all inline parts, and the kinds of all blocks."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    kinds = [token.type for token in tokens]
    children = [child for token in tokens for child in token.children or []]
    assert all(child.type in ("text", "text_special") for child in children), children
    return "".join(child.content for child in children), kinds


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_names_as_text_in_any_position(name):
    expected = escape_invisible(name).strip()
    paragraph = ["paragraph_open", "inline", "paragraph_close"]
    assert text_of(escape_markdown(name)) == (expected, paragraph)
    shown, kinds = text_of(f"- {escape_markdown(name)}")
    assert shown == expected
    assert kinds.count("list_item_open") == 1
    assert "blockquote_open" not in kinds
    assert text_of(f"Class {escape_markdown(name)}") == (f"Class {expected}", paragraph)


@given(st.text(st.sampled_from("0123456789.)-+=#>*_ `~[]()!<&@:/|\\a\n"), max_size=12))
def test_markdown_shows_any_text_as_text(name):
    expected = escape_invisible(name).strip()
    shown, kinds = text_of(escape_markdown(name))
    assert shown == expected
    assert kinds in ([], ["paragraph_open", "inline", "paragraph_close"])


@pytest.mark.parametrize("address", ["http://evil.example", "HTTPS://x.y", "www.evil.example"])
def test_addresses_are_broken_for_renderers_that_link_them(address):
    assert address not in escape_markdown(address)


def test_own_text_is_not_escaped():
    assert escape_markdown(OwnText("0.75 [0.70, 0.80]")) == "0.75 [0.70, 0.80]"


def test_invisible_characters_are_shown_by_their_numbers():
    assert escape_invisible("\x1b]0;title\x07a\u202eb\u200bc\udcff") == (
        "\\u001b]0;title\\u0007a\\u202eb\\u200bc\\udcff"
    )
    assert quote_name("x" * 100) == repr("x" * 80 + "...")
