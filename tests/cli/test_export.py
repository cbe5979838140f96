import json
import subprocess
import sys

import numpy as np
import pytest

from effboost import OnnxClassifier, describe_model
from effboost.cli import main
from effboost.datasets import list_images


def export(model_file, *arguments):
    return main(["export", str(model_file), *map(str, arguments)])


@pytest.mark.slow
def test_export_writes_a_graph(model_file, fitted, new_cells, tmp_path, capsys):
    out = tmp_path / "cells.onnx"
    assert export(model_file, "--out", out, "--format", "json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"] == ["ALL", "HEM"]
    assert facts["written to"] == [str(out)]
    images = list_images(new_cells)
    np.testing.assert_allclose(
        OnnxClassifier(out).predict_proba(images), fitted.predict_proba(images), atol=1e-4
    )


@pytest.mark.slow
def test_standalone_folder_runs_its_script(model_file, new_cells, tmp_path, capsys):
    out = tmp_path / "edge"
    assert export(model_file, "--standalone", "--out", out) == 0
    assert str(out / "predict.py") in capsys.readouterr().out
    image = list_images(new_cells)[0]
    result = subprocess.run(
        [sys.executable, out / "predict.py", image], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert image in result.stdout


@pytest.mark.slow
def test_a_smaller_export_prints_its_agreement(model_file, new_cells, tmp_path, capsys):
    out = tmp_path / "small.onnx"
    options = "--precision", "float16", "--calibration", new_cells, "--format", "json"
    assert export(model_file, "--out", out, *options) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["precision"] == "float16"
    found = describe_model(out)["agreement"]
    assert facts["agreement, calibration images"] == round(found["calibration"], 4)
    assert facts["agreement, other images"] == round(found["held_out"], 4)


def test_integers_need_calibration(model_file, tmp_path, capsys):
    assert export(model_file, "--out", tmp_path / "small.onnx", "--precision", "int8") == 1
    assert "--precision 'int8' without calibration" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_not_overwritten_without_force(model_file, tmp_path, capsys):
    out = tmp_path / "cells.onnx"
    out.write_text("mine")
    assert export("no.effboost", "--out", out) == 1
    assert "exists: name another file, or give --force" in capsys.readouterr().err
    assert export("no.effboost", "--standalone", "--out", tmp_path, "--force") == 1
    assert "is not empty: name another folder" in capsys.readouterr().err
    assert export("no.effboost", "--standalone", "--out", out) == 1
    assert "is a file; name a folder" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert export(model_file, "--out", out, "--force") == 0
    assert describe_model(out)["classes"] == ["ALL", "HEM"]


def test_a_page_for_browsers_is_written(model_file, tmp_path, capsys):
    out = tmp_path / "page"
    assert export(model_file, "--web", out, "--cdn", "--format", "json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert str(out / "index.html") in facts["written to"]
    assert describe_model(out / "model.onnx")["classes"] == ["ALL", "HEM"]
    described = json.loads((out / "model.json").read_text(encoding="utf-8"))
    assert described["classes"] == ["ALL", "HEM"]


def test_options_of_the_page_that_cannot_work_are_refused(model_file, tmp_path, capsys):
    out = tmp_path / "page"
    assert export(model_file, "--out", out, "--cdn") == 1
    assert "--runtime-dir and --cdn need --web" in capsys.readouterr().err
    assert export(model_file, "--web", out, "--standalone") == 1
    assert "two different folders" in capsys.readouterr().err
    assert export(model_file, "--web", out, "--runtime-dir", tmp_path) == 1
    assert "does not contain ort.wasm.bundle.min.mjs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["table", "json"])
def test_an_exported_file_is_described(onnx_file, capsys, format):
    assert main(["info", str(onnx_file), "--format", format]) == 0
    text = capsys.readouterr().out
    if format == "json":
        facts = json.loads(text)
        assert facts["classes"] == ["ALL", "HEM"]
        assert facts["image"]["image_size"] == 32
        assert facts["bytes"] == onnx_file.stat().st_size
    else:
        assert "ONNX graph" in text
        assert "ALL, HEM" in text


def test_the_file_is_named_by_its_kind(model_file, tmp_path, capsys):
    for name in ("cells.effboost", "cells"):
        assert export(model_file, "--out", tmp_path / name) == 1
        assert "name the file .onnx" in capsys.readouterr().err
    assert not list(tmp_path.glob("cells*"))
