"""A scikit-learn splitter by subject."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import indexable

from effboost.exceptions import SplitError
from effboost.model_selection._split import subject_folds

__all__ = ["SubjectKFold"]


class SubjectKFold(BaseCrossValidator):
    """K-fold splitter by subject, usable as ``cv`` in scikit-learn.

    The folds are those of `subject_folds`. Without `groups`, the subjects are the groups of an
    `ImageSequence`, so that they stay together inside estimators that do not pass groups on, such
    as `StackingClassifier`, and in nested searches.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, 2 or more.
    random_state : int, RandomState instance or None, default=0
        Controls the order of the subjects. With an integer, each call returns the same folds.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import ImageSequence
    >>> from effboost.model_selection import SubjectKFold
    >>> images = ImageSequence(np.zeros((6, 16, 16), np.uint8), groups=list("aabbcd"))
    >>> y = ["ALL", "ALL", "HEM", "HEM", "ALL", "HEM"]
    >>> [test.tolist() for _, test in SubjectKFold(2).split(images, y)]
    [[2, 3, 4], [0, 1, 5]]
    """

    # With metadata routing, groups are requested by default, as in scikit-learn's own group
    # splitters.
    __metadata_request__split = {"groups": True}  # noqa: RUF012

    def __init__(self, n_splits: int = 5, *, random_state: Any = 0):
        self.n_splits = n_splits
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : ignored
            Not used, present for API consistency.

        Returns
        -------
        int
            `n_splits`.
        """
        return self.n_splits

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
        """Generate the positions of the images of each fold.

        Parameters
        ----------
        X : images, n_samples of them
            Only their number and the groups of an `ImageSequence` are used.
        y : array-like of shape (n_samples,)
            The class of each image.
        groups : array-like of shape (n_samples,), default=None
            The subject of each image. None uses the groups of `X`.

        Yields
        ------
        train, test : ndarray of int
            Positions of the images.

        Raises
        ------
        SplitError
            If the subjects are not known, or there are too few of them.
        """
        if y is None:
            raise SplitError("y is required: each training part must contain each class")
        if groups is None:
            groups = getattr(X, "groups", None)
        if groups is None:
            raise SplitError(
                "the subjects are not known: pass groups or an ImageSequence with groups, or use "
                "StratifiedKFold for folds by image"
            )
        X, y, groups = indexable(X, y, groups)
        yield from subject_folds(y, groups, self.n_splits, random_state=self.random_state)
