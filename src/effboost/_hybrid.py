"""The hybrid classifier: a network's features, and boosted trees that decide."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from effboost._compat import fit_context, load_xgboost
from effboost._featurizer import EfficientNetFeaturizer, ImageFeaturizer
from effboost._images import ImageSequence
from effboost.exceptions import UnsupportedInputError

__all__ = ["HybridClassifier", "paper_booster"]


def paper_booster() -> Any:
    """Give the paper's head, unfitted: XGBoost with a learning rate of 0.35."""
    return load_xgboost().XGBClassifier(learning_rate=0.35, tree_method="hist")


def _head_has(method: str) -> Any:
    def check(self: HybridClassifier) -> bool:
        head = getattr(self, "classifier_", self.classifier)
        return hasattr(_default("classifier") if head is None else head, method)

    return check


class HybridClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Classify images: a network gives the features, a classifier decides on them.

    With nothing set, this is the architecture of "Advancing the Diagnosis of Acute
    Lymphoblastic Leukemia with Hybrid Neural Networks": EfficientNet-B0 with ImageNet weights
    gives 1280 features and XGBoost decides. The network is used as it is, not fine-tuned.

    Parameters
    ----------
    featurizer : ImageFeaturizer or None, default=None
        Gives the features. None means `EfficientNetFeaturizer()`.
    classifier : classifier or None, default=None
        Any scikit-learn classifier. It sees float32 features and labels 0 to n_classes - 1.
        None means ``XGBClassifier(learning_rate=0.35, tree_method="hist")``, the paper's.
    random_state : int, RandomState instance or None, default=None
        Reaches the featurizer and the classifier where theirs is None.
    verbose : int, default=0
        1 shows progress bars on stderr. Reaches the featurizer where its own is 0.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    featurizer_ : ImageFeaturizer
        The fitted featurizer.
    classifier_ : classifier
        The fitted head.
    n_features_in_ : int
        Number of columns seen in `fit`; only where `X` holds one image per row.

    See Also
    --------
    effboost.presets.frozen : The same for any network and any size of image.

    Notes
    -----
    `get_params` lists the parameters of the defaults, too, so that a search can name
    ``classifier__max_depth`` or ``featurizer__image_size`` without building anything first;
    setting one of them replaces the None by the default.

    Examples
    --------
    >>> from effboost import HybridClassifier, ImageFeaturizer
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> clf = HybridClassifier(
    ...     ImageFeaturizer("resnet18", weights=None, crop_size=None, image_size=32),
    ...     random_state=0,
    ... ).fit(cells.images, cells.target)
    >>> clf.predict_proba(cells.images).shape
    (20, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "featurizer": [ImageFeaturizer, None],
        "classifier": [BaseEstimator, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        featurizer: ImageFeaturizer | None = None,
        classifier: Any = None,
        *,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.featurizer = featurizer
        self.classifier = classifier
        self.random_state = random_state
        self.verbose = verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Also list those of the featurizer and the classifier, of their defaults too, by
            names such as ``classifier__max_depth``.

        Returns
        -------
        dict
            Parameter names mapped to their values.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        if deep:
            for name in ("featurizer", "classifier"):
                if getattr(self, name) is None:
                    nested = _default(name).get_params()
                    params |= {f"{name}__{key}": value for key, value in nested.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params : dict
            Parameter names, such as ``random_state`` or ``classifier__max_depth``, mapped to
            their values. A nested name first replaces a None by the default.

        Returns
        -------
        self : object
            The estimator.
        """
        for name in ("featurizer", "classifier"):
            nested = any(key.startswith(f"{name}__") for key in params)
            if nested and params.get(name, getattr(self, name)) is None:
                params = {**params, name: _default(name)}
        super().set_params(**params)
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        groups: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit the featurizer, then the classifier on its features.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        y : array-like of shape (n_samples,)
            The labels: strings or integers, of two classes or more.
        groups : array-like of shape (n_samples,), default=None
            The subject of each image. Checked here; a frozen network and a head without early
            stopping split nothing inside.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image in the classifier's loss.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If `y` holds one class only, or lengths differ.
        UnsupportedInputError, ImageDecodeError
            If `X` is of an unknown form, or an image cannot be read.
        """
        featurizer, classifier = self._children()
        images = featurizer._check_images(X, reset=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        _check_lengths(images, y=y, groups=groups, sample_weight=sample_weight)
        encoder = LabelEncoder().fit(y)
        if len(encoder.classes_) < 2:
            raise UnsupportedInputError(
                f"y holds one class only, {encoder.classes_.tolist()[0]!r}; a classifier needs at "
                "least two"
            )
        features = featurizer.fit(X, y).transform(X)
        weights = {} if sample_weight is None else {"sample_weight": np.asarray(sample_weight)}
        classifier.fit(features, encoder.transform(y), **weights)
        self.classes_ = encoder.classes_
        self.featurizer_, self.classifier_ = featurizer, classifier
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict the class of images.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples,)
            A label of `classes_` for each image.
        """
        features = self._features(X)
        labels: npt.NDArray[Any] = self.classes_[self.classifier_.predict(features)]
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
        features = self._features(X)
        probabilities: npt.NDArray[Any] = self.classifier_.predict_proba(features)
        return probabilities

    @available_if(_head_has("decision_function"))
    def decision_function(self, X: Any) -> npt.NDArray[Any]:
        """Give the scores of a head that has them, such as a support vector machine.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            The head's scores.
        """
        features = self._features(X)
        scores: npt.NDArray[Any] = self.classifier_.decision_function(features)
        return scores

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Compute the features on which the classifier decides.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            The features.
        """
        return self._features(X)

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
        """Number of columns seen in `fit`, where `X` holds one image per row."""
        check_is_fitted(self)
        return int(self.featurizer_.n_features_in_)

    def _features(self, X: Any) -> Any:
        # Not self.transform: its output may be set to a data frame, which the head never saw.
        check_is_fitted(self)
        return self.featurizer_.transform(X)

    def _children(self) -> tuple[ImageFeaturizer, Any]:
        """Give clones of the featurizer and the classifier, or the defaults, ready to fit."""
        featurizer, classifier = (
            _default(name) if getattr(self, name) is None else clone(getattr(self, name))
            for name in ("featurizer", "classifier")
        )
        if self.random_state is not None:
            rng = check_random_state(self.random_state)
            for child in (featurizer, classifier):
                seed = int(rng.randint(2**31 - 1))
                if child.get_params().get("random_state", 0) is None:
                    child.set_params(random_state=seed)
        if self.verbose and not featurizer.verbose:
            featurizer.set_params(verbose=self.verbose)
        return featurizer, classifier

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        featurizer = _default("featurizer") if self.featurizer is None else self.featurizer
        tags.input_tags = featurizer.__sklearn_tags__().input_tags
        return tags


def _default(name: str) -> Any:
    return EfficientNetFeaturizer() if name == "featurizer" else paper_booster()


def _check_lengths(images: ImageSequence, **others: Any) -> None:
    for name, values in others.items():
        if values is not None and len(values) != len(images):
            raise UnsupportedInputError(
                f"X has {len(images)} images, but {name} has {len(values)} values: give one for "
                "each image"
            )
