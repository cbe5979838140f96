"""The fit of a hybrid whose head is trained on the cluster."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from distributed import Client

from effboost._extraction.prepared_images import PreparedImages
from effboost._featurizer import ImageFeaturizer
from effboost._images import ImageSequence
from effboost._utils.threads import limit_threads
from effboost._validation import LabelledImages
from effboost.dask._columns import PARTITION_SIZE
from effboost.dask._head import fit_on_cluster
from effboost.dask._lazy import lazy_features
from effboost.dask._local import draw_sample
from effboost.dask._model import find_model, send_model
from effboost.dask._table import LabelledPaths

__all__ = ["ClusterFit", "extract"]


class ClusterFit:
    """The steps of one fit, on labelled images in partitions.

    Parameters
    ----------
    client : Client
        Of the cluster.
    table, watched : LabelledPaths
        The images, and those to validate on, or None.
    sample_size : int
        Largest number of images that the network is fine-tuned or validated on.
    rng : RandomState
        For the sample.
    """

    def __init__(
        self,
        client: Client,
        table: LabelledPaths,
        watched: LabelledPaths | None,
        sample_size: int,
        rng: np.random.RandomState,
    ):
        self.client, self.table, self.watched = client, table, watched
        self.sample_size, self.rng = sample_size, rng

    def fit_network(
        self, featurizer: ImageFeaturizer, rows: LabelledImages, validation: LabelledImages | None
    ) -> None:
        """Fit a featurizer in place, in this process."""
        if featurizer.training is None:
            featurizer.fit(ImageSequence(["path"]))  # no image is read
            return
        size = self.sample_size
        sample = draw_sample(rows, size, self.rng, "the network is fine-tuned on")
        watched = None
        if validation is not None:
            watched = draw_sample(validation, size, self.rng, "the network is validated on")
            watched = (self.watched or self.table).gather(watched)
        featurizer._fit_labelled(
            _prepare(featurizer, self.table.gather(sample)),
            None if watched is None else _prepare(featurizer, watched),
        )

    def fit_head(
        self,
        featurizer: ImageFeaturizer,
        classifier: Any,
        rows: LabelledImages,
        validation: LabelledImages | None,
        *,
        classes: npt.NDArray[Any],
        weight: npt.NDArray[np.float64],
    ) -> tuple[Any, dict[str, dict[str, list[float]]], npt.NDArray[np.float64]]:
        """Fit a classifier of XGBoost on the workers; return it, its history and feature means."""
        client = self.client
        name, width = send_model(client, featurizer), featurizer._n_features_out
        weighted = not (weight == 1).all()
        target = rows.encode(classes)
        data = _select(self.table, name, width, rows, target, *((weight,) if weighted else ()))
        if validation is not None:
            table = self.watched or self.table
            data += _select(table, name, width, validation, validation.encode(classes))
        # Features of both parts are computed at once. They stay on the cluster until the head is
        # fitted, also if its training has to be repeated.
        data = list(client.persist(data))
        means = (data[0].sum(axis=0, dtype=np.float64) / len(rows.images)).compute()
        head, history = fit_on_cluster(
            client,
            classifier,
            (data[0], data[1]),
            None if validation is None else (data[-2], data[-1]),
            data[2] if weighted else None,
            len(classes),
        )
        return head, history, means


def _prepare(featurizer: ImageFeaturizer, rows: LabelledImages) -> LabelledImages:
    """Return gathered rows with their images as `fit` of a featurizer reads them."""
    images = featurizer._prepare_images(ImageSequence(rows.images), reset=True)
    return dataclasses.replace(rows, images=images)


def _select(
    table: LabelledPaths,
    name: str,
    width: int,
    rows: LabelledImages,
    target: npt.NDArray[np.int64],
    *more: npt.NDArray[Any],
) -> list[da.Array]:
    """Return features, classes and further values of some rows, in the partitions of a table."""
    # One byte for each image, in the graph.
    values = (target.astype(np.min_scalar_type(int(target.max()))), *more)
    features = lazy_features(table.paths, name, width)
    n = int(table.sizes.sum())
    if len(rows.images) == n:
        return [features, *(table.split(column) for column in values)]
    used = np.zeros(n, dtype=bool)
    used[rows.images] = True
    mask = table.split(used)
    found = [features]
    for column in values:
        full = np.zeros(n, dtype=column.dtype)
        full[rows.images] = column
        found.append(table.split(full))
    unknown = (math.nan,) * len(table.sizes)
    return [
        da.map_blocks(
            _take,
            array,
            # Axes are aligned from the last one.
            mask.reshape(-1, *(1,) * (array.ndim - 1)),
            dtype=array.dtype,
            chunks=(unknown, *array.chunks[1:]),
        )
        for array in found
    ]


def _take(part: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    return part[mask.ravel()]


def extract(
    client: Client, featurizer: ImageFeaturizer, images: ImageSequence, *, average: bool
) -> npt.NDArray[np.float32]:
    """Compute the features of images on the workers, and gather them.

    Parameters
    ----------
    client : Client
        Of the cluster.
    featurizer : ImageFeaturizer
        Fitted.
    images : ImageSequence
        The images.
    average : bool
        Average over the views of an image.

    Returns
    -------
    ndarray of shape (n_samples, n_features) or (n_samples, n_views, n_features), float32
        The features.
    """
    name = send_model(client, featurizer)
    starts = range(0, len(images), PARTITION_SIZE)
    parts = [images[start : start + PARTITION_SIZE] for start in starts]
    found = client.map(_extract_part, parts, name=name, average=average, pure=False)
    return np.concatenate(client.gather(found))


def _extract_part(images: ImageSequence, name: str, average: bool) -> npt.NDArray[np.float32]:
    with limit_threads(1):
        featurizer = find_model(name)
        prepared = PreparedImages(images, featurizer.transform_)
        return featurizer._compute_features(prepared, average=average)
