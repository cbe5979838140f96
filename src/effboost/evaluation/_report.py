"""The result of an evaluation as numbers, text, JSON and figures."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import ConfusionMatrixDisplay

from effboost._utils.atomic_write import write_atomic
from effboost._utils.compat import load_matplotlib
from effboost._utils.escape import escape_invisible
from effboost.evaluation._scores import Metric
from effboost.evaluation._sites import SiteResult, format_sites, sites_to_dict

__all__ = ["TITLES", "EvaluationReport", "format_columns"]

TITLES: Final = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "auroc": "AUROC",
    "log_loss": "log-loss",
    "calibration_error": "calibration error",
    "sensitivity_at_95_specificity": "sens. at 95 % spec.",
    "specificity_at_95_sensitivity": "spec. at 95 % sens.",
    "subject_accuracy": "subject accuracy",
    "subject_auroc": "subject AUROC",
}


@dataclasses.dataclass(frozen=True)
class EvaluationReport:
    """The result of `evaluate`.

    Attributes
    ----------
    metrics : dict of str to Metric
        "accuracy", "weighted_f1"; for a classifier with probabilities, "auroc" (for more than two
        classes one against the rest, averaged over the classes), "log_loss" and "calibration_error"
        (`effboost.metrics.expected_calibration_error`), and with `pos_label`
        "sensitivity_at_95_specificity" and "specificity_at_95_sensitivity"; if each subject has
        images of one class only, "subject_accuracy" and, with probabilities, "subject_auroc". The
        predicted class of a subject is the one with the highest mean probability. It is the class
        predicted most often if there are no probabilities, or if the most probable class is not
        always the predicted one.
    per_class : dict of str to dict of str to Metric
        "precision", "recall" and "f1" of each class.
    support : dict of str to int
        Number of images of each class.
    confusion_matrix : ndarray of shape (n_classes, n_classes)
        Images of true class i predicted as class j.
    classes : ndarray of shape (n_classes,)
        The classes, in the order of the matrix.
    y_true, y_pred : ndarray of shape (n_samples,)
        True and out-of-fold predicted class of each image, by the classifier's own ``predict``.
    probabilities : ndarray of shape (n_samples, n_classes) or None
        Out-of-fold probabilities.
    groups : ndarray of shape (n_samples,)
        The subject of each image; its position if subjects are not known.
    fold : ndarray of shape (n_samples,)
        The fold in which an image was tested.
    shared_subjects : int
        Number of subjects on both sides of a fold: 0 unless ``check_leakage=False``.
    confidence : float
        Level of the intervals.
    seconds : float
        Time for all folds.
    prefit : bool
        Whether one fitted model was tested on all images, instead of one model for each fold.
    cnn : EvaluationReport or None
        The fine-tuned network alone, on the same folds; None where there is none.
    gain : Metric or None
        Accuracy minus that of the network alone, on the same bootstrap draws.
    history : tuple of list of dict
        ``history_`` of each fold's classifier; empty where there is none.
    evals_result : tuple of dict
        ``evals_result_`` of each fold's classifier; empty where there is none.
    sites : dict of str to SiteResult
        With ``sites=``: results of each site by the models of all other sites, beside those within
        the site. All other numbers of the report are those of models of other sites; `fold` is the
        position of the site among the sorted ones. Empty otherwise.
    estimators : tuple of classifier
        The fitted classifier of each fold; empty unless ``return_estimator=True``.
    groups_known : bool
        Whether the subjects are known. If not, each image is treated as its own.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from effboost import evaluate
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=6, images_per_subject=4, image_size=64, random_state=0)
    >>> report = evaluate(DummyClassifier(), cells.images, cells.target, groups=cells.groups, cv=2)
    >>> print(report.metrics["accuracy"])
    0.333 [0.000, 0.667]
    >>> report.confusion_matrix.shape, report.probabilities.shape
    ((2, 2), (24, 2))
    """

    metrics: Mapping[str, Metric]
    per_class: Mapping[str, Mapping[str, Metric]]
    support: Mapping[str, int]
    confusion_matrix: npt.NDArray[np.int64]
    classes: npt.NDArray[Any]
    y_true: npt.NDArray[Any]
    y_pred: npt.NDArray[Any]
    probabilities: npt.NDArray[np.float64] | None
    groups: npt.NDArray[Any]
    fold: npt.NDArray[np.intp]
    shared_subjects: int
    confidence: float
    seconds: float
    prefit: bool = False
    cnn: EvaluationReport | None = None
    gain: Metric | None = None
    history: tuple[list[dict[str, float]], ...] = ()
    evals_result: tuple[dict[str, dict[str, list[float]]], ...] = ()
    sites: Mapping[str, SiteResult] = dataclasses.field(default_factory=dict)
    estimators: tuple[Any, ...] = ()
    groups_known: bool = True

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(np.unique(self.groups))

    @property
    def n_splits(self) -> int:
        """Number of folds."""
        return len(np.unique(self.fold))

    def __str__(self) -> str:
        return _format_report(self)

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to plain numbers, strings, lists and dictionaries.

        Returns
        -------
        dict
            Undefined numbers are None. Predictions are left out; they are attributes.
        """
        data: dict[str, Any] = {
            "n_images": len(self.y_true),
            "n_subjects": self.n_subjects,
            "n_splits": self.n_splits,
            "prefit": self.prefit,
            "shared_subjects": self.shared_subjects,
            "confidence": self.confidence,
            "seconds": round(self.seconds, 3),
            "metrics": {name: _plain(metric) for name, metric in self.metrics.items()},
            "per_class": {
                name: {"support": self.support[name]}
                | {key: _plain(metric) for key, metric in metrics.items()}
                for name, metrics in self.per_class.items()
            },
            "classes": [str(label) for label in self.classes],
            "confusion_matrix": self.confusion_matrix.tolist(),
            "versions": {
                "python": platform.python_version(),
                **{
                    name: version(name) for name in ("effboost", "scikit-learn", "torch", "xgboost")
                },
            },
        }
        if self.cnn is not None and self.gain is not None:
            # Without what is the same for both.
            alone = self.cnn.to_dict()
            data["cnn"] = {key: alone[key] for key in ("metrics", "per_class", "confusion_matrix")}
            data["gain"] = _plain(self.gain)
        if self.sites:
            data["sites"] = sites_to_dict(self.sites)
        if self.history:
            data["history"] = list(self.history)
            data["evals_result"] = list(self.evals_result)
        return data

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Convert the report to JSON, and write it to a file if a path is given.

        Parameters
        ----------
        path : path, default=None
            The file. It is replaced atomically if it exists.

        Returns
        -------
        str
            The JSON text.
        """
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        if path is not None:
            write_atomic(path, text)
        return text

    def plot_confusion_matrix(self, ax: Any = None) -> Any:
        """Draw the confusion matrix.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        sklearn.metrics.ConfusionMatrixDisplay
            The display, with its figure in ``figure_``.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        load_matplotlib()
        display = ConfusionMatrixDisplay(self.confusion_matrix, display_labels=self.classes)
        display.plot(ax=ax, cmap="Blues", colorbar=False)
        for text in (*display.ax_.get_xticklabels(), *display.ax_.get_yticklabels()):
            # A dollar sign in the name of a class is not the start of a formula.
            text.set_parse_math(False)
        return display


def _plain(metric: Metric) -> dict[str, float | None]:
    values = dataclasses.asdict(metric)
    return {key: round(v, 6) if math.isfinite(v) else None for key, v in values.items()}


def _format_report(report: EvaluationReport) -> str:
    level = f"[{report.confidence:.0%} interval]"
    lines = [
        f"{len(report.y_true)} images of {report.n_subjects} subjects, " + _describe_folds(report),
        "",
        *_format_metrics(report),
    ]
    if report.shared_subjects:
        lines.insert(
            1,
            f"{report.shared_subjects} subjects are on both sides of a fold: these numbers are too "
            "good",
        )
    # A class may have a name that a terminal would obey.
    plain = {name: escape_invisible(name) for name in report.per_class}
    width = max(12, *(len(name) + 2 for name in plain.values()))
    lines += [
        "",
        f"{'class':<{width}}{'images':>6}  "
        + "".join(f"{key:<22}" for key in ("precision", "recall", "F1")).rstrip(),
    ]
    for name, scores in report.per_class.items():
        cells = "".join(f"{scores[key]!s:<22}" for key in ("precision", "recall", "f1"))
        lines.append(f"{plain[name]:<{width}}{report.support[name]:>6}  {cells.rstrip()}")
    lines += ["", "confusion matrix (rows: true, columns: predicted)", *_format_matrix(report)]
    if report.sites:
        lines += ["", "accuracy at each site", *format_sites(report.sites)]
    lines += ["", f"{level} from a bootstrap over subjects"]
    return "\n".join(lines)


def _describe_folds(report: EvaluationReport) -> str:
    if report.prefit:
        return "by a model fitted before"
    if report.sites:
        return f"{len(report.sites)} sites, each by models fitted on the others"
    return f"{report.n_splits} folds"


def _format_metrics(report: EvaluationReport) -> Iterable[str]:
    if report.cnn is None:
        return format_columns({"": report.metrics}, header=False)
    columns = {"hybrid": report.metrics, "CNN alone": report.cnn.metrics}
    return [*format_columns(columns), "", f"hybrid minus CNN     {report.gain} accuracy"]


def format_columns(
    columns: Mapping[str, Mapping[str, Metric]], *, header: bool = True
) -> Iterable[str]:
    """Format the metrics of several reports as columns."""
    if header:
        yield (" " * 21 + "".join(f"{title:<24}" for title in columns)).rstrip()
    first = next(iter(columns.values()))
    for name, title in TITLES.items():
        if name in first:
            cells = "".join(f"{metrics[name]!s:<24}" for metrics in columns.values())
            yield f"{title:<21}{cells}".rstrip()


def _format_matrix(report: EvaluationReport) -> Iterable[str]:
    names = [escape_invisible(label) for label in report.classes]
    width = max(8, *(len(name) + 2 for name in names))
    yield " " * width + "".join(f"{name:>{width}}" for name in names)
    for name, row in zip(names, report.confusion_matrix, strict=True):
        yield f"{name:<{width}}" + "".join(f"{count:>{width}}" for count in row)
