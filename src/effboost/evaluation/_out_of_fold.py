"""Predictions for images by classifiers that were not fitted on them."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from sklearn.base import clone, is_classifier
from tqdm.auto import tqdm

from effboost._cnn_classifier import CNNClassifier
from effboost._extraction.cache import Cache
from effboost._extraction.temporary_cache import find_temporary_cache, share_cache
from effboost._featurizer import ImageFeaturizer
from effboost._heads.inner_splits import (
    GroupedSplitter,
    find_splitters,
    needs_groups,
    split_rows,
)
from effboost._heads.metadata import fit_metadata
from effboost._hybrid_classifier import HybridClassifier
from effboost._images import ImageSequence, as_images
from effboost._utils.decision import check_probabilities, predict_both
from effboost._utils.shared_results import share_results
from effboost.exceptions import SplitError, UnsupportedInputError

__all__ = ["Fitted", "Folds", "LabelledSample", "OutOfFold", "predict_folds"]

Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
# Labels and, if the classifier has them, probabilities.
_Predicted = tuple[npt.NDArray[Any], npt.NDArray[np.float64] | None]


@dataclasses.dataclass(frozen=True)
class LabelledSample:
    """The images of an evaluation.

    Attributes
    ----------
    images : ImageSequence
        The images, with their groups if these are known.
    labels : ndarray of shape (n_samples,)
        Their labels.
    classes : ndarray of shape (n_classes,)
        The classes, sorted.
    groups : ndarray of shape (n_samples,) or None
        Their subjects; None if they are not known.
    """

    images: ImageSequence
    labels: npt.NDArray[Any]
    classes: npt.NDArray[Any]
    groups: npt.NDArray[Any] | None

    @property
    def subjects(self) -> npt.NDArray[Any]:
        """The subject of each image; each image is its own subject if none are known."""
        return np.arange(len(self.labels)) if self.groups is None else self.groups

    @property
    def codes(self) -> npt.NDArray[np.intp]:
        """The position of each label in the classes."""
        return np.searchsorted(self.classes, self.labels)


class OutOfFold:
    """The predictions of one classifier of each fold for the images tested there.

    Attributes
    ----------
    codes : ndarray of shape (n_samples,)
        Position of each predicted class in the classes.
    probabilities : ndarray of shape (n_samples, n_classes) or None
        Probabilities; None where a classifier has none.
    fold : ndarray of shape (n_samples,)
        Number of the fold of each image.
    """

    def __init__(self, n_samples: int, classes: npt.NDArray[Any]):
        self._position = {label: i for i, label in enumerate(classes.tolist())}
        self.codes = np.zeros(n_samples, dtype=np.intp)
        self.fold = np.zeros(n_samples, dtype=np.intp)
        self.probabilities: npt.NDArray[np.float64] | None = np.zeros((n_samples, len(classes)))

    def record(
        self, model: Any, predicted: _Predicted, test: npt.NDArray[np.intp], number: int
    ) -> None:
        """Record what a model predicts for the images of a fold."""
        labels, probabilities = predicted
        self.fold[test] = number
        self.codes[test] = self._encode(labels, model)
        if probabilities is None:
            self.probabilities = None
        elif self.probabilities is not None:
            check_probabilities(probabilities, model)
            # A fold may lack a class in training where the caller's own cv leaves it out.
            columns = self._encode(model.classes_, model)
            self.probabilities[np.ix_(test, columns)] = probabilities

    def _encode(self, labels: Any, model: Any) -> npt.NDArray[np.intp]:
        values = np.asarray(labels).tolist()
        unknown = [label for label in values if label not in self._position]
        if unknown:
            raise UnsupportedInputError(
                f"{type(model).__name__} predicts {unknown[0]!r}, which is not a class; the "
                f"classes are {list(self._position)}"
            )
        return np.array([self._position[label] for label in values], dtype=np.intp)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The classifiers of the folds, with their training curves if they have any."""

    models: tuple[Any, ...]

    @property
    def history(self) -> tuple[Any, ...]:
        return tuple(getattr(model, "history_", []) for model in self.models)

    @property
    def evals_result(self) -> tuple[Any, ...]:
        return tuple(getattr(model, "evals_result_", {}) for model in self.models)


def predict_folds(
    estimator: Any, sample: LabelledSample, folds: Folds, *, prefit: bool, verbose: int
) -> tuple[OutOfFold, OutOfFold | None, Fitted]:
    """Fit a clone for each fold and predict the images that are tested there.

    Returns
    -------
    own : OutOfFold
        The predictions.
    cnn : OutOfFold or None
        Those of the fine-tuned network alone, if the classifiers have one.
    fitted : Fitted
        The classifiers.
    """
    n = len(sample.labels)
    own, cnn, models = OutOfFold(n, sample.classes), None, []
    run = partial(
        _run_fold,
        estimator,
        sample.images,
        sample.labels,
        sample.groups,
        prefit=prefit,
        cache=find_temporary_cache(),
    )
    # One after another, unless joblib's `parallel_config` says otherwise.
    results = Parallel(return_as="generator")(delayed(run)(fold) for fold in folds)
    bar = tqdm(results, total=len(folds), desc="folds", unit="fold", disable=not verbose)
    for number, (model, by_model, by_cnn) in enumerate(bar):
        test = folds[number][1]
        own.record(model, by_model, test, number)
        if by_cnn is not None:
            cnn = cnn or OutOfFold(n, sample.classes)
            cnn.record(model.cnn_, by_cnn, test, number)
        models.append(model)
    return own, cnn, Fitted(tuple(models))


def _run_fold(
    estimator: Any,
    images: ImageSequence,
    labels: npt.NDArray[Any],
    groups: npt.NDArray[Any] | None,
    fold: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    *,
    prefit: bool,
    cache: Cache | None,
) -> tuple[Any, _Predicted, _Predicted | None]:
    """Fit a clone, and predict; also by the network alone if there is one.

    `cache` is the caller's `temporary_cache`.
    """
    train, test = fold
    known = None if groups is None else groups[train]
    with share_cache(cache):
        model = estimator if prefit else _fit(estimator, images[train], labels[train], known)
        tested = images[test]
        # The network alone decides on the same features.
        with share_results():
            by_model = predict_both(model, tested)
            by_cnn = predict_both(model.cnn_, tested) if hasattr(model, "cnn_") else None
    return model, by_model, by_cnn


def _fit(
    estimator: Any,
    images: ImageSequence,
    labels: npt.NDArray[Any],
    groups: npt.NDArray[Any] | None,
) -> Any:
    model = clone(estimator)
    if groups is not None:
        _split_by_group(model, labels, groups)
    params, _ = fit_metadata(model, None, groups)
    return model.fit(images, labels, **params)


def _split_by_group(model: Any, labels: npt.NDArray[Any], groups: npt.NDArray[Any]) -> None:
    """Make each `cv` in an estimator of images split by group.

    An estimator that is fitted on all rows gets the folds themselves: behind a featurizer, its rows
    are features. Others look the groups up in the images that they are given.
    """
    # What effboost's own estimators hold sees no images.
    own = HybridClassifier, CNNClassifier, ImageFeaturizer
    for node, whole in list(find_splitters(model, skip=own)):
        if hasattr(node.cv, "split") and not needs_groups(node.cv):
            continue
        classifier = is_classifier(node)
        if whole:
            folds = split_rows(node.cv, labels, np.arange(len(labels)), groups, classifier)
            node.set_params(cv=folds)
        else:
            node.set_params(cv=GroupedSplitter(node.cv, _carried_groups, classifier))


def _carried_groups(X: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    try:
        images = as_images(X)
    except UnsupportedInputError as error:
        raise SplitError(
            "the cv of an estimator inside another cross-validation sees features, whose subjects "
            "are not known: enable metadata routing, or put the estimator into a HybridClassifier"
        ) from error
    groups = np.arange(len(images)) if images.groups is None else images.groups
    return np.arange(len(images)), groups
