"""``effboost evaluate``: cross-validate a hybrid on a folder of labelled images."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from effboost.cli._options import (
    add_command,
    add_data_options,
    add_format_option,
    add_model_options,
    find_sites,
    load_data,
    make_estimator,
)
from effboost.cli._output import (
    check_page,
    check_report,
    print_json,
    write_pages,
    write_predictions,
    write_report,
)

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost evaluate cells                             a folder with labels.csv, or class folders
  effboost evaluate cells --target label --group patient --out results
  effboost evaluate cells --group 'UID_(H?\\d+)_'      subjects in the file names
  effboost evaluate cells --group patient --site laboratory    works elsewhere?
  effboost evaluate cells --positive ALL --report report.html --model-card MODEL_CARD.md
  effboost evaluate cells --crop-size none --image-size 96 --epochs 10
  effboost evaluate cells --backbone resnet18 --weights my_weights.pth --frozen
  effboost evaluate cells --quiet --format json > report.json
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "evaluate",
        help="cross-validate by subject and report",
        description="Cross-validate a hybrid classifier by subject on a folder of labelled images.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add_data_options(parser)
    add(
        "--positive",
        metavar="CLASS",
        help="positive class: adds its sensitivity at 95 %% specificity and the reverse",
    )
    add(
        "--site",
        metavar="COLUMN|REGEX",
        help="column with the site, or a regular expression for the file names: each site is "
        "tested by models of all others, beside folds within it",
    )
    add_model_options(parser)
    add("--folds", type=int, default=5, metavar="N", help="folds (default: %(default)s)")
    add("--out", type=Path, metavar="FOLDER", help="write JSON, text, CSV and PNG there")
    add("--report", type=Path, metavar="FILE", help="write an HTML report with heat maps there")
    add("--force", action="store_true", help="overwrite what --out, --report or --model-card name")
    add("--model-card", type=Path, metavar="FILE", help="write a model card as Markdown there")
    add_format_option(parser, csv="the prediction of each image", json="the whole report")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    force = arguments.force
    if arguments.out is not None:
        check_report(arguments.out, force=force)
    pages = [file for file in (arguments.report, arguments.model_card) if file is not None]
    for file in pages:
        check_page(file, force=force)
    if len(set(map(os.path.realpath, pages))) < len(pages):
        raise ValueError("--report and --model-card name the same file")
    if arguments.report is not None and arguments.report.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--report writes HTML: name {str(arguments.report)!r} .html")
    data = load_data(arguments)
    estimator = make_estimator(arguments)
    from effboost import evaluate

    report = evaluate(
        estimator,
        data.images,
        data.target,
        groups=data.groups,
        sites=None if arguments.site is None else find_sites(data, arguments.site, arguments.data),
        cv=arguments.folds,
        pos_label=arguments.positive,
        return_estimator=bool(arguments.report or arguments.model_card),
        random_state=arguments.seed,
        verbose=not arguments.quiet,
    )
    # Written before printing, so that an error of the terminal does not lose the results.
    if arguments.out is not None:
        write_report(report, arguments.out, data.paths, escape_formulas=arguments.escape_formulas)
    written = [
        arguments.out,
        *write_pages(report, data.images, arguments.report, arguments.model_card),
    ]
    _print_report(report, data.paths, arguments)
    if any(written) and arguments.format == "table":
        print("\nwritten to", ", ".join(str(place) for place in written if place))


def _print_report(report: Any, paths: Any, arguments: argparse.Namespace) -> None:
    if arguments.format == "json":
        print_json(report.to_dict())
    elif arguments.format == "csv":
        write_predictions(report, sys.stdout, paths, escape_formulas=arguments.escape_formulas)
    else:
        print(report)
