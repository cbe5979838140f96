"""Accuracy by the number of training subjects, and what more of them would give."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import check_random_state

from effboost._extraction.temporary_cache import temporary_cache
from effboost._iter_predictions import images_for
from effboost.evaluation._evaluate import check_sample
from effboost.evaluation._out_of_fold import Folds, LabelledSample, predict_folds
from effboost.evaluation._scores import Metric, check_bootstrap, draw_subjects, with_interval
from effboost.exceptions import SplitError
from effboost.model_selection import subject_folds
from effboost.model_selection._leakage import check_fold_leakage

__all__ = ["LearningCurve", "learning_curve"]

_POWERS: Final = (0.25, 0.5, 0.75, 1.0)
# Each class needs this many subjects in training, so that heads can split them once more.
_FEWEST: Final = 2
_MOST_SUBJECTS: Final = 1_000_000


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Result of `learning_curve`.

    Attributes
    ----------
    n_subjects : ndarray of shape (n_sizes,), float64
        Mean number of training subjects.
    accuracy : tuple of Metric
        Accuracy on images of other subjects, for each number.
    samples : ndarray of shape (n_bootstrap + 1, n_sizes)
        The accuracies, on the data and on the bootstrap samples of subjects and repetitions.
    confidence : float
        Level of the intervals.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.evaluation import LearningCurve, Metric
    >>> samples = np.array([[0.7, 0.8, 0.85], [0.68, 0.79, 0.83], [0.72, 0.82, 0.86]])
    >>> metrics = tuple(Metric(*column) for column in samples.T)
    >>> curve = LearningCurve(np.array([10.0, 20.0, 40.0]), metrics, samples, 0.95)
    >>> print(curve.predict(80), curve.subjects_for(accuracy=0.88))
    0.875 [0.858, 0.884] 100
    """

    n_subjects: npt.NDArray[np.float64]
    accuracy: tuple[Metric, ...]
    samples: npt.NDArray[np.float64]
    confidence: float

    def predict(self, n_subjects: float) -> Metric:
        """Extrapolate the accuracy to another number of training subjects.

        Parameters
        ----------
        n_subjects : float
            Number of training subjects, 1 or more.

        Returns
        -------
        Metric
            The expected accuracy and its interval.

        Raises
        ------
        ValueError
            If `n_subjects` is less than 1.

        Notes
        -----
        A curve ``a - b * n ** -c``, with a at most 1, b at least 0 and c one of 0.25, 0.5, 0.75 and
        1, is fitted to the accuracies of each bootstrap sample. The interval holds for subjects
        like those at hand, and for the same kind of model. Beyond twice the largest number, it says
        more about the form of the curve than about the data.
        """
        if not n_subjects >= 1:
            raise ValueError(f"n_subjects={n_subjects!r} must be 1 or more")
        return with_interval(
            _extrapolate(self.n_subjects, self.samples, n_subjects), self.confidence
        )

    def subjects_for(self, accuracy: float) -> int | None:
        """Find how many training subjects are expected to give an accuracy.

        Parameters
        ----------
        accuracy : float
            Between 0 and 1.

        Returns
        -------
        int or None
            The number; None if a million subjects are not expected to.
        """
        low, high = 1, _MOST_SUBJECTS
        values = self.samples[:1]
        if _extrapolate(self.n_subjects, values, high)[0] < accuracy:
            return None
        while low < high:
            middle = (low + high) // 2
            if _extrapolate(self.n_subjects, values, middle)[0] >= accuracy:
                high = middle
            else:
                low = middle + 1
        return low

    def to_dict(self) -> dict[str, Any]:
        """Convert the curve to plain numbers, with the extrapolation to twice the subjects.

        Returns
        -------
        dict
            Numbers and lists that JSON stores.
        """
        twice = 2 * float(self.n_subjects[-1])
        return {
            "n_subjects": [round(float(n), 2) for n in self.n_subjects],
            "accuracy": [_plain(metric) for metric in self.accuracy],
            "confidence": self.confidence,
            "twice": {"n_subjects": round(twice, 2), "accuracy": _plain(self.predict(twice))},
        }

    def __str__(self) -> str:
        twice = 2 * self.n_subjects[-1]
        rows = [
            f"{n:17.1f}  {metric}" for n, metric in zip(self.n_subjects, self.accuracy, strict=True)
        ]
        return "\n".join(
            [
                "training subjects  accuracy on other subjects",
                *rows,
                f"{twice:17.1f}  {self.predict(twice)} extrapolated",
                "",
                f"[{self.confidence:.0%} interval] from a bootstrap over subjects and repetitions",
            ]
        )


@temporary_cache()
def learning_curve(
    estimator: Any,
    X: Any,
    y: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0),
    cv: int = 5,
    n_repeats: int = 3,
    check_leakage: bool = True,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> LearningCurve:
    """Measure the accuracy by the number of training subjects.

    In each fold by subject, the classifier is fitted on a part of the training subjects, with the
    same shares of classes, and tested on the subjects of the fold. More images of the same subjects
    are no substitute for more subjects, so parts are drawn by subject.

    Parameters
    ----------
    estimator : classifier
        Any scikit-learn classifier on images; it is cloned for each fit. A frozen network computes
        the features of each image once for all fits.
    X : images, n_samples of them
        What `ImageSequence` takes.
    y : array-like of shape (n_samples,)
        Their labels.
    groups : array-like of shape (n_samples,), default=None
        Their subjects; None uses the groups of an `ImageSequence`.
    fractions : tuple of float, default=(0.2, 0.4, 0.6, 0.8, 1.0)
        Parts of the training subjects, ascending; two or more. Parts with less than two subjects
        of a class are made larger.
    cv : int, default=5
        Number of folds.
    n_repeats : int, default=3
        How often folds and parts are drawn. There are ``len(fractions) * cv * n_repeats`` fits.
    check_leakage : bool, default=True
        Raise if an image is on both sides of a fold.
    n_bootstrap : int, default=1000
        Number of bootstrap samples.
    confidence : float, default=0.95
        Level of the intervals.
    random_state : int, RandomState instance or None, default=0
        Controls folds, parts and bootstrap samples.
    verbose : int, default=0
        1 shows a progress bar over the folds on stderr.

    Returns
    -------
    LearningCurve
        The accuracies; ``predict`` extrapolates them.

    Raises
    ------
    SplitError
        If the images cannot be split by subject.
    LeakageError
        If an image is on both sides of a fold.

    See Also
    --------
    effboost.inspection.LearningCurveDisplay : Draws the curve.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.evaluation import learning_curve
    >>> cells = make_blood_cells(n_subjects=8, images_per_subject=2, image_size=64, random_state=0)
    >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> options = {"groups": cells.groups, "fractions": (0.6, 1), "cv": 2, "n_repeats": 1}
    >>> curve = learning_curve(clf, cells.images, cells.target, **options)
    >>> curve.n_subjects.tolist()
    [4.0, 4.0]
    """
    _check(fractions, n_repeats)
    check_bootstrap(n_bootstrap, confidence)
    sample = check_sample(images_for(clone(estimator), X), y, groups)
    rng = check_random_state(random_state)
    subjects, subject_of = np.unique(sample.subjects, return_inverse=True)
    shape = (n_repeats, len(fractions), len(subjects))
    right, used = np.zeros(shape), np.zeros(shape[:2])
    for repeat in range(n_repeats):
        folds = subject_folds(sample.labels, sample.subjects, cv, random_state=rng)
        if check_leakage:
            check_fold_leakage(sample.images, sample.subjects, folds)
        orders = [_order_subjects(sample, train, rng) for train, _ in folds]
        for k, fraction in enumerate(fractions):
            parts, used[repeat, k] = _take_parts(sample, folds, orders, fraction)
            own, _, _ = predict_folds(estimator, sample, parts, prefit=False, verbose=verbose)
            hits = (own.codes == sample.codes).astype(np.float64)
            right[repeat, k] = np.bincount(subject_of, weights=hits)
    samples = _bootstrap(right, np.bincount(subject_of), n_bootstrap, rng)
    metrics = tuple(with_interval(column, confidence) for column in samples.T)
    return LearningCurve(used.mean(axis=0), metrics, samples, confidence)


def _check(fractions: tuple[float, ...], n_repeats: int) -> None:
    values = np.asarray(fractions, dtype=np.float64)
    ascending = values.ndim == 1 and len(values) > 1 and (np.diff(values) > 0).all()
    if not ascending or values[0] <= 0 or values[-1] > 1:
        raise SplitError(
            f"fractions={fractions!r} must be two or more ascending numbers above 0, 1 at most"
        )
    if n_repeats < 1:
        raise SplitError(f"n_repeats={n_repeats!r} must be 1 or more")


def _order_subjects(
    sample: LabelledSample, train: npt.NDArray[np.intp], rng: np.random.RandomState
) -> list[tuple[Any, float]]:
    """Order subjects at random so that each part from the start has the same shares of classes.

    Returns the subjects with the part of their class that is used when they are. The first two with
    images of a class are in each part.
    """
    names, subject_of = np.unique(sample.subjects[train], return_inverse=True)
    has = np.zeros((len(names), len(sample.classes)), dtype=bool)
    has[subject_of, sample.codes[train]] = True
    # A subject with several classes counts as one of the rarest of them.
    codes = np.where(has, has.sum(axis=0), len(names) + 1).argmin(axis=1)
    order, needed = [], np.zeros(len(names))
    for code in np.unique(codes):
        own = rng.permutation(np.flatnonzero(codes == code))
        needed[own[_FEWEST:]] = np.arange(_FEWEST + 1, len(own) + 1) / len(own)
        order.extend(own.tolist())
    for of_class in has.T:
        needed[[i for i in order if of_class[i]][:_FEWEST]] = 0
    return [(names[i], float(needed[i])) for i in order]


def _take_parts(
    sample: LabelledSample, folds: Folds, orders: list[list[tuple[Any, float]]], fraction: float
) -> tuple[Folds, float]:
    """Return folds with parts of the training subjects, and the mean number of these."""
    parts, counts = [], []
    for (train, test), order in zip(folds, orders, strict=True):
        chosen = [name for name, needed in order if needed <= fraction + 1e-9]
        parts.append((train[np.isin(sample.subjects[train], chosen)], test))
        counts.append(len(chosen))
    return parts, float(np.mean(counts))


def _bootstrap(
    right: npt.NDArray[np.float64],
    n_images: npt.NDArray[np.intp],
    n_bootstrap: int,
    rng: np.random.RandomState,
) -> npt.NDArray[np.float64]:
    """Compute the accuracy for each number of subjects, on draws of subjects and repetitions."""
    n_repeats, _, n_subjects = right.shape
    draws = draw_subjects(n_subjects, n_bootstrap, rng)
    repeats = draw_subjects(n_repeats, n_bootstrap, rng) / n_repeats
    hits = np.einsum("bs,rks->brk", draws.astype(np.float64), right)
    values: npt.NDArray[np.float64] = np.einsum("br,brk->bk", repeats, hits)
    return values / (draws @ n_images)[:, np.newaxis]


def _extrapolate(
    n_subjects: npt.NDArray[np.float64], samples: npt.NDArray[np.float64], goal: float
) -> npt.NDArray[np.float64]:
    """Fit a curve to each row of accuracies, and evaluate it at another number of subjects."""
    weights = n_subjects / n_subjects.sum()
    best = np.full(len(samples), math.inf)
    values = samples[:, -1].copy()
    for power in _POWERS:
        x = n_subjects**-power
        centre = weights @ x
        means = samples @ weights
        spread = weights @ (x - centre) ** 2
        slopes = np.zeros(len(samples))
        if spread > 0:
            slopes = -((samples - means[:, np.newaxis]) @ (weights * (x - centre))) / spread
        slopes = np.maximum(slopes, 0)
        limits = means + slopes * centre
        # Accuracies end at 1.
        steep = limits > 1
        through = ((1 - samples) @ (weights * x)) / (weights @ x**2)
        slopes, limits = np.where(steep, through, slopes), np.where(steep, 1.0, limits)
        fitted = limits[:, np.newaxis] - slopes[:, np.newaxis] * x
        errors = ((samples - fitted) ** 2) @ weights
        better = errors < best - 1e-12
        best = np.where(better, errors, best)
        values = np.where(better, limits - slopes * goal**-power, values)
    return np.clip(values, 0, 1)


def _plain(metric: Metric) -> dict[str, float | None]:
    values = dataclasses.asdict(metric)
    return {key: round(v, 6) if math.isfinite(v) else None for key, v in values.items()}
