"""Validation of images with labels, subjects and weights, for all estimators."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sized
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from effboost._utils.columns import check_groups, check_label_column
from effboost.exceptions import UnsupportedInputError
from effboost.model_selection import subject_split
from effboost.model_selection._leakage import check_group_leakage

__all__ = ["LabelledImages", "check_labels", "check_validation", "check_weight", "has_validation"]


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Images with their labels, subjects and weights.

    Attributes
    ----------
    images : ImageSequence or PreparedImages
        The images.
    labels : ndarray of shape (n_samples,)
        Their labels, as given by the caller.
    groups : ndarray of shape (n_samples,) or None
        Their subjects.
    weight : ndarray of shape (n_samples,), float64
        Their weights, all above 0; 1 by default.
    """

    images: Any
    labels: npt.NDArray[Any]
    groups: npt.NDArray[Any] | None
    weight: npt.NDArray[np.float64]

    @classmethod
    def check(
        cls, images: Any, y: Any, *, groups: Any = None, sample_weight: Any = None
    ) -> LabelledImages:
        """Validate lengths and types; `groups` default to those of the images.

        Images with weight 0 are left out, as if they had not been passed.

        Raises
        ------
        UnsupportedInputError
            If lengths differ or a weight is negative.
        ValueError
            If `y` is not suitable for classification.
        """
        labels = check_labels(y)
        if groups is None:
            groups = images.groups
        _check_lengths(images, y=labels, groups=groups)
        groups = None if groups is None else check_groups(groups)
        weight = check_weight(images, sample_weight)
        rows = cls(images, labels, groups, weight)
        return rows if weight.all() else rows.take(weight > 0)

    @property
    def subjects(self) -> npt.NDArray[Any]:
        """The subject of each image; each image is its own subject if none are known."""
        return np.arange(len(self.images)) if self.groups is None else self.groups

    def classes(self) -> npt.NDArray[Any]:
        """Return the sorted classes, and check that there are at least two."""
        classes = np.unique(self.labels)
        if len(classes) < 2:
            raise UnsupportedInputError(
                f"y has one class only, {classes.tolist()[0]!r}; a classifier needs at least two"
            )
        return classes

    def encode(self, classes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the position of each label in `classes`."""
        unknown = np.setdiff1d(self.labels, classes)
        if unknown.size:
            raise UnsupportedInputError(
                f"y_val has the class {unknown.tolist()[0]!r}, which is not in y"
            )
        return np.searchsorted(classes, self.labels).astype(np.int64)

    def take(self, index: npt.NDArray[Any]) -> LabelledImages:
        """Return a subset by positions or by a mask."""
        groups = None if self.groups is None else self.groups[index]
        return LabelledImages(self.images[index], self.labels[index], groups, self.weight[index])

    def train_validation_split(
        self, share: float, seed: int
    ) -> tuple[LabelledImages, LabelledImages]:
        """Split off a fraction of the images by subject; each class stays in both parts."""
        split = subject_split(self.labels, self.groups, test_size=share, random_state=seed)
        return self.take(split.train), self.take(split.test)

    def weights_with_classes(self, class_weight: Any) -> npt.NDArray[np.float64]:
        """Return the weights multiplied by those of the classes."""
        if class_weight == "balanced":  # by weighted counts, as if images were repeated
            target = np.unique(self.labels, return_inverse=True)[1]
            counts = np.bincount(target, weights=self.weight)
            of_class = (self.weight.sum() / (len(counts) * counts))[target]
        else:
            of_class = compute_sample_weight(class_weight, self.labels)
        if not (np.isfinite(of_class).all() and (of_class >= 0).all() and of_class.any()):
            raise UnsupportedInputError(
                f"class_weight={class_weight!r} must be finite, 0 or more, and not all 0"
            )
        weight: npt.NDArray[np.float64] = self.weight * of_class
        return weight

    def sampling_weights(self, sampling: str | None) -> npt.NDArray[np.float64] | None:
        """Return the probability of each image if epochs are sampled by "class", "subject", ..."""
        if sampling is None:
            return None
        of_class = np.unique(self.labels, return_inverse=True)[1]
        of_subject = np.unique(self.subjects, return_inverse=True)[1]
        # A subject with images of two classes is counted in both.
        both = of_class * (of_subject.max() + 1) + of_subject
        cells = {"class": of_class, "subject": of_subject, "class_subject": both}[sampling]
        weights: npt.NDArray[np.float64] = 1 / np.bincount(cells)[cells]
        if sampling == "class_subject":
            weights /= np.bincount(of_class, weights)[of_class]
        return weights / weights.sum()


def check_labels(y: Any) -> npt.NDArray[Any]:
    """Validate labels: one dimension, no missing values, and one type of value.

    Raises
    ------
    UnsupportedInputError
        If a label is missing, strings are mixed with other values, or labels are dates or objects
        other than strings.
    ValueError
        If `y` is not suitable for classification.
    """
    labels = check_label_column(y)
    check_classification_targets(labels)
    return labels


def check_weight(images: Sized, sample_weight: Any) -> npt.NDArray[np.float64]:
    """Validate the weights of the images; None means 1 for each.

    Raises
    ------
    UnsupportedInputError
        If lengths differ, a weight is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return np.ones(len(images))
    weight: npt.NDArray[np.float64] = column_or_1d(sample_weight, dtype=np.float64)
    _check_lengths(images, sample_weight=weight)
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if wrong.size:
        raise UnsupportedInputError(
            f"sample_weight is {weight[wrong[0]]} at position {wrong[0]}; weights must be finite, "
            "and 0 or more"
        )
    if not weight.any():
        raise UnsupportedInputError(
            "sample_weight is zero for all images: at least one must be above 0"
        )
    return weight


def has_validation(X_val: Any, y_val: Any) -> bool:
    """Return whether validation images were passed.

    Raises
    ------
    UnsupportedInputError
        If only one of `X_val` and `y_val` is given.
    """
    if (X_val is None) != (y_val is None):
        raise UnsupportedInputError("only one of X_val and y_val was passed: pass both, or neither")
    return X_val is not None


def check_validation(
    train: LabelledImages,
    check_images: Callable[..., Any],
    X_val: Any,
    y_val: Any,
    groups_val: Any,
) -> LabelledImages | None:
    """Validate validation images against the training images.

    Raises
    ------
    UnsupportedInputError
        If only one of `X_val` and `y_val` is given, or a class of `y_val` is not in `y`.
    LeakageError
        If a subject is in both the training and the validation images.
    """
    if not has_validation(X_val, y_val):
        return None
    validation = LabelledImages.check(check_images(X_val, reset=False), y_val, groups=groups_val)
    validation.encode(train.classes())
    check_group_leakage(train.groups, validation.groups)
    return validation


def _check_lengths(images: Sized, **others: Any) -> None:
    for name, values in others.items():
        if values is not None and len(values) != len(images):
            raise UnsupportedInputError(
                f"X has {len(images)} images, but {name} has {len(values)} values: pass one for "
                "each image"
            )
