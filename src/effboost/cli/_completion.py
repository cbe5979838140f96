"""``effboost completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effboost.cli._options import add_command

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost completion bash > ~/.local/share/bash-completion/completions/effboost
  effboost completion zsh > ~/.zfunc/_effboost        a folder in $fpath, before compinit
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "completion",
        help="print a completion script for a shell",
        description="Print the script by which a shell completes commands, options and files. It "
        "starts no Python when you press TAB. Needs shtab: pip install 'effboost[completion]'.",
        examples=_EXAMPLES,
    )
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from effboost._utils.compat import load_extra
    from effboost.cli import make_parser

    shtab = load_extra("shtab", "completion")
    parser = make_parser()
    for action in _list_actions(parser):
        if action.type is Path or action.dest == "images":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, arguments.shell))


def _list_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Return the arguments and options of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _list_actions(command)
