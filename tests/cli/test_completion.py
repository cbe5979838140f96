import subprocess
import sys

import pytest

from effboost.cli import main


def complete(script, *words):
    """Ask bash for what could follow."""
    code = (
        f"source {script}; COMP_WORDS=(effboost {' '.join(words)}); "
        f"COMP_CWORD={len(words)}; _shtab_effboost; echo ${{COMPREPLY[@]}}"
    )
    result = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True)
    return result.stdout.split()


def test_bash_completes_commands_options_choices_and_files(tmp_path, monkeypatch, capsys):
    pytest.importorskip("shtab", reason="the extra completion")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "effboost.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "model.effboost").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert complete(script, "ev") == ["evaluate"]
    assert complete(script, "check", "--spl") == ["--split"]
    assert complete(script, "predict", "--format", "j") == ["json"]
    assert complete(script, "predict", "mod") == ["model.effboost"]


def test_missing_shtab_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 1
    assert "pip install 'effboost[completion]'" in capsys.readouterr().err
