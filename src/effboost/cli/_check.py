"""``effboost check``: what is wrong with a folder of images, before a model learns it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from effboost.cli._options import add_command, add_format_option, positive_number
from effboost.cli._output import print_json

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost check cells                               a folder with labels.csv, or class folders
  effboost check cells --group patient --split fold  columns of labels.csv
  effboost check data                                with data/train, data/val, data/test
  effboost check train test --group '^(P\\d+)_'       do subjects or images stand in both?
  effboost check cells --crop-size 448 --format csv > findings.csv
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "check",
        help="find broken, copied, blank and leaking images",
        description="Find images that cannot be read, are blank or of the wrong size; copies, "
        "re-encoded, resized, turned and mirrored ones, too; images under several labels; and "
        "subjects and images that stand in several splits. The exit status is 1 if anything is "
        "found.",
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
    add("--target", metavar="COLUMN", help="column of labels.csv with the class")
    add(
        "--group",
        metavar="COLUMN|REGEX",
        help="column with the subject, or a regular expression on the file's name",
    )
    add("--split", metavar="COLUMN", help="column with the split (default: split or fold, if any)")
    add(
        "--crop-size",
        type=positive_number,
        metavar="PIXELS",
        help="find images smaller than the centre crop that is to be made, too",
    )
    add(
        "--max-distance",
        type=_distance,
        default=3.0,
        metavar="LEVELS|none",
        help="how far copies may differ, in grey levels (default: %(default)s); none finds only "
        "those that are equal to the byte",
    )
    add_format_option(parser, csv="a row for each image of each finding", json="everything")
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

    found = check_image_folder(
        arguments.data,
        target=arguments.target,
        group=arguments.group,
        split=arguments.split,
        crop_size=arguments.crop_size,
        max_distance=arguments.max_distance,
        progress=not arguments.quiet,
    )
    if arguments.format == "json":
        print_json(found.to_dict())
    elif arguments.format == "csv":
        sys.stdout.write(found.to_csv())
    else:
        print(found)
    return 1 if found.findings else 0
