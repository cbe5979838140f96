"""All systems of the paper on one data set, in a run that can be resumed."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from effboost._utils.atomic_write import write_atomic
from effboost._utils.escape import escape_invisible, escape_markdown
from effboost.comparators import COMPARATORS
from effboost.exceptions import UnsupportedInputError
from effboost.reproduction._data import Data, Split, load_data
from effboost.reproduction._figures import check_drawing, draw_confusions, draw_curves
from effboost.reproduction._measure import describe_networks, measure
from effboost.reproduction._plan import HYBRID, QUICK_SIDE, QUICK_SIDE_INCEPTION, Plan
from effboost.reproduction._result import SystemResult
from effboost.reproduction._tables import (
    list_failures,
    split_for_screens,
    table_of_classes,
    table_of_systems,
    to_markdown,
    to_text,
)

__all__ = ["Reproduction", "reproduce"]


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The result of `reproduce`; ``print`` shows its tables.

    Attributes
    ----------
    notes : tuple of str
        The data and the settings, and what limits the results.
    splits : tuple of Split
        The paper's split of the images, and the one by subject.
    results : dict of str to dict of str to SystemResult
        By system and by split ("paper", "honest").

    Examples
    --------
    >>> from effboost.reproduction import Reproduction
    >>> print(Reproduction(notes=("Generated cells.",), splits=(), results={}).to_markdown())
    # The systems of the paper, side by side
    ...
    """

    notes: tuple[str, ...]
    splits: tuple[Split, ...]
    results: Mapping[str, Mapping[str, SystemResult]]

    @property
    def failures(self) -> tuple[str, ...]:
        """Which systems failed, and why."""
        return tuple(list_failures(self.results, self.splits))

    def __str__(self) -> str:
        reached, costs = split_for_screens(table_of_systems(self.results, self.splits))
        parts = [
            "\n".join(escape_invisible(note) for note in self.notes),
            f"Tables 1 and 3: scores of the systems\n{to_text(reached)}",
            f"Networks and costs\n{to_text(costs)}",
        ]
        if self._hybrid:
            table = table_of_classes(self._hybrid, self.splits)
            parts.append(f"Table 2: classes, {HYBRID}\n{to_text(table)}")
        if self.failures:
            parts.append("FAILED:\n" + "\n".join(map(escape_invisible, self.failures)))
        return "\n\n".join(parts)

    @property
    def _hybrid(self) -> dict[str, SystemResult]:
        found = self.results.get(HYBRID, {})
        return {name: result for name, result in found.items() if result.error is None}

    def to_markdown(self) -> str:
        """Format notes and tables as Markdown.

        Returns
        -------
        str
            The text; names that come from the data are escaped.
        """
        parts = [
            "# The systems of the paper, side by side",
            "\n".join(f"- {escape_markdown(note)}" for note in self.notes),
            "## Tables 1 and 3: all systems",
            to_markdown(table_of_systems(self.results, self.splits)),
        ]
        if self._hybrid:
            table = table_of_classes(self._hybrid, self.splits)
            parts += [f"## Table 2: classes, {escape_markdown(HYBRID)}", to_markdown(table)]
        if self.failures:
            lines = "\n".join(f"- {escape_markdown(failure)}" for failure in self.failures)
            parts += ["## Failed", lines]
        return "\n\n".join(parts) + "\n"

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Convert everything but the predictions to JSON, and write it to a file if one is given.

        Parameters
        ----------
        path : path, default=None
            The file. It is replaced atomically if it exists.

        Returns
        -------
        str
            The JSON text.
        """
        content = {
            "notes": self.notes,
            "splits": {
                split.name: {"title": split.title, "description": split.description}
                for split in self.splits
            },
            "systems": {
                name: {
                    "citation": COMPARATORS[name].citation,
                    "table": COMPARATORS[name].table,
                    "reported": [dataclasses.asdict(r) for r in COMPARATORS[name].reported],
                    "measured": {
                        split: dataclasses.asdict(dataclasses.replace(result, predictions=None))
                        for split, result in found.items()
                    },
                }
                for name, found in self.results.items()
            },
        }
        text = json.dumps(content, indent=2) + "\n"
        if path is not None:
            write_atomic(path, text)
        return text


def reproduce(
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "effboost-reproduction",
    *,
    systems: Iterable[str] | None = None,
    quick: bool = False,
    target: str | None = None,
    group: str | None = None,
    drop_classes: Iterable[str] = (),
    positive: str | None = None,
    backbone: Any = None,
    weights: str | os.PathLike[str] | None = "auto",
    freeze_batch_norm: bool = False,
    image_size: int | None = None,
    max_epochs: int | None = None,
    runtime: str = "auto",
    random_state: int = 0,
    verbose: int = 0,
) -> Reproduction:
    """Train every system that the paper compares, on two splits, and write its tables and figures.

    Each system is fitted and tested twice: on a split like the paper's, and on one that keeps
    subjects and identical images on one side. Finished results are kept in `out` and not measured
    again unless something changes that they depend on, so that an interrupted run can be resumed.
    A system that fails is reported, and tried again by the next run.

    Parameters
    ----------
    data : path, default=None
        Folder of C-NMC 2019 (what `load_cnmc` takes), or of any labelled images (what
        `load_image_folder` takes). None generates cells.
    out : path, default="effboost-reproduction"
        Folder to write: ``reproduction.md``, ``.txt`` and ``.json``, ``figure_5.png``,
        ``figures_6_and_8.png``, ``figure_7.png``, and the finished results in ``systems``.
    systems : iterable of str, default=None
        Names in `effboost.comparators.COMPARATORS`; None takes all.
    quick : bool, default=False
        Only show that everything runs, in minutes: two epochs on few small images, and random
        weights unless `weights` is given.
    target, group : str, default=None
        Columns or pattern of class and subject; see `load_image_folder`.
    drop_classes : iterable of str, default=()
        Classes to leave out.
    positive : str, default=None
        The positive class: adds two operating points to the JSON.
    backbone : str, BackboneSpec or callable, default=None
        Replaces the backbone of all systems that use a published pretrained network. Systems with
        a network of their own, and those trained from scratch, keep theirs; the former then start
        from random weights.
    weights : "auto", "imagenet", None or path, default="auto"
        Initial weights of pretrained networks. "auto" means random weights with `quick`, and
        "imagenet" otherwise. A file fits one architecture: give it as `backbone`.
    freeze_batch_norm : bool, default=False
        Keep the statistics of batch norms in the networks that start from `weights`, for weights
        that have them folded in.
    image_size : int, default=None
        Side in pixels of the input of all networks. None takes each system's own; 64 or 80 with
        `quick`.
    max_epochs : int, default=None
        Epochs of training. None takes each system's own, up to 100; 2 with `quick`.
    runtime : str, default="auto"
        Computes the features: see `ImageFeaturizer`. The times depend on it.
    random_state : int, default=0
        Seed of the splits and of the systems.
    verbose : int, default=0
        1 shows a progress bar on stderr.

    Returns
    -------
    Reproduction
        The results; ``failures`` lists what failed.

    Raises
    ------
    UnsupportedInputError
        If a system or the positive class is unknown.
    DatasetError, SplitError
        If the data cannot be found, or cannot be split by subject.
    MissingDependencyError
        If a package that draws the figures is not installed.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from effboost.reproduction import reproduce
    >>> with TemporaryDirectory() as folder:
    ...     found = reproduce(
    ...         out=folder, systems=["res_rand_svm"], quick=True, backbone="resnet18", image_size=32
    ...     )
    >>> found.results["res_rand_svm"]["honest"].network, found.failures
    ('resnet18', ())
    """
    names = _check_systems(systems)
    check_drawing()
    folder = Path(out)
    kept = folder / "systems"
    found = load_data(
        data, target=target, group=group, drop_classes=drop_classes, quick=quick, seed=random_state
    )
    if positive is not None and positive not in found.target:
        classes = sorted(set(found.target.tolist()))
        raise UnsupportedInputError(
            f"positive={positive!r} is not a class; the classes are {classes}"
        )
    if weights == "auto":
        weights = None if quick else "imagenet"
    plan = Plan(
        backbone=backbone,
        weights=weights,
        freeze_batch_norm=freeze_batch_norm,
        image_size=image_size,
        max_epochs=max_epochs,
        runtime=runtime,
        quick=quick,
        cropped=found.cropped,
        positive=positive,
        seed=random_state,
    )
    kept.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, SystemResult]] = {}
    tasks = [(name, split) for name in names for split in found.splits]
    bar = tqdm(tasks, desc="systems", disable=not verbose)
    for name, split in bar:
        bar.set_postfix_str(f"{name}, {split.title}")
        result = _once(plan.design(name), split, found, plan, kept)
        results.setdefault(name, {})[split.name] = result
    made = Reproduction(_notes(found, plan), found.splits, results)
    _write(made, folder, kept)
    return made


def _check_systems(systems: Iterable[str] | None) -> list[str]:
    if isinstance(systems, str):
        systems = [systems]
    names = list(COMPARATORS) if systems is None else list(dict.fromkeys(systems))
    unknown = [name for name in names if name not in COMPARATORS]
    if unknown or not names:
        raise UnsupportedInputError(
            f"{unknown[0] if unknown else ''!r} is not a system; the systems are "
            f"{', '.join(COMPARATORS)}"
        )
    return names


def _once(name: str, split: Split, data: Data, plan: Plan, kept: Path) -> SystemResult:
    """Load the result of a former run, or measure and save it."""
    empty = SystemResult(name, split.name, plan.key(name, data, split))
    picture = kept / f"{empty.stem}.png" if name == HYBRID else None
    known = empty.load(kept)
    if known is not None and (picture is None or picture.is_file()):
        return known
    try:
        clf = plan.make(name)
        network, weights = describe_networks(clf)
        empty = dataclasses.replace(empty, network=network, weights=weights)
        result = dataclasses.replace(empty, **measure(clf, data, split, plan.positive, picture))
    except Exception as error:
        # The other systems go on, and the table shows the failure.
        result = dataclasses.replace(empty, error=f"{type(error).__name__}: {error}")
    result.save(kept)
    # Networks have reference cycles, and VGG16 is large.
    clf = None
    gc.collect()
    return result


def _notes(data: Data, plan: Plan) -> tuple[str, ...]:
    notes = []
    if plan.quick:
        notes.append(
            "QUICK: few small images and hardly any training. This shows that everything runs; "
            "the scores say nothing about the systems."
        )
    if plan.weights is None:
        notes.append(
            "RANDOM WEIGHTS: no network was pretrained. No score can be compared with a reported "
            "one."
        )
    n_subjects = 0 if data.subjects is None else len(set(data.subjects.tolist()))
    classes = {label: int((data.target == label).sum()) for label in sorted(set(data.target))}
    counted = ", ".join(f"{n} {label}" for label, n in classes.items())
    of = f"{n_subjects} subjects" if n_subjects else "unknown subjects"
    notes.append(f"Data: {data.title}, {len(data.target)} images of {of} ({counted}).")
    for split in data.splits:
        subjects, images = data.shared(split)
        shared = f"{images} images are on both sides"
        if data.subjects is not None:
            n_tested = len(set(data.subjects[split.test].tolist()))
            shared = f"{subjects} of the {n_tested} tested subjects and {shared}"
        notes.append(
            f"{split.title.capitalize()}: {split.description}. {len(split.train)} training images, "
            f"{len(split.test)} test images; {shared}."
        )
    epochs, side = plan.epochs or "each system's own", "each system's own"
    if plan.image_size is not None:
        side = f"{plan.image_size} pixels"
    elif plan.quick:
        side = f"{QUICK_SIDE} pixels, {QUICK_SIDE_INCEPTION} for Inception networks"
    notes.append(f"Epochs: {epochs}. Image size: {side}. Seed: {plan.seed}.")
    notes.append(
        "Reported: by the authors, on their own data and splits. Intervals: 95 %, from a bootstrap "
        "over subjects. Times: on this machine; predictions on a CPU. Parameters: of the fitted "
        "networks, with outputs for these classes. File: what joblib writes after the first "
        "prediction, including the exported network."
    )
    return tuple(notes)


def _write(made: Reproduction, folder: Path, kept: Path) -> None:
    made.to_json(folder / "reproduction.json")
    write_atomic(folder / "reproduction.txt", f"{made}\n")
    write_atomic(folder / "reproduction.md", made.to_markdown())
    hybrid = made._hybrid
    if not hybrid:
        return
    explained = hybrid.get("honest") or hybrid["paper"]
    shutil.copyfile(kept / f"{explained.stem}.png", folder / "figure_5.png")
    draw_curves(hybrid, made.splits, folder / "figures_6_and_8.png")
    draw_confusions(hybrid, made.splits, folder / "figure_7.png")
