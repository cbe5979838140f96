import csv
import json
import os
from pathlib import Path

import pytest

import effboost
from effboost.cli import main


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
def test_the_recommended_preset_is_tuned_when_asked_saved_and_explained(folder, paths, tmp_path):
    out, maps = tmp_path / "model.effboost", tmp_path / "maps"
    assert fit(folder, out, "--preset", "recommended", "--fine-tune", "--epochs", "1") == 0
    model = effboost.load(out)
    assert model.featurizer.training.optimizer == "adamw"
    assert len(model.history_) == 1
    assert main(["explain", str(out), str(paths[0]), "--out", str(maps), "--quiet"]) == 0
    assert [file.name for file in maps.iterdir()] == ["cell_00.png"]


@pytest.mark.slow
def test_without_subjects_it_warns(folder, tmp_path, capsys):
    (folder / "labels.csv").write_text(
        (folder / "labels.csv").read_text().replace("patient", "number", 1)
    )
    assert fit(folder, tmp_path / "m.effboost", "--frozen", group=None) == 0
    assert "warning: no subjects are known" in capsys.readouterr().err


def test_a_model_is_not_overwritten_unasked(folder, tmp_path, capsys):
    out = tmp_path / "m.effboost"
    out.write_text("mine")
    assert fit(folder, out, "--frozen") == 1
    assert "exists: name another file, or give --force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert fit(folder, out, "--frozen", "--force") == 0
    assert effboost.load(out).classes_.size == 3


@pytest.mark.parametrize(
    ("place", "message"),
    [("no/folder/m.effboost", "does not exist"), (".", "is a folder; name a file")],
)
def test_a_place_that_cannot_be_written_is_told_before_the_training(
    tmp_path, monkeypatch, capsys, place, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "no-data-either", "--out", place]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_told_before_the_training(tmp_path, capsys):
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
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(folder, tmp_path, capsys, arguments, message):
    out = tmp_path / "m.effboost"
    assert fit(folder, out, *arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(Path(tmp_path).glob("m.effboost*"))
