"""Fixtures shared by all tests."""

import os
import signal

# SciPy reads it when it is imported; without it, scikit-learn skips its check of array API input.
os.environ["SCIPY_ARRAY_API"] = "1"
# So does huggingface_hub, which would wait for a network.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
from PIL import Image

# Ctrl-C is ignored by what a shell starts in the background; tests that press it need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def torch_home(tmp_path_factory, monkeypatch):
    """Keep torch's downloads, and weights that may lie on this machine, out of every test."""
    home = tmp_path_factory.mktemp("torch_home")
    monkeypatch.setenv("TORCH_HOME", str(home))
    return home


@pytest.fixture
def pixels():
    """24 noisy pictures of 40 x 40, three kinds told apart by their mean colour."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 120, (24, 40, 40, 3), dtype=np.uint8)
    noise[np.arange(24), :, :, np.arange(24) % 3] += 100
    return noise


@pytest.fixture
def three_classes():
    return np.array(["blast", "healthy", "other"], dtype=object)[np.arange(24) % 3]


@pytest.fixture
def subjects():
    return np.array([f"S{i // 2}" for i in range(24)])


@pytest.fixture
def paths(pixels, tmp_path):
    files = [tmp_path / f"cell_{i:02d}.png" for i in range(len(pixels))]
    for file, picture in zip(files, pixels, strict=True):
        Image.fromarray(picture).save(file)
    return [str(file) for file in files]
