"""The fine-tuned network's own softmax as a classifier."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from effboost._efficientnet_featurizer import EfficientNetFeaturizer
from effboost._extraction.prepared_images import PreparedImages
from effboost._featurizer import ImageFeaturizer
from effboost._utils.compat import DocumentedMixin, fit_context
from effboost._utils.decision import MostProbableMixin
from effboost._utils.default_estimators import NestedDefaults, seed_children
from effboost._utils.fit_callbacks import callback_data
from effboost.exceptions import UnsupportedInputError

__all__ = ["CNNClassifier"]


class CNNClassifier(
    CallbackSupportMixin,
    DocumentedMixin,
    MostProbableMixin,
    ClassifierMixin,
    NestedDefaults,
    BaseEstimator,
):
    """Classify images by the linear layer and the softmax of a fine-tuned network.

    The paper compares the hybrid with this classifier. The attribute ``cnn_`` of a fitted
    `HybridClassifier` is one that shares its network, so that both use the same features.

    Parameters
    ----------
    featurizer : ImageFeaturizer or None, default=None
        The network and how to train it; its `training` must not be None. None means
        `EfficientNetFeaturizer()`.
    random_state : int, RandomState instance or None, default=None
        Passed to the featurizer if its own is None.
    verbose : int, default=0
        1 shows progress bars on stderr. Passed to the featurizer if its own is 0.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    featurizer_ : ImageFeaturizer
        The fine-tuned network; its ``head_`` is the linear layer.
    history_ : list of dict
        Loss and accuracy of each epoch.
    n_features_in_ : int
        Number of columns seen in `fit`; exists only if `X` has one image per row.
    feature_names_in_ : ndarray of shape (n_columns,), object
        Names of these columns; exists only if `X` is a table with names.

    See Also
    --------
    HybridClassifier : The same network with boosted trees on its features.

    Examples
    --------
    >>> from effboost import CNNClassifier, FineTuning, ImageFeaturizer, ImageTransform
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=5, image_size=64, random_state=0)
    >>> cnn = CNNClassifier(
    ...     ImageFeaturizer(
    ...         "resnet18",
    ...         weights=None,
    ...         training=FineTuning(max_epochs=1),
    ...         transform=ImageTransform(crop_size=None, image_size=32),
    ...     ),
    ...     random_state=0,
    ... ).fit(cells.images, cells.target)
    >>> cnn.predict_proba(cells.images).shape
    (20, 2)
    """

    _defaults: ClassVar[dict[str, dict[Hashable, Callable[[], Any]]]] = {
        "featurizer": {None: EfficientNetFeaturizer}
    }
    # With metadata routing on, subjects come along without being requested: a fit that does not
    # know them would split them.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "featurizer": [ImageFeaturizer, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        featurizer: ImageFeaturizer | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.featurizer = featurizer
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
        """Fine-tune the network.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.
        y : array-like of shape (n_samples,)
            The labels: strings or integers, of two classes or more.
        groups, sample_weight : array-like of shape (n_samples,), default=None
            Subject and weight of each image; see `ImageFeaturizer.fit`.
        X_val, y_val, groups_val : images, labels and subjects, default=None
            What each epoch is validated on; see `ImageFeaturizer.fit`.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        UnsupportedInputError
            If the featurizer has ``training=None``; also the errors of `ImageFeaturizer.fit`.
        """
        featurizer: ImageFeaturizer = self._child("featurizer")
        if featurizer.training is None:
            raise UnsupportedInputError(
                "featurizer has training=None, so its network has no layer for these classes; set "
                "training=FineTuning(), or use HybridClassifier for a frozen network"
            )
        if self.random_state is not None:
            seed_children([featurizer], check_random_state(self.random_state))
        if self.verbose and not featurizer.verbose:
            featurizer.set_params(verbose=self.verbose)
        # Not featurizer.fit: the epochs are this estimator's own, which can score.
        featurizer._fit(
            X,
            y,
            (groups, sample_weight),
            (X_val, y_val, groups_val),
            callback_data(X, y, sample_weight),
            self,
            _fitted_attributes,
        )
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float32
            Probabilities between 0 and 1, in the order of `classes_`.
        """
        check_is_fitted(self)
        probabilities: npt.NDArray[np.float32] = softmax(self._scores(X), axis=1)
        return probabilities

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

    def _set_fitted_state(self, featurizer: ImageFeaturizer) -> None:
        """Set the fitted attributes from a fine-tuned featurizer."""
        self.__dict__.update(_fitted_attributes(featurizer))

    def _scores(self, X: Any) -> npt.NDArray[np.float32]:
        """Compute the logits of images."""
        featurizer = self.featurizer_
        images = PreparedImages(featurizer._check_images(X, reset=False), featurizer.transform_)
        features = featurizer._compute_features(images)
        head, k = self.featurizer_.head_, len(self.classes_)
        if head is None:
            return features[:, :k]
        weight, bias = (p.detach().numpy() for p in (head.weight, head.bias))
        # Row by row: a product of matrices sums in an order that depends on their number.
        scores: npt.NDArray[np.float32] = np.stack(
            [weight @ row[: weight.shape[1]] for row in features]
        )
        scores += bias
        return scores

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = self._child("featurizer").__sklearn_tags__().input_tags
        return tags


def _fitted_attributes(featurizer: ImageFeaturizer) -> dict[str, Any]:
    """Return the fitted attributes of the classifier with a fine-tuned network."""
    return {
        "featurizer_": featurizer,
        "classes_": featurizer.classes_,
        "history_": featurizer.history_,
    }
