"""The ``effboost`` command. One file per sub-command; each only calls the public API."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

__all__ = ["main", "make_parser"]

_EPILOG = """\
examples:
  effboost check cells                          look for copies, leaks and broken images first
  effboost evaluate cells --group patient       how good is a model on new patients?
  effboost fit cells --group patient --out model.effboost
  effboost predict model.effboost new_cells --out predictions.csv
  effboost demo                                 all of it on generated cells

exit status:
  0    all went well
  1    an error in data, files or values; part of the work failed; `check` found something
  2    an option or command that does not exist
  130  Ctrl-C
  141  what reads the output went away, as `head` does
"""
_INTERRUPTED, _PIPE_BROKEN = 130, 141
# Of Python's parameters in messages, such as crop_size=None.
_PARAMETER = re.compile(r"(?<![\w/.'\"-])([a-z_]+)=(None|\d+|'[^']*')")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    int
        0 when all went well; 1 after an error in the data or the options' values, if part of the
        work failed, or if `check` found something; 130 after Ctrl-C; 141 if what reads the output
        went away. argparse itself exits with 2 on options it does not know.
    """
    interrupts = _Interrupts()
    try:
        with interrupts:
            return _run(argv, interrupts)
    except BrokenPipeError:
        _forget_output()
        return _PIPE_BROKEN
    except BaseException as error:
        # Libraries written in C turn Ctrl-C into errors of their own.
        if interrupts.seen or isinstance(error, KeyboardInterrupt):
            print("effboost: interrupted", file=sys.stderr)
            return _INTERRUPTED
        raise


def _run(argv: Sequence[str] | None, interrupts: _Interrupts) -> int:
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit:
        sys.stdout.flush()
        raise

    from effboost.exceptions import EffboostError

    def show_warning(message: Any, category: Any, *_: Any) -> None:
        _complain("warning", message, arguments)

    with warnings.catch_warnings():
        warnings.simplefilter("once")
        warnings.showwarning = show_warning  # type: ignore[assignment]
        try:
            status = arguments.run(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except (EffboostError, OSError, ValueError) as error:
            if interrupts.seen:
                raise
            _complain("error", error, arguments)
            return 1
    return int(status or 0)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="effboost",
        description="EfficientNet features and boosted trees for image classification.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # None of these loads numpy or torch: --help, completion and wrong options are answered at
    # once. Here, since Ctrl-C is in order from `main` on.
    from effboost.cli import (
        _check,
        _completion,
        _demo,
        _evaluate,
        _explain,
        _export,
        _fit,
        _info,
        _predict,
        _reproduce,
    )

    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (
        _fit,
        _evaluate,
        _predict,
        _explain,
        _export,
        _check,
        _info,
        _reproduce,
        _demo,
        _completion,
    ):
        command.add_parser(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than all else."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"effboost {version('effboost')}")
        parser.exit()


class _Interrupts:
    """Notes Ctrl-C: an import that is interrupted may end in any error."""

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> None:
        self._former: Any = None
        # Python lets no other thread set handlers, and a handler of somebody else's is theirs.
        if threading.current_thread() is threading.main_thread():
            former = signal.getsignal(signal.SIGINT)
            if former is signal.default_int_handler:
                self._former = signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt

    def __exit__(self, *_: Any) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)


def _complain(kind: str, message: Any, arguments: argparse.Namespace) -> None:
    print(f"effboost: {kind}: {_in_options(str(message), arguments)}", file=sys.stderr)


def _in_options(message: str, arguments: argparse.Namespace) -> str:
    """Say crop_size=None as --crop-size none, where the command has such an option."""

    def translate(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in arguments:
            return match[0]
        return f"--{name.replace('_', '-')} {'none' if value == 'None' else value}"

    return _PARAMETER.sub(translate, message)


def _forget_output() -> None:
    # Python would try to write the rest once more when it ends, and complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
