"""``effboost check``: find faults in a folder of images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from effboost.cli._models import keep_bytes
from effboost.cli._options import (
    add_command,
    add_folder_options,
    add_format_option,
    positive_number,
)
from effboost.cli._output import print_json

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost check cells                               a folder with labels.csv, or class folders
  effboost check cells --group patient --split fold  columns of labels.csv
  effboost check data                                with data/train, data/val, data/test
  effboost check train test --group '(P\\d+)_'        are subjects or images in both?
  effboost check cells --crop-size 448 --format csv > findings.csv
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "check",
        help="find broken, duplicate, blank and leaking images",
        description="Find images that cannot be read, are blank, nearly black or of an unusual "
        "size; duplicates, including re-encoded, resized, rotated and mirrored ones; images under "
        "several labels; labels in several spellings; and subjects and images in several splits. "
        "The exit status is 1 if anything is found.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add(
        "data",
        metavar="DATA",
        type=Path,
        nargs="+",
        help="folder with labels.csv, with class folders, or with folders called train, val, "
        "test, fold_0, ...; several folders are the splits",
    )
    add_folder_options(parser)
    add(
        "--crop-size",
        type=positive_number,
        metavar="PIXELS",
        help="also find images smaller than this crop",
    )
    add(
        "--max-distance",
        type=_distance,
        default=3.0,
        metavar="LEVELS|none",
        help="largest difference between copies in grey levels (default: %(default)s); none finds "
        "only identical bytes",
    )
    add_format_option(parser, csv="a row for each finding and image", json="everything")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _distance(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 255:
        raise argparse.ArgumentTypeError(f"{text!r} is neither none nor a number from 0 to 255")
    return value


def run(arguments: argparse.Namespace) -> int:
    from effboost.datasets import check_image_folder

    keep_bytes(sys.stdout)
    found = check_image_folder(
        arguments.data,
        target=arguments.target,
        group=arguments.group,
        split=arguments.split,
        allow_outside=arguments.allow_outside,
        white_level=arguments.white_level,
        crop_size=arguments.crop_size,
        max_distance=arguments.max_distance,
        progress=not arguments.quiet,
    )
    if arguments.format == "json":
        print_json(found.to_dict())
    elif arguments.format == "csv":
        found.write_csv(sys.stdout, escape_formulas=arguments.escape_formulas)
    else:
        print(found)
    return 1 if found.findings else 0
