"""Printing of results, and checks and writing of output files."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from effboost._utils.atomic_write import check_target, name_path, write_atomic
from effboost._utils.csv_rows import write_rows
from effboost._utils.escape import escape_invisible
from effboost._utils.stores import as_local_path, is_url, list_url, redact, url_exists

if TYPE_CHECKING:
    from effboost.evaluation import EvaluationReport

__all__ = [
    "check_folder",
    "check_new",
    "check_new_folder",
    "check_page",
    "check_report",
    "output_path",
    "print_facts",
    "print_json",
    "write_pages",
    "write_predictions",
    "write_report",
]


def check_folder(folder: Path) -> None:
    """Check before the work that a folder for figures can be written."""
    from effboost._utils.compat import load_matplotlib

    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {str(folder)!r} is a file; name a folder")
    _check_writable(folder)
    load_matplotlib()


def check_report(folder: Path, *, force: bool) -> None:
    """Check that a folder for `write_report` can be written, and has no report without --force."""
    check_folder(folder)
    found = sorted(folder.glob("report[._]*")) if folder.is_dir() else []
    if found and not force:
        raise FileExistsError(f"{str(found[0])!r} exists: name another --out, or give --force")


def check_page(file: Path, *, force: bool) -> None:
    """Check before the work that an HTML or Markdown report can be written."""
    from effboost._utils.compat import check_report_packages

    check_new(file, force=force)
    check_report_packages()


def output_path(text: str) -> Path | str:
    """Convert an option to the path of an output; URLs of stores stay as they are."""
    text = as_local_path(text)
    return text if is_url(text) else Path(text)


def check_new(file: Path | str, *, force: bool) -> None:
    """Check that a file can be written, and is only overwritten with --force."""
    if isinstance(file, str):
        exists = url_exists(file)
    else:
        _check_file(file)
        exists = file.exists()
    if exists and not force:
        raise FileExistsError(f"{str(file)!r} exists: name another file, or give --force")


def check_new_folder(folder: Path | str, *, force: bool = False) -> None:
    """Check that a folder can be written, and is empty unless `force` is set."""
    if isinstance(folder, str):
        if list_url(folder) and not force:
            raise FileExistsError(f"{folder!r} is not empty: name another folder")
        return
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is a file; name a folder")
    _check_writable(folder)
    if not force and folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} is not empty: name another folder")


def _check_file(file: Path) -> None:
    check_target(file)
    _check_writable(file)


def _check_writable(place: Path) -> None:
    parent = next(p for p in (place, *place.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise PermissionError(f"{str(place)!r} cannot be written")


def print_json(data: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(data, indent=2))


def print_facts(facts: Sequence[tuple[str, Any]], arguments: argparse.Namespace) -> None:
    """Print names and values as an aligned table, CSV, or a JSON object."""
    if arguments.format == "json":
        print_json(dict(facts))
        return
    rows = [(_as_cell(name), _as_cell(value)) for name, value in facts]
    if arguments.format == "csv":
        rows = [("name", "value"), *rows]
        write_rows(sys.stdout, rows, escape_formulas=arguments.escape_formulas)
        return
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _as_cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_as_cell(name)} {_as_cell(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_as_cell, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else escape_invisible(value)


def write_pages(
    report: EvaluationReport, paths: Any, page: Path | None, card: Path | None
) -> Iterator[Path]:
    """Write the HTML report and the model card if they are requested, and yield their paths."""
    if page is None and card is None:
        return
    from effboost.inspection import HTMLReport

    made = HTMLReport.from_evaluation(report, paths)
    if page is not None:
        yield made.save(page)
    if card is not None:
        yield made.save_model_card(card)


def write_report(
    report: EvaluationReport,
    folder: Path,
    paths: Any = None,
    stem: str = "report",
    *,
    escape_formulas: bool = False,
) -> None:
    """Write a report as JSON and text, with a table of predictions and figures."""
    folder.mkdir(parents=True, exist_ok=True)
    report.to_json(folder / f"{stem}.json")
    write_atomic(folder / f"{stem}.txt", f"{report}\n")
    _save(report.plot_confusion_matrix().figure_, folder / f"{stem}_confusion_matrix.png")
    # Imported late, since they load torch.
    from effboost.inspection import ReliabilityDisplay, SubjectDisplay, TrainingHistoryDisplay

    _save(SubjectDisplay.from_report(report).figure_, folder / f"{stem}_subjects.png")
    if report.probabilities is not None:
        reliability = ReliabilityDisplay.from_report(report)
        _save(reliability.figure_, folder / f"{stem}_calibration.png")
    if report.evals_result:
        curves = TrainingHistoryDisplay.from_report(report)
        _save(curves.figure_, folder / f"{stem}_learning_curves.png")
    place = folder / f"{stem}_predictions.csv"
    with (
        name_path(place),
        place.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        write_predictions(report, file, paths, escape_formulas=escape_formulas)


def write_predictions(
    report: EvaluationReport, file: TextIO, paths: Any = None, *, escape_formulas: bool = False
) -> None:
    """Write the out-of-fold prediction of each image as CSV."""
    names = [] if report.probabilities is None else [f"p_{label}" for label in report.classes]
    rows: list[list[Any]] = [["image", "subject", "fold", "true", "predicted", *names]]
    for i, true in enumerate(report.y_true):
        image = i if paths is None else redact(str(paths[i]))
        shares = [] if report.probabilities is None else report.probabilities[i].round(6)
        rows.append([image, report.groups[i], report.fold[i], true, report.y_pred[i], *shares])
    write_rows(file, rows, escape_formulas=escape_formulas)


def _save(figure: Any, path: Path) -> None:
    with name_path(path):
        figure.savefig(path, dpi=150, bbox_inches="tight")
