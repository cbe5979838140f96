"""How far features are from those of the training images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from scipy import linalg
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold

from effboost._familiarity import FamiliarityTable, TrainingRange
from effboost._images.measures import MEASURES
from effboost._utils.threads import one_blas_thread

__all__ = ["DISTANCE_VERSION", "MAX_IMAGES", "Familiarity", "FeatureDistance", "choose_rows"]

_Floats = npt.NDArray[np.float64]
_Singles = npt.NDArray[np.float32]

# Of what `FeatureDistance.learn` computes; to be raised with each change.
DISTANCE_VERSION: Final = 1
_N_MEASURES: Final = len(MEASURES)
# More images change the distances little, and cost time.
MAX_IMAGES: Final = 2000
_MIN_IMAGES: Final = 10
# With few images, a fold more is worth its time: the distances from the images outside of a fold
# are then more like those from all.
_N_FOLDS: Final = 5
_N_FOLDS_OF_FEW: Final = 20
_FEW_IMAGES: Final = 500
_MAX_COMPONENTS: Final = 32
_IMAGES_A_COMPONENT: Final = 4
# What is added to the size of a feature before its root is taken, as a share of its root mean
# square: a root alone would be infinitely steep at zero.
_SOFTENING: Final = 0.01
# Features that hardly vary, as a share of the median standard deviation.
_LEAST_SCALE: Final = 0.01
_LEAST_VARIANCE: Final = 1e-6
# Of the components beyond the first, whose mean variance is about 1 if the features do not depend
# on each other.
_LEAST_REST: Final = 1e-3
# Of the p-value behind a score, as a share of the score. Up to the next score, it would be larger
# than it has to be by half a step, which is much with few images.
_STEP: Final = 1e-3


def choose_rows(n_rows: int) -> npt.NDArray[np.intp]:
    """Choose the images to learn from: all, or `MAX_IMAGES` drawn at random, always the same."""
    if n_rows <= MAX_IMAGES:
        return np.arange(n_rows)
    drawn = np.random.default_rng(0).choice(n_rows, MAX_IMAGES, replace=False)
    return np.sort(drawn).astype(np.intp)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureDistance:
    """Mahalanobis distance to the nearest class, and its distribution on held-out subjects.

    Features are sums of activations, whose spread grows with their size, so signed square roots are
    taken first: ``r = x / sqrt(abs(x) + offset)``. All classes have the same covariance around
    their means. It is that of probabilistic PCA: the variances of the first components, and one
    variance for all others. With ``z = (r - center) * scale - class_mean`` and ``t = z @
    components``, the squared distance to a class is ``rest * z @ z + t**2 @ weights``.

    Attributes
    ----------
    offset : ndarray of shape (n_features,), float32
        What is added before the root is taken.
    center, scale : ndarray of shape (n_features,), float32
        The means of the roots, and one by their standard deviations.
    class_means : ndarray of shape (n_classes, n_features), float32
        The means of the classes, standardised.
    components : ndarray of shape (n_features, n_components), float32
        The first components.
    weights : ndarray of shape (n_components,), float32
        What is added to `rest` for each of them; not positive.
    rest : ndarray of shape (1,), float32
        One by the variance of the other components.
    scores : ndarray of shape (n_scores,), float32
        The distances of training images from those of other subjects, sorted.

    References
    ----------
    M. Tipping and C. Bishop, "Probabilistic Principal Component Analysis", Journal of the Royal
    Statistical Society B 61, 1999. K. Lee et al., "A Simple Unified Framework for Detecting
    Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018. V. Vovk, "Cross-conformal
    predictors", Annals of Mathematics and Artificial Intelligence 74, 2015.
    """

    offset: _Singles
    center: _Singles
    scale: _Singles
    class_means: _Singles
    components: _Singles
    weights: _Singles
    rest: _Singles
    scores: _Singles

    NAMES: ClassVar[tuple[str, ...]] = (
        "offset", "center", "scale", "class_means", "components", "weights", "rest", "scores",
    )  # fmt: skip

    @classmethod
    def learn(
        cls, features: npt.NDArray[Any], target: npt.NDArray[Any], groups: Any
    ) -> FeatureDistance | None:
        """Learn the distance from training images.

        Parameters
        ----------
        features : ndarray of shape (n_samples, n_features)
            Their features.
        target : ndarray of shape (n_samples,)
            Their classes.
        groups : ndarray of shape (n_samples,) or None
            Their subjects. None means that each image is its own subject.

        Returns
        -------
        FeatureDistance or None
            None if there are too few images, or all are of one subject.
        """
        rows = np.asarray(features, dtype=np.float64)
        subjects = np.arange(len(rows)) if groups is None else np.asarray(groups)
        n_folds = _N_FOLDS if len(rows) > _FEW_IMAGES else _N_FOLDS_OF_FEW
        n_folds = min(n_folds, len(np.unique(subjects)))
        if len(rows) < _MIN_IMAGES or n_folds < 2:
            return None
        folds = GroupKFold(n_folds, shuffle=True, random_state=0)
        splits = list(folds.split(rows, groups=subjects))
        fewest = min(len(train) for train, _ in splits)
        if fewest < 2:
            return None
        n_components = max(1, min(_MAX_COMPONENTS, fewest // _IMAGES_A_COMPONENT))
        n_components = min(n_components, max(1, rows.shape[1] - 1))
        scores = np.empty(len(rows))
        with one_blas_thread():
            for train, test in splits:
                fitted = cls._fit(rows[train], target[train], n_components)
                scores[test] = fitted.measure(rows[test])
            whole = cls._fit(rows, target, n_components)
        return dataclasses.replace(whole, scores=np.sort(scores).astype(np.float32))

    @classmethod
    def _fit(cls, rows: _Floats, target: npt.NDArray[Any], n_components: int) -> FeatureDistance:
        offset = _SOFTENING * np.sqrt(np.square(rows).mean(axis=0)) + _LEAST_VARIANCE
        roots = rows / np.sqrt(np.abs(rows) + offset)
        center, deviations = roots.mean(axis=0), roots.std(axis=0)
        least = max(_LEAST_SCALE * float(np.median(deviations)), _LEAST_VARIANCE)
        scale = 1 / np.maximum(deviations, least)
        standard = (roots - center) * scale
        classes, place = np.unique(target, return_inverse=True)
        means = np.array([standard[place == k].mean(axis=0) for k in range(len(classes))])
        around = standard - means[place]
        variances, components = _find_components(around.astype(np.float32), n_components)
        # Not that of PCA: with fewer images than features, it depends on the number of features.
        others = around.var(axis=0, ddof=1).sum() - variances.sum()
        n_others = max(1, rows.shape[1] - n_components)
        rest = 1 / max(float(others) / n_others, _LEAST_REST)
        own = 1 / np.maximum(variances, 1 / rest)
        parts: tuple[Any, ...] = (
            offset, center, scale, means, components, own - rest, [rest], [],
        )  # fmt: skip
        named = dict(zip(cls.NAMES, parts, strict=True))
        return cls(**{k: np.ascontiguousarray(v, np.float32) for k, v in named.items()})

    @classmethod
    def shapes(
        cls, n_features: int, n_classes: int, n_components: int, n_scores: int
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array, by its name."""
        others: dict[str, tuple[int, ...]] = {
            "class_means": (n_classes, n_features),
            "components": (n_features, n_components),
            "weights": (n_components,),
            "rest": (1,),
            "scores": (n_scores,),
        }
        return {name: others.get(name, (n_features,)) for name in cls.NAMES}

    def measure(self, features: npt.NDArray[Any]) -> _Floats:
        """Return the distance (n_samples,) of each row of features to the nearest class."""
        rows = np.asarray(features, dtype=np.float64)
        roots = rows / np.sqrt(np.abs(rows) + self.offset)
        standard = (roots - self.center) * self.scale
        components, rest = self.components.astype(np.float64), float(self.rest[0])
        nearest = np.full(len(rows), np.inf)
        for mean in self.class_means.astype(np.float64):
            away = standard - mean
            inside = np.square(away @ components) @ self.weights
            nearest = np.minimum(nearest, rest * np.square(away).sum(axis=1) + inside)
        distances: _Floats = np.sqrt(np.maximum(nearest, 0))
        return distances

    def steps(self) -> tuple[_Floats, _Floats]:
        """Return where each step of the p-value begins, and one by its length; see `p_values`."""
        scores = self.scores.astype(np.float64)
        gaps = np.append(np.diff(scores), np.inf)
        lengths = np.minimum(gaps, _STEP * scores + 1e-6)
        return scores, 1 / np.maximum(lengths, 1e-6 * np.maximum(scores, 1e-6))

    def p_values(self, features: npt.NDArray[Any]) -> _Floats:
        """Return the conformal p-value of each row of features.

        It is ``(1 + k) / (n_scores + 1)`` where k scores are as large as the distance. Behind each
        score it falls within a thousandth of the distance, not at once, so that rounding changes it
        little.

        Parameters
        ----------
        features : ndarray of shape (n_samples, n_features)
            The features.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            From ``1 / (n_scores + 1)`` to 1.
        """
        distances = self.measure(features)
        starts, slopes = self.steps()
        passed = np.empty(len(distances))
        for i, distance in enumerate(distances):
            passed[i] = np.clip((distance - starts) * slopes, 0, 1).sum()
        values: _Floats = 1 - passed / (len(starts) + 1)
        return values


def _find_components(rows: _Singles, n_components: int) -> tuple[_Singles, _Singles]:
    """Return the variances of the first principal components of centred rows, and them as columns.

    Each fit of a search learns the distance, so it must be quick: with few rows or columns, from
    the smaller one of both matrices of products, otherwise by a few iterations, which flag the same
    images.
    """
    n, width = rows.shape
    if min(n, width) > _FEW_IMAGES:
        pca = PCA(n_components, svd_solver="randomized", iterated_power=3, random_state=0)
        pca.fit(rows)
        return pca.explained_variance_, pca.components_.T
    products = rows @ rows.T if n < width else rows.T @ rows
    last = len(products) - 1
    squares, vectors = linalg.eigh(products, subset_by_index=[last - n_components + 1, last])
    squares, vectors = np.maximum(squares[::-1], 0), vectors[:, ::-1]
    if n < width:
        vectors = rows.T @ vectors
        # Not by the roots of `squares`, which are only rounding errors where rows are equal.
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=0), np.finfo(np.float32).tiny)
    return squares / (n - 1), vectors


@dataclasses.dataclass(frozen=True, eq=False)
class Familiarity:
    """What a classifier has learnt about its training images, to flag others.

    Attributes
    ----------
    features, colours : FeatureDistance
        Of the features of the classifier, and of what `measure_colours` returns.
    usual : TrainingRange
        Of size, exposure and sharpness.
    """

    features: FeatureDistance
    colours: FeatureDistance
    usual: TrainingRange

    @classmethod
    def learn(
        cls,
        features: npt.NDArray[Any],
        target: npt.NDArray[Any],
        groups: Any,
        measures: Callable[[], _Floats],
        learn_distance: Callable[..., FeatureDistance | None] = FeatureDistance.learn,
    ) -> Familiarity | None:
        """Learn from training images; None if `FeatureDistance.learn` cannot.

        `measures` returns what `PreparedImages.measures` does for them; it is called only if it is
        needed. `learn_distance` is called with features, target and groups.
        """
        of_features = learn_distance(features, target, groups)
        if of_features is None:
            return None
        numbers = measures()
        of_colours = learn_distance(numbers[:, _N_MEASURES:], target, groups)
        assert of_colours is not None  # of the same images
        usual = TrainingRange.learn(len(of_features.scores), numbers[:, :_N_MEASURES])
        return cls(of_features, of_colours, usual)

    def judge(
        self, features: npt.NDArray[Any], measures: _Floats, alpha: float
    ) -> FamiliarityTable:
        """Decide which images are familiar, by features and measures.

        The p-value is twice the smaller one of features and colours (Bonferroni).
        """
        of_colours = self.colours.p_values(measures[:, _N_MEASURES:])
        smaller = np.minimum(self.features.p_values(features), of_colours)
        p_values = np.minimum(2 * smaller, 1)
        outside = self.usual.find_outside(measures[:, :_N_MEASURES])
        return self.usual.judge(p_values, outside, alpha)
