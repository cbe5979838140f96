"""Folds by subject, as a scikit-learn splitter."""

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
    """Cross-validation folds by subject, wherever scikit-learn takes a ``cv``.

    The folds are those of `subject_folds`. Where no groups are handed on, the subjects are those
    that an `ImageSequence` carries: so they are kept whole inside estimators that take no
    groups, such as `StackingClassifier`, and in searches within searches.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, 2 or more.
    random_state : int, RandomState instance or None, default=0
        Draws the order of the subjects. An integer gives each call the same folds.

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

    # Where metadata routing is on, groups are asked for without further notice, as scikit-learn's
    # own group splitters do.
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
        """Return the positions of each fold's images.

        Parameters
        ----------
        X : images, n_samples of them
            Only their number counts, and the groups that an `ImageSequence` carries.
        y : array-like of shape (n_samples,)
            The class of each image.
        groups : array-like of shape (n_samples,), default=None
            The subject of each image. None takes those that `X` carries.

        Yields
        ------
        train, test : ndarray of int
            Positions of the images.

        Raises
        ------
        SplitError
            If no subjects are known, or there are too few of them.
        """
        if y is None:
            raise SplitError("folds by subject also need y: every training part holds every class")
        if groups is None:
            groups = getattr(X, "groups", None)
        if groups is None:
            raise SplitError(
                "no subjects are known: give groups, or an ImageSequence that carries them; folds "
                "that tear subjects apart are scikit-learn's StratifiedKFold"
            )
        X, y, groups = indexable(X, y, groups)
        yield from subject_folds(y, groups, self.n_splits, random_state=self.random_state)
