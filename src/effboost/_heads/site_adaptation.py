"""A head that adapts to the site of the images that it predicts, without their labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from numbers import Integral
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from effboost._heads.linear_boosted import LinearBoostedClassifier
from effboost._heads.metadata import check_takes_weights, fit_with_metadata
from effboost._utils.compat import DocumentedMixin, Interval, StrOptions, fit_context
from effboost._utils.decision import most_probable
from effboost._utils.default_estimators import NestedDefaults, seed_children
from effboost.exceptions import UnsupportedInputError

__all__ = ["SiteAdaptedClassifier"]

_Floats = npt.NDArray[np.float64]
_SMALLEST: Final = 1e-6
_N_ROUNDS: Final = 200
_TOLERANCE: Final = 1e-6


class SiteAdaptedClassifier(DocumentedMixin, ClassifierMixin, NestedDefaults, BaseEstimator):
    """Head that adapts features and probabilities to the site of the images that it predicts.

    Another microscope or stain shifts all features of a site. The mean and the standard deviation
    of each feature over the images that are predicted together are brought to those of the training
    images, and probabilities can be corrected for other frequencies of the classes. No labels of
    the new site are needed, but many of its images at once, of all classes.

    Predictions of an image therefore depend on the other images of the call: give all images of one
    site, and of one site only.

    Parameters
    ----------
    estimator : classifier or None, default=None
        The head, fitted on the features as they are. None means `LinearBoostedClassifier`.
    adapt : {"standardize"} or None, default="standardize"
        How features are adapted. "standardize": means and deviations of the features become those
        of the training images; None: not at all.
    prior : {"saerens"} or None, default=None
        "saerens": estimate the frequencies of the classes among the predicted images, and correct
        the probabilities for them [1]_; None: not at all. Without `adapt`, wrong probabilities of
        an unknown site make it worse. The head's probabilities have to be those for the weighted
        frequencies of the training images: classes are weighted by `class_weight` of
        `HybridClassifier`, not by the head.
    min_samples : int, default=20
        With fewer images in a call, nothing is adapted, with a warning.
    random_state : int, RandomState instance or None, default=None
        Passed to the head if its own is None.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    estimator_ : classifier
        The fitted head.
    mean_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of the features of the training images.
    prior_ : ndarray of shape (n_classes,)
        Frequencies of the classes in training.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    effboost.evaluate : With ``sites=``, measures whether this helps.

    Notes
    -----
    If the classes have other frequencies at the new site, adapted means are wrong by the difference
    between the classes: a site with lymphoblasts only is not recognised as such. What it gives
    depends on the sites: measure it by ``evaluate(sites=)``. Images of another magnification have
    to be brought to the same one first.

    References
    ----------
    .. [1] M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to new
       a priori probabilities", Neural Computation 14, 2002.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from effboost import SiteAdaptedClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = SiteAdaptedClassifier(LogisticRegression(max_iter=1000)).fit(X, y)
    >>> clf.score(2 * X + 5, y) > 0.9  # another laboratory
    True
    >>> clf.estimator_.score(2 * X + 5, y) < 0.5
    True
    """

    _defaults: ClassVar[dict[str, dict[Hashable, Callable[[], Any]]]] = {
        "estimator": {None: LinearBoostedClassifier},
    }
    # With metadata routing on, groups are passed without a request.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [BaseEstimator, None],
        "adapt": [StrOptions({"standardize"}), None],
        "prior": [StrOptions({"saerens"}), None],
        "min_samples": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        adapt: str | None = "standardize",
        prior: str | None = None,
        min_samples: int = 20,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.adapt = adapt
        self.prior = prior
        self.min_samples = min_samples
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Any = None, groups: Any = None
    ) -> Self:
        """Fit the head, and note the statistics of the training images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The features.
        y : array-like of shape (n_samples,)
            The labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.
        groups : array-like of shape (n_samples,), default=None
            The subject of each row, passed to the head if it takes them.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        UnsupportedInputError
            If the head has no ``predict_proba``, takes no weights where they differ, or weights the
            classes by itself although `prior` is given.
        """
        rows, labels = validate_data(self, X, y, dtype=(np.float32, np.float64))
        check_classification_targets(labels)
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64)
        self.classes_, target = np.unique(labels, return_inverse=True)
        head = self._child("estimator")
        seed_children([head], check_random_state(self.random_state))
        if not hasattr(head, "predict_proba"):
            raise UnsupportedInputError(
                f"{type(head).__name__} has no predict_proba, which SiteAdaptedClassifier needs: "
                "wrap it in CalibratedClassifierCV, or choose another head"
            )
        if not (weight == 1).all():
            check_takes_weights(head)
        if self.prior is not None:
            _check_keeps_frequencies(head)
        self.estimator_ = fit_with_metadata(head, rows, target, sample_weight, groups)
        share = weight / weight.sum()
        self.mean_: _Floats = share @ rows
        self.scale_: _Floats = np.sqrt(share @ (rows - self.mean_) ** 2)
        self.prior_: _Floats = np.asarray(np.bincount(target, weights=share), dtype=np.float64)
        return self

    @property
    def _adapts_to_call(self) -> bool:
        """Whether the prediction of an image depends on the others of the call."""
        return self.adapt is not None or self.prior is not None

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Predict the probability of each class, for images of one site.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The features of the images of one site.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities between 0 and 1, in the order of `classes_`.

        Warns
        -----
        UserWarning
            If there are fewer than `min_samples` rows, which are not adapted.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=(np.float32, np.float64))
        few = len(rows) < self.min_samples
        if few and (self.adapt is not None or self.prior is not None):
            warnings.warn(
                f"{len(rows)} images are too few to adapt to their site: give {self.min_samples} "
                "or more in one call, or set min_samples",
                stacklevel=2,
            )
        if not few and self.adapt is not None:
            rows = self._align(rows)
        found = np.asarray(self.estimator_.predict_proba(rows), dtype=np.float64)
        if not few and self.prior is not None:
            found = correct_prior(found, self.prior_)
        return found

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Predict the class of images of one site.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The features of the images of one site.

        Returns
        -------
        ndarray of shape (n_samples,)
            A label of `classes_` for each row.
        """
        probabilities = self.predict_proba(X)
        return most_probable(self.classes_, probabilities)

    def _align(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring means and deviations of features to those of the training images."""
        scale = np.maximum(self.scale_, _SMALLEST)
        z = (rows - self.mean_) / scale
        # A feature that is constant at the new site says nothing there.
        z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), _SMALLEST)
        aligned: npt.NDArray[Any] = (z * scale + self.mean_).astype(rows.dtype)
        return aligned


def _check_keeps_frequencies(head: Any) -> None:
    """Check that a head does not weight the classes by itself, in any part."""
    neutral: dict[str, tuple[Any, ...]] = {"class_weight": (None,), "scale_pos_weight": (None, 1)}
    for name, value in head.get_params().items():
        own = name.rpartition("__")[2]
        if own in neutral and not any(value is one or value == one for one in neutral[own]):
            raise UnsupportedInputError(
                f"the head has {name}={value!r}, so its probabilities are not those for the "
                'frequencies of the training images, which prior="saerens" corrects: weight the '
                "classes by class_weight of HybridClassifier, or by sample_weight"
            )


def correct_prior(probabilities: _Floats, prior: _Floats) -> _Floats:
    """Estimate the frequencies of the classes by expectation maximisation, and correct for them."""
    new, corrected = prior, probabilities
    for _ in range(_N_ROUNDS):
        # Classes whose training images had no weight stay impossible.
        weighted = probabilities * np.divide(new, prior, out=np.zeros_like(prior), where=prior > 0)
        corrected = weighted / np.maximum(weighted.sum(axis=1, keepdims=True), _SMALLEST**2)
        last, new = new, corrected.mean(axis=0)
        if np.abs(new - last).max() < _TOLERANCE:
            break
    return corrected
