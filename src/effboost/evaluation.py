"""Cross-validated, subject-wise evaluation: numbers with intervals, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import time
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import has_fit_parameter
from tqdm.auto import tqdm

from effboost._images import ImageSequence, as_images
from effboost.exceptions import MissingDependencyError, SplitError, UnsupportedInputError
from effboost.model_selection import aggregate_by_subject, subject_folds
from effboost.model_selection._leakage import check_fold_leakage

__all__ = ["EvaluationReport", "Metric", "evaluate"]

_Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number and its interval.

    Attributes
    ----------
    value : float
        The number, on all images.
    low, high : float
        Ends of the percentile interval over bootstrap samples of subjects. NaN if it is not
        defined.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclasses.dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate` found.

    Attributes
    ----------
    metrics : dict of str to Metric
        "accuracy", "weighted_f1"; "auroc" where the classifier gives probabilities (one against
        the rest, averaged over the classes, if there are more than two); "subject_accuracy"
        where each subject belongs to one class: the share of subjects whose mean probabilities
        (or most frequent prediction) name their class.
    per_class : dict of str to dict of str to Metric
        "precision", "recall" and "f1" of each class.
    support : dict of str to int
        Number of images of each class.
    confusion_matrix : ndarray of shape (n_classes, n_classes)
        Images of true class i predicted as class j.
    classes : ndarray of shape (n_classes,)
        The classes, in the order of the matrix.
    y_true, y_pred : ndarray of shape (n_samples,)
        True and out-of-fold predicted class of each image.
    probabilities : ndarray of shape (n_samples, n_classes) or None
        Out-of-fold probabilities.
    groups : ndarray of shape (n_samples,)
        The subject of each image.
    fold : ndarray of shape (n_samples,)
        The fold in which an image was tested.
    shared_subjects : int
        Subjects that stood on both sides of a fold: 0 unless a leaking `cv` was forced.
    confidence : float
        Level of the intervals.
    seconds : float
        Time for all folds.
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
        """Give the report as plain numbers, strings, lists and dictionaries.

        Returns
        -------
        dict
            What is undefined is None. Predictions are left out; they are attributes.
        """
        return {
            "n_images": len(self.y_true),
            "n_subjects": self.n_subjects,
            "n_splits": self.n_splits,
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

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Give the report as JSON, and write it to a file if one is named.

        Parameters
        ----------
        path : path, default=None
            The file, replaced in one step if it exists.

        Returns
        -------
        str
            The JSON text.
        """
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        if path is not None:
            part = Path(f"{os.fspath(path)}.part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
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
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "pictures need matplotlib: pip install 'effboost[report]'"
            ) from error
        display = ConfusionMatrixDisplay(self.confusion_matrix, display_labels=self.classes)
        return display.plot(ax=ax, cmap="Blues", colorbar=False)


def evaluate(
    estimator: Any,
    X: Any,
    y: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    cv: Any = 5,
    check_leakage: bool = True,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> EvaluationReport:
    """Cross-validate a classifier by subject and report it with intervals.

    Every image is predicted once, by a clone that was fitted without its subject. Intervals come
    from a bootstrap over subjects, not images: images of one subject are alike, and counting
    them as independent would make intervals too narrow.

    Parameters
    ----------
    estimator : classifier
        Any scikit-learn classifier on images; it is cloned for each fold.
    X : images, n_samples of them
        What `ImageSequence` takes.
    y : array-like of shape (n_samples,)
        The labels.
    groups : array-like of shape (n_samples,), default=None
        The subject of each image; None takes the groups that an `ImageSequence` carries, or else
        each image for its own subject. They are passed to ``fit`` where it takes them.
    cv : int, splitter or iterable of (train, test), default=5
        Number of `subject_folds`; or another cut, such as a scikit-learn splitter. Each image
        must be tested exactly once.
    check_leakage : bool, default=True
        Refuse folds that have a subject or an image on both sides. Set to False only to show
        what leakage does.
    n_bootstrap : int, default=1000
        Number of bootstrap samples.
    confidence : float, default=0.95
        Level of the intervals.
    random_state : int, RandomState instance or None, default=0
        Draws the folds and the bootstrap samples.
    verbose : int, default=0
        1 shows a progress bar over the folds on stderr.

    Returns
    -------
    EvaluationReport
        The numbers; ``print`` shows them as a table.

    Raises
    ------
    LeakageError
        If a subject or an image stands on both sides of a fold.
    SplitError
        If the images cannot be cut by subject, or `cv` does not test each image once.
    ImageDecodeError, UnsupportedInputError
        If the images cannot be read.

    Examples
    --------
    >>> from effboost import evaluate, presets
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=6, images_per_subject=4, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> report = evaluate(clf, cells.images, cells.target, groups=cells.groups, cv=3)
    >>> report.n_subjects, report.shared_subjects, int(report.confusion_matrix.sum())
    (6, 0, 24)
    """
    images = as_images(X, image_shape=estimator.get_params().get("featurizer__image_shape"))
    labels: npt.NDArray[Any] = column_or_1d(y)
    subjects = _check_groups(images, labels, groups)
    rng = check_random_state(random_state)
    folds = _make_folds(cv, labels, subjects, rng)
    if check_leakage:
        check_fold_leakage(images, subjects, folds)
    start = time.perf_counter()
    encoder = LabelEncoder().fit(labels)
    y_pred, probabilities, fold = _predict_folds(
        estimator, images, labels, subjects, folds, encoder.classes_, verbose
    )
    seconds = time.perf_counter() - start
    shared = {g for train, test in folds for g in set(subjects[train]) & set(subjects[test])}
    return _make_report(
        encoder,
        labels,
        y_pred,
        probabilities,
        subjects,
        n_bootstrap=n_bootstrap,
        rng=rng,
        fold=fold,
        shared_subjects=len(shared),
        confidence=confidence,
        seconds=seconds,
    )


def _check_groups(images: ImageSequence, y: npt.NDArray[Any], groups: Any) -> npt.NDArray[Any]:
    if len(y) != len(images):
        raise UnsupportedInputError(f"X has {len(images)} images, but y has {len(y)} labels")
    if groups is None:
        groups = images.groups
    groups = np.arange(len(y)) if groups is None else column_or_1d(groups)
    if len(groups) != len(y):
        raise UnsupportedInputError(f"X has {len(images)} images, but groups has {len(groups)}")
    return groups


def _make_folds(cv: Any, y: npt.NDArray[Any], groups: Any, rng: np.random.RandomState) -> _Folds:
    if isinstance(cv, int | np.integer):
        return subject_folds(y, groups, int(cv), random_state=rng)
    with warnings.catch_warnings():
        # A splitter that knows no groups is a choice; the leak check has the word on it.
        warnings.filterwarnings("ignore", message="The groups parameter is ignored")
        folds = list(cv.split(np.zeros(len(y)), y, groups) if hasattr(cv, "split") else cv)
    tested = np.sort(np.concatenate([test for _, test in folds]))
    if not np.array_equal(tested, np.arange(len(y))):
        raise SplitError(
            "cv must test each image exactly once; use a K-fold splitter, such as "
            "StratifiedGroupKFold"
        )
    return folds


def _predict_folds(
    estimator: Any,
    images: ImageSequence,
    y: npt.NDArray[Any],
    groups: npt.NDArray[Any],
    folds: _Folds,
    classes: npt.NDArray[Any],
    verbose: int,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64] | None, npt.NDArray[np.intp]]:
    y_pred = np.empty_like(y)
    probabilities = np.zeros((len(y), len(classes)))
    fold = np.zeros(len(y), dtype=np.intp)
    has_probabilities = hasattr(estimator, "predict_proba")
    for number, (train, test) in enumerate(
        tqdm(folds, desc="folds", unit="fold", disable=not verbose)
    ):
        model = clone(estimator)
        routed = {"groups": groups[train]} if has_fit_parameter(model, "groups") else {}
        model.fit(images[train], y[train], **routed)
        fold[test] = number
        if has_probabilities:
            # A fold may lack a class in training where the caller's own cv leaves it out.
            columns = np.searchsorted(classes, model.classes_)
            probabilities[np.ix_(test, columns)] = model.predict_proba(images[test])
            y_pred[test] = classes[probabilities[test].argmax(axis=1)]
        else:
            y_pred[test] = model.predict(images[test])
    return y_pred, probabilities if has_probabilities else None, fold


# --- from predictions to numbers -----------------------------------------------------------


def _make_report(
    encoder: LabelEncoder,
    y_true: npt.NDArray[Any],
    y_pred: npt.NDArray[Any],
    probabilities: npt.NDArray[np.float64] | None,
    groups: npt.NDArray[Any],
    *,
    n_bootstrap: int,
    rng: np.random.RandomState,
    confidence: float,
    **rest: Any,
) -> EvaluationReport:
    true, pred = encoder.transform(y_true), encoder.transform(y_pred)
    names = [str(label) for label in encoder.classes_]
    subjects, subject_of = np.unique(groups, return_inverse=True)
    n = len(subjects)
    # How often each subject is drawn in each bootstrap sample; the first row is the data itself.
    draws = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
    draws = np.vstack([np.ones((1, n), dtype=draws.dtype), draws])

    def metric(values: npt.NDArray[np.float64]) -> Metric:
        return _with_interval(values, confidence)

    confusions = _confusions(true, pred, subject_of, len(names), draws)
    scores = _scores_of_confusions(confusions)
    metrics = {"accuracy": metric(scores["accuracy"]), "weighted_f1": metric(scores["weighted_f1"])}
    if probabilities is not None:
        metrics["auroc"] = metric(_auroc(true, probabilities, subject_of, draws))
    correct = _subjects_correct(true, pred, probabilities, subject_of, len(names))
    if correct is not None:
        metrics["subject_accuracy"] = metric(draws @ correct / n)
    return EvaluationReport(
        metrics=metrics,
        per_class={
            name: {key: metric(scores[key][:, i]) for key in ("precision", "recall", "f1")}
            for i, name in enumerate(names)
        },
        support={name: int((true == i).sum()) for i, name in enumerate(names)},
        confusion_matrix=confusions[0].astype(np.int64),
        classes=encoder.classes_,
        y_true=y_true,
        y_pred=y_pred,
        probabilities=probabilities,
        groups=groups,
        confidence=confidence,
        **rest,
    )


def _with_interval(values: npt.NDArray[np.float64], confidence: float) -> Metric:
    """Take the first value as the number and the others as its bootstrap samples."""
    samples = values[1:][np.isfinite(values[1:])]
    if not samples.size:
        return Metric(float(values[0]), math.nan, math.nan)
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Metric(float(values[0]), float(low), float(high))


def _confusions(
    true: npt.NDArray[np.intp],
    pred: npt.NDArray[np.intp],
    subject_of: npt.NDArray[np.intp],
    n_classes: int,
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Confusion matrix of each draw: those of the subjects, added up."""
    of_subject = np.zeros((draws.shape[1], n_classes, n_classes))
    np.add.at(of_subject, (subject_of, true, pred), 1)
    return np.tensordot(draws.astype(np.float64), of_subject, axes=1)


def _scores_of_confusions(confusions: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    predicted, actual = confusions.sum(axis=1), confusions.sum(axis=2)
    total = actual.sum(axis=1)
    with np.errstate(invalid="ignore"):
        # Of a class that was never predicted, the precision counts as 0, as in scikit-learn; of
        # one that a draw does not hold, nothing is defined.
        present = np.where(actual > 0, 1.0, np.nan)
        precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
        f1 = np.divide(2 * hits, predicted + actual)
        return {
            "accuracy": hits.sum(axis=1) / total,
            "precision": precision * present,
            "recall": hits / actual,
            "f1": f1 * present,
            "weighted_f1": np.nansum(f1 * actual, axis=1) / total,
        }


def _auroc(
    true: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """AUROC of each draw; of more than two classes, the mean of each against the rest."""
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [
        _weighted_auroc(true == column, probabilities[:, column], subject_of, draws)
        for column in columns
    ]
    return np.mean(areas, axis=0)


def _weighted_auroc(
    positive: npt.NDArray[np.bool_],
    score: npt.NDArray[np.float64],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Share of pairs in the right order, ties counted half.

    `sklearn.metrics.roc_auc_score` gives the same, but would sort anew for each of a thousand
    draws: here the order is found once. NaN where a draw lacks one side.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    side = positive[order]
    out = np.empty(len(draws))
    for row, draw in enumerate(draws):
        weight = draw[subject_of[order]]
        ups = np.add.reduceat(weight * side, starts)
        downs = np.add.reduceat(weight * ~side, starts)
        ordered = (ups * (np.cumsum(downs) - downs / 2)).sum()
        pairs = ups.sum() * downs.sum()
        out[row] = ordered / pairs if pairs else np.nan
    return out


def _subjects_correct(
    true: npt.NDArray[np.intp],
    pred: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64] | None,
    subject_of: npt.NDArray[np.intp],
    n_classes: int,
) -> npt.NDArray[np.float64] | None:
    """1 for each subject that is classified rightly, or None if a subject has two classes."""
    order = np.unique(subject_of, return_index=True)[1]
    label = true[order]
    if (label[subject_of] != true).any():
        return None
    votes = np.eye(n_classes)[pred] if probabilities is None else probabilities
    _, means = aggregate_by_subject(votes, subject_of)
    return (means.argmax(axis=1) == label).astype(np.float64)


# --- from numbers to text ------------------------------------------------------------------


def _plain(metric: Metric) -> dict[str, float | None]:
    values = dataclasses.asdict(metric)
    return {key: round(v, 6) if math.isfinite(v) else None for key, v in values.items()}


def _format_report(report: EvaluationReport) -> str:
    titles = {
        "accuracy": "accuracy",
        "weighted_f1": "weighted F1",
        "auroc": "AUROC",
        "subject_accuracy": "subject accuracy",
    }
    level = f"[{report.confidence:.0%} interval]"
    lines = [
        f"{len(report.y_true)} images of {report.n_subjects} subjects, {report.n_splits} folds",
        "",
        *(f"{titles[name]:<18}{metric}" for name, metric in report.metrics.items()),
    ]
    if report.shared_subjects:
        lines.insert(
            1, f"{report.shared_subjects} subjects stand on both sides: these numbers flatter"
        )
    width = max(12, *(len(name) + 2 for name in report.per_class))
    lines += [
        "",
        f"{'class':<{width}}{'images':>6}  "
        + "".join(f"{key:<22}" for key in ("precision", "recall", "F1")).rstrip(),
    ]
    for name, scores in report.per_class.items():
        cells = "".join(f"{scores[key]!s:<22}" for key in ("precision", "recall", "f1"))
        lines.append(f"{name:<{width}}{report.support[name]:>6}  {cells.rstrip()}")
    lines += ["", "confusion matrix (rows: true, columns: predicted)", *_format_matrix(report)]
    lines += ["", f"{level} from a bootstrap over subjects"]
    return "\n".join(lines)


def _format_matrix(report: EvaluationReport) -> Iterable[str]:
    names = [str(label) for label in report.classes]
    width = max(8, *(len(name) + 2 for name in names))
    yield " " * width + "".join(f"{name:>{width}}" for name in names)
    for name, row in zip(names, report.confusion_matrix, strict=True):
        yield f"{name:<{width}}" + "".join(f"{count:>{width}}" for count in row)
