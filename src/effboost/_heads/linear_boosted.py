"""A head for few images and many features: the average of a linear model and boosted trees."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from numbers import Real
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from effboost._heads.metadata import check_takes_weights, fit_with_metadata, takes_weights
from effboost._utils.columns import check_groups
from effboost._utils.compat import DocumentedMixin, Interval, fit_context, load_xgboost
from effboost._utils.decision import most_probable
from effboost._utils.default_estimators import NestedDefaults, seed_children
from effboost.exceptions import SplitError
from effboost.model_selection import subject_folds

__all__ = ["LinearBoostedClassifier", "column_sampled_booster"]

# Without subjects, C is the middle value, which suits hundreds to thousands of images.
_CS: Final = (0.001, 0.01, 0.1)
_N_FOLDS: Final = 3


def column_sampled_booster() -> Any:
    """Build boosted trees for many correlated features and few rows, unfitted."""
    return load_xgboost().XGBClassifier(
        n_estimators=60,
        learning_rate=0.2,
        max_depth=3,
        # Each tree sees a twentieth of the features, so that correlated ones are used as well.
        colsample_bytree=0.05,
        # With few rows and three classes, the hessian of a confident leaf is small.
        min_child_weight=0.1,
        max_bin=32,
        tree_method="hist",
    )


def _ridge() -> Any:
    return LogisticRegression(C=_CS[1], max_iter=1000)


class LinearBoostedClassifier(DocumentedMixin, ClassifierMixin, NestedDefaults, BaseEstimator):
    """Classifier by the weighted mean of the probabilities of a linear model and boosted trees.

    With hundreds of images and more features than images, a strongly regularised linear model on
    standardised features is usually the most accurate, and trees that each see few of the features
    are nearly as accurate. The two make different errors; on most data, their mean is as good as
    the better one.

    Parameters
    ----------
    linear : classifier or None, default=None
        Fitted on standardised features. None means ``LogisticRegression(C=0.01, max_iter=1000)``.
        If `fit` is given groups and fewer rows than features, C is 0.001, 0.01 or 0.1, whichever
        has the lowest log-loss in three folds by subject.
    trees : classifier or None, default=None
        Fitted on the features as they are. None means XGBoost with 60 rounds, a learning rate of
        0.2, depth 3, 5 % of the features for each tree, and 32 bins.
    linear_weight : float, default=0.7
        Weight of the linear model in the mean, from 0 to 1. With 0, the linear model is not fitted;
        with 1, the trees are not.
    random_state : int, RandomState instance or None, default=None
        Passed to both if theirs is None.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    scaler_ : StandardScaler
        The standardisation of the features for `linear_`.
    linear_, trees_ : classifier or None
        The fitted parts.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    effboost.presets.recommended : A hybrid with this head.

    Notes
    -----
    The linear model needs features whose differences can be represented in float32. A constant
    column is standardised to zero.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from effboost import LinearBoostedClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = LinearBoostedClassifier(random_state=0).set_params(linear__C=1.0).fit(X, y)
    >>> clf.score(X, y) > 0.95
    True
    """

    _defaults: ClassVar[dict[str, dict[Hashable, Callable[[], Any]]]] = {
        "linear": {None: _ridge},
        "trees": {None: column_sampled_booster},
    }
    # With metadata routing on, groups are passed without a request.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "linear": [BaseEstimator, None],
        "trees": [BaseEstimator, None],
        "linear_weight": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        linear: Any = None,
        trees: Any = None,
        *,
        linear_weight: float = 0.7,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.linear = linear
        self.trees = trees
        self.linear_weight = linear_weight
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: Any = None, groups: Any = None
    ) -> Self:
        """Fit both parts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The features.
        y : array-like of shape (n_samples,)
            The labels, of two classes or more.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in both losses.
        groups : array-like of shape (n_samples,), default=None
            The subject of each row, used to choose C of the default linear model. If a class has
            only one subject, C stays at its default.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If there is only one class, or only one whose rows have a weight above 0; if `X`
            contains NaN or infinity, or lengths differ.
        SplitError
            If the subject of a row is missing.
        """
        rows, labels = validate_data(self, X, y, dtype=(np.float32, np.float64))
        check_classification_targets(labels)
        self.classes_, target = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "LinearBoostedClassifier needs two classes or more; y has 1 class, "
                f"{self.classes_.tolist()[0]!r}"
            )
        weight = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
        weighted = self.classes_[np.unique(target[weight > 0])].tolist()
        if len(weighted) < 2:
            raise ValueError(
                "LinearBoostedClassifier needs two classes or more whose images have a weight "
                f"above 0; y has {weighted}"
            )
        linear, trees = self._child("linear"), self._child("trees")
        seed_children([linear, trees], check_random_state(self.random_state))
        subjects = None if groups is None else check_groups(groups)
        check_consistent_length(rows, subjects)
        self.scaler_: Any = None
        self.linear_ = self.trees_ = None
        if self.linear_weight > 0:
            self.scaler_ = StandardScaler().fit(rows, sample_weight=weight)
            scaled = np.asarray(self.scaler_.transform(rows))
            if self.linear is None and subjects is not None and len(rows) < rows.shape[1]:
                used = weight > 0
                known = (part[used] for part in (scaled, target, weight, subjects))
                linear.set_params(C=_choose_strength(linear, *known))
            self.linear_ = _fit_part(linear, scaled, target, weight)
        if self.linear_weight < 1:
            self.trees_ = _fit_part(trees, rows, target, weight)
        return self

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities between 0 and 1, in the order of `classes_`.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=(np.float32, np.float64))
        mean: npt.NDArray[np.float64] = np.zeros((len(rows), len(self.classes_)))
        if self.linear_ is not None:
            scaled = np.asarray(self.scaler_.transform(rows))
            mean += self.linear_weight * self.linear_.predict_proba(scaled)
        if self.trees_ is not None:
            mean += (1 - self.linear_weight) * self.trees_.predict_proba(rows)
        return mean

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Predict the class of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The features.

        Returns
        -------
        ndarray of shape (n_samples,)
            A label of `classes_` for each row.
        """
        probabilities = self.predict_proba(X)
        return most_probable(self.classes_, probabilities)


def _fit_part(part: Any, rows: Any, target: Any, weight: npt.NDArray[np.float64]) -> Any:
    """Fit the linear model or the trees; one that takes no weights is fitted if all are 1."""
    if not takes_weights(part) and (weight == 1).all():
        return part.fit(rows, target)
    check_takes_weights(part)
    return fit_with_metadata(part, rows, target, weight, None)


def _choose_strength(
    linear: LogisticRegression,
    rows: npt.NDArray[Any],
    target: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float64],
    subjects: npt.NDArray[Any],
) -> float:
    """Choose the C with the lowest log-loss on held-out subjects."""
    try:
        folds = subject_folds(target, subjects, n_splits=_N_FOLDS, random_state=0)
    except SplitError:
        return float(linear.C)
    axes = _principal_axes(rows)
    losses = np.zeros(len(_CS))
    # Only the ranking matters: the solver may stop early, and start from the last C.
    model = clone(linear).set_params(warm_start=True, tol=0.01)
    for train, test in folds:
        for i, C in enumerate(_CS):
            model.set_params(C=C).fit(axes[train], target[train], sample_weight=weight[train])
            found = model.predict_proba(axes[test])
            losses[i] += log_loss(
                target[test], found, labels=model.classes_, sample_weight=weight[test]
            )
    return _CS[losses.argmin()]


def _principal_axes(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Rotate rows into as many columns as rows, which does not change a penalised linear model."""
    gram = (rows @ rows.T).astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    # Identical rows still have one axis, of zeros.
    kept = values >= values[-1] * np.finfo(np.float32).eps
    axes: npt.NDArray[np.float64] = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    return axes
