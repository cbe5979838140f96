"""What the tests of pictures share."""

import sys

import matplotlib.pyplot as plt

# A formula that matplotlib cannot parse: text between two dollars is one.
HOSTILE = r"$\frac{<script>$"


def texts_of(figure):
    """Draw a figure, and give all texts in it: a formula that is none raises here."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def hide(monkeypatch, *packages):
    """Make packages look as if they were not installed."""
    for name in [n for n in sys.modules if n.split(".")[0] in packages]:
        monkeypatch.delitem(sys.modules, name)
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


def count_figures():
    return len(plt.get_fignums())
