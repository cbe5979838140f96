"""The fit of a hybrid whose head is trained on the cluster."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from distributed import Client
from sklearn.utils import check_random_state

from effboost._extraction.prepared_images import PreparedImages
from effboost._featurizer import ImageFeaturizer
from effboost._heads.fit import check_head
from effboost._images import ImageSequence
from effboost._utils.device import draw_seed
from effboost._utils.threads import limit_threads
from effboost._validation import LabelledImages
from effboost.dask._columns import PARTITION_SIZE
from effboost.dask._head import fit_on_cluster
from effboost.dask._lazy import lazy_features
from effboost.dask._local import draw_sample
from effboost.dask._model import find_model, send_model
from effboost.dask._table import LabelledPaths
from effboost.model_selection._leakage import check_group_leakage

__all__ = ["ClusterFit", "extract"]


class ClusterFit:
    """One fit: the steps of `HybridClassifier.fit`, in the same order, with the same seeds.

    Parameters
    ----------
    clf : DaskHybridClassifier
        Its fitted attributes are set.
    client : Client
        Of the cluster.
    table, watched : LabelledPaths
        The images, and those to validate on, or None.
    """

    def __init__(
        self, clf: Any, client: Client, table: LabelledPaths, watched: LabelledPaths | None
    ):
        self.clf, self.client, self.table, self.watched = clf, client, table, watched
        self.rng = check_random_state(clf.random_state)

    def run(self) -> None:
        """Fit the network, then the head."""
        clf, rows = self.clf, self.table.rows
        featurizer, classifier = clf._children(self.rng)
        clf._check_combination(featurizer, classifier)
        classes = rows.classes()
        check_head(
            classifier,
            weighted=clf.class_weight is not None or not (rows.weight == 1).all(),
            groups=rows.groups,
            n_classes=len(classes),
            n_rows=len(rows.images),
        )
        validation = None
        if self.watched is not None:
            validation = self.watched.rows
            validation.encode(classes)
            check_group_leakage(rows.groups, validation.groups)
        elif clf._needs_validation(featurizer, classifier, len(rows.images)):
            fraction = clf._choose_validation_fraction(featurizer)
            rows, validation = rows.train_validation_split(fraction, draw_seed(self.rng))
        tuning = deciding = rows
        if clf.head_protocol == "holdout":
            tuning, deciding = rows.train_validation_split(
                clf.holdout_fraction, draw_seed(self.rng)
            )
        self._fit_network(featurizer, tuning, validation)
        self._fit_head(featurizer, classifier, classes, deciding, validation)

    def _fit_network(
        self, featurizer: ImageFeaturizer, rows: LabelledImages, validation: LabelledImages | None
    ) -> None:
        if featurizer.training is None:
            featurizer.fit(ImageSequence(["path"]))  # no image is read
            return
        size = self.clf.sample_size
        sample = draw_sample(rows, size, self.rng, "the network is fine-tuned on")
        watched = None
        if validation is not None:
            watched = draw_sample(validation, size, self.rng, "the network is validated on")
            watched = (self.watched or self.table).gather(watched)
        featurizer._fit_labelled(
            _prepare(featurizer, self.table.gather(sample)),
            None if watched is None else _prepare(featurizer, watched),
        )

    def _fit_head(
        self,
        featurizer: ImageFeaturizer,
        classifier: Any,
        classes: npt.NDArray[Any],
        rows: LabelledImages,
        validation: LabelledImages | None,
    ) -> None:
        clf, client = self.clf, self.client
        name, width = send_model(client, featurizer), featurizer._n_features_out
        weight = rows.weights_with_classes(clf.class_weight)
        weighted = not (weight == 1).all()
        target = rows.encode(classes)
        data = _select(self.table, name, width, rows, target, *((weight,) if weighted else ()))
        if validation is not None:
            table = self.watched or self.table
            data += _select(table, name, width, validation, validation.encode(classes))
        # Features of both parts are computed at once. They stay on the cluster until the head is
        # fitted, also if its training has to be repeated.
        data = list(client.persist(data))
        clf.feature_means_ = (data[0].sum(axis=0, dtype=np.float64) / len(rows.images)).compute()
        head, history = fit_on_cluster(
            client,
            classifier,
            (data[0], data[1]),
            None if validation is None else (data[-2], data[-1]),
            data[2] if weighted else None,
            len(classes),
        )
        for fitted in ("cnn_", "evals_result_"):
            vars(clf).pop(fitted, None)  # of a former fit
        clf._set_fitted_state(featurizer, head, classes)
        clf.evals_result_ = history


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
