"""``effboost fit``: train a hybrid on a folder of labelled images and save it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from effboost.cli._options import (
    add_command,
    add_data_options,
    add_format_option,
    add_model_options,
    load_data,
    make_estimator,
)
from effboost.cli._output import check_new, print_facts

__all__ = ["add_parser"]

_EXAMPLES = """\
  effboost fit cells --group patient --out model.effboost
  effboost fit cells --preset recommended --cache features --out model.effboost
  effboost fit cells --crop-size none --image-size 96 --epochs 10 --out model.effboost
  effboost fit cells --frozen --backbone mobilenet_v2 --weights mobilenet_v2.pth -o model.effboost
"""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "fit",
        help="train a hybrid and save it",
        description="Train a hybrid classifier on a folder of labelled images, and save it to a "
        "file. `effboost evaluate` with the same options tells how good it is on new subjects.",
        examples=_EXAMPLES,
    )
    add = parser.add_argument
    add_data_options(parser)
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="file to save the model to")
    add("--force", action="store_true", help="overwrite --out")
    add_model_options(parser)
    add_format_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    check_new(arguments.out, force=arguments.force)
    if arguments.out.suffix.lower() == ".onnx":
        raise ValueError(
            f"--out {str(arguments.out)!r}: a model is saved as .effboost; effboost export makes "
            "an .onnx file of it"
        )
    data = load_data(arguments)
    model = make_estimator(arguments)
    from effboost import save

    _check_savable(model)

    start = time.perf_counter()
    model.fit(data.images, data.target, groups=data.groups)
    seconds = time.perf_counter() - start
    save(model, arguments.out)
    facts = _summarize(model, data, seconds, arguments.out)
    print_facts(facts, arguments)


def _check_savable(model: Any) -> None:
    """Look for what `save` needs before the training, which may take hours."""
    from effboost._heads.booster import is_booster
    from effboost._utils.compat import load_extra

    head = model.classifier  # None is a booster
    if model.calibration is not None or not (head is None or is_booster(head)):
        load_extra("skops.io", "persist")


def _summarize(model: Any, data: Any, seconds: float, out: Path) -> list[tuple[str, Any]]:
    from collections import Counter

    counts = Counter(data.target.tolist())
    facts = [
        ("images", len(data.paths)),
        ("subjects", None if data.groups is None else len(set(data.groups.tolist()))),
        ("classes", {str(label): counts[label] for label in model.classes_.tolist()}),
        ("backbone", model.featurizer_.spec_.name),
        ("head", type(model.classifier_).__name__),
        ("epochs", len(model.history_)),
    ]
    if model.history_:
        last = model.history_[-1]
        facts.append(("training loss", round(float(last["train_loss"]), 4)))
        facts.append(("training accuracy", round(float(last["train_acc"]), 4)))
    return [
        *facts,
        ("seconds", round(seconds, 1)),
        ("megabytes", round(out.stat().st_size / 1e6, 2)),
        ("written to", str(out)),
    ]
