"""What commands print, and the files and folders that they leave behind."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from effboost.evaluation import EvaluationReport

__all__ = [
    "check_folder",
    "check_new",
    "check_new_folder",
    "check_page",
    "print_facts",
    "print_json",
    "write_pages",
    "write_predictions",
    "write_report",
]


def check_folder(folder: Path) -> None:
    """Fail before hours of work rather than after them."""
    from effboost._utils.compat import load_matplotlib

    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {str(folder)!r} is a file; name a folder")
    _check_writable(folder)
    load_matplotlib()


def check_page(file: Path) -> None:
    """Fail before hours of work rather than after them."""
    from effboost._utils.compat import load_extra, load_matplotlib

    _check_file(file)
    load_extra("jinja2", "report")
    load_matplotlib()


def check_new(file: Path, *, force: bool) -> None:
    """Make sure that a file can be written, and that none is overwritten unasked."""
    _check_file(file)
    if file.exists() and not force:
        raise FileExistsError(f"{str(file)!r} exists: name another file, or give --force")


def check_new_folder(folder: Path) -> None:
    """Make sure that a folder can be written, and that there is nothing in it."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {str(folder)!r} is a file; name a folder")
    _check_writable(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} is not empty: name another folder")


def _check_file(file: Path) -> None:
    if file.is_dir():
        raise IsADirectoryError(f"{str(file)!r} is a folder; name a file")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of {str(file)!r} does not exist")
    _check_writable(file)


def _check_writable(place: Path) -> None:
    parent = next(p for p in (place, *place.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise PermissionError(f"{str(place)!r} cannot be written")


def print_json(data: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(data, indent=2))


def print_facts(facts: Sequence[tuple[str, Any]], format: str) -> None:
    """Print names and values: aligned, as rows of CSV, or as one JSON object."""
    if format == "json":
        print_json(dict(facts))
        return
    rows = [(name, _as_cell(value)) for name, value in facts]
    if format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([("name", "value"), *rows])
        return
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _as_cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_cell(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_as_cell, value))
    from effboost._utils.escape import escape_invisible

    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else escape_invisible(value)


def write_pages(
    report: EvaluationReport, paths: Any, page: Path | None, card: Path | None
) -> Iterator[Path]:
    """Write the report as HTML and the model card, where they are asked for."""
    if page is None and card is None:
        return
    from effboost.inspection import HTMLReport

    made = HTMLReport.from_evaluation(report, paths)
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
    # These load torch, which the command line starts without.
    from effboost.inspection import ReliabilityDisplay, SubjectDisplay, TrainingHistoryDisplay

    _save(SubjectDisplay.from_report(report).figure_, folder / f"{stem}_subjects.png")
    if report.probabilities is not None:
        reliability = ReliabilityDisplay.from_report(report)
        _save(reliability.figure_, folder / f"{stem}_calibration.png")
    if report.evals_result:
        curves = TrainingHistoryDisplay.from_report(report)
        _save(curves.figure_, folder / f"{stem}_learning_curves.png")
    with (folder / f"{stem}_predictions.csv").open("w", newline="", encoding="utf-8") as file:
        write_predictions(report, file, paths)


def write_predictions(report: EvaluationReport, file: TextIO, paths: Any = None) -> None:
    """Write the out-of-fold prediction of each image as CSV."""
    writer = csv.writer(file, lineterminator="\n")
    names = [] if report.probabilities is None else [f"p_{label}" for label in report.classes]
    writer.writerow(["image", "subject", "fold", "true", "predicted", *names])
    for i, true in enumerate(report.y_true):
        image = i if paths is None else paths[i]
        shares = [] if report.probabilities is None else report.probabilities[i].round(6)
        writer.writerow([image, report.groups[i], report.fold[i], true, report.y_pred[i], *shares])


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight")
