"""Diagnostic metrics, and scorers by subject instead of by image.

Pass the scorers as objects, such as `subject_roc_auc_scorer`, to ``scoring`` in scikit-learn; or
call `register_scorers` once, and pass their names.
"""

from __future__ import annotations

from inspect import signature
from types import MappingProxyType
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import get_scorer, make_scorer, roc_curve
from sklearn.utils import check_consistent_length

from effboost._utils.columns import check_groups, check_label_column
from effboost._utils.compat import BaseScorer, register_scorer
from effboost._utils.decision import decision_scores
from effboost._utils.probabilities import N_BINS, are_probabilities, calibration_gaps
from effboost._utils.shared_results import share_results
from effboost.exceptions import SplitError, UnsupportedInputError
from effboost.model_selection import aggregate_by_subject
from effboost.model_selection._subjects import label_subjects

__all__ = [
    "SCORERS",
    "SubjectScorer",
    "expected_calibration_error",
    "make_subject_scorer",
    "register_scorers",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
]

_ROUNDING: Final = 1e-12


def sensitivity_at_specificity(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    *,
    specificity: float = 0.95,
    pos_label: Any = None,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Compute the highest sensitivity at which the specificity is at least the given one.

    This is the fraction of the diseased that are detected if at most ``1 - specificity`` of the
    healthy may be false positives.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, of two classes.
    y_score : array-like of shape (n_samples,)
        Probability or score of the positive class.
    specificity : float, default=0.95
        The lowest acceptable specificity, 0 to 1.
    pos_label : label, default=None
        The positive class. None means 1 if the labels are 0 and 1, or -1 and 1. It is required for
        strings.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float
        Highest sensitivity (recall of the positive class), 0 to 1; NaN if a class is missing.

    Notes
    -----
    The threshold is chosen on the scored data. The result is therefore slightly better than that
    of a threshold chosen in advance.

    Examples
    --------
    >>> from effboost.metrics import sensitivity_at_specificity
    >>> sensitivity_at_specificity([0, 0, 1, 1, 1], [0.1, 0.6, 0.5, 0.7, 0.9])
    0.666...
    """
    _check_share(specificity=specificity)
    false_alarms, found = _roc(y_true, y_score, pos_label, sample_weight)
    return _best(found[false_alarms <= 1 - specificity + _ROUNDING])


def specificity_at_sensitivity(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    *,
    sensitivity: float = 0.95,
    pos_label: Any = None,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Compute the highest specificity at which the sensitivity is at least the given one.

    This is the fraction of the healthy that are not false positives if at most ``1 - sensitivity``
    of the diseased may be missed.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, of two classes.
    y_score : array-like of shape (n_samples,)
        Probability or score of the positive class.
    sensitivity : float, default=0.95
        The lowest acceptable sensitivity, 0 to 1.
    pos_label : label, default=None
        See `sensitivity_at_specificity`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float
        Highest specificity (recall of the negative class), 0 to 1; NaN if a class is missing.

    Examples
    --------
    >>> from effboost.metrics import specificity_at_sensitivity
    >>> specificity_at_sensitivity([0, 0, 1, 1, 1], [0.1, 0.6, 0.5, 0.7, 0.9])
    0.5
    """
    _check_share(sensitivity=sensitivity)
    false_alarms, found = _roc(y_true, y_score, pos_label, sample_weight)
    return _best(1 - false_alarms[found >= sensitivity - _ROUNDING])


def expected_calibration_error(
    y_true: npt.ArrayLike,
    y_proba: npt.ArrayLike,
    *,
    n_bins: int = N_BINS,
    labels: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Compute the mean difference between the confidence of a classifier and its accuracy.

    Images are grouped into bins of equal width by the probability of their predicted class. In each
    bin, the absolute difference between the mean of this probability and the accuracy is computed;
    the result is its mean over the bins, weighted by their number of images.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
        Probabilities of the classes, or of the second of two classes.
    n_bins : int, default=15
        Number of bins.
    labels : array-like of shape (n_classes,), default=None
        The class of each column. None uses the sorted classes in `y_true`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    float
        0 (calibrated) to 1.

    Raises
    ------
    UnsupportedInputError
        If a label is missing, a probability is not in [0, 1], or columns and classes differ.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On calibration of modern neural networks",
    ICML 2017.

    Examples
    --------
    >>> from effboost.metrics import expected_calibration_error
    >>> expected_calibration_error([0, 0, 1, 1], [0.1, 0.1, 0.9, 0.1])
    0.150...
    """
    proba = np.asarray(y_proba, dtype=np.float64)
    if proba.ndim == 1:
        proba = np.column_stack([1 - proba, proba])
    true = check_label_column(y_true)
    check_consistent_length(true, proba, sample_weight)
    if not are_probabilities(proba):
        raise UnsupportedInputError(
            f"y_proba has values from {proba.min():.6g} to {proba.max():.6g}; probabilities must "
            "be between 0 and 1, and not NaN"
        )
    classes = np.unique(true) if labels is None else np.asarray(labels)
    if (
        len(classes) != proba.shape[1]
        or len(np.unique(classes)) != len(classes)
        or not np.isin(true, classes).all()
    ):
        raise UnsupportedInputError(
            f"y_proba has {proba.shape[1]} columns, but the classes are {classes.tolist()}: pass "
            "the class of each column as labels"
        )
    weight = np.ones(len(true)) if sample_weight is None else np.asarray(sample_weight, float)
    order = np.argsort(classes)
    codes = order[np.searchsorted(classes, true, sorter=order)]
    bins, gap = calibration_gaps(codes, proba, n_bins)
    return float(np.abs(np.bincount(bins, weight * gap)).sum() / weight.sum())


class SubjectScorer(BaseScorer):
    """Scorer that uses the mean probabilities of the images of each subject.

    Created by `make_subject_scorer`, and called as ``scorer(estimator, X, y, groups=groups)``.
    Without `groups`, the subjects are the groups of an `ImageSequence`. Votes of the images replace
    probabilities if the classifier has no `predict_proba` or if, in scores of predicted classes,
    its `predict` does not return the most probable class.

    Parameters
    ----------
    scorer : scikit-learn scorer
        The score of subjects, as `sklearn.metrics.get_scorer` returns it.
    **kwargs
        Further keywords of its score function.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.metrics import get_scorer
    >>> from effboost.metrics import SubjectScorer
    >>> X, y = np.zeros((4, 1)), ["ALL", "ALL", "HEM", "ALL"]
    >>> scorer = SubjectScorer(get_scorer("accuracy"))
    >>> clf = DummyClassifier().fit(X, y)
    >>> scorer(clf, X, y, groups=["S1", "S1", "S2", "S3"])  # 2 of 3 subjects
    0.6666666666666666
    """

    # With metadata routing, groups are requested by default.
    __metadata_request__score: ClassVar[dict[str, bool]] = {"groups": True}

    def __init__(self, scorer: Any, **kwargs: Any):
        super().__init__(
            _refuse_images, scorer._sign, scorer._kwargs | kwargs, ["predict_proba", "predict"]
        )
        self._metric, self._kind = scorer._score_func, scorer._response_method

    def __call__(self, estimator: Any, X: Any, y_true: Any, *, groups: Any = None) -> float:
        """Score a classifier.

        Parameters
        ----------
        estimator : classifier
            Fitted.
        X : images, n_samples of them
            Images in a form that the estimator accepts.
        y_true : array-like of shape (n_samples,)
            Their labels; all images of a subject must have the same label.
        groups : array-like of shape (n_samples,), default=None
            Their subjects. None uses the groups of `X`.

        Returns
        -------
        float
            The score; higher is better.

        Raises
        ------
        SplitError
            If the subjects are not known, or one has images of two classes.
        """
        return self._score(_respond, estimator, X, y_true, groups=groups)

    def _score(
        self, method_caller: Any, estimator: Any, X: Any, y_true: Any, *, groups: Any = None
    ) -> float:
        if groups is None:
            groups = getattr(X, "groups", None)
        if groups is None:
            raise SplitError(
                f"{self!r} does not know the subjects: pass groups by metadata routing, or an "
                "ImageSequence with groups"
            )
        true, classes = check_label_column(y_true), estimator.classes_
        groups = check_groups(groups, len(true))
        labels = label_subjects(true, groups)
        if labels is None:
            raise SplitError("a subject has images of two classes: its label is ambiguous")
        with share_results():
            scores = _probabilities(method_caller, estimator, X)
            if self._kind == "predict":
                predictions = method_caller(estimator, ("predict",), X, pos_label=None)
                is_class = np.asarray(predictions)[:, np.newaxis] == classes
                scores = decision_scores(is_class.argmax(axis=1), scores)
        means = aggregate_by_subject(scores, groups)[1]
        kwargs = dict(self._kwargs)
        if self._kind == "predict":
            predicted = classes[means.argmax(axis=1)]
            return float(self._sign * self._metric(labels, predicted, **kwargs))
        known = signature(self._metric).parameters
        if "labels" in known:
            kwargs.setdefault("labels", classes)
        if len(classes) == 2:
            if "pos_label" in known and self._kind == "predict_proba":
                kwargs.setdefault("pos_label", classes[1])
            # As scikit-learn's scorers do, which give the metric the scores of its positive class.
            default = getattr(known.get("pos_label"), "default", None)
            means = means[:, _find_column(kwargs.get("pos_label"), default, classes.tolist())]
        return float(self._sign * self._metric(labels, means, **kwargs))

    def _accept_sample_weight(self) -> bool:
        return False

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self._kwargs.items())
        return f"make_subject_scorer({self._metric.__name__}{settings})"


def _refuse_images(*_: Any, **__: Any) -> float:
    """Raise: a search for thresholds takes the metric of a scorer, and applies it to images."""
    raise UnsupportedInputError(
        "TunedThresholdClassifierCV applies metrics to images: use a scorer by image, with "
        "cv=SubjectKFold(...), or the operating points of effboost.evaluate, which are by subject"
    )


def make_subject_scorer(scoring: Any, **kwargs: Any) -> SubjectScorer:
    """Make a scorer by subject from a scorer by image.

    Parameters
    ----------
    scoring : str or scorer
        A name for `sklearn.metrics.get_scorer`, such as "roc_auc", or a scorer made by
        `sklearn.metrics.make_scorer`.
    **kwargs : dict
        Arguments of the metric, such as ``pos_label="ALL"``.

    Returns
    -------
    SubjectScorer
        The scorer, called as ``scorer(estimator, X, y, groups=groups)``.

    Raises
    ------
    UnsupportedInputError
        If `scoring` is not a scorer by image.

    Examples
    --------
    >>> from effboost.metrics import make_subject_scorer
    >>> make_subject_scorer("sensitivity_at_95_specificity", pos_label="ALL")
    make_subject_scorer(sensitivity_at_specificity, pos_label='ALL')
    """
    scorer = get_scorer(_OF_IMAGES.get(scoring, scoring) if isinstance(scoring, str) else scoring)
    if isinstance(scorer, SubjectScorer) or not isinstance(scorer, BaseScorer):
        raise UnsupportedInputError(
            f"scoring={scoring!r} is not a scorer by image: use a name of "
            "sklearn.metrics.get_scorer_names(), or a scorer made by sklearn.metrics.make_scorer"
        )
    return SubjectScorer(scorer, **kwargs)


def _find_column(positive: Any, default: Any, labels: list[Any]) -> int:
    """Return the position of the positive one of two classes: the second one if none is named."""
    if positive is None:
        # A metric whose default is no class raises an error of its own.
        return labels.index(default) if default in labels else 1
    if positive not in labels:
        raise UnsupportedInputError(f"pos_label={positive!r} is not a class; they are {labels}")
    return labels.index(positive)


def _check_share(**named: float) -> None:
    for name, value in named.items():
        if not 0 <= value <= 1:
            raise UnsupportedInputError(f"{name}={value!r} must be between 0 and 1")


def _roc(y_true: Any, y_score: Any, pos_label: Any, sample_weight: Any) -> tuple[Any, Any]:
    return roc_curve(
        y_true, y_score, pos_label=pos_label, sample_weight=sample_weight, drop_intermediate=False
    )[:2]


def _best(values: npt.NDArray[np.float64]) -> float:
    # If a class is missing, roc_curve warns and returns NaN, for which every comparison is False.
    return float(values.max()) if values.size else float("nan")


def _respond(estimator: Any, methods: tuple[str], X: Any, pos_label: Any) -> Any:
    return getattr(estimator, methods[0])(X)


def _probabilities(method_caller: Any, estimator: Any, X: Any) -> npt.NDArray[Any]:
    """Return probabilities, or the votes of single images, with a column for each class."""
    # The method is given as a tuple, since scikit-learn would otherwise share the cached response
    # with scorers for the other class.
    if not hasattr(estimator, "predict_proba"):
        votes = method_caller(estimator, ("predict",), X, pos_label=None)
        return np.asarray(votes)[:, np.newaxis] == estimator.classes_
    values = np.asarray(method_caller(estimator, ("predict_proba",), X, pos_label=None))
    return values if values.ndim == 2 else np.column_stack([1 - values, values])


_THRESHOLD: Final = ("decision_function", "predict_proba")
_OF_IMAGES: Final = {
    "sensitivity_at_95_specificity": make_scorer(
        sensitivity_at_specificity, response_method=_THRESHOLD
    ),
    "specificity_at_95_sensitivity": make_scorer(
        specificity_at_sensitivity, response_method=_THRESHOLD
    ),
    "neg_expected_calibration_error": make_scorer(
        expected_calibration_error, greater_is_better=False, response_method="predict_proba"
    ),
}
_ALSO_OF_SUBJECTS: Final = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "f1_weighted",
    "roc_auc",
    "roc_auc_ovr",
    "neg_log_loss",
    "neg_brier_score",
)
SCORERS: Final = MappingProxyType(
    _OF_IMAGES
    | {f"subject_{name}": make_subject_scorer(name) for name in (*_ALSO_OF_SUBJECTS, *_OF_IMAGES)}
)
# As objects, too: subject_roc_auc_scorer and its like.
globals().update({f"{name}_scorer": scorer for name, scorer in SCORERS.items()})


def register_scorers() -> None:
    """Register the scorers of `SCORERS` with scikit-learn, such as ``scoring="subject_roc_auc"``.

    This adds names to scikit-learn's own table, for the whole process; existing names are not
    replaced. Without this call, pass the scorers as objects.

    Examples
    --------
    >>> from effboost.metrics import register_scorers, subject_roc_auc_scorer
    >>> register_scorers()
    >>> from sklearn.metrics import get_scorer
    >>> get_scorer("subject_roc_auc")
    make_subject_scorer(roc_auc_score)
    """
    for name, scorer in SCORERS.items():
        register_scorer(name, scorer)
