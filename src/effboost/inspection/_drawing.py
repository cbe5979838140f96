"""What the displays share: axes, checks of lengths, colours, names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from effboost._utils.compat import load_matplotlib
from effboost.exceptions import UnsupportedInputError

__all__ = [
    "MAX_LEGEND",
    "add_legend",
    "as_names",
    "check_lengths",
    "divide_axes",
    "height_in_points",
    "make_axes",
    "name_rows",
    "row_figure_height",
    "style_of",
]

# The palette of Okabe and Ito, for colour-blind readers too, without its yellow, pale on white.
_COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# One more than colours, so that only every 56th pair is the same.
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")

MAX_LEGEND: Final = 20
_LONGEST_NAME: Final = 24
# Inches of a row and of figures; points of a label's line.
_ROW: Final = 0.24
_HEIGHTS: Final = 2.4, 12.0
_LABEL: Final = 12.0


def style_of(position: int) -> dict[str, str]:
    """Return the colour and the marker of a class or subject; the pair identifies it."""
    return {
        "color": _COLORS[position % len(_COLORS)],
        "marker": _MARKERS[position % len(_MARKERS)],
    }


def as_names(values: Iterable[Any]) -> list[str]:
    """Shorten the user's names to single lines of printable characters.

    Artists draw them with ``parse_math=False``, so that a name is never read as a formula.
    """
    return [_as_name(str(value)) for value in values]


def _as_name(text: str) -> str:
    text = " ".join(text.split())
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    # The names of one study often differ only at their ends.
    half = _LONGEST_NAME // 2
    return text if len(text) <= _LONGEST_NAME else f"{text[: half - 1]}…{text[-half:]}"


def check_lengths(**named: Any) -> None:
    """Check that there is one value for each image.

    Raises
    ------
    UnsupportedInputError
        If lengths differ, or are 0.
    """
    lengths = {name: len(values) for name, values in named.items() if values is not None}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise UnsupportedInputError(f"lengths differ ({found}): give one value for each image")
    if not all(lengths.values()):
        raise UnsupportedInputError(f"{' and '.join(lengths)} are empty; give one image or more")


def make_axes(ax: Any, **figure: Any) -> Any:
    """Return the axes to draw in: those of the user, or new ones.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    plt = load_matplotlib()
    return plt.subplots(layout="constrained", **figure)[1] if ax is None else ax


def divide_axes(ax: Any, n_rows: int, n_columns: int, **options: Any) -> Any:
    """Replace axes by a grid within their bounds, as scikit-learn's displays of several plots do.

    Raises
    ------
    UnsupportedInputError
        If the axes are in no grid.
    """
    place = ax.get_subplotspec()
    if place is None:
        raise UnsupportedInputError(
            "ax was placed by hand; give axes made by subplots or add_subplot, which can be divided"
        )
    ax.set_axis_off()
    return place.subgridspec(n_rows, n_columns, **options)


def row_figure_height(n_rows: int) -> float:
    """Compute the height in inches of a figure with this number of rows."""
    return float(np.clip(1.2 + _ROW * n_rows, *_HEIGHTS))


def height_in_points(ax: Any) -> float:
    """Compute the height of axes in points."""
    return float(ax.get_window_extent().height / ax.figure.dpi * 72)


def name_rows(ax: Any, names: Sequence[str]) -> None:
    """Count rows from the top, and label as many of them as are legible."""
    n = len(names)
    step = int(np.ceil(n * _LABEL / height_in_points(ax)))
    ax.set_ylim(n - 0.4, -0.6)
    ax.set_yticks(range(0, n, step))
    ax.set_yticklabels(names[::step], parse_math=False, fontsize=8)


def add_legend(ax: Any, handles: Sequence[Any], names: Sequence[str], **options: Any) -> None:
    """Add a legend beside the axes, unless it would have too many entries to read."""
    if not 0 < len(names) <= MAX_LEGEND:
        return
    place = {"loc": "upper left", "bbox_to_anchor": (1, 1), "frameon": False, "fontsize": 8}
    for text in ax.legend(handles, names, **(place | options)).get_texts():
        text.set_parse_math(False)
