"""``effboost check``: find faults in a folder of images."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effboost.cli._models import keep_bytes
from effboost.cli._options import (
    add_command,
    add_folder_options,
    add_format_option,
    positive_number,
)
from effboost.cli._output import print_json

if TYPE_CHECKING:
    from effboost.datasets import Finding

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost check cells                               a folder with labels.csv, or class folders
  effboost check cells --group patient --split fold  columns of labels.csv
  effboost check data                                with data/train, data/val, data/test
  effboost check train test --group '(P\\d+)_'        are subjects or images in both?
  effboost check cells --crop-size 448 --format csv > findings.csv
  effboost check cells --group patient --labels      are labels wrong? trains models
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
    _add_label_options(parser)
    add_format_option(parser, csv="a row for each finding and image", json="everything")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _add_label_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--labels",
        action="store_true",
        help="also find images and subjects whose label is probably wrong: trains a head on a "
        "frozen network in each of several folds (needs the extra labels)",
    )
    add("--backbone", metavar="NAME", help="network for --labels (default: efficientnet_b0)")
    add(
        "--weights",
        metavar="imagenet|none|FILE",
        help='weights for --labels: "imagenet", "none", or a file (default: imagenet)',
    )
    add(
        "--image-size",
        type=positive_number,
        metavar="PIXELS",
        help="input size of the network for --labels (default: that of the network)",
    )
    add("--folds", type=int, metavar="N", help="folds for --labels (default: 5)")


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
    _check_label_options(arguments)
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
    if arguments.labels:
        from effboost.datasets._findings import sort_findings

        findings = sort_findings([*found.findings, *_find_wrong_labels(arguments)])
        found = dataclasses.replace(found, findings=findings)
    if arguments.format == "json":
        print_json(found.to_dict())
    elif arguments.format == "csv":
        found.write_csv(sys.stdout, escape_formulas=arguments.escape_formulas)
    else:
        print(found)
    return 1 if found.findings else 0


def _check_label_options(arguments: argparse.Namespace) -> None:
    """Check before the work that labels can be checked."""
    if not arguments.labels:
        for name in ("backbone", "weights", "image_size", "folds"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} is for --labels: give --labels, too")
        return
    from effboost._utils.compat import load_extra

    load_extra("cleanlab", "labels")
    if len(arguments.data) > 1:
        raise ValueError(f"--labels takes one folder; got {len(arguments.data)}")


def _find_wrong_labels(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Find labels that contradict models of other subjects."""
    # Imported late, since they load torch.
    import numpy as np

    from effboost import LinearBoostedClassifier, evaluate, presets
    from effboost.datasets import Finding, load_image_folder
    from effboost.inspection import label_issues

    data = load_image_folder(
        arguments.data[0],
        target=arguments.target,
        group=arguments.group,
        split=arguments.split,
        allow_outside=arguments.allow_outside,
        white_level=arguments.white_level,
    )
    weights = arguments.weights or "imagenet"
    settings = {} if arguments.image_size is None else {"image_size": arguments.image_size}
    clf = presets.frozen(
        arguments.backbone or "efficientnet_b0",
        weights=None if weights == "none" else weights,
        random_state=0,
        **settings,
    ).set_params(classifier=LinearBoostedClassifier())
    report = evaluate(
        clf,
        data.images,
        data.target,
        groups=data.groups,
        cv=arguments.folds or 5,
        # What leaks is a finding of its own.
        check_leakage=False,
        n_bootstrap=1,
        verbose=not arguments.quiet,
    )
    found = label_issues(
        report.y_true, np.asarray(report.probabilities), data.groups, classes=report.classes
    )
    for name in found.subjects.tolist():
        own = np.flatnonzero(data.groups == name)
        quality = found.subject_quality[name]
        detail = f"subject {name}: labelled {data.target[own[0]]} (label quality {quality:.3f})"
        yield Finding("wrong_subject", tuple(data.paths[own].tolist()), detail)
    for i in found.images.tolist():
        detail = (
            f"labelled {data.target[i]}, probably {found.suggested[i]} (label quality "
            f"{found.quality[i]:.3f})"
        )
        yield Finding("wrong_label", (data.paths[i],), detail)
