"""What holds for the doctests of modules and guide, too."""

import os
import sys

# Pictures are drawn in memory, also where there is a screen.
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


@pytest.fixture(autouse=True)
def close_figures():
    """Forget the figures of each test: matplotlib warns of the 21st that stays open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
