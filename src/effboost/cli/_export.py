"""``effboost export``: an ONNX graph, or a folder with a script or a web page."""

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
  effboost export model.effboost --web page                 for a web server and browsers
  effboost export model.effboost --web page --runtime-dir onnxruntime-web-1.30.0.tgz
  python -m http.server --bind 127.0.0.1 --directory page   shows it at http://127.0.0.1:8000
  effboost export model.effboost --out small.onnx --precision int8 --calibration cells
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "export",
        help="export a model to ONNX",
        description="Write a model as an ONNX graph from the pixels of an image to the "
        "probabilities of the classes, or as a folder with the graph and a script that runs it, "
        "for machines without effboost and torch, or as a folder that is a web page.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help=".effboost file")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--out", type=Path, metavar="PATH", help="file, or folder, to write")
    where.add_argument(
        "--web",
        type=Path,
        metavar="FOLDER",
        help="folder to write instead, with a web page that classifies images in the browser",
    )
    add(
        "--standalone",
        action="store_true",
        help="write a folder with a script to run it",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--runtime-dir",
        type=Path,
        metavar="PATH",
        help="with --web: folder with the files of onnxruntime-web, or its .tgz file "
        "(default: download by npm)",
    )
    source.add_argument(
        "--cdn",
        action="store_true",
        help="with --web: let browsers load onnxruntime-web from cdn.jsdelivr.net",
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
    _check(arguments)
    out = arguments.web or arguments.out
    if arguments.standalone or arguments.web:
        check_new_folder(out)
    else:
        check_new(out, force=arguments.force)
        if out.suffix.lower() != ".onnx":
            raise ValueError(f"--out {str(out)!r}: name the file .onnx, by which it is recognised")
    import effboost
    from effboost.datasets import list_images

    folder = arguments.calibration
    calibration = None if folder is None else list_images(folder)
    effboost.export_onnx(
        model := effboost.load(arguments.model),
        out,
        standalone=arguments.standalone,
        web=arguments.web is not None,
        web_runtime="cdn" if arguments.cdn else arguments.runtime_dir,
        precision=arguments.precision,
        calibration=calibration,
    )
    written = sorted(out.iterdir()) if out.is_dir() else [out]
    size = sum(file.stat().st_size for file in (out, *out.rglob("*")) if file.is_file())
    facts = [
        ("classes", [str(label) for label in model.classes_.tolist()]),
        ("megabytes", round(size / 1e6, 2)),
        *_describe_precision(written, arguments.precision),
        ("written to", [str(file) for file in written]),
    ]
    print_facts(facts, arguments)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.web and arguments.standalone:
        raise ValueError("--standalone and --web are two different folders: give one of them")
    if not arguments.web and (arguments.cdn or arguments.runtime_dir is not None):
        raise ValueError("--runtime-dir and --cdn need --web")


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
