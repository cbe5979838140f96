"""Cross-validation by subject."""

from __future__ import annotations

import dataclasses
import time
import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from tqdm.auto import tqdm

from effboost._images import ImageSequence, as_images
from effboost._utils.columns import check_groups
from effboost._validation import check_labels
from effboost.evaluation._report import EvaluationReport
from effboost.evaluation._scores import (
    Metric,
    auroc,
    calibration_errors,
    confusions,
    draw_subjects,
    log_losses,
    operating_points,
    scores_of_confusions,
    subject_scores,
    with_interval,
)
from effboost.exceptions import SplitError, UnsupportedInputError
from effboost.model_selection import subject_folds
from effboost.model_selection._leakage import check_fold_leakage

__all__ = ["evaluate"]

_OF_PROBABILITIES: Final = {
    "auroc": auroc,
    "log_loss": log_losses,
    "calibration_error": calibration_errors,
}
_Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


def evaluate(
    estimator: Any,
    X: Any,
    y: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    cv: Any = 5,
    pos_label: Any = None,
    check_leakage: bool = True,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    return_estimator: bool = False,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> EvaluationReport:
    """Cross-validate a classifier by subject and report it with intervals.

    Every image is predicted once, by a clone that was fitted without its subject. Of a
    `HybridClassifier` that fine-tunes its network, the network alone is reported, too, on the
    same folds. Intervals come
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
    cv : int, splitter, iterable of (train, test) or "prefit", default=5
        Number of `subject_folds`; or another cut, such as a scikit-learn splitter. Each image
        must be tested exactly once. "prefit": `estimator` is fitted already, and tested as it
        is, on images that it has not seen; `check_leakage` of `model_selection` compares them
        with those that it has.
    pos_label : label, default=None
        The class that is looked for, such as the disease: adds its sensitivity at 95 %
        specificity and the reverse. With more than two classes, it stands against the others.
    check_leakage : bool, default=True
        Refuse folds that have a subject or an image on both sides. Set to False only to show
        what leakage does.
    n_bootstrap : int, default=1000
        Number of bootstrap samples.
    confidence : float, default=0.95
        Level of the intervals.
    return_estimator : bool, default=False
        Keep the fitted classifier of each fold in the report.
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
    labels = check_labels(y)
    subjects = _check_groups(images, labels, groups)
    prefit = isinstance(cv, str) and cv == "prefit"
    classes = np.unique(labels)
    if prefit:
        check_is_fitted(estimator)
        # Those that the test images lack, too.
        classes = np.unique(np.concatenate([classes, estimator.classes_]))
    if pos_label is not None and pos_label not in classes.tolist():
        raise UnsupportedInputError(f"pos_label={pos_label!r} is none of {classes.tolist()}")
    positive = None if pos_label is None else classes.tolist().index(pos_label)
    rng = check_random_state(random_state)
    everything = np.arange(len(labels))
    folds = [(everything[:0], everything)] if prefit else _make_folds(cv, labels, subjects, rng)
    if check_leakage:
        check_fold_leakage(images, subjects, folds)
    start = time.perf_counter()
    encoder = LabelEncoder().fit(classes)
    own, cnn, models = _predict_folds(
        estimator, images, labels, subjects, folds, classes, verbose, prefit
    )
    names, subject_of = np.unique(subjects, return_inverse=True)
    draws = draw_subjects(len(names), n_bootstrap, rng)
    shared = {g for train, test in folds for g in set(subjects[train]) & set(subjects[test])}
    common = {
        "y_true": labels,
        "groups": subjects,
        "fold": own.fold,
        "shared_subjects": len(shared),
        "confidence": confidence,
        "seconds": time.perf_counter() - start,
        "prefit": prefit,
    }
    history = tuple(history for _, history, _ in models)
    evals_result = tuple(result for *_, result in models)
    report = _make_report(encoder, own, draws, subject_of, positive, common)
    if any(history) or any(evals_result):
        report = dataclasses.replace(report, history=history, evals_result=evals_result)
    if return_estimator:
        report = dataclasses.replace(report, estimators=tuple(model for model, *_ in models))
    if cnn is None:
        return report
    gain = _accuracies(own, labels, subject_of, draws) - _accuracies(cnn, labels, subject_of, draws)
    return dataclasses.replace(
        report,
        cnn=_make_report(encoder, cnn, draws, subject_of, positive, common),
        gain=with_interval(gain, confidence),
    )


def _check_groups(images: ImageSequence, y: npt.NDArray[Any], groups: Any) -> npt.NDArray[Any]:
    if len(y) != len(images):
        raise UnsupportedInputError(f"X has {len(images)} images, but y has {len(y)} labels")
    if groups is None:
        groups = images.groups
    return np.arange(len(y)) if groups is None else check_groups(groups, len(y))


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


class _OutOfFold:
    """The predictions of one classifier for the images of every fold."""

    def __init__(self, y: npt.NDArray[Any], classes: npt.NDArray[Any], has_probabilities: bool):
        self.classes = classes
        self.y_pred = np.empty_like(y)
        self.fold = np.zeros(len(y), dtype=np.intp)
        self.probabilities = np.zeros((len(y), len(classes))) if has_probabilities else None

    def record(
        self, model: Any, images: ImageSequence, test: npt.NDArray[np.intp], number: int
    ) -> None:
        self.fold[test] = number
        if self.probabilities is None:
            self.y_pred[test] = model.predict(images[test])
            return
        # A fold may lack a class in training where the caller's own cv leaves it out.
        columns = np.searchsorted(self.classes, model.classes_)
        self.probabilities[np.ix_(test, columns)] = model.predict_proba(images[test])
        self.y_pred[test] = self.classes[self.probabilities[test].argmax(axis=1)]


def _predict_folds(
    estimator: Any,
    images: ImageSequence,
    y: npt.NDArray[Any],
    groups: npt.NDArray[Any],
    folds: _Folds,
    classes: npt.NDArray[Any],
    verbose: int,
    prefit: bool,
) -> tuple[_OutOfFold, _OutOfFold | None, list[tuple[Any, Any, Any]]]:
    """Give the predictions, those of the network alone where there is one, models and curves."""
    own, cnn = _OutOfFold(y, classes, hasattr(estimator, "predict_proba")), None
    models = []
    bar = tqdm(folds, desc="folds", unit="fold", disable=not verbose)
    for number, (train, test) in enumerate(bar):
        model = estimator if prefit else clone(estimator)
        if not prefit:
            routed = {"groups": groups[train]} if has_fit_parameter(model, "groups") else {}
            model.fit(images[train], y[train], **routed)
        own.record(model, images, test, number)
        if hasattr(model, "cnn_"):
            cnn = cnn or _OutOfFold(y, classes, True)
            cnn.record(model.cnn_, images, test, number)
        models.append((model, getattr(model, "history_", []), getattr(model, "evals_result_", {})))
    return own, cnn, models


def _make_report(
    encoder: LabelEncoder,
    predicted: _OutOfFold,
    draws: npt.NDArray[np.int64],
    subject_of: npt.NDArray[np.intp],
    positive: int | None,
    common: dict[str, Any],
) -> EvaluationReport:
    true, pred = encoder.transform(common["y_true"]), encoder.transform(predicted.y_pred)
    names = [str(label) for label in encoder.classes_]

    def metric(values: npt.NDArray[np.float64]) -> Metric:
        return with_interval(values, common["confidence"])

    matrices = confusions(true, pred, subject_of, len(names), draws)
    scores = scores_of_confusions(matrices)
    overall = {name: scores[name] for name in ("accuracy", "weighted_f1")}
    proba = predicted.probabilities
    if proba is not None:
        for name, score in _OF_PROBABILITIES.items():
            overall[name] = score(true, proba, subject_of, draws)
    if proba is not None and positive is not None:
        of_positive = true == positive, proba[:, positive]
        overall |= zip(
            ("sensitivity_at_95_specificity", "specificity_at_95_sensitivity"),
            operating_points(*of_positive, subject_of, draws, 0.95),
            strict=True,
        )
    overall |= subject_scores(true, pred, proba, subject_of, len(names), draws)
    return EvaluationReport(
        metrics={name: metric(values) for name, values in overall.items()},
        per_class={
            name: {key: metric(scores[key][:, i]) for key in ("precision", "recall", "f1")}
            for i, name in enumerate(names)
        },
        support={name: int((true == i).sum()) for i, name in enumerate(names)},
        confusion_matrix=matrices[0].astype(np.int64),
        classes=encoder.classes_,
        y_pred=predicted.y_pred,
        probabilities=predicted.probabilities,
        **common,
    )


def _accuracies(
    predicted: _OutOfFold,
    y_true: npt.NDArray[Any],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Give the accuracy of each draw."""
    of_subject = np.bincount(subject_of, weights=predicted.y_pred == y_true)
    accuracies: npt.NDArray[np.float64] = (draws @ of_subject) / (draws @ np.bincount(subject_of))
    return accuracies
