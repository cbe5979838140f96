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

_BACKBONE = "efficientnet_lite0"
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
boosted trees instead of its last layer, as in the paper; the frozen one is `presets.recommended`,
which leaves the network as it was trained on ImageNet."""


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
    from sklearn.model_selection import StratifiedKFold

    from effboost import evaluate, presets, save
    from effboost.backbones import build_backbone, get_backbone_spec
    from effboost.inspection import HTMLReport

    start = time.perf_counter()
    out = arguments.out
    check_folder(out)
    # Before anything is written: it is an error if the weights are not installed.
    build_backbone(get_backbone_spec(_BACKBONE), "imagenet", seed=0)
    print("EfficientNet-Lite0 with its ImageNet weights, from an installed package.")
    paths, target, groups = _write_cells(out / "cells", arguments.seed)
    print(f"{len(paths)} generated cells of {_SUBJECTS} subjects in {out / 'cells'}\n")
    options = {"image_size": _IMAGE_SIZE, "random_state": arguments.seed}
    tuned = presets.paper(_BACKBONE, crop_size=None, max_epochs=_EPOCHS, **options)
    frozen = presets.recommended(_BACKBONE, cache=out / "cache", **options)
    by_image = StratifiedKFold(_FOLDS, shuffle=True, random_state=arguments.seed)
    splits: dict[str, dict[str, Any]] = {
        "image_level": {"cv": by_image, "check_leakage": False},
        "subject_wise": {"cv": _FOLDS},
    }
    of_tuned, of_frozen = (
        {
            name: evaluate(
                clf, paths, target, groups=groups, return_estimator=True, verbose=1, **split
            )
            for name, split in splits.items()
        }
        for clf in (tuned, frozen)
    )
    subject_wise = of_tuned["subject_wise"]
    print(f"\n{_compare(of_tuned, of_frozen)}\n\n{_EXPLANATION}\n\nSubject-wise in full:\n")
    print(subject_wise)
    print("\nFitting the frozen hybrid on all cells ...", flush=True)
    save(frozen.fit(paths, target, groups=groups), out / "model.effboost")
    for name, report in of_tuned.items():
        write_report(report, out, paths, name)
    HTMLReport.from_evaluation(subject_wise, paths).save(out / "report.html")
    print(f"\nDone in {time.perf_counter() - start:.0f} s. In {out}: report.html (open it in a")
    print("browser), model.effboost (fitted on all cells), the reports as JSON and text,")
    print("cells.png, and figures of confusion, subjects, calibration and training.")


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


def _compare(of_tuned: dict[str, Any], of_frozen: dict[str, Any]) -> str:
    from effboost.evaluation._report import format_columns

    titles = {"image_level": "image-level split", "subject_wise": "subject-wise split"}
    lines = ["", *format_columns({title: {} for title in titles.values()})]
    for name, reports, metrics_of in (
        ("CNN alone", of_tuned, lambda r: r.cnn.metrics),
        ("hybrid", of_tuned, lambda r: r.metrics),
        ("hybrid on the frozen network", of_frozen, lambda r: r.metrics),
    ):
        metrics = {title: metrics_of(reports[split]) for split, title in titles.items()}
        lines += [f"{name}:", *format_columns(metrics, header=False)]
    return "\n".join(lines)
