"""``effboost reproduce``: train all systems of the paper, with its tables and figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from effboost.cli._options import add_command, positive_number
from effboost.cli._output import check_folder

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost reproduce --quick                          generated cells, minutes: a test run
  effboost reproduce C-NMC_Leukemia --positive ALL    the paper's data; days on a CPU
  effboost reproduce cells --target label --group patient --systems rezayi_cnn,res_rand_svm
  effboost reproduce cells --quick --backbone mobilenet_v2 --weights mobilenet_v2.pth
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "reproduce",
        help="train every system of the paper on two splits and write its tables and figures",
        description="Train every system that the paper compares, on a split like the paper's and "
        "on a split by subject, and write the paper's tables and figures. A run that was stopped "
        "can be continued.",
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
        help="folder for tables, figures and intermediate results (default: %(default)s)",
    )
    add(
        "--quick",
        action="store_true",
        help="a small test run of minutes",
    )
    add("--systems", metavar="NAME,...", help="systems to train (default: all)")
    add("--target", help="column of labels.csv with the class")
    add("--group", help="column with the subject, or a regular expression for the file names")
    add("--drop-class", action="append", default=[], metavar="CLASS", help="leave a class out")
    add("--positive", metavar="CLASS", help="positive class, such as the disease")
    _add_network_options(add)
    add("--seed", type=int, default=0, help="seed of splits and systems (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _add_network_options(add: Callable[..., Any]) -> None:
    add("--backbone", help="network that replaces every published one")
    add(
        "--weights",
        default="auto",
        help='"imagenet", "none" for random ones, or a .pth or .safetensors file of --backbone '
        '(default: "imagenet", and "none" with --quick)',
    )
    add(
        "--freeze-batch-norm",
        action="store_true",
        help="keep the statistics of batch norms, for weights with folded batch norms",
    )
    add(
        "--image-size",
        type=positive_number,
        metavar="PIXELS",
        help="input size of all networks (default: that of each system)",
    )
    add(
        "--epochs",
        type=positive_number,
        metavar="N",
        help="epochs of training (default: that of each system, and 2 with --quick)",
    )


def run(arguments: argparse.Namespace) -> int:
    check_folder(arguments.out)
    # Imported late, since torch takes seconds to load.
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
