"""The internal part of the hybrid classifier: checks, splits, and the head."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from effboost._cnn_classifier import CNNClassifier
from effboost._extraction.distance_cache import learn_distance_cached
from effboost._extraction.prepared_images import PreparedImages
from effboost._familiarity import ALPHA, FamiliarityTable, check_alpha
from effboost._featurizer import ImageFeaturizer
from effboost._heads.booster import count_rounds
from effboost._heads.calibration import calibrate_head
from effboost._heads.feature_distance import Familiarity, choose_rows
from effboost._heads.fit import fit_head, stops_early
from effboost._heads.out_of_core import keeps_features_on_disk
from effboost._heads.view_averaging import decide_over_views, mean_over_views
from effboost._training.config import FineTuning
from effboost._transforms import Views
from effboost._utils.compat import DocumentedMixin
from effboost._utils.default_estimators import NestedDefaults, seed_children
from effboost._utils.device import resolve_device
from effboost._utils.fit_callbacks import CallbackSteps, subtask
from effboost._utils.probabilities import find_fault
from effboost._validation import LabelledImages
from effboost.exceptions import UnsupportedInputError

__all__ = ["BaseHybridClassifier"]


def _knows_familiarity(self: Any) -> bool:
    if hasattr(self, "classes_") and not hasattr(self, "familiarity_"):
        raise AttributeError(
            f"this {type(self).__name__} does not know which images are familiar: it was fitted on "
            "fewer than 10 images, on one subject or on a Dask cluster, or comes from a file of an "
            "older effboost; fit it again"
        )
    return True


class BaseHybridClassifier(
    CallbackSupportMixin,
    DocumentedMixin,
    ClassifierMixin,
    TransformerMixin,
    NestedDefaults,
    BaseEstimator,
):
    """A featurizer and a head: checks of their parameters, fitting and predictions."""

    # Parameters, which the constructor of the subclass sets.
    feature_storage: str
    head_protocol: str
    holdout_fraction: float
    view_averaging: str
    calibration: str | None
    validation_fraction: float | None
    class_weight: Any
    random_state: Any
    verbose: int

    def _set_fitted_state(
        self, featurizer: ImageFeaturizer, classifier: Any, classes: npt.NDArray[Any]
    ) -> None:
        """Set the fitted attributes from a fitted featurizer and a fitted head."""
        self.classes_ = classes
        self.featurizer_, self.classifier_ = featurizer, classifier
        self.history_ = featurizer.history_
        if hasattr(featurizer, "classes_"):
            self.cnn_ = CNNClassifier(featurizer)
            self.cnn_._set_fitted_state(featurizer)

    def _check_combination(self, featurizer: ImageFeaturizer, classifier: Any) -> None:
        """Check all parameters, before any work, and that each has an effect."""
        if not is_classifier(classifier):
            raise UnsupportedInputError(
                f"classifier={classifier!r} is not a classifier; it must predict classes"
            )
        featurizer._check_params()
        if self.head_protocol != "holdout" and self.holdout_fraction != 0.3:
            raise ValueError(
                f"holdout_fraction={self.holdout_fraction!r} has no effect without "
                'head_protocol="holdout"'
            )
        if self.head_protocol == "holdout" and featurizer.training is None:
            raise ValueError(
                'head_protocol="holdout" has no effect with training=None: the network has seen '
                "none of the images; leave it out"
            )
        if self.view_averaging != "features" and featurizer.views == "original":
            raise ValueError(
                f"view_averaging={self.view_averaging!r} has no effect with "
                'views="original": each image has one view'
            )

    def _fit_head(
        self,
        task: Any,
        featurizer: ImageFeaturizer,
        classifier: Any,
        classes: npt.NDArray[Any],
        deciding: LabelledImages,
        validation: LabelledImages | None,
    ) -> tuple[Any, dict[str, dict[str, list[float]]] | None, dict[str, Any]]:
        """Fit the classifier on features; return it, calibrated if requested, and its history.

        The last are attributes that are learnt from the features.
        """
        with subtask(task, "extract-features", self):
            n_views, n_features = self._n_head_views(featurizer), featurizer._n_features_out
            shape = len(deciding.images) * n_views, n_features
            on_disk = keeps_features_on_disk(self.feature_storage, shape, classifier)
            train = self._head_rows(featurizer, deciding, classes, on_disk)
            learnt: dict[str, Any] = {"feature_means_": train[0].mean(axis=0, dtype=np.float64)}
            rows = train[0].reshape(-1, n_views, n_features), train[1][::n_views]
            familiarity = self._learn_familiarity(featurizer, deciding, *rows)
            if familiarity is not None:
                learnt["familiarity_"] = familiarity
            watched = None
            if validation is not None:
                watched = self._head_rows(featurizer, validation, classes, on_disk)
        child = classifier if hasattr(classifier, "set_callbacks") else None
        n_rounds = count_rounds(classifier)
        with subtask(task, "fit-head", self, child=child, max_subtasks=n_rounds) as fitting:
            evals_result = fit_head(
                classifier,
                train,
                watched,
                sample_weight=deciding.weights_with_classes(self.class_weight),
                device=resolve_device(featurizer.device),
                groups=deciding.groups,
                n_views=n_views,
                rounds=CallbackSteps("boosting-round", self, fitting, {}),
            )
        if self.calibration is not None and watched is not None:
            classifier = calibrate_head(classifier, self.calibration, watched, n_views)
        return classifier, evals_result, learnt

    def _head_rows(
        self,
        featurizer: ImageFeaturizer,
        rows: LabelledImages,
        classes: npt.NDArray[Any],
        on_disk: bool,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the training rows of the classifier: one for each image, or for each view."""
        target = rows.encode(classes)
        if self.view_averaging == "features":
            return featurizer._compute_features(rows.images, on_disk=on_disk), target
        features = featurizer._compute_features(rows.images, average=False, on_disk=on_disk)
        n_views = features.shape[1]
        return features.reshape(-1, features.shape[2]), np.repeat(target, n_views)

    def _learn_familiarity(
        self,
        featurizer: ImageFeaturizer,
        rows: LabelledImages,
        features: npt.NDArray[np.float32],
        target: npt.NDArray[np.int64],
    ) -> Familiarity | None:
        """Learn which images are like the training images, from a row for each of their views."""
        chosen = choose_rows(len(features))
        images, cache = rows.images[chosen], featurizer._feature_cache()
        return Familiarity.learn(
            features[chosen].mean(axis=1, dtype=np.float64),
            target[chosen],
            None if rows.groups is None else rows.groups[chosen],
            lambda: images.measures(cache),
            partial(learn_distance_cached, cache),
        )

    @available_if(_knows_familiarity)
    def check_familiarity(self, X: Any, *, alpha: float = ALPHA) -> FamiliarityTable:
        """Find images that are unlike those that the classifier was trained on.

        For such images, `predict` also returns a class, and often a high probability.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        alpha : float, default=0.02
            The p-value up to which the features of an image are a reason to flag it: the share of
            images like the training images that are flagged for their features. With fewer than
            ``2 / alpha - 1`` training images, it is that of images farther away than all of them.

        Returns
        -------
        FamiliarityTable
            A p-value for each image, whether it is familiar, and the reasons if it is not.

        Raises
        ------
        UnsupportedInputError, ImageDecodeError
            If `X` is of an unknown form, or an image cannot be read.
        AttributeError
            If the classifier has not learnt it: see the notes.

        Notes
        -----
        `fit` learns the Mahalanobis distance of features, averaged over the views of an image, to
        the nearest class of the training images, with the covariance of probabilistic PCA. The
        p-value of an image is the share of training images that are as far from those of other
        subjects, by cross-fitting over folds of subjects: a cross-conformal p-value. At most 2,000
        training images are used. With fewer than 10, or one subject, nothing is learnt; nor on a
        Dask cluster. Files that older versions of effboost wrote do not have it.

        Reasons other than features are that an image is outside of the range of the training
        images, and some slack: "size" (more than 1.4 times larger or smaller), "exposure" (mean or
        highlights of the grey levels) and "blur" (edges are wider).

        References
        ----------
        K. Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
        Adversarial Attacks", NeurIPS 2018. V. Vovk, "Cross-conformal predictors", Annals of
        Mathematics and Artificial Intelligence 74, 2015.

        Examples
        --------
        >>> import numpy as np
        >>> from effboost import presets
        >>> from effboost.datasets import make_blood_cells
        >>> cells = make_blood_cells(
        ...     n_subjects=6, images_per_subject=8, image_size=64, random_state=0
        ... )
        >>> clf = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
        >>> clf = clf.fit(cells.images, cells.target, groups=cells.groups)
        >>> green = np.full((1, 200, 200, 3), (0, 255, 0), dtype=np.uint8)
        >>> table = clf.check_familiarity(green)
        >>> table
        <FamiliarityTable of 1, 1 unfamiliar>
        >>> table.reasons[0]
        ('features', 'size', 'exposure')
        """
        check_is_fitted(self)
        share = check_alpha(alpha)
        featurizer = self.featurizer_
        sequence = featurizer._check_images(X, reset=False)
        images = PreparedImages(sequence, featurizer.transform_, measured=True)
        features = featurizer._compute_features(images, average=self.view_averaging == "features")
        if features.ndim == 3:
            features = features.mean(axis=1)
        measures = images.measures(featurizer._feature_cache())
        return self.familiarity_.judge(features, measures, share)

    def _head_features(self, X: Any) -> npt.NDArray[np.float32]:
        """Compute the features for the fitted head; for each view if it averages over them."""
        check_is_fitted(self)
        featurizer = self.featurizer_
        images = PreparedImages(featurizer._check_images(X, reset=False), featurizer.transform_)
        return featurizer._compute_features(images, average=self.view_averaging == "features")

    def _ask_head(self, method: str, features: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return what a method of the classifier returns for the features of images.

        Raises
        ------
        UnsupportedInputError
            If the classifier fails, or gives something other than probabilities or finite scores:
            one from a file may have been damaged, or the features lie far from those of `fit`.
        """
        if not len(features):  # which many classifiers refuse
            one = np.zeros((1, *features.shape[1:]), dtype=features.dtype)
            return self._ask_head(method, one)[:0]
        head = self.classifier_
        try:
            if features.ndim == 2:
                answers = np.asarray(getattr(head, method)(features))
            elif method == "predict":
                answers = decide_over_views(head, features)
            else:
                answers = mean_over_views(head, method, features)
        # Members of compositions check what other members give them.
        except (ValueError, FloatingPointError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UnsupportedInputError(
                f"{type(head).__name__} cannot decide on these features: {reason}"
            ) from error
        fault = None
        if method == "predict_proba":
            fault = find_fault(answers, len(features), len(self.classes_))
        elif method == "decision_function" and not np.isfinite(answers).all():
            fault = "its scores contain NaN or infinity"
        if fault is not None:
            raise UnsupportedInputError(
                f"{type(head).__name__} cannot decide on these features: {fault}"
            )
        return answers

    def _children(self, rng: np.random.RandomState) -> tuple[ImageFeaturizer, Any]:
        """Return copies of the featurizer and the classifier, or the defaults, ready to fit."""
        featurizer, classifier = self._child("featurizer"), self._child("classifier")
        if self.random_state is not None:
            seed_children([featurizer, classifier], rng)
        if self.verbose and not featurizer.verbose:
            featurizer.set_params(verbose=self.verbose)
        training = featurizer._child("training")
        if training is not None and training.class_weight is None and self.class_weight is not None:
            featurizer.set_params(training__class_weight=self.class_weight)
        return featurizer, classifier

    def _needs_validation(self, featurizer: ImageFeaturizer, classifier: Any, n_rows: int) -> bool:
        training: FineTuning | None = featurizer._child("training")
        network = training is not None and training.patience is not None
        return network or stops_early(classifier, n_rows) or self.calibration is not None

    def _n_head_views(self, featurizer: ImageFeaturizer) -> int:
        """Return the number of rows for each image that the classifier gets."""
        if self.view_averaging == "features":
            return 1
        return Views(featurizer.views).count

    def _choose_validation_fraction(self, featurizer: ImageFeaturizer) -> float:
        if self.validation_fraction is not None:
            return self.validation_fraction
        training: FineTuning = featurizer._child("training") or FineTuning()
        return training.validation_fraction
