"""The folder that a command leaves behind."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effboost._compat import load_extra, load_matplotlib
from effboost.evaluation import EvaluationReport, LearningCurvesDisplay

__all__ = ["check_file", "check_folder", "write_pages", "write_report"]


def check_folder(folder: Path) -> None:
    """Fail before hours of work rather than after them."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {str(folder)!r} is a file; name a folder")
    _check_writable(folder)
    load_matplotlib()


def check_file(file: Path) -> None:
    """Fail before hours of work rather than after them."""
    if file.is_dir():
        raise IsADirectoryError(f"{str(file)!r} is a folder; name a file")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of {str(file)!r} does not exist")
    _check_writable(file)
    load_extra("jinja2", "report")
    load_matplotlib()


def _check_writable(place: Path) -> None:
    parent = next(p for p in (place, *place.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise PermissionError(f"{str(place)!r} cannot be written")


def write_pages(
    report: EvaluationReport, data: Any, page: Path | None, card: Path | None
) -> Iterator[Path]:
    """Write the report as HTML and the model card, where they are asked for."""
    if page is None and card is None:
        return
    from effboost.inspection import HTMLReport

    made = HTMLReport.from_evaluation(report, data.paths)
    if page is not None:
        yield made.save(page)
    if card is not None:
        yield made.save_model_card(card)


def write_report(
    report: EvaluationReport, folder: Path, paths: Any = None, stem: str = "report"
) -> None:
    """Write a report as JSON, text, a table of predictions and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    report.to_json(folder / f"{stem}.json")
    (folder / f"{stem}.txt").write_text(f"{report}\n", encoding="utf-8")
    _save(report.plot_confusion_matrix().figure_, folder / f"{stem}_confusion_matrix.png")
    if report.evals_result:
        curves = LearningCurvesDisplay.from_report(report)
        _save(curves.figure_, folder / f"{stem}_learning_curves.png")
    with (folder / f"{stem}_predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [] if report.probabilities is None else [f"p_{label}" for label in report.classes]
        writer.writerow(["image", "subject", "fold", "true", "predicted", *names])
        for i, true in enumerate(report.y_true):
            image = i if paths is None else paths[i]
            shares = [] if report.probabilities is None else report.probabilities[i].round(6)
            writer.writerow(
                [image, report.groups[i], report.fold[i], true, report.y_pred[i], *shares]
            )


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight")
