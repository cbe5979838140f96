"""What holds for every command: help, exit status, interrupts, broken pipes."""

import argparse
import errno
import os
import re
import signal
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
from xgboost import XGBClassifier

import effboost.__main__
from effboost.cli import _filter_warnings, main, make_parser
from effboost.cli._output import print_facts

COMMANDS = (
    "fit",
    "evaluate",
    "predict",
    "features",
    "explain",
    "export",
    "check",
    "info",
    "reproduce",
    "demo",
    "completion",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_in_help_can_be_parsed(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    examples = capsys.readouterr().out.partition("examples:\n")[2]
    lines = [line.split(f"effboost {command}", 1)[1] for line in examples.splitlines()
             if f"effboost {command}" in line]  # fmt: skip
    assert lines
    for line in lines:
        # A description follows after two spaces or more.
        words = re.split(r" {2,}| > ", line)[0].replace("'", "").split()
        assert make_parser().parse_args([command, *words]).run


def test_help_lists_commands_and_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {command}" in text for command in COMMANDS)
    assert "130  Ctrl-C" in text


@pytest.mark.parametrize("arguments", [[], ["fly"], ["check"], ["info", "--format", "xml"]])
def test_unknown_commands_and_options_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: effboost")


def test_parser_does_not_import_numpy():
    code = (
        "import sys; from effboost.cli import main, make_parser\n"
        "make_parser(); print([m for m in ('numpy', 'sklearn', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", ["numpy", "sklearn", "torch", "torchvision"])
def test_ctrl_c_during_imports_exits_with_130(module, tmp_path):
    """The signal comes at the moment that the import of a module begins."""
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from effboost.cli import main\n"
        f"sys.exit(main(['evaluate', {str(tmp_path)!r}, '--folds', '2', '--quiet']))"
    )
    for name in ("ALL/a.png", "ALL/b.png", "HEM/c.png", "HEM/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (130, "effboost: interrupted")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("module", ["effboost.cli", "argparse", "effboost._utils.escape"])
def test_ctrl_c_before_the_command_starts_exits_with_130(module):
    code = (
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "for name in [n for n in sys.modules if n == 'argparse']: del sys.modules[name]\n"
        "runpy.run_module('effboost', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (130, "effboost: interrupted\n")


def test_the_command_is_the_one_of_python_m():
    with Path(__file__).parents[2].joinpath("pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["scripts"] == {"effboost": "effboost.__main__:main"}


def test_the_command_of_the_package_runs_and_obeys_ctrl_c(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["effboost", "--version"])
    with pytest.raises(SystemExit) as ended:
        effboost.__main__.main()
    assert ended.value.code == 0
    assert "effboost" in capsys.readouterr().out

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("effboost.cli.main", interrupt)
    assert effboost.__main__.main() == 130
    assert capsys.readouterr().err == "effboost: interrupted\n"


def test_a_full_disk_is_reported_with_the_output(monkeypatch, capsys):
    def run(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("effboost.cli._explain.run", run)
    assert main(["explain", "m.effboost", "cells", "--out", "maps"]) == 1
    assert (
        capsys.readouterr().err == "effboost: error: [Errno 28] No space left on device: 'maps'\n"
    )


def test_stacks_of_compiled_code_are_not_shown(monkeypatch, capsys):
    def run(_):
        XGBClassifier(objective="no:such").fit([[0.0], [1.0]], [0, 1])

    monkeypatch.setattr("effboost.cli._info.run", run)
    assert main(["info"]) == 1
    text = capsys.readouterr().err
    assert "no:such" in text
    assert "Stack trace" not in text
    assert ".so" not in text


def test_interrupt_converted_to_another_error_exits_with_130(monkeypatch, capsys):
    """NumPy, for one, makes an ImportError of what stops the import of its parts."""

    def run(_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("numpy.core failed to import") from None

    monkeypatch.setattr("effboost.cli._info.run", run)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "effboost: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_messages_escape_control_characters(tmp_path, capsys):
    table = "file,\x1b]0;owned\x07\u202egnp.exe\na.png,ALL\n"
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    assert main(["check", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "\\u001b]0;owned\\u0007\\u202egnp.exe" in err
    assert err.isascii()
    assert err.count("\n") == 1


@pytest.mark.parametrize("format", ["table", "csv"])
def test_facts_escape_control_characters(capsys, format):
    facts = [("\x1b[31mname", "\x1b[0m"), ("classes", {"\u202ex": ["\x07"]})]
    print_facts(facts, argparse.Namespace(format=format, escape_formulas=False))
    out = capsys.readouterr().out
    assert out.isascii()
    assert not any(ord(char) < 32 for char in out if char != "\n")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["info", "--format", "csv"]])
def test_closed_output_exits_with_141(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "effboost", *arguments]
    # Unbuffered, argparse itself passes over what cannot be written.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    result = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize("level", ["x", "0", "-1", "inf", "nan"])
def test_white_level_must_be_a_number_above_0(level, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", "cells", f"--white-level={level}"])
    assert ended.value.code == 2
    assert f"{level!r} is not a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["always"]])
def test_warnings_for_developers_are_shown_only_where_python_was_told_to(options, monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", options)
    with warnings.catch_warnings(record=True) as seen:
        _filter_warnings()
        for category in (ResourceWarning, DeprecationWarning, UserWarning, UserWarning):
            warnings.warn(f"{category.__name__} of this test", category, stacklevel=1)
    hidden = [] if options else [ResourceWarning, DeprecationWarning]
    expected = {ResourceWarning, DeprecationWarning, UserWarning} - set(hidden)
    assert {warning.category for warning in seen} == expected
