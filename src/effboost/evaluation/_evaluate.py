"""Cross-validation by subject."""

from __future__ import annotations

import dataclasses
import time
import warnings
from contextlib import nullcontext
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from effboost._extraction.temporary_cache import temporary_cache
from effboost._images import ImageSequence
from effboost._iter_predictions import images_for
from effboost._utils.columns import check_groups
from effboost._validation import check_labels
from effboost.evaluation._out_of_fold import Folds, LabelledSample, OutOfFold, predict_folds
from effboost.evaluation._report import EvaluationReport
from effboost.evaluation._scores import (
    Metric,
    accuracies,
    auroc,
    calibration_errors,
    check_bootstrap,
    confusions,
    draw_subjects,
    log_losses,
    operating_points,
    scores_of_confusions,
    subject_scores,
    with_interval,
)
from effboost.evaluation._sites import Sites, check_n_splits, check_sites, compare_sites
from effboost.exceptions import SplitError, UnsupportedInputError
from effboost.model_selection import subject_folds
from effboost.model_selection._leakage import check_fold_leakage

__all__ = ["check_sample", "evaluate"]

_OF_PROBABILITIES: Final = {
    "auroc": auroc,
    "log_loss": log_losses,
    "calibration_error": calibration_errors,
}


def evaluate(
    estimator: Any,
    X: Any,
    y: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    sites: npt.ArrayLike | None = None,
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

    Every image is predicted once, by a clone that was fitted without its subject. The
    predictions are those of the classifier's own ``predict``. For a `HybridClassifier` that
    fine-tunes its network, the network alone is reported as well, on the same folds. A frozen
    network computes the features of each image once for all folds. Intervals come from a bootstrap
    over subjects, not images: images of one subject are alike, and counting them as independent
    would make intervals too narrow.

    Parameters
    ----------
    estimator : classifier
        Any scikit-learn classifier on images; it is cloned for each fold.
    X : images, n_samples of them
        What `ImageSequence` takes.
    y : array-like of shape (n_samples,)
        The labels.
    groups : array-like of shape (n_samples,), default=None
        The subject of each image. None uses the groups of an `ImageSequence`; without groups, each
        image is its own subject. The groups are passed to ``fit`` if it takes them, and as groups
        of the images. Splits inside `estimator` use them: if ``cv`` of a search or a stack is a
        number of folds, these keep subjects together, too.
    sites : array-like of shape (n_samples,), default=None
        The site of each image, such as the laboratory, microscope or data set. If given, the images
        of each site are predicted by a model that was fitted on all other sites, and this is
        compared with `cv` folds by subject within each site: see `EvaluationReport.sites`. Each
        subject must be at one site, and each class at two or more.
    cv : int, splitter, iterable of (train, test), None or "prefit", default=5
        Number of `subject_folds`, 5 if None; or other folds, such as a scikit-learn splitter. Each
        image must be tested exactly once. "prefit" tests a fitted `estimator` as it is. `X` must
        then be images that it was not fitted on; `effboost.model_selection.check_leakage` can check
        this.
    pos_label : label, default=None
        The positive class, such as the disease. If given, the report includes its sensitivity at 95
        % specificity and the reverse. With more than two classes, all others together are the
        negative class.
    check_leakage : bool, default=True
        Raise if a subject or an image is on both sides of a fold. Set to False only to show what
        leakage does.
    n_bootstrap : int, default=1000
        Number of bootstrap samples.
    confidence : float, default=0.95
        Level of the intervals.
    return_estimator : bool, default=False
        Keep the fitted classifier of each fold in the report.
    random_state : int, RandomState instance or None, default=0
        Controls the folds and the bootstrap samples.
    verbose : int, default=0
        1 shows a progress bar over the folds on stderr.

    Returns
    -------
    EvaluationReport
        The numbers; ``print`` shows them as a table.

    Raises
    ------
    LeakageError
        If a subject or an image is on both sides of a fold.
    SplitError
        If the images cannot be split by subject or by site, or `cv` does not test each image once.
    ImageDecodeError, UnsupportedInputError
        If the images cannot be read, the classes of `y` are all unknown to a fitted estimator, or
        ``predict_proba`` returns values that are not probabilities.

    Warns
    -----
    UserWarning
        If `y` has a class that a fitted estimator does not know.

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
    prefit = isinstance(cv, str) and cv == "prefit"
    if sites is not None:
        check_n_splits(cv)
    if prefit:
        check_is_fitted(estimator)
    # Columns of a former fit do not matter to one that is fitted anew.
    reader = estimator if prefit else clone(estimator)
    sample = check_sample(images_for(reader, X), y, groups)
    if prefit:
        sample = dataclasses.replace(sample, classes=_join_classes(sample.classes, estimator))
    if pos_label is not None and pos_label not in sample.classes.tolist():
        raise UnsupportedInputError(
            f"pos_label={pos_label!r} is not a class; the classes are {sample.classes.tolist()}"
        )
    check_bootstrap(n_bootstrap, confidence)
    rng = check_random_state(random_state)
    at = None if sites is None else check_sites(sites, sample)
    folds, within = _choose_folds(cv, at, sample, rng)
    if check_leakage:
        check_fold_leakage(sample.images, sample.subjects, [*folds, *within])
    start = time.perf_counter()
    with nullcontext() if prefit else temporary_cache():
        own, cnn, fitted = predict_folds(estimator, sample, folds, prefit=prefit, verbose=verbose)
        if at is not None:
            beside, _, _ = predict_folds(estimator, sample, within, prefit=False, verbose=verbose)
    extra: dict[str, Any] = {"estimators": fitted.models if return_estimator else ()}
    if at is not None:
        numbers = {"n_bootstrap": n_bootstrap, "confidence": confidence, "rng": rng}
        extra["sites"] = compare_sites(at, sample, beside, own, **numbers)
    reporter = _Reporter(
        sample,
        folds,
        seconds=time.perf_counter() - start,
        prefit=prefit,
        positive=None if pos_label is None else sample.classes.tolist().index(pos_label),
        confidence=confidence,
        draws=draw_subjects(len(np.unique(sample.subjects)), n_bootstrap, rng),
    )
    if any(fitted.history) or any(fitted.evals_result):
        extra |= {"history": fitted.history, "evals_result": fitted.evals_result}
    if cnn is not None:
        extra |= {"cnn": reporter.report(cnn), "gain": reporter.gain(own, cnn)}
    return dataclasses.replace(reporter.report(own), **extra)


def check_sample(images: ImageSequence, y: Any, groups: Any) -> LabelledSample:
    """Validate images, labels and subjects of an evaluation."""
    labels = check_labels(y)
    if len(labels) != len(images):
        raise UnsupportedInputError(f"X has {len(images)} images, but y has {len(labels)} labels")
    known = images.groups if groups is None else groups
    if known is not None:
        known = check_groups(known, len(labels))
        images = images[:]
        # From here on, whatever splits the images knows their subjects.
        images.groups = known
    return LabelledSample(images, labels, np.unique(labels), known)


def _join_classes(classes: npt.NDArray[Any], estimator: Any) -> npt.NDArray[Any]:
    """Return the classes of the labels and of a fitted estimator, sorted."""
    known = np.asarray(estimator.classes_)
    unknown = [label for label in classes.tolist() if label not in known.tolist()]
    if len(unknown) == len(classes):
        raise UnsupportedInputError(
            f"y has the classes {unknown}, but the estimator was fitted on {known.tolist()}: all "
            "predictions would be wrong; give the labels that it was fitted on"
        )
    if unknown:
        warnings.warn(
            f"the estimator was not fitted on the classes {unknown} of y: all predictions for "
            "their images are wrong",
            stacklevel=3,
        )
    return np.unique(np.concatenate([classes, known]))


def _choose_folds(
    cv: Any, sites: Sites | None, sample: LabelledSample, rng: np.random.RandomState
) -> tuple[Folds, Folds]:
    """Return the folds to test, and those within sites to compare with, if any."""
    if sites is not None:
        return sites.leave_one_out(), sites.folds_within(sample, int(cv), rng)
    everything = np.arange(len(sample.labels))
    if isinstance(cv, str) and cv == "prefit":
        return [(everything[:0], everything)], []
    return _make_folds(cv, sample, rng), []


def _make_folds(cv: Any, sample: LabelledSample, rng: np.random.RandomState) -> Folds:
    y, subjects = sample.labels, sample.subjects
    cv = 5 if cv is None else cv  # as in scikit-learn
    if isinstance(cv, int | np.integer):
        return subject_folds(y, subjects, int(cv), random_state=rng)
    with warnings.catch_warnings():
        # A splitter that takes no groups is a choice; the leak check decides on it.
        warnings.filterwarnings("ignore", message="The groups parameter is ignored")
        folds = list(cv.split(np.zeros(len(y)), y, subjects) if hasattr(cv, "split") else cv)
    tested = np.sort(np.concatenate([test for _, test in folds]))
    if not np.array_equal(tested, np.arange(len(y))):
        raise SplitError(
            "cv must test each image exactly once; use a K-fold splitter, such as "
            "StratifiedGroupKFold"
        )
    return folds


class _Reporter:
    """Builder of reports on one sample, all with the same bootstrap draws."""

    def __init__(
        self,
        sample: LabelledSample,
        folds: Folds,
        *,
        seconds: float,
        prefit: bool,
        positive: int | None,
        confidence: float,
        draws: npt.NDArray[np.int64],
    ):
        self.classes, self.true = sample.classes, sample.codes
        self.subject_of = np.unique(sample.subjects, return_inverse=True)[1]
        self.positive, self.confidence, self.draws = positive, confidence, draws
        subjects = sample.subjects
        shared = {g for train, test in folds for g in set(subjects[train]) & set(subjects[test])}
        self.common: dict[str, Any] = {
            "y_true": sample.labels,
            "groups": subjects,
            "groups_known": sample.groups is not None,
            "shared_subjects": len(shared),
            "confidence": confidence,
            "seconds": seconds,
            "prefit": prefit,
        }

    def report(self, predicted: OutOfFold) -> EvaluationReport:
        names = [str(label) for label in self.classes]
        matrices = confusions(self.true, predicted.codes, self.subject_of, len(names), self.draws)
        scores = scores_of_confusions(matrices)
        return EvaluationReport(
            metrics=self._overall(predicted, scores),
            per_class={
                name: {
                    key: self._metric(scores[key][:, i]) for key in ("precision", "recall", "f1")
                }
                for i, name in enumerate(names)
            },
            support={name: int((self.true == i).sum()) for i, name in enumerate(names)},
            confusion_matrix=matrices[0].astype(np.int64),
            classes=self.classes,
            y_pred=self.classes[predicted.codes],
            probabilities=predicted.probabilities,
            fold=predicted.fold,
            **self.common,
        )

    def gain(self, own: OutOfFold, cnn: OutOfFold) -> Metric:
        """Compute the accuracy of predictions minus that of the network alone."""
        one, other = (
            accuracies(self.true, part.codes, self.subject_of, self.draws) for part in (own, cnn)
        )
        return with_interval(one - other, self.confidence)

    def _overall(
        self, predicted: OutOfFold, scores: dict[str, npt.NDArray[Any]]
    ) -> dict[str, Metric]:
        drawn = self.subject_of, self.draws
        overall = {name: scores[name] for name in ("accuracy", "weighted_f1")}
        proba = predicted.probabilities
        if proba is not None:
            for name, score in _OF_PROBABILITIES.items():
                overall[name] = score(self.true, proba, *drawn)
        if proba is not None and self.positive is not None:
            overall |= zip(
                ("sensitivity_at_95_specificity", "specificity_at_95_sensitivity"),
                operating_points(
                    self.true == self.positive, proba[:, self.positive], *drawn, level=0.95
                ),
                strict=True,
            )
        n_classes = len(self.classes)
        overall |= subject_scores(self.true, predicted.codes, proba, *drawn, n_classes=n_classes)
        return {name: self._metric(values) for name, values in overall.items()}

    def _metric(self, values: npt.NDArray[np.float64]) -> Metric:
        return with_interval(values, self.confidence)
