"""``effboost evaluate``: cross-validate a hybrid on a folder of labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from effboost.cli._output import check_file, check_folder, write_pages, write_report

__all__ = ["add_parser", "positive_number"]

_EXAMPLES = """\
examples:
  effboost evaluate cells                             a folder with labels.csv, or class folders
  effboost evaluate cells --target label --group patient --out results
  effboost evaluate cells --group 'UID_(H?\\d+)_'      subjects in the names of the files
  effboost evaluate cells --positive ALL --report report.html --model-card MODEL_CARD.md
  effboost evaluate cells --crop-size none --image-size 96 --epochs 10
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
    add(
        "--positive",
        metavar="CLASS",
        help="class that is looked for: adds its sensitivity at 95 %% specificity and the reverse",
    )
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
        help="the network as it was pretrained, on whole images normalised as it is used to "
        "(presets.frozen), instead of the paper's training (presets.paper)",
    )
    add("--epochs", type=positive_number, metavar="N", help="epochs of training (default: 5)")
    add(
        "--trainable",
        type=_trainable,
        metavar="all|head|N",
        help="what is trained: the whole network, its linear layer, or also the last N stages "
        "(default: all)",
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
        help="what the network sees (default: 224)",
    )
    add(
        "--crop-size",
        type=_crop_size,
        metavar="PIXELS|none",
        help="side of the centre crop (default: 448, and none with --frozen)",
    )
    add("--folds", type=int, default=5, metavar="N", help="folds (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of folds and models (default: %(default)s)")
    add("--out", type=Path, metavar="FOLDER", help="write JSON, text, CSV and PNG there")
    add("--report", type=Path, metavar="FILE", help="write an HTML report with heat maps there")
    add("--model-card", type=Path, metavar="FILE", help="write a model card as Markdown there")
    add("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def _trainable(text: str) -> str | int:
    return text if text in ("all", "head") else positive_number(text)


def _crop_size(text: str) -> str | int:
    return text if text == "none" else positive_number(text)


def positive_number(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def run(arguments: argparse.Namespace) -> None:
    # Torch takes seconds to load: --help and wrong options are answered before that.
    from effboost import evaluate, presets
    from effboost.datasets import load_image_folder

    if arguments.out is not None:
        check_folder(arguments.out)
    for file in (arguments.report, arguments.model_card):
        if file is not None:
            check_file(file)
    data = load_image_folder(
        arguments.data,
        target=arguments.target,
        group=arguments.group,
        drop_classes=arguments.drop_class,
    )
    if arguments.frozen and (arguments.epochs or arguments.trainable):
        raise ValueError("--frozen trains nothing: leave out --epochs and --trainable")
    settings = {
        "max_epochs": arguments.epochs,
        "trainable": arguments.trainable,
        "image_size": arguments.image_size,
        "crop_size": arguments.crop_size,
        "freeze_batch_norm": arguments.freeze_batch_norm or None,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    if settings.get("crop_size") == "none":
        settings["crop_size"] = None
    preset = presets.frozen if arguments.frozen else presets.paper
    estimator = preset(
        arguments.backbone,
        weights=None if arguments.weights.lower() == "none" else arguments.weights,
        random_state=arguments.seed,
        verbose=not arguments.quiet,
        **settings,
    )
    if data.groups is None:
        print("No subjects are known: each image counts as its own, which flatters the result")
        print("if several images come from one subject. Name them by --group.\n")
    report = evaluate(
        estimator,
        data.paths,
        data.target,
        groups=data.groups,
        cv=arguments.folds,
        pos_label=arguments.positive,
        return_estimator=bool(arguments.report or arguments.model_card),
        random_state=arguments.seed,
        verbose=not arguments.quiet,
    )
    # Written first: a terminal that cannot show the table must not cost the results.
    if arguments.out is not None:
        write_report(report, arguments.out, data.paths)
    written = [
        arguments.out,
        *write_pages(report, data.paths, arguments.report, arguments.model_card),
    ]
    print(report)
    if any(written):
        print("\nwritten to", ", ".join(str(place) for place in written if place))
