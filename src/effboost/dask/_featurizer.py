"""The featurizer on a Dask cluster."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any, ClassVar, Self

import dask.array as da
import dask.dataframe as dd
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from effboost._featurizer import ImageFeaturizer
from effboost._images import ImageSequence
from effboost._rejects import OnError, RejectTable
from effboost._utils.compat import Interval, fit_context
from effboost._validation import has_validation
from effboost.dask._columns import as_paths
from effboost.dask._lazy import lazy_features
from effboost.dask._local import OfCluster, draw_sample
from effboost.dask._model import send_model
from effboost.dask._table import LabelledPaths
from effboost.dask._tables import check_new_folder, lazy_feature_table, write_table
from effboost.exceptions import UnsupportedInputError

__all__ = ["DaskImageFeaturizer"]


class DaskImageFeaturizer(OfCluster, ImageFeaturizer):
    """Turn images on a Dask cluster into features, lazily and partition by partition.

    The parameters are those of `ImageFeaturizer`, and one more. `X` is a Dask dataframe with a
    column of paths, a Dask series, bag or array of paths, or the path of a parquet file. Workers
    read the images, so the paths must exist there.

    Parameters
    ----------
    backbone, weights, training, transform, features, extra_features, views, image_shape, cache, \
runtime, device, callbacks, random_state, verbose : as in `ImageFeaturizer`
        The parameters of the local featurizer. A `cache` is a folder that all workers share, or one
        on each.
    sample_size : int, default=20_000
        Largest number of images that the network is fine-tuned on. This happens in the process of
        the client, which reads these images itself. Of more, so many are drawn at random, whole
        subjects where `groups` are given, with a warning.

    Attributes
    ----------
    client : Client
        The Dask client; without one that was set, the current client of Dask.

    See Also
    --------
    ImageFeaturizer : Its counterpart on one machine, which has the same fitted attributes.
    DaskHybridClassifier : Features and a head.

    Notes
    -----
    The fitted network is sent to the workers once, by a plugin of Dask that also reaches workers
    which start later, and stays there until the cluster closes. Each worker process loads it once.
    A worker computes as many partitions at a time as it has threads, with one thread each. The
    features of an image are those that `ImageFeaturizer` computes on such a machine.

    If a worker is lost, Dask computes its partitions again.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from effboost import ImageTransform
    >>> from effboost.dask import DaskImageFeaturizer
    >>> paths = da.from_array(["cells/1.png", "cells/2.png", "cells/3.png"], chunks=2)
    >>> transform = ImageTransform(crop_size=None, image_size=32)
    >>> with Client(processes=False, n_workers=1, dashboard_address="127.0.0.1:0"):
    ...     featurizer = DaskImageFeaturizer(
    ...         "resnet18", weights=None, training=None, transform=transform
    ...     ).fit(paths)
    ...     featurizer.transform(paths)  # nothing is read yet
    dask.array<effboost-transform, shape=(3, 512), dtype=float32, chunksize=(2, 512), ...>
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImageFeaturizer._parameter_constraints,
        "sample_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        backbone: Any = "efficientnet_b0",
        *,
        weights: Any = "imagenet",
        training: Any = "paper",
        transform: Any = "paper",
        features: str = "pooled",
        extra_features: Any = None,
        views: str = "original",
        image_shape: Any = None,
        cache: Any = None,
        runtime: str = "auto",
        device: Any = "auto",
        callbacks: Any = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        sample_size: int = 20_000,
    ):
        super().__init__(
            backbone,
            weights=weights,
            training=training,
            transform=transform,
            features=features,
            extra_features=extra_features,
            views=views,
            image_shape=image_shape,
            cache=cache,
            runtime=runtime,
            device=device,
            callbacks=callbacks,
            random_state=random_state,
            verbose=verbose,
        )
        self.sample_size = sample_size

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: Any = None,
    ) -> Self:
        """Build the network, load its weights, and train it unless `training` is None.

        Parameters
        ----------
        X : paths, n_samples of them
            A Dask dataframe, series, bag or array, or the path of a parquet file. Without
            fine-tuning, nothing of it is computed.
        y : str, Dask series or array, or array-like of shape (n_samples,), default=None
            The labels, or the name of their column in `X`. Needed for fine-tuning.
        groups, sample_weight : like `y`, default=None
            The subject and the weight of each image: see `ImageFeaturizer.fit`.
        X_val, y_val, groups_val : like `X`, `y` and `groups`, default=None
            Images to validate each epoch on.

        Returns
        -------
        self : object
            The fitted featurizer.

        Raises
        ------
        UnsupportedInputError
            If `y` is missing for fine-tuning; also the errors of `ImageFeaturizer.fit`.
        """
        with self.client.as_current():
            if self.training is None:
                as_paths(X)
                # The form of paths is checked where they are read; one stands for all.
                super().fit(ImageSequence(["path"]))
                return self
            if y is None:
                raise UnsupportedInputError(
                    f"{type(self).__name__} needs y for fine-tuning; training=None keeps the "
                    "network as it was loaded"
                )
            table = LabelledPaths.read(X, y, groups, sample_weight)
            rng = check_random_state(self.random_state)
            what = "the network is fine-tuned on"
            train = table.gather(draw_sample(table.rows, self.sample_size, rng, what))
            watched: dict[str, Any] = {}
            if has_validation(X_val, y_val):
                table = LabelledPaths.read(X_val, y_val, groups_val)
                rows = draw_sample(table.rows, self.sample_size, rng, "the network is validated on")
                rows = table.gather(rows)
                watched = {"X_val": ImageSequence(rows.images), "y_val": rows.labels}
                watched["groups_val"] = rows.groups
        images = ImageSequence(train.images, groups=train.groups)
        super().fit(images, train.labels, sample_weight=train.weight, **watched)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> da.Array:
        """Fit to images, and return their features, which are computed when they are needed.

        Parameters
        ----------
        X : paths, n_samples of them
            See `fit`.
        y : column or array, default=None
            The labels; see `fit`.
        **fit_params
            Further parameters of `fit`.

        Returns
        -------
        dask.array.Array of shape (n_samples, n_features_out), float32
            What `transform` returns for `X` after `fit`.
        """
        return self.fit(X, y, **fit_params).transform(X)

    def transform(self, X: Any) -> da.Array:  # type: ignore[override]
        """Return the features of images, which are computed when they are needed.

        Parameters
        ----------
        X : paths, n_samples of them
            See `fit`.

        Returns
        -------
        dask.array.Array of shape (n_samples, n_features_out), float32
            The features, in the partitions and the order of `X`.

        Raises
        ------
        ImageDecodeError
            When they are computed, if an image cannot be read.
        """
        check_is_fitted(self)
        client = self.client
        with client.as_current():
            paths = as_paths(X)
        return lazy_features(paths, send_model(client, self.to_local()), self._n_features_out)

    def transform_table(self, X: Any, *, on_error: OnError = "raise") -> dd.DataFrame:
        """Return the features as a Dask dataframe, computed when it is needed.

        Parameters
        ----------
        X : paths, n_samples of them
            See `fit`.
        on_error : {"raise", "skip"}, default="raise"
            Whether an image that cannot be read raises an error when the table is computed, or has
            a row without features.

        Returns
        -------
        dask.dataframe.DataFrame
            A row for each image, in the partitions and the order of `X`, with the columns "path",
            "partition" and "position" (in the partition, both from 0), the features by the names of
            `ImageFeaturizer.get_feature_names_out`, and "reason": why the image cannot be read, or
            missing if it can.
        """
        check_is_fitted(self)
        client = self.client
        with client.as_current():
            local = self.to_local()
            names = local.get_feature_names_out()
            return lazy_feature_table(as_paths(X), send_model(client, local), names, on_error)

    def transform_to_parquet(
        self, X: Any, folder: str | os.PathLike[str], *, on_error: OnError = "raise"
    ) -> RejectTable:
        """Write the table of features, one file for each partition, as they come.

        Parameters
        ----------
        X : paths, n_samples of them
            See `fit`.
        folder : str or path
            Where to write: a folder, or a URL of one, that does not exist or is empty. All workers
            must reach it.
        on_error : {"raise", "skip"}, default="raise"
            Whether an image that cannot be read raises an error, or has a row without features.

        Returns
        -------
        RejectTable
            The images that could not be read.

        Raises
        ------
        FileExistsError
            If the folder is not empty.

        Warns
        -----
        DroppedRowsWarning
            If images could not be read.
        """
        check_new_folder(folder)
        with self.client.as_current():
            return write_table(self.transform_table(X, on_error=on_error), folder, "features")

    def to_local(self) -> ImageFeaturizer:
        """Convert to the featurizer for one machine.

        Returns
        -------
        ImageFeaturizer
            One with the same parameters and fitted attributes.
        """
        local: ImageFeaturizer = self._to(ImageFeaturizer)
        return local
