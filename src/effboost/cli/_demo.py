"""``effboost demo``: train and evaluate on generated cells."""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

from effboost.cli._options import add_command
from effboost.cli._output import check_folder, write_report

__all__ = ["add_parser"]

_SUBJECTS = 24
_IMAGES_PER_SUBJECT = 20
_CELL_PIXELS = 128
_IMAGE_SIZE = 64
_EPOCHS = 6
_FOLDS = 3
_EXAMPLES = """\
  effboost demo                     into the folder effboost-demo
  effboost demo --out /tmp/demo --seed 1
"""
_EXPLANATION = """\
Image-level: cells of one subject are in both parts of the split, so the model may recognise the
stain and light of the subject instead of the disease. Subject-wise: every subject is new to the
model, as in a clinic. Trust the second column. The hybrid is the fine-tuned network (CNN) with
boosted trees instead of its last layer."""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "demo",
        help="train on generated cells, and show why to split by subject",
        description="Generate blood cells, fine-tune a network on them with boosted trees on top, "
        "and report both twice: split by image and split by subject.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("effboost-demo"),
        metavar="FOLDER",
        help="folder for cells, model, reports and figures (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default: %(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedKFold

    from effboost import evaluate, presets, save
    from effboost.inspection import HTMLReport

    start = time.perf_counter()
    out = arguments.out
    check_folder(out)
    clf = presets.paper(
        weights=_imagenet_or_none(),
        crop_size=None,
        image_size=_IMAGE_SIZE,
        max_epochs=_EPOCHS,
        random_state=arguments.seed,
    )
    paths, target, groups = _write_cells(out / "cells", arguments.seed)
    print(f"{len(paths)} generated cells of {_SUBJECTS} subjects in {out / 'cells'}")
    image_level = evaluate(
        clf,
        paths,
        target,
        groups=groups,
        cv=StratifiedKFold(_FOLDS, shuffle=True, random_state=arguments.seed),
        check_leakage=False,
        verbose=1,
    )
    subject_wise = evaluate(
        clf, paths, target, groups=groups, cv=_FOLDS, return_estimator=True, verbose=1
    )
    print(f"\n{_compare(image_level, subject_wise)}\n\n{_EXPLANATION}\n\nSubject-wise in full:\n")
    print(subject_wise)
    print("\nFitting on all cells ...", flush=True)
    model = clone(clf).fit(paths, target, groups=groups)
    save(model, out / "model.effboost")
    write_report(image_level, out, paths, "image_level")
    write_report(subject_wise, out, paths, "subject_wise")
    HTMLReport.from_evaluation(subject_wise, paths).save(out / "report.html")
    print(f"\nDone in {time.perf_counter() - start:.0f} s. In {out}: report.html (open it in a")
    print("browser), model.effboost (fitted on all cells), the reports as JSON and text,")
    print("cells.png, and figures of confusion, subjects, calibration and training.")


def _imagenet_or_none() -> str | None:
    """Return "imagenet" if the weights are available, else None with a message."""
    from effboost.backbones import build_backbone, get_backbone_spec
    from effboost.exceptions import WeightsNotFoundError

    try:
        build_backbone(get_backbone_spec("efficientnet_b0"), "imagenet", seed=0)
    except WeightsNotFoundError as error:
        print("NO IMAGENET WEIGHTS: the demo uses RANDOM weights, only to show the steps.")
        print(f"Scores with pretrained weights would be higher. The reason: {error}\n")
        return None
    print("EfficientNet-B0 with ImageNet weights.\n")
    return "imagenet"


def _write_cells(folder: Path, seed: int) -> tuple[list[str], Any, Any]:
    """Write generated cells as a folder that `effboost evaluate` can read."""
    from PIL import Image

    from effboost.datasets import make_blood_cells

    cells = make_blood_cells(
        n_subjects=_SUBJECTS,
        images_per_subject=_IMAGES_PER_SUBJECT,
        image_size=_CELL_PIXELS,
        random_state=seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{group}_{i:04d}.png" for i, group in enumerate(cells.groups)]
    for name, pixels in zip(names, cells.images, strict=True):
        Image.fromarray(pixels).save(folder / name)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("file", "label", "subject"), *zip(names, cells.target, cells.groups, strict=True)]
        )
    _contact_sheet(cells).save(folder.parent / "cells.png")
    return [str(folder / name) for name in names], cells.target, cells.groups


def _contact_sheet(cells: Any) -> Any:
    """Arrange six cells of each of eight subjects, one subject per row, lymphoblasts first."""
    import numpy as np
    from PIL import Image

    rows = []
    for label in ("ALL", "HEM"):
        subjects = np.unique(cells.groups[cells.target == label])[:4]
        rows += [np.hstack(cells.images[cells.groups == subject][:6]) for subject in subjects]
    return Image.fromarray(np.vstack(rows))


def _compare(image_level: Any, subject_wise: Any) -> str:
    from effboost.evaluation._report import format_columns

    columns = {"image-level split": image_level, "subject-wise split": subject_wise}
    lines = ["", *format_columns({title: {} for title in columns})]
    for name, metrics_of in (
        ("CNN alone", lambda r: r.cnn.metrics),
        ("hybrid", lambda r: r.metrics),
    ):
        metrics = {title: metrics_of(report) for title, report in columns.items()}
        lines += [f"{name}:", *format_columns(metrics, header=False)]
    return "\n".join(lines)
