"""The hybrid classifier: boosted trees on the features of a network."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from effboost._efficientnet_featurizer import EfficientNetFeaturizer
from effboost._extraction.prepared_images import PreparedImages
from effboost._featurizer import ImageFeaturizer
from effboost._heads.booster import paper_booster
from effboost._heads.fit import check_head
from effboost._heads.inner_splits import check_listed_folds
from effboost._hybrid_base import BaseHybridClassifier
from effboost._utils.compat import Interval, StrOptions, fit_context
from effboost._utils.decision import predict_with_flags
from effboost._utils.device import draw_seed
from effboost._utils.fit_callbacks import callback_data, subtask
from effboost._validation import LabelledImages, check_validation
from effboost.exceptions import UnsupportedInputError

__all__ = ["HybridClassifier"]


def _head_has(method: str) -> Any:
    def check(self: HybridClassifier) -> bool:
        head = getattr(self, "classifier_", self.classifier)
        return hasattr(paper_booster() if head is None else head, method)

    return check


class HybridClassifier(BaseHybridClassifier):
    """Classify images by a classifier on the features of a fine-tuned network.

    By default, this is the method of "Advancing the Diagnosis of Acute Lymphoblastic Leukemia with
    Hybrid Neural Networks": EfficientNet-B0 is fine-tuned from ImageNet weights, and XGBoost is
    fitted on its 1280 features.

    Parameters
    ----------
    featurizer : ImageFeaturizer or None, default=None
        Computes the features. None means `EfficientNetFeaturizer()`.
    classifier : classifier or None, default=None
        The head: any scikit-learn classifier. It is fitted on float32 features and labels 0 to
        n_classes - 1, and gets the subjects if its `fit` takes `groups`. None means the paper's
        head, ``XGBClassifier(learning_rate=0.35, tree_method="hist")``.
    head_protocol : {"in_sample", "holdout"}, default="in_sample"
        Which images the classifier learns from. "in_sample": the images that the network was
        fine-tuned on, as in the paper; their features are over-confident. "holdout": images of
        subjects that were set aside before fine-tuning; an error without fine-tuning, where it
        would have no effect.
    holdout_fraction : float, default=0.3
        Share of the images that "holdout" sets aside, by subject.
    view_averaging : {"features", "probabilities"}, default="features"
        What is averaged over the views of an image if the featurizer has several `views`: the
        features, so that the classifier has one row for each image; or the probabilities of the
        classifier, which then learns from a row for each view, with its share of the image's
        weight.
    feature_storage : {"auto", "memory", "disk"}, default="auto"
        Where the features that the classifier learns from are kept in `fit`: in memory, or in a
        temporary file, from which XGBoost trains block by block (with ``tree_method="hist"``; other
        heads need memory). "auto" chooses the disk, with a warning, if four times their size is
        more than the available memory. Trees may differ slightly between the two.
    calibration : {"temperature", "sigmoid", "isotonic"} or None, default=None
        Calibrate the classifier's probabilities by scikit-learn's `CalibratedClassifierCV`, on
        validation images that neither the classifier nor the network has learned from.
        "temperature" does not change the predicted classes, and suits few images.
    validation_fraction : float or None, default=None
        Share of the images to set aside, by subject, if early stopping of the network or of
        XGBoost, or `calibration`, needs validation images and no `X_val` is given. None means that
        of the featurizer's `training`, or 0.1 without fine-tuning.
    class_weight : "balanced", dict or None, default=None
        Weights of the classes, as in scikit-learn, in the loss of the network (unless
        ``featurizer.training`` has its own) and, as sample weights, in that of the classifier.
    random_state : int, RandomState instance or None, default=None
        Passed to the featurizer and the classifier if theirs is None. Also controls the splits by
        subject.
    verbose : int, default=0
        1 shows progress bars on stderr. Passed to the featurizer if its own is 0.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    featurizer_ : ImageFeaturizer
        The fitted featurizer.
    classifier_ : classifier
        The fitted head; with `calibration`, inside a `CalibratedClassifierCV`.
    feature_means_ : ndarray of shape (n_features,), float64
        Means of the features over the images that the classifier learned from.
    cnn_ : CNNClassifier
        The fine-tuned network with its own softmax, sharing the weights; exists only after
        fine-tuning.
    familiarity_ : Familiarity
        What `check_familiarity` uses; exists only if `fit` could learn it.
    history_ : list of dict
        Loss and accuracy of each epoch of the network; empty without fine-tuning.
    evals_result_ : dict of str to dict of str to list
        The metrics of XGBoost in each round on the "train" rows, and on the "validation" rows if
        `X_val` was given or early stopping set some aside; exists only if the head is XGBoost's.
    n_features_in_ : int
        Number of columns seen in `fit`; exists only if `X` has one image per row.
    feature_names_in_ : ndarray of shape (n_columns,), object
        Names of these columns; exists only if `X` is a table with names.

    See Also
    --------
    effboost.presets : Ready-made hybrid classifiers, also with frozen networks.
    CNNClassifier : The network without boosted trees.

    Notes
    -----
    `get_params` also lists the parameters of the default estimators, so that a search can use
    ``classifier__max_depth`` or ``featurizer__training__lr`` although `classifier` and `featurizer`
    are None. Setting one of them replaces the None by the default estimator.

    Early stopping, of the network (``featurizer__training__early_stopping``) or of XGBoost
    (``classifier__early_stopping_rounds``), and `calibration` without `X_val` share one split of
    the images by subject. Neither part learns from the images that are split off.

    XGBoost is fitted on the device of the featurizer, unless its own `device` is set. The fitted
    booster predicts on the CPU, so that it can be loaded anywhere.

    Examples
    --------
    >>> from effboost import FineTuning, HybridClassifier, ImageFeaturizer, ImageTransform
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> clf = HybridClassifier(
    ...     ImageFeaturizer(
    ...         "resnet18",
    ...         weights=None,
    ...         training=FineTuning(max_epochs=1),
    ...         transform=ImageTransform(crop_size=None, image_size=32),
    ...     ),
    ...     random_state=0,
    ... ).fit(cells.images, cells.target, groups=cells.groups)
    >>> clf.predict_proba(cells.images).shape
    (20, 2)
    """

    _defaults: ClassVar[dict[str, dict[Hashable, Callable[[], Any]]]] = {
        "featurizer": {None: EfficientNetFeaturizer},
        "classifier": {None: paper_booster},
    }
    # With metadata routing on, subjects come along without being requested: a fit that does not
    # know them would split them.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "featurizer": [ImageFeaturizer, None],
        "classifier": [BaseEstimator, None],
        "head_protocol": [StrOptions({"in_sample", "holdout"})],
        "holdout_fraction": [Interval(Real, 0, 1, closed="neither")],
        "view_averaging": [StrOptions({"features", "probabilities"})],
        "feature_storage": [StrOptions({"auto", "memory", "disk"})],
        "calibration": [StrOptions({"temperature", "sigmoid", "isotonic"}), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        featurizer: ImageFeaturizer | None = None,
        classifier: Any = None,
        *,
        head_protocol: str = "in_sample",
        holdout_fraction: float = 0.3,
        view_averaging: str = "features",
        feature_storage: str = "auto",
        calibration: str | None = None,
        validation_fraction: float | None = None,
        class_weight: str | dict[Any, float] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.featurizer = featurizer
        self.classifier = classifier
        self.head_protocol = head_protocol
        self.holdout_fraction = holdout_fraction
        self.view_averaging = view_averaging
        self.feature_storage = feature_storage
        self.calibration = calibration
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        groups: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit the featurizer, then the classifier on its features.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        y : array-like of shape (n_samples,)
            The labels: strings or integers, of two classes or more.
        groups : array-like of shape (n_samples,), default=None
            The subject of each image. Every split inside keeps subjects together. None uses the
            groups of an `ImageSequence`; without groups, each image is its own subject.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image in the losses of the network and of the classifier.
        X_val, y_val : images and labels, default=None
            Images to validate each epoch and each round of XGBoost on, for `history_`,
            `evals_result_` and early stopping. Nothing is trained on them.
        groups_val : array-like of shape (n_validation_samples,), default=None
            The subjects of the validation images. None of them may be in `groups`.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If `y` has only one class, or lengths differ.
        UnsupportedInputError, ImageDecodeError
            If `X` is of an unknown form, an image cannot be read, or `calibration` is set and
            `y_val` lacks a class.
        SplitError
            If a class has too few subjects for a split, or the subject of an image is missing.
        TrainingError
            If the loss of the network is no longer a finite number.
        LeakageError
            If a subject is in `groups` and in `groups_val`.
        """
        task = self._init_callback_context(max_subtasks=3)
        data = callback_data(X, y, sample_weight)
        task.call_on_fit_task_begin(estimator=self, **data)
        rng = check_random_state(self.random_state)
        featurizer, classifier = self._children(rng)
        self._check_combination(featurizer, classifier)
        images = featurizer._prepare_images(X, reset=True, measured=True)
        rows = LabelledImages.check(images, y, groups=groups, sample_weight=sample_weight)
        classes = rows.classes()
        n_views = self._n_head_views(featurizer)
        check_head(
            classifier,
            weighted=self.class_weight is not None or not (rows.weight == 1).all(),
            groups=rows.groups,
            n_classes=len(classes),
            n_views=n_views,
            n_rows=len(rows.images) * n_views,
            calibrated=self.calibration is not None,
        )
        validation = check_validation(rows, featurizer._prepare_images, X_val, y_val, groups_val)
        # One split for the network and the booster: rows that stop either were seen by neither.
        if validation is None and self._needs_validation(
            featurizer, classifier, len(rows.images) * n_views
        ):
            fraction = self._choose_validation_fraction(featurizer)
            rows, validation = rows.train_validation_split(fraction, draw_seed(rng))
        if self.calibration is not None and validation is not None:
            missing = np.setdiff1d(classes, validation.labels).tolist()
            if missing:
                raise UnsupportedInputError(
                    f"y_val has no image of class {missing[0]!r}, which calibration needs"
                )
        tuning = deciding = rows
        if self.head_protocol == "holdout":
            tuning, deciding = rows.train_validation_split(self.holdout_fraction, draw_seed(rng))
        check_listed_folds(classifier, len(images), len(deciding.images))
        with subtask(task, "fit-featurizer", self, child=featurizer):
            featurizer._fit_labelled(tuning, validation)
        classifier, evals_result, learnt = self._fit_head(
            task, featurizer, classifier, classes, deciding, validation
        )
        for name in ("cnn_", "evals_result_", "familiarity_"):
            self.__dict__.pop(name, None)  # of a former fit
        self._set_fitted_state(featurizer, classifier, classes)
        self.__dict__.update(learnt)
        if evals_result is not None:
            self.evals_result_ = evals_result
        task.call_on_fit_task_end(estimator=self, reconstruction_attributes={}, **data)
        return self

    def predict(self, X: Any, *, flags: bool = False) -> Any:
        """Predict the class of images.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        flags : bool, default=False
            Also return which images are unlike those of `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            A label of `classes_` for each image.
        table : FamiliarityTable
            What `check_familiarity` returns; only with `flags`.
        """
        if flags:
            check_is_fitted(self)
            return predict_with_flags(self, self.featurizer_._check_images(X, reset=False))
        best = self._ask_head("predict", self._head_features(X))
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels

    @available_if(_head_has("predict_proba"))
    def predict_proba(self, X: Any) -> npt.NDArray[Any]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities between 0 and 1, in the order of `classes_`.
        """
        return self._ask_head("predict_proba", self._head_features(X))

    @available_if(_head_has("decision_function"))
    def decision_function(self, X: Any) -> npt.NDArray[Any]:
        """Compute the scores of a head with `decision_function`, such as a support vector machine.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            The head's scores.
        """
        return self._ask_head("decision_function", self._head_features(X))

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Compute the features that the classifier uses.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            The features.
        """
        check_is_fitted(self)
        images = PreparedImages(
            self.featurizer_._check_images(X, reset=False), self.featurizer_.transform_
        )
        return self.featurizer_._compute_features(images)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Get the names of the features.

        Parameters
        ----------
        input_features : ignored
            Not used, present for API consistency.

        Returns
        -------
        ndarray of shape (n_features_out,), str objects
            The featurizer's names.
        """
        check_is_fitted(self)
        names: npt.NDArray[np.object_] = self.featurizer_.get_feature_names_out(input_features)
        return names

    @property
    def n_features_in_(self) -> int:
        """Number of columns seen in `fit`, if `X` has one image per row."""
        check_is_fitted(self)
        return int(self.featurizer_.n_features_in_)

    @property
    def feature_names_in_(self) -> npt.NDArray[np.object_]:
        """Names of the columns seen in `fit`, if `X` is a table with names."""
        check_is_fitted(self)
        names: npt.NDArray[np.object_] = self.featurizer_.feature_names_in_
        return names

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = self._child("featurizer").__sklearn_tags__().input_tags
        tags.transformer_tags.preserves_dtype = []
        return tags
