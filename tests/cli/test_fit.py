import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import effboost
from effboost.cli import main, make_parser
from effboost.cli._options import load_data


@pytest.fixture
def folder(paths, three_classes, subjects, tmp_path):
    rows = [("file", "kind", "patient"), *zip(paths, three_classes, subjects, strict=True)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


def fit(folder, out, *more, group="patient"):
    usual = "--target kind --backbone shufflenet_v2_x0_5 --weights none --image-size 32 --quiet"
    known = ["--group", group] if group else []
    return main(["fit", str(folder), "--out", str(out), *usual.split(), *known, *more])


@pytest.mark.slow
def test_a_model_is_trained_saved_and_summarized(folder, tmp_path, capsys):
    out = tmp_path / "model.effboost"
    assert fit(folder, out, "--epochs", "1", "--crop-size", "none") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    facts = dict(line.split("  ", 1) for line in printed.out.splitlines())
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["images"] == "24"
    assert facts["subjects"] == "12"
    assert facts["classes"] == "blast 8, healthy 8, other 8"
    assert facts["epochs"] == "1"
    assert facts["written to"] == str(out)
    model = effboost.load(out)
    assert model.classes_.tolist() == ["blast", "healthy", "other"]
    assert float(facts["training accuracy"]) == pytest.approx(
        model.history_[-1]["train_acc"], abs=1e-4
    )


@pytest.mark.slow
def test_options_reach_the_model_and_json_the_output(folder, tmp_path, capsys):
    out = tmp_path / "model.effboost"
    more = ["--frozen", "--drop-class", "other", "--seed", "3", "--format", "json"]
    assert fit(folder, out, *more) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"] == {"blast": 8, "healthy": 8}
    parameters = effboost.describe_model(out)["parameters"]
    assert parameters["featurizer__training"] is None
    assert parameters["featurizer__transform__normalize"] == "backbone"
    assert parameters["random_state"] == 3


@pytest.mark.slow
def test_recommended_preset_with_fine_tuning_is_saved_and_explained(folder, paths, tmp_path):
    out, maps = tmp_path / "model.effboost", tmp_path / "maps"
    assert fit(folder, out, "--preset", "recommended", "--fine-tune", "--epochs", "1") == 0
    model = effboost.load(out)
    assert model.featurizer.training.optimizer == "adamw"
    assert len(model.history_) == 1
    assert main(["explain", str(out), str(paths[0]), "--out", str(maps), "--quiet"]) == 0
    assert [file.name for file in maps.iterdir()] == ["cell_00.png"]


@pytest.mark.parametrize("more", [["--preset", "recommended"], ["--frozen"]])
def test_what_saving_needs_is_looked_for_before_training(
    folder, tmp_path, capsys, monkeypatch, more
):
    class TrainedError(Exception):
        pass

    def fail(*args, **kwargs):
        raise TrainedError

    monkeypatch.setattr(effboost.HybridClassifier, "fit", fail)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    if "--frozen" in more:  # a booster needs nothing
        with pytest.raises(TrainedError):
            fit(folder, tmp_path / "m.effboost", *more)
    else:
        assert fit(folder, tmp_path / "m.effboost", *more) == 1
        assert "this needs skops: pip install 'effboost[persist]'" in capsys.readouterr().err


@pytest.mark.slow
def test_missing_subjects_warn(folder, tmp_path, capsys):
    (folder / "labels.csv").write_text(
        (folder / "labels.csv").read_text().replace("patient", "number", 1)
    )
    assert fit(folder, tmp_path / "m.effboost", "--frozen", group=None) == 0
    assert "warning: no subjects are known" in capsys.readouterr().err


def test_existing_model_is_not_overwritten_without_force(folder, tmp_path, capsys):
    out = tmp_path / "m.effboost"
    out.write_text("mine")
    assert fit(folder, out, "--frozen") == 1
    assert "exists: name another file, or give --force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert fit(folder, out, "--frozen", "--force") == 0
    assert fit(folder, tmp_path / "m.onnx", "--frozen") == 1
    assert "a model is saved as .effboost; effboost export makes" in capsys.readouterr().err
    assert effboost.load(out).classes_.size == 3


def write_splits(root, parts):
    for number, part in enumerate(parts):
        for label in ("ALL", "HEM"):
            folder = root / part / label
            folder.mkdir(parents=True)
            for i in range(3):
                picture = np.random.default_rng([number, i]).integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(picture).save(folder / f"{part}P{i}_.png")


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_held_out_splits_require_part_option(tmp_path, capsys, command):
    write_splits(tmp_path / "data", ["train", "test"])
    out = tmp_path / "m.effboost"
    arguments = [command, str(tmp_path / "data"), "--group", r"(\w+P\d)_", "--quiet", "--frozen"]
    assert main([*arguments, *(["--out", str(out)] if command == "fit" else [])]) == 1
    assert capsys.readouterr().err == (
        f"effboost: error: '{tmp_path / 'data'}' has the splits test, train, and a model that "
        "is trained on 'test' cannot be tested on it: select splits by --part, such as "
        "--part train\n"
    )
    assert not out.exists()


def load(*arguments):
    """Read a folder as `fit` and `evaluate` do."""
    return load_data(make_parser().parse_args(["fit", *map(str, arguments), "--out", "m.effboost"]))


def test_part_option_selects_splits(tmp_path):
    write_splits(tmp_path, ["train", "test"])
    data = load(tmp_path, "--group", r"(\w+P\d)_", "--part", "train")
    assert data.target_names == ["ALL", "HEM"]
    assert sorted(set(data.groups)) == ["trainP0", "trainP1", "trainP2"]
    assert len(load(tmp_path, "--group", "(P.)_", "--part", "train", "--part", "test").paths) == 12


def test_folds_are_used_together(tmp_path):
    write_splits(tmp_path, ["fold_0", "fold_1"])
    assert sorted(set(load(tmp_path, "--group", r"(\w+P\d)_").split)) == ["fold_0", "fold_1"]


def test_white_level_option_scales_images(tmp_path, capsys):
    plain = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    (tmp_path / "ALL").mkdir()
    deep = np.rint(plain * (4095 / 255)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "ALL" / "P0.png")
    data = load(tmp_path, "--group", r"(P\d)", "--white-level", "4095")
    np.testing.assert_array_equal(data.images[0][..., 0], plain)


@pytest.mark.parametrize(
    ("place", "message"),
    [("no/folder/m.effboost", "does not exist"), (".", "is a folder; name a file")],
)
def test_unwritable_output_raises_before_training(tmp_path, monkeypatch, capsys, place, message):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "no-data-either", "--out", place]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_raises_before_training(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main(["fit", "no-data-either", "--out", str(tmp_path / "m.effboost")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--preset", "frozen", "--epochs", "3"],
            "--preset frozen trains nothing: leave out --epochs",
        ),
        (["--preset", "best"], "there is no preset 'best'"),
        (["--drop-class", "x"], "there is no class 'x' to drop"),
        (["--part", "x"], "has no split 'x'; its splits are not known"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(folder, tmp_path, capsys, arguments, message):
    out = tmp_path / "m.effboost"
    assert fit(folder, out, *arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(Path(tmp_path).glob("m.effboost*"))
