"""``effboost reproduce``: every system of the paper, side by side, with its tables and figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from effboost.cli._options import add_command, positive_number
from effboost.cli._output import check_folder

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost reproduce --quick                          generated cells, minutes: shows that it runs
  effboost reproduce C-NMC_Leukemia --positive ALL    the paper's data; days on a CPU
  effboost reproduce cells --target label --group patient --systems rezayi_cnn,res_rand_svm
  effboost reproduce cells --quick --backbone mobilenet_v2 --weights mobilenet_v2.pth
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "reproduce",
        help="train every system of the paper on two splits and write its tables and figures",
        description="Train every system that the paper compares on a split as the paper's and on "
        "a subject-wise one, and write the paper's tables and figures. A run that was stopped "
        "goes on where it was.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add(
        "data",
        metavar="DATA",
        type=Path,
        nargs="?",
        help="folder of C-NMC 2019, or with labels.csv, or with class folders "
        "(default: generated cells)",
    )
    add(
        "--out",
        type=Path,
        default=Path("effboost-reproduction"),
        metavar="FOLDER",
        help="folder for tables, figures and what is kept (default: %(default)s)",
    )
    add("--quick", action="store_true", help="small, in minutes: shows that everything runs")
    add("--systems", metavar="NAME,...", help="some systems (default: all)")
    add("--target", help="column of labels.csv with the class")
    add("--group", help="column with the subject, or a regular expression on the file's name")
    add("--drop-class", action="append", default=[], metavar="CLASS", help="leave a class out")
    add("--positive", metavar="CLASS", help="class that is looked for, such as the disease")
    add("--backbone", help="network in place of every pretrained one that is used as published")
    add(
        "--weights",
        default="auto",
        help='"imagenet", "none" for random ones, or a .pth or .safetensors file of --backbone '
        '(default: "imagenet", and "none" with --quick)',
    )
    add(
        "--freeze-batch-norm",
        action="store_true",
        help="keep the statistics of batch norms, for weights that have them folded in",
    )
    add(
        "--image-size",
        type=positive_number,
        metavar="PIXELS",
        help="what all networks see (default: what each system takes)",
    )
    add(
        "--epochs",
        type=positive_number,
        metavar="N",
        help="epochs of training (default: what each system takes, and 2 with --quick)",
    )
    add("--seed", type=int, default=0, help="seed of splits and systems (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.out)
    # Torch takes seconds to load: --help and wrong options are answered before that.
    from effboost.reproduction import reproduce

    found = reproduce(
        arguments.data,
        arguments.out,
        systems=arguments.systems and [name.strip() for name in arguments.systems.split(",")],
        quick=arguments.quick,
        target=arguments.target,
        group=arguments.group,
        drop_classes=arguments.drop_class,
        positive=arguments.positive,
        backbone=arguments.backbone,
        weights=None if arguments.weights.lower() == "none" else arguments.weights,
        freeze_batch_norm=arguments.freeze_batch_norm,
        image_size=arguments.image_size,
        max_epochs=arguments.epochs,
        random_state=arguments.seed,
        verbose=not arguments.quiet,
    )
    print(found)
    print(f"\nwritten to {arguments.out}")
    if found.failures:
        print(f"effboost: {len(found.failures)} failed, see FAILED above", file=sys.stderr)
    return 1 if found.failures else 0
