"""Every system of the paper on one data set, resumable."""

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
    """What `reproduce` measured; ``print`` shows its tables.

    Attributes
    ----------
    notes : tuple of str
        What was measured on what, and how much of it is to be believed.
    splits : tuple of Split
        The paper's split of the images, and the honest one.
    results : dict of str to dict of str to SystemResult
        By system and by split ("paper", "honest").
    """

    notes: tuple[str, ...]
    splits: tuple[Split, ...]
    results: Mapping[str, Mapping[str, SystemResult]]

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, and why."""
        return tuple(list_failures(self.results, self.splits))

    def __str__(self) -> str:
        reached, costs = split_for_screens(table_of_systems(self.results, self.splits))
        parts = [
            "\n".join(escape_invisible(note) for note in self.notes),
            f"Tables 1 and 3: what the systems reach\n{to_text(reached)}",
            f"What they are, and cost\n{to_text(costs)}",
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
        """Return notes and tables as Markdown.

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
        """Return everything but the predictions as JSON, and write it to a file if one is named.

        Parameters
        ----------
        path : path, default=None
            The file, replaced in one step if it exists.

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

    Each system is fitted and tested twice: on a split as the paper's, and on one that keeps
    subjects and equal images on one side. What is finished is kept in `out`, and not measured
    again as long as nothing changes that it depends on: a run that was stopped, in whatever way,
    goes on where it was. A system that fails is reported, and tried again by the next run.

    Parameters
    ----------
    data : path, default=None
        Folder of C-NMC 2019 (what `load_cnmc` takes), or of any labelled images (what
        `load_image_folder` takes). None generates cells.
    out : path, default="effboost-reproduction"
        Folder to write: ``reproduction.md``, ``.txt`` and ``.json``, ``figure_5.png``,
        ``figures_6_and_8.png``, ``figure_7.png``, and what is kept, in ``systems``.
    systems : iterable of str, default=None
        Names in `effboost.comparators.COMPARATORS`; None takes all.
    quick : bool, default=False
        Only show that everything runs, in minutes: two epochs on small pictures, few images, and
        random weights unless `weights` says otherwise.
    target, group, drop_classes
        See `load_image_folder`.
    positive : str, default=None
        The class that is looked for: adds two operating points to the JSON.
    backbone : str, BackboneSpec or callable, default=None
        Takes the place of the network in all systems that begin with a pretrained one as it
        is published. Those with a network of their own, and those that are trained from scratch,
        keep theirs; the former then begin with random weights.
    weights : "auto", "imagenet", None or path, default="auto"
        What pretrained networks start from; "auto" means random weights with `quick`, and else
        "imagenet". A file fits one architecture: name it by `backbone`.
    freeze_batch_norm : bool, default=False
        Keep the statistics of batch norms in the networks that start from `weights`, for weights
        that have them folded in.
    image_size : int, default=None
        What all networks see, in pixels. None: what each system takes; 64 or 80 with `quick`.
    max_epochs : int, default=None
        Epochs of training. None: what each system takes, up to 100; 2 with `quick`.
    runtime : str, default="auto"
        What predicts: see `ImageFeaturizer`. The times depend on it.
    random_state : int, default=0
        Seed of the splits and of the systems.
    verbose : int, default=0
        1 shows a progress bar on stderr.

    Returns
    -------
    Reproduction
        The results; ``failures`` names what failed.

    Raises
    ------
    UnsupportedInputError
        If a system or the positive class is unknown.
    DatasetError, SplitError
        If the data cannot be found, or cannot be cut by subject.
    MissingDependencyError
        If what draws the figures is not installed.

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
        raise UnsupportedInputError(f"positive={positive!r} is none of {classes}")
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
            f"there is no system {unknown[0] if unknown else ''!r}; the systems are "
            f"{', '.join(COMPARATORS)}"
        )
    return names


def _once(name: str, split: Split, data: Data, plan: Plan, kept: Path) -> SystemResult:
    """Return the result that is there, or measure it and keep it."""
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
        # Whatever it is, the others go on, and the table says so.
        result = dataclasses.replace(empty, error=f"{type(error).__name__}: {error}")
    result.save(kept)
    # Networks refer to themselves in circles, and VGG16 is large.
    clf = None
    gc.collect()
    return result


def _notes(data: Data, plan: Plan) -> tuple[str, ...]:
    notes = []
    if plan.quick:
        notes.append(
            "QUICK: small pictures, few images, next to no training. This shows that everything "
            "runs; the numbers do not judge the systems."
        )
    if plan.weights is None:
        notes.append(
            "RANDOM WEIGHTS: no network began pretrained. Nothing here compares with what was "
            "reported."
        )
    n_subjects = 0 if data.subjects is None else len(set(data.subjects.tolist()))
    classes = {label: int((data.target == label).sum()) for label in sorted(set(data.target))}
    counted = ", ".join(f"{n} {label}" for label, n in classes.items())
    of = f"{n_subjects} subjects" if n_subjects else "unknown subjects"
    notes.append(f"Data: {data.title}, {len(data.target)} images of {of} ({counted}).")
    for split in data.splits:
        subjects, images = data.shared(split)
        shared = f"{images} images stand on both sides"
        if data.subjects is not None:
            n_tested = len(set(data.subjects[split.test].tolist()))
            shared = f"{subjects} of the {n_tested} tested subjects and {shared}"
        notes.append(
            f"{split.title.capitalize()}: {split.description}. {len(split.train)} images to learn "
            f"from, {len(split.test)} to test; {shared}."
        )
    epochs, side = plan.epochs or "each system's own", "of each system's own size"
    if plan.image_size is not None:
        side = f"of {plan.image_size} pixels"
    elif plan.quick:
        side = f"of {QUICK_SIDE} pixels, {QUICK_SIDE_INCEPTION} for Inception networks"
    notes.append(f"Epochs: {epochs}. Pictures: {side}. Seed: {plan.seed}.")
    notes.append(
        "Reported: what its authors reported, on data and splits of their own. Intervals: 95 %, "
        "from resampling subjects. Times: of this machine, of a CPU where images are predicted. "
        "Parameters: of the networks as fitted, with outputs for these classes. File: what joblib "
        "writes after a first prediction, with the graph of the network beside it."
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
