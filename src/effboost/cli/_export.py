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
  effboost export model.effboost --out small.onnx --precision int8 --calibration cells
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
    add(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="how the network is stored: float16 has half the size, int8 a quarter, and is faster",
    )
    add(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="training images, for --precision int8: their predictions are compared, too",
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
    from effboost.datasets import list_images

    folder = arguments.calibration
    calibration = None if folder is None else list_images(folder)
    effboost.export_onnx(
        model := effboost.load(arguments.model),
        arguments.out,
        standalone=arguments.standalone,
        precision=arguments.precision,
        calibration=calibration,
    )
    written = sorted(arguments.out.iterdir()) if arguments.standalone else [arguments.out]
    size = sum(file.stat().st_size for file in written if file.is_file())
    facts = [
        ("classes", [str(label) for label in model.classes_.tolist()]),
        ("megabytes", round(size / 1e6, 2)),
        *_describe_precision(written, arguments.precision),
        ("written to", [str(file) for file in written]),
    ]
    print_facts(facts, arguments)


def _describe_precision(written: list[Path], precision: str) -> list[tuple[str, Any]]:
    """Describe how often the export predicts the class that the model predicts."""
    from effboost import describe_model

    graphs = [file for file in written if file.suffix == ".onnx"]
    found = describe_model(graphs[0])["agreement"] if graphs else None
    if found is None:
        return [("precision", precision)]
    return [
        ("precision", precision),
        ("agreement, calibration images", round(found["calibration"], 4)),
        ("agreement, other images", round(found["held_out"], 4)),
    ]
