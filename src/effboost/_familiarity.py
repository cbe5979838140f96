"""Which images are unlike those that a classifier was trained on."""

from __future__ import annotations

import dataclasses
from itertools import compress
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from effboost._images.measures import MEASURES

__all__ = ["ALPHA", "REASONS", "FamiliarityTable", "TrainingRange", "check_alpha"]

_Floats = npt.NDArray[np.float64]

# The share of familiar images that are flagged, at most, by their features.
ALPHA: Final = 0.02
# In the order in which they are named.
REASONS: Final = ("features", "size", "exposure", "blur")
# How far outside the range of the training images an image may be: in doublings for sides and
# sharpness, in grey levels for brightness; and as a share of the range.
_SLACK: Final = np.array([0.5, 0.5, 20.0, 20.0, 0.1])
_SHARE: Final = np.array([0.0, 0.0, 0.25, 0.25, 0.1])


@dataclasses.dataclass(frozen=True, eq=False)
class FamiliarityTable:
    """Whether images are like those that a classifier was trained on.

    Attributes
    ----------
    p_values : ndarray of shape (n_samples,), float64
        The share of training images whose features or colours are as far from those of the
        others, as a conformal p-value: of images like the training images, a share of at most p
        has a p-value of p or less.
    familiar : ndarray of shape (n_samples,), bool
        Whether there is no reason to flag the image.
    reasons : ndarray of shape (n_samples,), object
        A tuple of strings for each image, empty if it is familiar: "features" for a p-value of at
        most `alpha`, and "size", "exposure" and "blur" for an image outside the range of the
        training images.

    See Also
    --------
    HybridClassifier.check_familiarity : Returns such a table.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import FamiliarityTable
    >>> reasons = np.empty(2, dtype=object)
    >>> reasons[:] = [(), ("blur",)]
    >>> table = FamiliarityTable(np.array([0.6, 0.3]), np.array([True, False]), reasons)
    >>> table
    <FamiliarityTable of 2, 1 unfamiliar>
    >>> np.flatnonzero(~table.familiar).tolist(), table.reasons[1]
    ([1], ('blur',))
    """

    p_values: _Floats
    familiar: npt.NDArray[np.bool_]
    reasons: npt.NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.familiar)

    def __repr__(self) -> str:
        return f"<FamiliarityTable of {len(self)}, {int((~self.familiar).sum())} unfamiliar>"


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingRange:
    """What is usual among the training images.

    Attributes
    ----------
    n_scores : int
        The number of training images that p-values come from.
    ranges : ndarray of shape (2, 5), float64
        The lower and the upper end of what is usual of each number that `measure` returns.
    """

    n_scores: int
    ranges: _Floats

    @classmethod
    def learn(cls, n_scores: int, measures: _Floats) -> TrainingRange:
        """Learn the range of the training images, and add some slack.

        Parameters
        ----------
        n_scores : int
            See the attribute.
        measures : ndarray of shape (n_samples, 5)
            What `measure` returns for the training images.
        """
        low, high = measures.min(axis=0), measures.max(axis=0)
        slack = _SLACK + _SHARE * (high - low)
        return cls(n_scores, np.stack([low - slack, high + slack]))

    @classmethod
    def from_plain(cls, values: Any) -> TrainingRange:
        """Read what `to_plain` returned.

        Raises
        ------
        ValueError
            If it is something else.
        """
        n_scores, ranges = values["images"], np.array(values["ranges"], dtype=np.float64)
        if type(n_scores) is not int or n_scores < 1:
            raise ValueError(f"images={n_scores!r:.60}")
        if ranges.shape != (2, len(MEASURES)) or not np.isfinite(ranges).all():
            raise ValueError(f"ranges={values['ranges']!r:.60}")
        return cls(n_scores, ranges)

    def to_plain(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        return {"images": self.n_scores, "ranges": self.ranges.tolist()}

    def limits(self) -> _Floats:
        """Return the ends of the range (2, 5); the last one is infinite.

        An image that is sharper than the training images is not unusual.
        """
        limits = self.ranges.copy()
        limits[1, -1] = np.inf
        return limits

    def smallest_usual(self, alpha: float) -> float:
        """Return the p-value up to which features are a reason to flag an image.

        At least, it is the smallest p-value that there is, which is that of images that are farther
        away than all training images.
        """
        return max(alpha, (2 + 1e-4) / (self.n_scores + 1))

    def find_outside(self, measures: _Floats) -> npt.NDArray[np.bool_]:
        """Return whether size, exposure and sharpness (n_samples, 3) are outside the range.

        Parameters
        ----------
        measures : ndarray of shape (n_samples, 5)
            What `measure` returns for the images.
        """
        low, high = self.limits()
        outside = (measures < low) | (measures > high)
        columns = [[name == own for own in MEASURES] for name in REASONS[1:]]
        return np.stack([outside[:, column].any(axis=1) for column in columns], axis=1)

    def judge(
        self, p_values: _Floats, outside: npt.NDArray[np.bool_], alpha: float
    ) -> FamiliarityTable:
        """Decide which images are familiar.

        Parameters
        ----------
        p_values : ndarray of shape (n_samples,)
            The p-values of their features.
        outside : ndarray of shape (n_samples, 3)
            What `find_outside` returns for them.
        alpha : float
            See `smallest_usual`.
        """
        found = np.column_stack([p_values <= self.smallest_usual(alpha), outside])
        reasons = np.empty(len(found), dtype=object)
        for i, row in enumerate(found.tolist()):
            reasons[i] = tuple(compress(REASONS, row))
        familiar: npt.NDArray[np.bool_] = ~np.asarray(found.any(axis=1))
        return FamiliarityTable(np.asarray(p_values, dtype=np.float64), familiar, reasons)


def check_alpha(alpha: Any) -> float:
    """Check a share of familiar images to flag.

    Raises
    ------
    ValueError
        If it is not a number from 0 to 1.
    """
    try:
        share = float(alpha)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"alpha={alpha!r} must be a number from 0 to 1")
    return share
