"""Findings of a check of images, as text, CSV and JSON."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, TextIO

from effboost._utils.csv_rows import write_rows
from effboost._utils.escape import escape_invisible

__all__ = ["KINDS", "DataCheck", "Finding", "sort_findings"]

# Headings of the kinds of findings, the most severe first.
KINDS: Final = {
    "leaking_subject": "subjects in more than one split",
    "leaking_image": "images in more than one split",
    "several_labels": "images under several labels",
    "several_subjects": "images under several subjects",
    "wrong_subject": "subjects whose label is probably wrong",
    "wrong_label": "images whose label is probably wrong",
    "unreadable": "unreadable images",
    "duplicate": "duplicates with identical bytes",
    "near_duplicate": "near duplicates: re-encoded, resized, rotated or mirrored",
    "similar_labels": "labels that differ only in case, spaces or Unicode form",
    "similar_subjects": "subjects that differ only in case, spaces or Unicode form",
    "dark": "nearly black images",
    "blank": "blank images",
    "size": "images of an unusual size",
    "no_label": "images without a label",
    "no_subject": "images without a subject",
}
_SHOWN: Final = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault of a data set.

    Attributes
    ----------
    kind : str
        "leaking_subject", "leaking_image", "several_labels", "several_subjects", "unreadable",
        "duplicate", "near_duplicate", "similar_labels", "similar_subjects", "dark", "blank",
        "size", "no_label" or "no_subject"; by ``effboost check --labels`` also "wrong_subject" and
        "wrong_label".
    images : tuple of str
        The affected images: paths, or positions of images in memory.
    detail : str
        The details, such as the reason why an image cannot be read.

    Examples
    --------
    >>> from effboost.datasets import Finding
    >>> finding = Finding("unreadable", ("cells/3.png",), "the file is empty (0 bytes)")
    >>> print(f"{finding.images[0]}: {finding.detail}")
    cells/3.png: the file is empty (0 bytes)
    """

    kind: str
    images: tuple[str, ...]
    detail: str


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings by their kind, the most severe first."""
    order = list(KINDS)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.kind)))


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """Result of `check_images`.

    Attributes
    ----------
    findings : tuple of Finding
        All faults, the most severe first.
    n_images : int
        Number of images.
    n_subjects : int or None
        Number of subjects; None if none is known.
    classes, splits : dict of str to (int, int or None)
        Images and subjects of each class and of each split.
    sizes : dict of (int, int) to int
        Images of each width and height, in pixels, the most frequent first.

    Examples
    --------
    >>> from effboost.datasets import check_images, make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=2, image_size=64, random_state=0)
    >>> X, groups = [*cells.images, cells.images[0]], [*cells.groups, "another"]
    >>> check = check_images(X, groups=groups)
    >>> check.n_images, check.n_subjects, check.counts
    (9, 5, {'several_subjects': 1, 'duplicate': 1})
    """

    findings: tuple[Finding, ...]
    n_images: int
    n_subjects: int | None
    classes: dict[str, tuple[int, int | None]]
    splits: dict[str, tuple[int, int | None]]
    sizes: dict[tuple[int, int], int]

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind that occurs, the most severe first."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in KINDS if kind in counted}

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a dictionary for JSON.

        Returns
        -------
        dict
            The attributes, and the number of findings of each kind.
        """
        return {
            "n_images": self.n_images,
            "n_subjects": self.n_subjects,
            "classes": _as_counts(self.classes),
            "splits": _as_counts(self.splits),
            "sizes": {f"{width} x {height}": n for (width, height), n in self.sizes.items()},
            "counts": self.counts,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }

    def to_csv(self, *, escape_formulas: bool = False) -> str:
        """Return the findings as CSV, with one row for each finding and image.

        Parameters
        ----------
        escape_formulas : bool, default=False
            Put an apostrophe before cells that a spreadsheet would take for a formula.

        Returns
        -------
        str
            The columns finding (a number), kind, image and detail, with a header.
        """
        file = io.StringIO(newline="")
        self.write_csv(file, escape_formulas=escape_formulas)
        return file.getvalue()

    def write_csv(self, file: TextIO, *, escape_formulas: bool = False) -> None:
        """Write the findings as CSV; see `to_csv`.

        Parameters
        ----------
        file : text file
            Opened with ``newline=""``.
        escape_formulas : bool, default=False
            See `to_csv`.
        """
        rows: list[list[Any]] = [["finding", "kind", "image", "detail"]]
        for number, finding in enumerate(self.findings, 1):
            rows += [[number, finding.kind, image, finding.detail] for image in finding.images]
        write_rows(file, rows, escape_formulas=escape_formulas)

    def __str__(self) -> str:
        return "\n".join(_format_check(self))


def _as_counts(counts: dict[str, tuple[int, int | None]]) -> dict[str, dict[str, int | None]]:
    return {name: {"images": n, "subjects": subjects} for name, (n, subjects) in counts.items()}


def _format_check(check: DataCheck) -> Iterator[str]:
    known = "" if check.n_subjects is None else f" of {_count(check.n_subjects, 'subject')}"
    yield f"{_count(check.n_images, 'image')}{known}"
    for title, counts in (("class", check.classes), ("split", check.splits)):
        yield from _format_counts(title, counts)
    if check.sizes:
        (width, height), n = next(iter(check.sizes.items()))
        others = f", {len(check.sizes) - 1} other sizes" if len(check.sizes) > 1 else ""
        yield f"\nmost frequent size: {width} x {height} pixels ({n} images){others}"
    notes = list(_note_few(check))
    if notes:
        yield "\nnot enough to fit or to evaluate a model:"
        yield from notes
    if not check.findings:
        yield "\nno faults found"
    for kind, n in check.counts.items():
        yield f"\n{KINDS[kind]}: {n}"
        found = [finding for finding in check.findings if finding.kind == kind]
        for finding in found[:_SHOWN]:
            images = ", ".join(map(escape_invisible, finding.images[:3]))
            more = f" and {len(finding.images) - 3} more" if len(finding.images) > 3 else ""
            yield f"  {images}{more}: {escape_invisible(finding.detail)}"
        if len(found) > _SHOWN:
            yield f"  ... and {len(found) - _SHOWN} more"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _note_few(check: DataCheck) -> Iterator[str]:
    """Say what `fit` or `evaluate` will refuse; a folder to be predicted may be so."""
    if len(check.classes) == 1:
        yield "  one class only"
    if check.n_subjects == 1:
        yield "  one subject only"
    elif len(check.classes) > 1:
        for name, (_, subjects) in check.classes.items():
            if subjects == 1:
                yield f"  class {escape_invisible(name)} has one subject only"


def _format_counts(title: str, counts: dict[str, tuple[int, int | None]]) -> Iterator[str]:
    if not counts:
        return
    names = {name: escape_invisible(name) for name in counts}
    width = max(map(len, [title, *names.values()]))
    subjects = next(iter(counts.values()))[1] is not None
    yield f"\n{title:<{width}}   images" + ("  subjects" if subjects else "")
    for name, (n, of) in counts.items():
        yield f"{names[name]:<{width}} {n:8d}" + (f" {of:9d}" if subjects else "")
