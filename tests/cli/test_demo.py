import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import effboost
from effboost.backbones import build_backbone, get_backbone_spec
from effboost.cli import _demo, main


@pytest.fixture
def small(monkeypatch):
    """The demo itself, at a size that takes seconds."""
    sizes = {"SUBJECTS": 6, "IMAGES_PER_SUBJECT": 4, "CELL_PIXELS": 40, "IMAGE_SIZE": 32}
    for name, value in (sizes | {"EPOCHS": 1, "FOLDS": 2}).items():
        monkeypatch.setattr(_demo, f"_{name}", value)


@pytest.mark.slow
def test_demo_announces_random_weights(small, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("NO IMAGENET WEIGHTS: the demo uses RANDOM weights")
    text = "\n".join(lines)
    assert "image-level split       subject-wise split" in text
    assert "CNN alone:" in text
    assert "hybrid:" in text
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
def test_cells_and_model_of_the_demo_can_be_used(small, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
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


def test_local_imagenet_weights_are_used(small, torch_home, tmp_path, capsys):
    """A file of the published name, whose checksum cannot be right, is an error, not ignored."""
    folder = torch_home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    spec = get_backbone_spec("efficientnet_b0")
    state = build_backbone(spec, None, seed=0).state_dict()
    torch.save(state, folder / "efficientnet_b0_rwightman-7f5810bc.pth")
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 1
    assert "SHA-256" in capsys.readouterr().err
