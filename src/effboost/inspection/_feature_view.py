"""A display of features, which shows whether they cluster by class or by subject."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array

from effboost._utils.columns import check_groups
from effboost._utils.compat import load_matplotlib, load_umap
from effboost._validation import check_labels
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._drawing import (
    MAX_LEGEND,
    add_legend,
    as_names,
    check_lengths,
    make_axes,
    style_of,
)

__all__ = ["FeatureViewDisplay"]

_MAX_COMPONENTS: Final = 50
_NEIGHBORS: Final = 15  # umap's default
_GOLDEN: Final = (5**0.5 - 1) / 2


class FeatureViewDisplay:
    """Features of images in two dimensions, coloured by class and by subject.

    If images cluster by subject rather than by class, the features depend more on the patient, or
    on the patient's smear, than on the disease. The mean silhouettes
    (`sklearn.metrics.silhouette_score`) of images grouped by class and by subject measure this
    without the distortion of a projection to two dimensions. Create it with `from_estimator` or
    `from_features`.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2), float64
        The position of each image.
    y : ndarray of shape (n_samples,)
        The class of each image.
    groups : ndarray of shape (n_samples,)
        The subject of each image.
    silhouette_by_class, silhouette_by_subject : float or None
        -1 (mixed) to 1 (separate); None if there is only one group, or one image in each group.
    axis_labels : tuple of two str
        The labels of the axes.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (2,)
        The axes, by class and by subject, after `plot`.
    figure_ : matplotlib Figure
        The figure, after `plot`.

    Notes
    -----
    Features are standardised and reduced to at most 50 principal components. The silhouettes and
    UMAP are computed from these. The time for the silhouettes grows with the square of the number
    of images: seconds for ten thousand.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.inspection import FeatureViewDisplay
    >>> features = np.random.default_rng(0).normal(size=(12, 8))
    >>> groups = np.repeat(["P1", "P2", "P3", "P4"], 3)
    >>> features[groups == "P4"] += 9
    >>> display = FeatureViewDisplay.from_features(features, ["ALL", "HEM"] * 6, groups)
    >>> display.silhouette_by_subject > display.silhouette_by_class
    True
    """

    def __init__(
        self,
        points: npt.NDArray[np.float64],
        y: npt.NDArray[Any],
        groups: npt.NDArray[Any],
        *,
        silhouette_by_class: float | None,
        silhouette_by_subject: float | None,
        axis_labels: tuple[str, str],
    ):
        self.points = points
        self.y = y
        self.groups = groups
        self.silhouette_by_class = silhouette_by_class
        self.silhouette_by_subject = silhouette_by_subject
        self.axis_labels = axis_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        *,
        method: str = "pca",
        random_state: int | np.random.RandomState | None = 0,
        axes: Any = None,
    ) -> Self:
        """Extract features, and draw them.

        Parameters
        ----------
        estimator : HybridClassifier, ImageFeaturizer or other transformer
            Fitted. Fine-tuned features separate classes better on the training images than on
            others.
        X : images, n_samples of them
            In any form that the estimator takes.
        y : array-like of shape (n_samples,)
            Their classes.
        groups : array-like of shape (n_samples,), default=None
            Their subjects. None uses the groups of an `ImageSequence`; without groups, each image
            is its own subject.
        method : {"pca", "umap"}, default="pca"
            See `from_features`.
        random_state : int, RandomState instance or None, default=0
            See `from_features`.
        axes : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        FeatureViewDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            If the estimator is not a transformer, or as in `from_features`.
        """
        if not hasattr(estimator, "transform"):
            raise UnsupportedInputError(
                f"{type(estimator).__name__} has no transform, which computes features; give a "
                "HybridClassifier, an ImageFeaturizer or another transformer"
            )
        if groups is None:
            groups = getattr(X, "groups", None)
        # Errors are raised before images are read.
        load_matplotlib()
        check_lengths(X=X, y=y, groups=groups)
        _check_method(method)
        return cls.from_features(
            np.asarray(estimator.transform(X)),
            y,
            groups,
            method=method,
            random_state=random_state,
            axes=axes,
        )

    @classmethod
    def from_features(
        cls,
        features: npt.ArrayLike,
        y: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        *,
        method: str = "pca",
        random_state: int | np.random.RandomState | None = 0,
        axes: Any = None,
    ) -> Self:
        """Draw features.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_features)
            Two features or more, of three images or more.
        y : array-like of shape (n_samples,)
            The class of each image.
        groups : array-like of shape (n_samples,), default=None
            The subject of each image; None treats each image as its own subject.
        method : {"pca", "umap"}, default="pca"
            The first two principal components; or UMAP, which keeps neighbours together, but not
            the distances between clusters (needs ``pip install 'effboost[umap]'``).
        random_state : int, RandomState instance or None, default=0
            Seed of both methods. With None, UMAP runs in parallel.
        axes : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        FeatureViewDisplay
            The display.

        Raises
        ------
        UnsupportedInputError
            If lengths differ, the method is unknown, or all images have the same features.
        SplitError
            If a subject is missing.
        MissingDependencyError
            If matplotlib, or umap for its method, is not installed.
        """
        _check_method(method)
        check_lengths(features=features, y=y, groups=groups)
        labels = check_labels(y)
        subjects = np.arange(len(labels)) if groups is None else check_groups(groups)
        reduced, shares = _reduce(features, random_state)
        if method == "umap":
            points, axis_labels = _map(reduced, random_state), ("UMAP 1", "UMAP 2")
        else:
            points = reduced[:, :2]
            first, second = (
                f"component {i} ({share:.0%} of variance)".replace("%", " %")
                for i, share in enumerate(shares[:2], start=1)
            )
            axis_labels = first, second
        return cls(
            points,
            labels,
            subjects,
            silhouette_by_class=_silhouette(reduced, labels),
            silhouette_by_subject=_silhouette(reduced, subjects),
            axis_labels=axis_labels,
        ).plot(axes)

    def plot(self, axes: Any = None) -> Self:
        """Draw the features by class and by subject.

        Parameters
        ----------
        axes : two matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        FeatureViewDisplay
            The display itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        self.axes_ = make_axes(axes, ncols=2, figsize=(10.5, 4.8))
        self.figure_ = self.axes_[0].figure
        by_class, by_subject = self.silhouette_by_class, self.silhouette_by_subject
        self._plot_groups(self.axes_[0], self.y)
        self._plot_groups(self.axes_[1], self.groups)
        self.axes_[0].set_title(
            "by class: "
            + _say(
                by_class,
                "1: separate, 0: no clusters, below: mixed",
                "one class, or one image of each",
            ),
            fontsize=10,
        )
        self.axes_[1].set_title(
            "by subject: "
            + _say(
                by_subject,
                "above that by class: patient matters more than disease",
                "one subject, or one image of each",
            ),
            fontsize=10,
        )
        return self

    def _plot_groups(self, ax: Any, of_image: npt.NDArray[Any]) -> None:
        names, codes = np.unique(of_image, return_inverse=True)
        if len(names) > MAX_LEGEND:
            # Neighbours in the alphabet, often of one class, get very different colours.
            shades = (codes * _GOLDEN) % 1
            ax.scatter(*self.points.T, s=14, c=shades, cmap="viridis", vmin=0, vmax=1, alpha=0.8)
            note = f"{len(names)} colours, too many to name"
            ax.text(0.01, 0.01, note, transform=ax.transAxes, fontsize=8)
        else:
            dots = [
                ax.scatter(*self.points[codes == i].T, s=18, alpha=0.8, **style_of(i))
                for i in range(len(names))
            ]
            add_legend(ax, dots, as_names(names))
        ax.set(xlabel=self.axis_labels[0], ylabel=self.axis_labels[1])


def _check_method(method: str) -> None:
    """Check that a method is known, and that what it needs is installed."""
    if method not in ("pca", "umap"):
        raise UnsupportedInputError(f"method={method!r} is neither 'pca' nor 'umap'")
    if method == "umap":
        load_umap()


def _reduce(
    features: npt.ArrayLike, random_state: Any
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Standardise features; compute principal components and their shares of the variance."""
    checked = check_array(features, dtype=np.float64, ensure_min_samples=3, ensure_min_features=2)
    if not np.ptp(checked, axis=0).any():
        raise UnsupportedInputError(
            "the features of all images are the same; give images that differ"
        )
    standard = np.asarray(StandardScaler().fit_transform(checked))
    pca = PCA(min(_MAX_COMPONENTS, *standard.shape), random_state=random_state)
    return np.asarray(pca.fit_transform(standard)), pca.explained_variance_ratio_


def _map(reduced: npt.NDArray[np.float64], random_state: Any) -> npt.NDArray[np.float64]:
    """Reduce to two dimensions by UMAP."""
    umap = load_umap().UMAP(
        n_neighbors=min(_NEIGHBORS, len(reduced) - 1),
        # The default, spectral, fails on few images, and warns where clusters are apart.
        init="pca",
        random_state=random_state,
        # With a seed, umap uses one thread, and warns unless n_jobs is 1.
        n_jobs=-1 if random_state is None else 1,
    )
    # numba sets OpenMP's number of threads for the thread that calls it, which would change the
    # last digits of what torch computes there later.
    with ThreadPoolExecutor(1) as pool:
        return np.asarray(pool.submit(umap.fit_transform, reduced).result(), dtype=np.float64)


def _silhouette(points: npt.NDArray[np.float64], of_image: npt.NDArray[Any]) -> float | None:
    if not 1 < len(np.unique(of_image)) < len(points):
        return None
    return float(silhouette_score(points, of_image))


def _say(silhouette: float | None, reading: str, lacking: str) -> str:
    """Describe a silhouette and its meaning, or why there is none."""
    if silhouette is None:
        return f"no silhouette\n({lacking})"
    return f"silhouette {silhouette:.2f}\n({reading})"
