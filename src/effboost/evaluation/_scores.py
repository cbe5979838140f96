"""From predictions to scores, on all images and on bootstrap draws of subjects at once."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from effboost.model_selection import aggregate_by_subject

__all__ = [
    "Metric",
    "auroc",
    "confusions",
    "draw_subjects",
    "scores_of_confusions",
    "subjects_correct",
    "with_interval",
]


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


def draw_subjects(n_subjects: int, n_draws: int, rng: np.random.RandomState) -> npt.NDArray[Any]:
    """How often each subject stands in each bootstrap draw; the first row is the data itself."""
    draws = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n_draws)
    return np.vstack([np.ones((1, n_subjects), dtype=draws.dtype), draws])


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
    """Confusion matrix of each draw: those of the subjects, added up."""
    of_subject = np.zeros((draws.shape[1], n_classes, n_classes))
    np.add.at(of_subject, (subject_of, true, pred), 1)
    return np.tensordot(draws.astype(np.float64), of_subject, axes=1)


def scores_of_confusions(confusions: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
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


def auroc(
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


def subjects_correct(
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
