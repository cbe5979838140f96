import csv
import json
import subprocess
import sys
from importlib.metadata import version

from effboost.cli import main


def test_the_installation_is_described(capsys):
    assert main(["info", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["effboost"] == version("effboost")
    assert facts["torch"] == version("torch")
    assert "onnxruntime" in facts["runtimes"]
    assert facts["threads for effboost"] >= 1
    assert facts["extra report"] is True


def test_an_extra_that_is_missing_says_what_it_needs(monkeypatch, capsys):
    from importlib.metadata import PackageNotFoundError

    def find(name):
        if name == "skops":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("effboost.cli._info.version", find)
    assert main(["info", "--format", "csv"]) == 0
    facts = dict(csv.reader(capsys.readouterr().out.splitlines()))
    assert facts["extra persist"] == "missing: skops"
    assert facts["extra report"] == "yes"
    assert facts["threads for effboost"].isdecimal()


def test_a_model_file_is_described_without_being_built(model_file, capsys):
    assert main(["info", str(model_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in lines}
    assert facts["kind"] == "HybridClassifier"
    assert facts["classes"] == "ALL, HEM"
    assert facts["backbone"] == "shufflenet_v2_x0_5"
    assert facts["heads"] == "XGBClassifier"
    assert facts["classifier__n_estimators"] == "8"
    assert facts["featurizer__image_size"] == "32"
    assert main(["info", str(model_file), "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["parameters"]["classifier__n_estimators"] == 8
    assert data["bytes"] == model_file.stat().st_size


def test_describing_a_model_loads_no_torch(model_file):
    code = (
        "import sys; from effboost.cli import main\n"
        f"main(['info', {str(model_file)!r}]); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.endswith("\nFalse\n"), result.stderr


def test_what_is_no_model_is_an_error(tmp_path, capsys):
    (tmp_path / "a.effboost").write_text("no model")
    assert main(["info", str(tmp_path / "a.effboost")]) == 1
    assert "is no model of effboost" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "gone.effboost")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert main(["info", str(tmp_path)]) == 1
    assert "is not a regular file" in capsys.readouterr().err
