"""What the estimators share: their client, and the way from and to their local counterparts."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from distributed import Client

from effboost._validation import LabelledImages
from effboost.dask._model import resolve_client
from effboost.exceptions import UnsupportedInputError

__all__ = ["OfCluster", "draw_sample"]


class OfCluster:
    """An estimator on a cluster: a local one, with a client and a sample size."""

    sample_size: int
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """The Dask client; without one that was set, the current client of Dask."""
        return resolve_client(self._client)

    @client.setter
    def client(self, client: Client | None) -> None:
        self._client = client

    @classmethod
    def from_local(cls, model: Any, *, client: Client | None = None) -> Self:
        """Return the counterpart of a local estimator, fitted or not, for a cluster.

        Parameters
        ----------
        model : estimator
            With the parameters of this class; it is not changed.
        client : Client, default=None
            The Dask client. None means the current one, when it is needed.

        Returns
        -------
        object
            With the same parameters and fitted attributes.
        """
        known = cls._get_param_names()  # type: ignore[attr-defined]
        params = model.get_params(deep=False)
        twin = cls(**{name: value for name, value in params.items() if name in known})
        _copy_fitted(model, twin)
        twin.client = client
        return twin

    def _to(self, kind: Any) -> Any:
        """Return the local counterpart, of another class."""
        params = self.get_params(deep=False)  # type: ignore[attr-defined]
        twin = kind(**{name: value for name, value in params.items() if name != "sample_size"})
        _copy_fitted(self, twin)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {name: value for name, value in state.items() if name != "_client"}


def _copy_fitted(source: Any, target: Any) -> None:
    left_out = {*source.get_params(deep=False), *target.get_params(deep=False), "_client"}
    vars(target).update({k: value for k, value in vars(source).items() if k not in left_out})


def draw_sample(rows: LabelledImages, size: int, rng: np.random.RandomState, what: str) -> Any:
    """Return at most `size` rows, drawn at random and by subject, with a warning if there are more.

    One subject of each class is drawn, then any, until the next one would exceed the size; the
    first is cut down to it.

    Raises
    ------
    UnsupportedInputError
        If a class would be left out.
    """
    n = len(rows.images)
    if n <= size:
        return rows
    subjects, first = np.unique(rows.subjects, return_inverse=True)
    rank = rng.permutation(len(subjects))[first]
    classes, target = np.unique(rows.labels, return_inverse=True)
    of_class = np.full(len(classes), len(subjects))
    np.minimum.at(of_class, target, rank)
    rank[np.isin(rank, of_class)] -= len(subjects)
    order = np.argsort(rank, kind="stable")
    ends = np.cumsum(np.unique(rank, return_counts=True)[1])
    n_whole = int(np.searchsorted(ends, size, side="right"))
    n_drawn = int(ends[n_whole - 1]) if n_whole else size
    drawn = np.sort(order[:n_drawn])
    missing = np.setdiff1d(classes, rows.labels[drawn])
    if missing.size:
        raise UnsupportedInputError(
            f"sample_size={size} leaves out the class {missing.tolist()[0]!r}: it must be large "
            "enough for a whole subject of each class"
        )
    warnings.warn(
        f"{what} a sample of {n_drawn:,} of {n:,} images, drawn "
        f"{'at random' if rows.groups is None else 'by subject'}: sample_size={size}",
        stacklevel=4,
    )
    return rows.take(drawn)
