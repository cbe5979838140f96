"""The accuracy of a classifier on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import Client
from sklearn.metrics import accuracy_score

from effboost.dask._table import LabelledPaths

__all__ = ["LazyScoreMixin"]


class LazyScoreMixin:
    """A classifier with a client, whose predictions are lazy."""

    client: Client
    predict: Callable[..., Any]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy, which is computed at once.

        Parameters
        ----------
        X : paths, n_samples of them
            See `predict`.
        y, sample_weight : str, Dask series or array, or array-like of shape (n_samples,)
            The labels and the weight of each image, or the names of their columns in `X`.

        Returns
        -------
        float
            The share of images, by weight, whose class is predicted.
        """
        with self.client.as_current():
            table = LabelledPaths.read(X, y, sample_weight=sample_weight)
            rows, predicted = table.rows, self.predict(table.paths).compute()
        found = predicted[rows.images]
        return float(accuracy_score(rows.labels, found, sample_weight=rows.weight))
