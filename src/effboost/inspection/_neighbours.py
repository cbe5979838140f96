"""The training images that a hybrid decides on most alike."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_scalar

from effboost._hybrid_classifier import HybridClassifier
from effboost._utils.columns import check_groups
from effboost._validation import check_labels
from effboost.exceptions import UnsupportedInputError
from effboost.inspection._contributions import check_explainable, contribute, predict_labels
from effboost.inspection._drawing import check_lengths
from effboost.model_selection._leakage import check_comparable

__all__ = ["Neighbours", "TrainingImages", "neighbours"]

# Images at a time whose contributions are in double precision.
_BLOCK: Final = 256


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest training images of each class.

    Attributes
    ----------
    indices : ndarray of shape (n_samples, n_classes, n_neighbors), int
        Their positions in the training images, the nearest first. -1 where a class has fewer images
        of other subjects.
    distances : ndarray of shape (n_samples, n_classes, n_neighbors), float64
        Their distances, in units of the margin (log-odds, scores or probabilities); NaN where
        there is no neighbour.
    labels : ndarray of shape (n_classes,)
        The class of the neighbours.
    names : ndarray of shape (n_samples, n_classes, n_neighbors), object
        Their paths or positions; "" where there is no neighbour.
    predicted : ndarray of shape (n_samples,)
        The class that the classifier predicts for each image.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost.inspection import Neighbours
    >>> found = Neighbours(
    ...     indices=np.array([[[7], [3]]]),
    ...     distances=np.array([[[0.2], [1.4]]]),
    ...     labels=np.array(["ALL", "HEM"]),
    ...     names=np.array([[["cells/7.png"], ["cells/3.png"]]], dtype=object),
    ...     predicted=np.array(["ALL"]),
    ... )
    >>> nearest = found.distances[0, :, 0].argmin()
    >>> found.labels[nearest].item(), found.names[0, nearest, 0]
    ('ALL', 'cells/7.png')
    """

    indices: npt.NDArray[np.intp]
    distances: npt.NDArray[np.float64]
    labels: npt.NDArray[Any]
    names: npt.NDArray[np.object_]
    predicted: npt.NDArray[Any]

    def take(self, index: int) -> Neighbours:
        """Select the neighbours of one image.

        Parameters
        ----------
        index : int
            Position of the image.

        Returns
        -------
        Neighbours
            One with n_samples = 1.
        """
        of_image = {
            name: getattr(self, name)[[index]]
            for name in ("indices", "distances", "names", "predicted")
        }
        return dataclasses.replace(self, **of_image)


class TrainingImages:
    """Training images, in the space of the contributions of their features.

    Parameters
    ----------
    clf, X_train, y_train, groups_train
        See `neighbours`.

    Attributes
    ----------
    images : ImageSequence
        The training images.
    featurizer : ImageFeaturizer
        That of the classifier.
    """

    def __init__(self, clf: HybridClassifier, X_train: Any, y_train: Any, groups_train: Any = None):
        check_explainable(clf)
        self._clf, self.featurizer = clf, clf.featurizer_
        self.images = clf.featurizer_._check_images(X_train, reset=False)
        if groups_train is None:
            groups_train = self.images.groups
        check_lengths(X_train=self.images, y_train=y_train, groups_train=groups_train)
        self._labels = check_labels(y_train)
        unknown = sorted(set(self._labels.tolist()) - set(clf.classes_.tolist()), key=str)
        if unknown:
            raise UnsupportedInputError(
                f"y_train has the classes {unknown}, which the classifier was not fitted on; its "
                f"classes are {clf.classes_.tolist()}"
            )
        self._groups = None if groups_train is None else check_groups(groups_train)
        self._points = _place(clf, np.asarray(clf.transform(self.images)))

    def find(self, X: Any, groups: Any = None, n_neighbors: int = 3) -> Neighbours:
        """Find the nearest training images of each class; see `neighbours`."""
        check_scalar(n_neighbors, "n_neighbors", int, min_val=1)
        clf = self._clf
        images = clf.featurizer_._check_images(X, reset=False)
        if groups is None:
            groups = images.groups
        subjects = self._check_subjects(groups, len(images))
        features = np.asarray(clf.transform(images))
        points = _place(clf, features)
        shape = (len(images), len(clf.classes_), n_neighbors)
        indices, distances = np.full(shape, -1, dtype=np.intp), np.full(shape, np.nan)
        for k, label in enumerate(clf.classes_):
            for subject in np.unique(subjects):
                rows = np.flatnonzero(subjects == subject)
                allowed = self._labels == label
                if self._groups is not None:
                    allowed &= self._groups != subject
                candidates = np.flatnonzero(allowed)
                n_found = min(n_neighbors, len(candidates))
                if n_found:
                    search = NearestNeighbors(n_neighbors=n_found, algorithm="brute")
                    near, places = search.fit(self._points[candidates]).kneighbors(points[rows])
                    distances[rows, k, :n_found] = near
                    indices[rows, k, :n_found] = candidates[places]
        names = np.array(["", *(self.images.name(i) for i in range(len(self.images)))], object)
        return Neighbours(
            indices, distances, clf.classes_, names[indices + 1], predict_labels(clf, features)
        )

    def _check_subjects(self, groups: Any, n: int) -> npt.NDArray[Any]:
        if (groups is None) != (self._groups is None):
            known, missing = ("X", "groups_train") if groups is not None else ("X_train", "groups")
            raise UnsupportedInputError(
                f"the subjects of {known} are known, those of the others are not: give {missing}, "
                "so that training images of the same subject are left out"
            )
        if groups is None:
            return np.zeros(n, dtype=np.intp)
        check_comparable(self._groups, groups)
        return check_groups(groups, n)


def _place(clf: HybridClassifier, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Compute the point of each image: the contributions of all features to all outputs."""
    n_outputs = 1 if len(clf.classes_) == 2 else len(clf.classes_)
    points = np.empty((len(features), n_outputs * features.shape[1]), dtype=np.float32)
    for start in range(0, len(features), _BLOCK):
        values = contribute(clf, features[start : start + _BLOCK]).values
        if n_outputs > 1:
            # What is added to the scores of all classes changes no decision.
            values -= values.mean(axis=1, keepdims=True)
        points[start : start + _BLOCK] = values.reshape(len(values), -1)
    return points


def neighbours(
    clf: HybridClassifier,
    X: Any,
    X_train: Any,
    y_train: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    groups_train: npt.ArrayLike | None = None,
    n_neighbors: int = 3,
) -> Neighbours:
    """Find the training images of each class that a hybrid decides on most alike.

    Two images are near if the head decides on them for the same reasons: their distance is the
    Euclidean distance between the contributions of all features to the margin, those of
    `hybrid_attribution`. A feature that the head does not use does not count, however much it
    differs. For a linear head, the contributions are the features multiplied by their
    coefficients; for trees, they are SHAP values. With more than two classes, the contributions to
    the scores of all classes are used, minus their mean over the classes.

    The neighbours of the predicted class are precedents. The nearest of another class show how
    close the decision was, and which images the model tells apart.

    Parameters
    ----------
    clf : HybridClassifier
        Fitted, with a head that `hybrid_attribution` explains. Its features may be any.
    X : images, n_samples of them
        The images to explain. They should not be in `X_train`, or each is its own neighbour.
    X_train : images, n_train of them
        The images that `clf` was fitted on, or some of them.
    y_train : array-like of shape (n_train,)
        Their labels.
    groups, groups_train : array-like of shape (n_samples,) and (n_train,), default=None
        The subjects of `X` and of `X_train`: training images of the same subject are left out,
        since they are near for another reason. None uses the groups of an `ImageSequence`.
    n_neighbors : int, default=3
        The number of neighbours of each class.

    Returns
    -------
    Neighbours
        Positions, distances and names.

    Raises
    ------
    UnsupportedInputError
        If the decision is not a sum over features, lengths differ, a label is unknown to `clf`, or
        only one of the two sets has subjects.

    See Also
    --------
    NeighboursDisplay : Draws them.

    Notes
    -----
    The features of all training images are computed, unless they are in the featurizer's cache.
    Contributions take 4 bytes for each training image, feature and class (one for two classes):
    60 MB for five thousand images, two classes and EfficientNet-Lite0 with its stages.

    The head has seen the training images: it decides on them with more confidence than on new ones.

    References
    ----------
    S. Lundberg et al., "From local explanations to global understanding with explainable AI for
    trees", Nature Machine Intelligence 2, 2020: clustering by explanations.

    Examples
    --------
    >>> from effboost import presets
    >>> from effboost.datasets import make_blood_cells
    >>> from effboost.inspection import neighbours
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=64, random_state=0)
    >>> X, y, groups = cells.images, cells.target, cells.groups
    >>> clf = presets.frozen("resnet18", weights=None, image_size=64, random_state=0).fit(X, y)
    >>> found = neighbours(clf, X[:2], X, y, groups=groups[:2], groups_train=groups)
    >>> found.labels, found.indices.shape
    (array(['ALL', 'HEM'], dtype='<U3'), (2, 2, 3))
    >>> bool((groups[found.indices] != groups[0]).all())
    True
    """
    return TrainingImages(clf, X_train, y_train, groups_train).find(X, groups, n_neighbors)
