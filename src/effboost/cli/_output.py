"""The folder that a command leaves behind."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from effboost._compat import load_matplotlib
from effboost.evaluation import EvaluationReport

__all__ = ["check_folder", "write_report"]


def check_folder(folder: Path) -> None:
    """Fail before hours of work rather than after them."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {str(folder)!r} is a file; name a folder")
    parent = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise PermissionError(f"--out {str(folder)!r} cannot be written")
    load_matplotlib()


def write_report(
    report: EvaluationReport, folder: Path, paths: Any = None, stem: str = "report"
) -> None:
    """Write a report as JSON, text, a table of predictions and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    report.to_json(folder / f"{stem}.json")
    (folder / f"{stem}.txt").write_text(f"{report}\n", encoding="utf-8")
    _save(report.plot_confusion_matrix().figure_, folder / f"{stem}_confusion_matrix.png")
    if report.evals_result:
        # It loads torch, which the command line starts without.
        from effboost.inspection import TrainingHistoryDisplay

        curves = TrainingHistoryDisplay.from_report(report)
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
