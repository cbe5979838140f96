"""Writing of rows of predictions, and reading for --resume."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from effboost._utils.csv_rows import unescape_formula, write_row
from effboost._utils.escape import escape_invisible

__all__ = ["Recorded", "RowWriter", "has_flags", "make_writer", "read_recorded", "read_records"]

_DIGITS: Final = 6
_WIDEST: Final = 60
# Bytes of a row in a file that is continued; a path has up to 4,096.
_MAX_RECORD: Final = 2**20
# Images to identify the model by; some may have been removed.
_SAMPLES: Final = 20

# In CSV, between probabilities and error; in JSON, fields.
_FLAGS: Final = ("familiarity", "familiar", "reasons")

_Row = tuple[str, str, list[float], str]


class RowWriter(Protocol):
    """Writer and reader of predictions in one format."""

    def write_header(self, file: TextIO) -> None: ...

    def write(self, prediction: Any, file: TextIO) -> None: ...

    def check_header(self, line: str) -> bool:
        """Return whether a first line is a header; raise ValueError for other columns."""

    def is_whole(self, record: bytes) -> bool:
        """Return whether lines are a complete row."""

    def read(self, record: str) -> _Row:
        """Return image, class, probabilities and error; raise ValueError for an invalid row."""


@dataclasses.dataclass
class Recorded:
    """Content of an existing file of predictions.

    Attributes
    ----------
    images : set of str
        The images with a row.
    n_failed : int
        How many of them could not be read.
    size : int
        Bytes of the file up to the end of the last complete row.
    samples : list of (str, (str, list of float))
        Some images with their class and probabilities.
    """

    images: set[str] = dataclasses.field(default_factory=set)
    n_failed: int = 0
    size: int = 0
    samples: list[tuple[str, tuple[str, list[float]]]] = dataclasses.field(default_factory=list)

    def add(self, row: _Row) -> None:
        """Add a row."""
        image, label, shares, error = row
        self.images.add(image)
        if error:
            self.n_failed += 1
        elif len(self.samples) < _SAMPLES:
            self.samples.append((image, (label, shares)))


def make_writer(
    format: str,
    model: Any,
    images: Sequence[str],
    *,
    escape_formulas: bool = False,
    flags: bool = False,
) -> RowWriter:
    """Build the writer of a model's predictions in a format, with columns for flags or without."""
    classes = [str(label) for label in model.classes_]
    twice = [label for label, n in Counter(classes).items() if n > 1]
    if twice:
        raise ValueError(
            f"the model has several classes that are written as {twice[0]!r}, so their columns "
            "would be ambiguous"
        )
    shown = classes if hasattr(model, "predict_proba") else []
    if format == "csv":
        return _CsvWriter(shown, escape_formulas, flags)
    if format == "json":
        return _JsonWriter(shown, flags)
    return _TableWriter(shown, classes, images, flags)


def has_flags(path: Path) -> bool:
    """Return whether a file of predictions, in CSV or JSON, has flags, or no complete row yet."""
    record = next(read_records(path, lambda record: True), None)
    if record is None:
        return True
    first = record.decode("utf-8", "replace")
    if first.lstrip().startswith("{"):
        return f'"{_FLAGS[1]}":' in first
    return list(_FLAGS) == _split(first)[-1 - len(_FLAGS) : -1]


def read_recorded(path: Path, writer: RowWriter) -> Recorded:
    """Read a file of predictions, whose last row may be incomplete."""
    recorded = Recorded()
    number = 0
    for number, record in enumerate(read_records(path, writer.is_whole), 1):
        text = record.decode("utf-8", "surrogateescape")
        try:
            if number > 1 or not writer.check_header(text):
                recorded.add(writer.read(text))
        except ValueError as error:
            raise ValueError(
                f"{str(path)!r} cannot be continued, since its row {number} is invalid ({error}): "
                "use another --out, or --force instead of --resume"
            ) from error
        recorded.size += len(record)
    return recorded


def read_records(path: Path, is_whole: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Yield the complete rows of a file; `is_whole` tells whether lines are a complete row."""
    record = b""
    # Before it is opened: opening a pipe waits for a writer.
    if not path.is_file():
        raise ValueError(f"{str(path)!r} cannot be continued: it is not a regular file")
    with path.open("rb") as file:
        while line := file.readline(_MAX_RECORD):
            record += line
            if len(record) > _MAX_RECORD:
                raise ValueError(
                    f"{str(path)!r} cannot be continued, since one of its rows has more than "
                    f"{_MAX_RECORD:,} bytes: use another --out, or --force instead of --resume"
                )
            if record.endswith(b"\n") and is_whole(record):
                yield record
                record = b""


class _CsvWriter:
    """CSV with the columns image, class, p_<class> for each class, flags and error."""

    def __init__(self, shown: list[str], escape_formulas: bool, flags: bool):
        self._shown, self._escape = shown, escape_formulas
        self._flags = _FLAGS if flags else ()
        shares = [f"p_{label}" for label in shown]
        self._header = ["image", "class", *shares, *self._flags, "error"]

    def write_header(self, file: TextIO) -> None:
        self._write_row(file, self._header)

    def write(self, prediction: Any, file: TextIO) -> None:
        shares: list[Any] = [""] * len(self._shown)
        if prediction.probabilities is not None:
            shares = [f"{float(p):.{_DIGITS}f}" for p in prediction.probabilities]
        label = "" if prediction.label is None else str(prediction.label)
        flags = [""] * len(self._flags)
        if flags and prediction.familiar is not None:
            number = f"{prediction.familiarity:.{_DIGITS}f}"
            flags = [number, str(prediction.familiar).lower(), " ".join(prediction.reasons)]
        self._write_row(file, [prediction.image, label, *shares, *flags, prediction.error or ""])

    def check_header(self, line: str) -> bool:
        found = _split(line)
        if found != self._header:
            raise ValueError(f"its columns are {found}, those of this model {self._header}")
        return True

    def is_whole(self, record: bytes) -> bool:
        # A line feed between quotes is part of a name.
        return record.count(b'"') % 2 == 0

    def read(self, record: str) -> _Row:
        values = _split(record)
        if len(values) != len(self._header):
            raise ValueError(f"it has {len(values)} values, not {len(self._header)}")
        image, label, *shares, error = values
        shares = shares[: len(self._shown)]
        if self._escape:
            image, label, error = map(unescape_formula, (image, label, error))
        return image, label, [float(share) for share in shares if share], error

    def _write_row(self, file: TextIO, row: Sequence[Any]) -> None:
        write_row(file, row, escape_formulas=self._escape)


def _split(record: str) -> list[str]:
    return next(csv.reader([record], strict=True), [])


class _JsonWriter:
    """JSON with one object per line."""

    def __init__(self, shown: list[str], flags: bool):
        self._shown, self._flags = shown, flags

    def write_header(self, file: TextIO) -> None:
        pass

    def write(self, prediction: Any, file: TextIO) -> None:
        shares = None
        if prediction.probabilities is not None:
            values = (round(float(p), _DIGITS) for p in prediction.probabilities)
            shares = dict(zip(self._shown, values, strict=True))
        row = {
            "image": prediction.image,
            "class": None if prediction.label is None else str(prediction.label),
            "probabilities": shares,
            **(self._describe_flags(prediction) if self._flags else {}),
            "error": prediction.error,
        }
        file.write(json.dumps(row) + "\n")

    def _describe_flags(self, prediction: Any) -> dict[str, Any]:
        number = prediction.familiarity
        values = (
            None if number is None else round(number, _DIGITS),
            prediction.familiar,
            list(prediction.reasons),
        )
        return dict(zip(_FLAGS, values, strict=True))

    def check_header(self, line: str) -> bool:
        return False

    def is_whole(self, record: bytes) -> bool:
        return True

    def read(self, record: str) -> _Row:
        row = json.loads(record)
        if not isinstance(row, dict) or not {"image", "class", "error"} <= row.keys():
            raise ValueError('it is not an object with "image", "class" and "error"')
        shares = row.get("probabilities") or {}
        if not row["error"] and list(shares) != self._shown:
            raise ValueError(f"its classes are {list(shares)}, those of this model {self._shown}")
        return row["image"], row["class"] or "", list(shares.values()), row["error"] or ""


class _TableWriter:
    """Aligned table, which cannot be read back."""

    def __init__(
        self, shown: list[str], classes: list[str], images: Sequence[str], flags: bool = False
    ):
        self._flags = flags
        self._escape_name = escape_invisible
        self._shown = [escape_invisible(f"p_{label}") for label in shown]
        self._widths = [
            min(_WIDEST, max(map(len, ["image", *map(escape_invisible, images)]))),
            max(map(len, ["class", *map(escape_invisible, classes)])),
        ]

    def write_header(self, file: TextIO) -> None:
        flags = ["unfamiliar"] if self._flags else []
        file.write(self._join("image", "class", [*self._shown, *flags]))

    def write(self, prediction: Any, file: TextIO) -> None:
        image = self._shorten(self._escape_name(prediction.image))
        if prediction.error is not None:
            file.write(self._join(image, "-", [f"error: {self._escape_name(prediction.error)}"]))
            return
        shares = prediction.probabilities
        texts = [
            f"{share:{len(name)}.3f}"
            for name, share in zip(self._shown, [] if shares is None else shares, strict=True)
        ]
        # Last, so that the column needs no width.
        texts += prediction.reasons if self._flags else ()
        file.write(self._join(image, self._escape_name(prediction.label), texts))

    def check_header(self, line: str) -> bool:
        raise ValueError("it is a table")

    def is_whole(self, record: bytes) -> bool:
        return True

    def read(self, record: str) -> _Row:
        raise ValueError("it is a table")

    def _shorten(self, image: str) -> str:
        # Paths in one folder differ at their ends.
        return image if len(image) <= _WIDEST else f"…{image[1 - _WIDEST :]}"

    def _join(self, image: str, label: str, rest: list[str]) -> str:
        cells = [f"{image:<{self._widths[0]}}", f"{label:<{self._widths[1]}}", *rest]
        return "  ".join(cells).rstrip() + "\n"
