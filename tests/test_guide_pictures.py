"""The scripts that draw the pictures of the guide run; `make docs` alone shows what they draw."""

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "docs" / "guide" / "pictures").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_picture_is_drawn(script):
    runpy.run_path(str(script))
    (number,) = plt.get_fignums()
    assert plt.figure(number).axes
    plt.close("all")
