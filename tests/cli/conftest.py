"""A small fitted model as a file, and cells that it has not seen."""

import numpy as np
import pytest
from PIL import Image

import effboost
from effboost import presets
from effboost.datasets import make_blood_cells


@pytest.fixture(scope="session")
def fitted():
    cells = make_blood_cells(n_subjects=6, images_per_subject=5, image_size=40, random_state=0)
    clf = presets.frozen(
        # An export for onnxruntime takes longer than all else on so small a network.
        "shufflenet_v2_x0_5",
        weights=None,
        image_size=32,
        runtime="torch",
        random_state=0,
    )
    # Features of random weights are tiny and alike: few trees tell them apart well enough.
    return clf.set_params(classifier__n_estimators=8).fit(cells.images, cells.target)


@pytest.fixture(scope="session")
def model_file(fitted, tmp_path_factory):
    return effboost.save(fitted, tmp_path_factory.mktemp("model") / "cells.effboost")


@pytest.fixture(scope="session")
def onnx_file(fitted, tmp_path_factory):
    return effboost.export_onnx(fitted, tmp_path_factory.mktemp("graph") / "cells.onnx")


@pytest.fixture
def new_cells(tmp_path):
    """A folder of 20 images in two sub-folders, of which none was seen."""
    cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=40, random_state=7)
    for i, picture in enumerate(cells.images):
        place = tmp_path / "new" / f"slide{i % 2}" / f"cell_{i:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place)
    return tmp_path / "new"


@pytest.fixture
def many_cells(tmp_path):
    """300 small images."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 12, 12, 3), dtype=np.uint8)
    folder = tmp_path / "many"
    folder.mkdir()
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{i:03d}.bmp")
    return folder
