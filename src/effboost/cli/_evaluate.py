"""``effboost evaluate``: cross-validate a hybrid on a folder of labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from effboost.cli._output import check_folder, write_report

__all__ = ["add_parser"]

_EXAMPLES = """\
examples:
  effboost evaluate cells                             a folder with labels.csv, or class folders
  effboost evaluate cells --target label --group patient --out results
  effboost evaluate cells --group 'UID_(H?\\d+)_'      subjects in the names of the files
  effboost evaluate cells --backbone resnet18 --weights my_weights.pth --frozen
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="cross-validate by subject and report",
        description="Cross-validate a hybrid classifier by subject on a folder of labelled images.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="folder with labels.csv, or with class folders")
    add("--target", help="column of labels.csv with the class")
    add("--group", help="column with the subject, or a regular expression on the file's name")
    add("--drop-class", action="append", default=[], metavar="CLASS", help="leave a class out")
    add("--backbone", default="efficientnet_b0", help="network (default: %(default)s)")
    add(
        "--weights",
        default="imagenet",
        help='"imagenet", "none" for random ones, or a .pth or .safetensors file '
        "(default: %(default)s)",
    )
    add(
        "--frozen",
        action="store_true",
        help="the whole image, normalised as the network was trained with (presets.frozen), "
        "instead of the paper's 448-pixel crop scaled to [0, 1]",
    )
    add("--folds", type=int, default=5, metavar="N", help="folds (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of folds and models (default: %(default)s)")
    add("--out", type=Path, metavar="FOLDER", help="write JSON, text, CSV and PNG there")
    add("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    # Torch takes seconds to load: --help and wrong options are answered before that.
    from effboost import HybridClassifier, ImageFeaturizer, evaluate, presets
    from effboost.datasets import load_image_folder

    if arguments.out is not None:
        check_folder(arguments.out)
    data = load_image_folder(
        arguments.data,
        target=arguments.target,
        group=arguments.group,
        drop_classes=arguments.drop_class,
    )
    network = {
        "backbone": arguments.backbone,
        "weights": None if arguments.weights.lower() == "none" else arguments.weights,
    }
    if arguments.frozen:
        estimator = presets.frozen(**network, random_state=arguments.seed)
    else:
        estimator = HybridClassifier(ImageFeaturizer(**network), random_state=arguments.seed)
    if data.groups is None:
        print("No subjects are known: each image counts as its own, which flatters the result")
        print("if several images come from one subject. Name them by --group.\n")
    report = evaluate(
        estimator,
        data.paths,
        data.target,
        groups=data.groups,
        cv=arguments.folds,
        random_state=arguments.seed,
        verbose=not arguments.quiet,
    )
    print(report)
    if arguments.out is not None:
        write_report(report, arguments.out, data.paths)
        print(f"\nwritten to {arguments.out}")
