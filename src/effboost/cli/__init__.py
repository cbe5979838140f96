"""The ``effboost`` command. One file per sub-command; each only calls the public API."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from effboost.cli import _demo, _evaluate, _reproduce
from effboost.exceptions import EffboostError

__all__ = ["main"]

_COMMANDS = (_evaluate, _reproduce, _demo)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    int
        0 when all went well, 1 after an error in the data or the options' values or if part of
        the work failed, 130 after Ctrl-C. argparse itself exits with 2 on options it does not know.
    """
    arguments = _make_parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("once")
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            status = arguments.run(arguments)
        except KeyboardInterrupt:
            print("effboost: interrupted", file=sys.stderr)
            return 130
        except (EffboostError, OSError, ValueError) as error:
            print(f"effboost: error: {error}", file=sys.stderr)
            return 1
    return int(status or 0)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="effboost",
        description="EfficientNet features and boosted trees for image classification.",
    )
    parser.add_argument("--version", action="version", version=f"effboost {version('effboost')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def _show_warning(message: Any, category: Any, *_: Any) -> None:
    print(f"effboost: warning: {message}", file=sys.stderr)
