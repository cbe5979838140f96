"""``effboost export``: an ONNX graph, or a standalone folder with a script."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from effboost.cli._options import add_command, add_format_option
from effboost.cli._output import check_new, check_new_folder, print_facts

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost export model.effboost --out model.onnx           for effboost predict and onnxruntime
  effboost export model.effboost --standalone --out edge    with predict.py and requirements
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "export",
        help="export a model to ONNX",
        description="Write a model as an ONNX graph from the pixels of an image to the "
        "probabilities of the classes, or as a folder with the graph and a script that runs it, "
        "for machines without effboost and torch.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help=".effboost file")
    add("-o", "--out", type=Path, required=True, metavar="PATH", help="file, or folder, to write")
    add(
        "--standalone",
        action="store_true",
        help="write a folder with a script to run it",
    )
    add("--force", action="store_true", help="overwrite --out if it is a file")
    add_format_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.standalone:
        check_new_folder(arguments.out)
    else:
        check_new(arguments.out, force=arguments.force)
    import effboost

    model = effboost.load(arguments.model)
    effboost.export_onnx(model, arguments.out, standalone=arguments.standalone)
    written = sorted(arguments.out.iterdir()) if arguments.standalone else [arguments.out]
    size = sum(file.stat().st_size for file in written if file.is_file())
    facts = [
        ("classes", [str(label) for label in model.classes_.tolist()]),
        ("megabytes", round(size / 1e6, 2)),
        ("written to", [str(file) for file in written]),
    ]
    print_facts(facts, arguments)
