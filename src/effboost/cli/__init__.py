"""The ``effboost`` command, with one file per subcommand that calls the public API."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

from effboost._utils.escape import escape_invisible
from effboost._utils.stores import redact

__all__ = ["main", "make_parser"]

_EPILOG = """\
examples:
  effboost check cells                          find copies, leakage and broken images first
  effboost evaluate cells --group patient       how good is a model on new patients?
  effboost fit cells --group patient --out model.effboost
  effboost predict model.effboost new_cells --out predictions.csv
  effboost features new_cells --out f.parquet   numbers for other programs
  effboost demo                                 all of this on generated cells

exit status:
  0    success
  1    an error in data, files or values; part of the work failed; `check` found a problem
  2    an option or command that does not exist
  130  Ctrl-C
  141  the reader of the output closed it, as `head` does
"""
_INTERRUPTED, _PIPE_BROKEN = 130, 141
# A full disk, a quota, the largest size of a file.
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
# Matches Python parameters in messages, such as crop_size=None or weights=<a local file>.
_PARAMETER = re.compile(
    r"""(?<![\w/.'"-])([a-z_]+)=(None|True|[\d.]*\d|VALUE|'[^']*'|"\w*"|<[^<>]*>)"""
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments; None uses those of the process.

    Returns
    -------
    int
        0 on success; 1 after an error in data or values, if part of the work failed, or if `check`
        found a problem; 130 after Ctrl-C; 141 if the reader of the output closed it. argparse
        exits with 2 on unknown options.

    Examples
    --------
    >>> from effboost.cli import main
    >>> main(["predict", "missing.effboost", "cells"])
    1
    """
    interrupts = _Interrupts()
    try:
        with interrupts:
            return _run(argv, interrupts)
    except BrokenPipeError:
        _discard_output()
        return _PIPE_BROKEN
    except BaseException as error:
        # Libraries written in C convert Ctrl-C to other errors.
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
        _print_message("warning", message, arguments)

    with warnings.catch_warnings():
        _filter_warnings()
        warnings.showwarning = show_warning  # type: ignore[assignment]
        try:
            status = arguments.run(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except (EffboostError, OSError, ValueError) as error:
            if interrupts.seen:
                raise
            _print_message("error", _name_output(error, arguments), arguments)
            return 1
    return int(status or 0)


def _filter_warnings() -> None:
    """Show each warning once, and those meant for developers only where Python was told to.

    As without these filters, only ``python -W`` shows, say, the file that Ctrl-C left unclosed.
    """
    warnings.simplefilter("once")
    if not sys.warnoptions:
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", category)
        warnings.simplefilter("ignore", ResourceWarning)


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands.

    Returns
    -------
    argparse.ArgumentParser
        The parser; parsed arguments have the function of the command as ``run``.

    Examples
    --------
    >>> from effboost.cli import make_parser
    >>> print(make_parser().format_usage())
    usage: effboost ...
    """
    parser = argparse.ArgumentParser(
        prog="effboost",
        description="EfficientNet features and boosted trees for image classification.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Imported here, since Ctrl-C is handled in `main`. None of them loads numpy or torch, so that
    # --help, completion and wrong options are fast.
    from effboost.cli import (
        _check,
        _completion,
        _demo,
        _evaluate,
        _explain,
        _export,
        _features,
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
        _features,
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
    """Action that looks up the version on demand, since that is slow."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"effboost {version('effboost')}")
        parser.exit()


class _Interrupts:
    """Record of Ctrl-C, since an interrupted import may raise any error."""

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> None:
        self._former: Any = None
        # Only the main thread can set handlers, and handlers of others are kept.
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


def _print_message(kind: str, message: Any, arguments: argparse.Namespace) -> None:
    # Names of files, classes and members of model files may contain control characters.
    # XGBoost appends the stack of its C++ code.
    text = redact(str(message).partition("\nStack trace:")[0].rstrip())
    lines = map(escape_invisible, _in_options(text, arguments).split("\n"))
    print(f"effboost: {kind}: {chr(10).join(lines)}", file=sys.stderr)


def _name_output(error: Exception, arguments: argparse.Namespace) -> str:
    """Name the output in the error of a full disk, which does not."""
    out = getattr(arguments, "out", None)
    if isinstance(error, OSError) and error.errno in _FULL and error.filename is None and out:
        return f"{error}: {str(out)!r}"
    return str(error)


def _in_options(message: str, arguments: argparse.Namespace) -> str:
    """Translate crop_size=None to --crop-size none if the command has this option."""

    def translate(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in arguments:
            return match[0]
        option = f"--{name.replace('_', '-')}"
        value = "none" if value == "None" else value.strip('"')
        return option if value == "True" else f"{option} {value}"

    return _PARAMETER.sub(translate, message)


def _discard_output() -> None:
    # Python would otherwise write the rest at exit, and print an error.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
