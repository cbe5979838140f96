"""Scores of predictions, on all images and on all bootstrap draws of subjects at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._utils.decision import decision_scores
from effboost._utils.probabilities import N_BINS, calibration_gaps
from effboost.exceptions import UnsupportedInputError
from effboost.model_selection import aggregate_by_subject
from effboost.model_selection._subjects import label_subjects

__all__ = [
    "Metric",
    "accuracies",
    "auroc",
    "calibration_errors",
    "check_bootstrap",
    "confusions",
    "draw_subjects",
    "log_losses",
    "operating_points",
    "scores_of_confusions",
    "subject_scores",
    "with_interval",
]

_ROUNDING: Final = 1e-12


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number and its interval.

    Attributes
    ----------
    value : float
        The number, on all images.
    low, high : float
        Ends of the percentile interval over bootstrap samples of subjects; NaN if undefined.

    Examples
    --------
    >>> from effboost.evaluation import Metric
    >>> print(Metric(0.9, 0.85, 0.94))
    0.900 [0.850, 0.940]
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def draw_subjects(n_subjects: int, n_draws: int, rng: np.random.RandomState) -> npt.NDArray[Any]:
    """Count each subject in each bootstrap draw; the first row is the data itself."""
    draws = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n_draws)
    return np.vstack([np.ones((1, n_subjects), dtype=draws.dtype), draws])


def check_bootstrap(n_bootstrap: int, confidence: float) -> None:
    """Check the settings of intervals, before models are fitted for them."""
    if n_bootstrap < 0:
        raise UnsupportedInputError(f"n_bootstrap={n_bootstrap!r} must be 0 or more")
    if not 0 < confidence < 1:
        raise UnsupportedInputError(
            f"confidence={confidence!r} must be between 0 and 1, such as 0.95"
        )


def with_interval(values: npt.NDArray[np.float64], confidence: float) -> Metric:
    """Take the first value as the number and the others as its bootstrap samples."""
    samples = values[1:][np.isfinite(values[1:])]
    if not samples.size:
        return Metric(float(values[0]), math.nan, math.nan)
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Metric(float(values[0]), float(low), float(high))


def confusions(
    true: npt.NDArray[np.intp],
    pred: npt.NDArray[np.intp],
    subject_of: npt.NDArray[np.intp],
    n_classes: int,
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Compute the confusion matrix of each draw: the sum of those of its subjects."""
    of_subject = np.zeros((draws.shape[1], n_classes, n_classes))
    np.add.at(of_subject, (subject_of, true, pred), 1)
    return np.tensordot(draws.astype(np.float64), of_subject, axes=1)


def scores_of_confusions(confusions: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
    """Compute the scores of each draw from its confusion matrix."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    predicted, actual = confusions.sum(axis=1), confusions.sum(axis=2)
    total = actual.sum(axis=1)
    with np.errstate(invalid="ignore"):
        # The precision of a class that was never predicted is 0, as in scikit-learn; for a class
        # that is not in a draw, nothing is defined.
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


def auroc(
    true: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Compute the AUROC of each draw; for more classes, the mean of each against the rest."""
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
    """Compute the share of pairs in the right order, ties counted half.

    NaN where a draw lacks one side.
    """
    out = np.empty(len(draws))
    for row, (ups, downs) in enumerate(_steps(positive, score, subject_of, draws)):
        ordered = (ups * (np.cumsum(downs) - downs / 2)).sum()
        pairs = ups.sum() * downs.sum()
        out[row] = ordered / pairs if pairs else np.nan
    return out


def operating_points(
    positive: npt.NDArray[np.bool_],
    score: npt.NDArray[np.float64],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
    level: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute each draw's best sensitivity at a specificity of `level`, and the reverse.

    NaN where a draw lacks one side.
    """
    out = np.full((2, len(draws)), np.nan)
    for row, (ups, downs) in enumerate(_steps(positive, score, subject_of, draws)):
        if not (ups.any() and downs.any()):
            continue
        # With the threshold at the highest score, the second highest, ...
        found = np.r_[0, np.cumsum(ups[::-1]) / ups.sum()]
        alarmed = np.r_[0, np.cumsum(downs[::-1]) / downs.sum()]
        out[0, row] = found[alarmed <= 1 - level + _ROUNDING].max()
        out[1, row] = 1 - alarmed[found >= level - _ROUNDING].min()
    return out[0], out[1]


def accuracies(
    true: npt.NDArray[np.intp],
    pred: npt.NDArray[np.intp],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Compute the accuracy of each draw."""
    of_subject = np.bincount(subject_of, weights=pred == true)
    shares: npt.NDArray[np.float64] = (draws @ of_subject) / (draws @ np.bincount(subject_of))
    return shares


def _steps(
    positive: npt.NDArray[np.bool_],
    score: npt.NDArray[np.float64],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Count the positives and negatives with each score in each draw, in ascending order.

    scikit-learn's curves count the same, but would sort again for each of a thousand draws; here
    the order is found once.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    side = positive[order]
    for draw in draws:
        weight = draw[subject_of[order]]
        yield np.add.reduceat(weight * side, starts), np.add.reduceat(weight * ~side, starts)


def log_losses(
    true: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Compute the mean log-loss of each draw, with probabilities of 0 clipped to epsilon."""
    of_true = probabilities[np.arange(len(true)), true]
    losses = -np.log(np.clip(of_true, np.finfo(np.float64).eps, 1))
    sums = np.bincount(subject_of, weights=losses)
    means: npt.NDArray[np.float64] = (draws @ sums) / (draws @ np.bincount(subject_of))
    return means


def calibration_errors(
    true: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64],
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Compute the expected calibration error of each draw."""
    bins, gap = calibration_gaps(true, probabilities)
    of_subject = np.zeros((draws.shape[1], N_BINS))
    np.add.at(of_subject, (subject_of, bins), gap)
    errors: npt.NDArray[np.float64] = np.abs(draws @ of_subject).sum(axis=1)
    return errors / (draws @ np.bincount(subject_of))


def subject_scores(
    true: npt.NDArray[np.intp],
    pred: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64] | None,
    subject_of: npt.NDArray[np.intp],
    draws: npt.NDArray[np.int64],
    n_classes: int,
) -> dict[str, npt.NDArray[np.float64]]:
    """Score subjects by the means of their images; nothing where a subject has two classes.

    See `decision_scores` for the class of a subject.
    """
    label = label_subjects(true, subject_of)
    if label is None:
        return {}
    votes = np.eye(n_classes)[pred]
    if probabilities is not None:
        votes = decision_scores(pred, probabilities)
    right = aggregate_by_subject(votes, subject_of)[1].argmax(axis=1) == label
    scores = {"subject_accuracy": draws @ right.astype(np.float64) / draws.shape[1]}
    if probabilities is not None:
        _, means = aggregate_by_subject(probabilities, subject_of)
        scores["subject_auroc"] = auroc(label, means, np.arange(len(label)), draws)
    return scores
