"""Tables of reported and measured scores, as text and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from effboost._utils.escape import escape_invisible, escape_markdown
from effboost.comparators import COMPARATORS
from effboost.evaluation import Metric
from effboost.reproduction._data import Split
from effboost.reproduction._result import SystemResult

__all__ = [
    "list_failures",
    "split_for_screens",
    "table_of_classes",
    "table_of_systems",
    "to_markdown",
    "to_text",
]

_Results = Mapping[str, Mapping[str, SystemResult]]
_Table = list[list[str]]
_METRICS: Final = {"accuracy": "accuracy", "weighted_f1": "weighted F1"}
_REPORTED: Final = _METRICS | {"precision": "precision", "recall": "recall", "f1": "F1"}
_NOTHING: Final = "—"
_Resource = Callable[[SystemResult], str]
_RESOURCES: Final[dict[str, _Resource]] = {
    "parameters": lambda r: f"{r.parameters:,}",
    "training, s": lambda r: f"{r.train_seconds:.1f}",
    "one image, ms": lambda r: f"{r.single_ms:.1f}",
    "per image in a batch, ms": lambda r: f"{r.batch_ms:.1f}",
    "file, MB": lambda r: f"{(r.size_bytes or 0) / 1e6:.1f}",
}


def table_of_systems(results: _Results, splits: Sequence[Split]) -> _Table:
    """Build Tables 1 and 3: a header, and a row for each system."""
    measured = [f"{name}, {split.title}" for split in splits for name in _METRICS.values()]
    rows = [["system", "authors", "in the paper", "network", "reported", *measured, *_RESOURCES]]
    for name, found in results.items():
        system = COMPARATORS[name]
        reported = ", ".join(f"{_REPORTED[r.metric]} {r.value:.3f}" for r in system.reported)
        ours = system.citation if system.table != "Table 1" else "this paper"
        where = system.table if system.table.startswith("Table") else f"no: {system.table}"
        rows.append(
            [
                name,
                ours,
                where,
                _name_network(name, found),
                reported or _NOTHING,
                *(cell for split in splits for cell in _scores(found.get(split.name))),
                *_resources(found),
            ]
        )
    return rows


def _name_network(name: str, found: Mapping[str, SystemResult]) -> str:
    result = next(iter(found.values()))
    same = f"; the same as {result.system}" if result.system != name else ""
    return f"{result.network} ({result.weights}){same}" if result.network else _NOTHING


def _scores(result: SystemResult | None) -> list[str]:
    if result is None:
        return [_NOTHING] * len(_METRICS)
    if result.report is None:
        return ["failed"] * len(_METRICS)
    return [_interval(result.report["metrics"][name]) for name in _METRICS]


def _interval(metric: Mapping[str, float | None]) -> str:
    # Undefined ends are None in saved results.
    value, *ends = (metric[key] for key in ("value", "low", "high"))
    if value is None:
        return _NOTHING
    if None in ends:
        return f"{value:.3f}"
    return str(Metric(value, *(float(end) for end in ends if end is not None)))


def _resources(found: Mapping[str, SystemResult]) -> list[str]:
    """Format the cost of a system, on the subject-wise split if that was measured."""
    done = [found[name] for name in ("honest", "paper") if name in found]
    result = next((r for r in done if r.report is not None), None)
    return [_NOTHING if result is None else text(result) for text in _RESOURCES.values()]


def table_of_classes(found: Mapping[str, SystemResult], splits: Sequence[Split]) -> _Table:
    """Build Table 2: precision, recall and F1 of each class, for one system."""
    rows = [["split", "class", "images", "precision", "recall", "F1"]]
    for split in splits:
        report: Mapping[str, Any] | None = found[split.name].report if split.name in found else None
        for name, scores in ({} if report is None else report["per_class"]).items():
            cells = [_interval(scores[key]) for key in ("precision", "recall", "f1")]
            rows.append([split.title, name, str(scores["support"]), *cells])
    return rows


def split_for_screens(table: _Table) -> tuple[_Table, _Table]:
    """Split the table of systems into a table of scores and a table of costs."""
    header, costs = table[0], ["system", "network", *_RESOURCES]
    reached = header[header.index("reported") + 1 : -len(_RESOURCES)]
    return _select(table, ["system", *reached, "reported"]), _select(table, costs)


def _select(table: _Table, columns: Sequence[str]) -> _Table:
    places = [table[0].index(name) for name in columns]
    return [[row[place] for place in places] for row in table]


def list_failures(results: _Results, splits: Sequence[Split]) -> list[str]:
    """List which system failed on which split, and why; each failure once."""
    titles = {split.name: split.title for split in splits}
    return list(
        dict.fromkeys(
            f"{result.system}, {titles[result.split]}: {result.error}"
            for found in results.values()
            for result in found.values()
            if result.error is not None
        )
    )


def to_markdown(table: _Table) -> str:
    """Format a table as Markdown, with every cell escaped."""
    lines = ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def to_text(table: _Table) -> str:
    """Format a table as columns of text."""
    plain = [[escape_invisible(cell) for cell in row] for row in table]
    widths = [max(len(row[i]) for row in plain) for i in range(len(plain[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in plain
    )
