"""The hybrid classifier on a Dask cluster."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any, ClassVar, Final, Self

import dask.array as da
import dask.dataframe as dd
import numpy as np
import numpy.typing as npt
from distributed import Client
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from effboost._featurizer import ImageFeaturizer
from effboost._heads.fit import check_head
from effboost._hybrid_classifier import HybridClassifier
from effboost._rejects import OnError, RejectTable
from effboost._utils.compat import Interval, fit_context
from effboost._utils.device import draw_seed
from effboost._validation import LabelledImages, has_validation
from effboost.dask._columns import as_paths
from effboost.dask._featurizer import DaskImageFeaturizer
from effboost.dask._fit import ClusterFit, extract
from effboost.dask._head import is_distributed
from effboost.dask._lazy import lazy_features, lazy_method
from effboost.dask._local import OfCluster, draw_sample
from effboost.dask._model import send_model
from effboost.dask._score import LazyScoreMixin
from effboost.dask._table import LabelledPaths, to_arguments
from effboost.dask._tables import check_new_folder, lazy_prediction_table, write_table
from effboost.model_selection._leakage import check_group_leakage

__all__ = ["DaskHybridClassifier"]

# Parameters of the local classifier that have no counterpart: Dask moves features to disk.
_NOT_HERE: Final = ("feature_storage",)


def _head_has(method: str) -> Any:
    return available_if(lambda self: hasattr(self.to_local(), method))


class DaskHybridClassifier(LazyScoreMixin, OfCluster, HybridClassifier):
    """Classify images on a Dask cluster by a classifier on the features of a network.

    The parameters are those of `HybridClassifier` without `feature_storage`, and one more. `X` is a
    Dask dataframe with a column of paths, a Dask series, bag or array of paths, or the path of a
    parquet file. Workers read the images, so the paths must exist there.

    A head of XGBoost (`XGBClassifier` or `XGBRFClassifier`) is fitted by `xgboost.dask` where the
    features are, on all images. Every other head, and every head with `calibration` or
    ``view_averaging="probabilities"``, is fitted in the process of the client on gathered features:
    of all images, or of a sample if there are more than `sample_size`.

    Parameters
    ----------
    featurizer, classifier, head_protocol, holdout_fraction, view_averaging, calibration, \
validation_fraction, class_weight, random_state, verbose : as in `HybridClassifier`
        The parameters of the local classifier.
    sample_size : int, default=20_000
        Largest number of images that the network is fine-tuned on, in the process of the client,
        which reads these images itself; and that a head other than those of XGBoost is fitted on.
        Of more, so many are drawn at random, whole subjects where `groups` are given, with a
        warning. 20,000 images have 100 MB of features of EfficientNet-B0.

    Attributes
    ----------
    client : Client
        The Dask client; without one that was set, the current client of Dask.

    See Also
    --------
    HybridClassifier : Its counterpart on one machine, which has the same fitted attributes.
    effboost.dask.iter_predictions : Predictions one by one, as they come.

    Notes
    -----
    The client gathers the labels, subjects and weights of all images, and draws every split of
    `HybridClassifier.fit` from them, by subject: with equal parameters, it is the same split. Paths
    and features stay on the cluster, where the features take 5 kB an image for EfficientNet-B0
    while the head is fitted; Dask moves to disk what does not fit into memory.

    The trees of `xgboost.dask` depend on how the partitions are spread over the workers, so they
    are not those of `HybridClassifier` to the bit. Callbacks of scikit-learn are not called.
    If a worker is lost, Dask computes its partitions again, and repeats the training of the head.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from distributed import Client
    >>> from PIL import Image
    >>> from effboost import presets
    >>> from effboost.dask import DaskHybridClassifier
    >>> from effboost.datasets import make_blood_cells
    >>> cells = make_blood_cells(n_subjects=4, images_per_subject=6, image_size=32, random_state=0)
    >>> local = presets.frozen("resnet18", weights=None, image_size=32, random_state=0)
    >>> local = local.set_params(classifier__n_estimators=5)
    >>> with TemporaryDirectory() as folder:
    ...     paths = [str(Path(folder, f"{i}.png")) for i in range(len(cells.images))]
    ...     for path, picture in zip(paths, cells.images, strict=True):
    ...         Image.fromarray(picture).save(path)
    ...     table = {"path": paths, "label": cells.target, "subject": cells.groups}
    ...     X = dd.from_dict(table, npartitions=3)
    ...     with Client(processes=False, n_workers=1, dashboard_address="127.0.0.1:0"):
    ...         clf = DaskHybridClassifier.from_local(local).fit(X, "label", groups="subject")
    ...         proba = clf.predict_proba(X).compute()
    ...     same = (clf.to_local().predict_proba(paths) == proba).all()
    >>> proba.shape, bool(same)
    ((24, 2), True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{k: v for k, v in HybridClassifier._parameter_constraints.items() if k not in _NOT_HERE},
        "sample_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        featurizer: ImageFeaturizer | None = None,
        classifier: Any = None,
        *,
        head_protocol: str = "in_sample",
        holdout_fraction: float = 0.3,
        view_averaging: str = "features",
        calibration: str | None = None,
        validation_fraction: float | None = None,
        class_weight: Any = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        sample_size: int = 20_000,
    ):
        super().__init__(
            featurizer,
            classifier,
            head_protocol=head_protocol,
            holdout_fraction=holdout_fraction,
            view_averaging=view_averaging,
            calibration=calibration,
            validation_fraction=validation_fraction,
            class_weight=class_weight,
            random_state=random_state,
            verbose=verbose,
        )
        # Of the gathered ones, which `sample_size` limits.
        self.feature_storage = "memory"
        self.sample_size = sample_size

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: Any = None,
    ) -> Self:
        """Fit the featurizer, then the classifier on its features.

        Parameters
        ----------
        X : paths, n_samples of them
            A Dask dataframe, series, bag or array, or the path of a parquet file.
        y : str, Dask series or array, or array-like of shape (n_samples,)
            The labels, or the name of their column in `X`: strings or integers, of two classes or
            more.
        groups, sample_weight : like `y`, default=None
            The subject and the weight of each image: see `HybridClassifier.fit`.
        X_val, y_val, groups_val : like `X`, `y` and `groups`, default=None
            Images to validate each epoch and each round of XGBoost on.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError, UnsupportedInputError, SplitError, LeakageError, TrainingError
            As `HybridClassifier.fit`, and if the partitions of `X` and the others differ.
        ImageDecodeError
            If an image cannot be read.
        RuntimeError
            If workers were lost more often while the head was trained than Dask's setting
            "distributed.scheduler.allowed-failures" lets them.

        Warns
        -----
        UserWarning
            If a sample is used: see `sample_size`.
        """
        client = self.client
        with client.as_current():
            table = LabelledPaths.read(X, y, groups, sample_weight)
            watched = None
            if has_validation(X_val, y_val):
                watched = LabelledPaths.read(X_val, y_val, groups_val)
            classifier = self._child("classifier")
            averaged = self.view_averaging == "features"
            if is_distributed(classifier) and self.calibration is None and averaged:
                self._fit_on_cluster(client, table, watched)
                return self
            rng = check_random_state(self.random_state)
            what = f"{type(classifier).__name__} is fitted on"
            rows = draw_sample(table.rows, self.sample_size, rng, what)
            data = to_arguments(table.gather(rows), "")
            if watched is not None:
                what = f"{type(classifier).__name__} is validated on"
                rows = draw_sample(watched.rows, self.sample_size, rng, what)
                data |= to_arguments(watched.gather(rows), "_val")
            return super().fit(data.pop("X"), data.pop("y"), **data)

    def predict(self, X: Any) -> da.Array:  # type: ignore[override]
        """Return the predicted class of images, computed when it is needed.

        Parameters
        ----------
        X : paths, n_samples of them
            A Dask dataframe, series, bag or array, or the path of a parquet file.

        Returns
        -------
        dask.array.Array of shape (n_samples,)
            A label of `classes_` for each image, in the order of `X`.
        """
        check_is_fitted(self)
        return self._lazy("predict", X, self.classes_[:1])

    @_head_has("predict_proba")
    def predict_proba(self, X: Any) -> da.Array:
        """Return the probability of each class, computed when it is needed.

        Parameters
        ----------
        X : paths, n_samples of them
            See `predict`.

        Returns
        -------
        dask.array.Array of shape (n_samples, n_classes)
            Probabilities between 0 and 1, in the order of `classes_`.
        """
        check_is_fitted(self)
        return self._lazy("predict_proba", X, self._ask_head("predict_proba", self._no_features()))

    @_head_has("decision_function")
    def decision_function(self, X: Any) -> da.Array:
        """Return the scores of a head with `decision_function`, computed when they are needed.

        Parameters
        ----------
        X : paths, n_samples of them
            See `predict`.

        Returns
        -------
        dask.array.Array of shape (n_samples,) or (n_samples, n_classes)
            The head's scores.
        """
        check_is_fitted(self)
        scores = self._ask_head("decision_function", self._no_features())
        return self._lazy("decision_function", X, scores)

    def transform(self, X: Any) -> da.Array:  # type: ignore[override]
        """Return the features that the classifier uses, computed when they are needed.

        Parameters
        ----------
        X : paths, n_samples of them
            See `predict`.

        Returns
        -------
        dask.array.Array of shape (n_samples, n_features_out), float32
            The features.
        """
        check_is_fitted(self)
        with self.client.as_current():
            paths = as_paths(X)
        name = send_model(self.client, self.to_local())
        return lazy_features(paths, name, self.featurizer_._n_features_out)

    def predict_table(self, X: Any, *, on_error: OnError = "raise") -> dd.DataFrame:
        """Return classes and probabilities as a Dask dataframe, computed when it is needed.

        Parameters
        ----------
        X : paths, n_samples of them
            See `predict`.
        on_error : {"raise", "skip"}, default="raise"
            Whether an image that cannot be read raises an error when the table is computed, or has
            a row without a class.

        Returns
        -------
        dask.dataframe.DataFrame
            A row for each image, in the partitions and the order of `X`, with the columns "path",
            "partition" and "position" (in the partition, both from 0), "class", "p_..." for each
            class if the head has ``predict_proba``, and "reason": why the image cannot be read, or
            missing if it can.
        """
        check_is_fitted(self)
        client = self.client
        with client.as_current():
            name = send_model(client, self.to_local())
            return lazy_prediction_table(as_paths(X), name, self, on_error)

    def predict_to_parquet(
        self, X: Any, folder: str | os.PathLike[str], *, on_error: OnError = "raise"
    ) -> RejectTable:
        """Write the table of predictions, one file for each partition, as they come.

        Parameters
        ----------
        X : paths, n_samples of them
            See `predict`.
        folder : str or path
            Where to write: a folder, or a URL of one, that does not exist or is empty. All workers
            must reach it.
        on_error : {"raise", "skip"}, default="raise"
            Whether an image that cannot be read raises an error, or has a row without a class.

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

        See Also
        --------
        predict_table : The table, with its columns.

        Notes
        -----
        `dask.dataframe.DataFrame.to_parquet` writes. If a worker is lost while it writes, Dask
        writes its file again, so that each row is there once when this function returns.
        """
        check_new_folder(folder)
        with self.client.as_current():
            return write_table(self.predict_table(X, on_error=on_error), folder, "prediction")

    def to_local(self) -> HybridClassifier:
        """Convert to the classifier for one machine.

        Returns
        -------
        HybridClassifier
            One with the same parameters and fitted attributes.
        """
        return self._to(HybridClassifier)

    def _fit_on_cluster(
        self, client: Client, table: LabelledPaths, watched: LabelledPaths | None
    ) -> None:
        """Take the steps of `HybridClassifier.fit`, in the same order, with the same seeds."""
        rng = check_random_state(self.random_state)
        rows = table.rows
        featurizer, classifier = self._children(rng)
        self._check_combination(featurizer, classifier)
        classes = rows.classes()
        check_head(
            classifier,
            weighted=self.class_weight is not None or not (rows.weight == 1).all(),
            groups=rows.groups,
            n_classes=len(classes),
            n_rows=len(rows.images),
        )
        validation = None
        if watched is not None:
            validation = watched.rows
            validation.encode(classes)
            check_group_leakage(rows.groups, validation.groups)
        elif self._needs_validation(featurizer, classifier, len(rows.images)):
            fraction = self._choose_validation_fraction(featurizer)
            rows, validation = rows.train_validation_split(fraction, draw_seed(rng))
        tuning = deciding = rows
        if self.head_protocol == "holdout":
            tuning, deciding = rows.train_validation_split(self.holdout_fraction, draw_seed(rng))
        steps = ClusterFit(client, table, watched, self.sample_size, rng)
        steps.fit_network(featurizer, tuning, validation)
        head, history, means = steps.fit_head(
            featurizer,
            classifier,
            deciding,
            validation,
            classes=classes,
            weight=deciding.weights_with_classes(self.class_weight),
        )
        for name in ("cnn_", "evals_result_", "familiarity_"):
            self.__dict__.pop(name, None)  # of a former fit
        self._set_fitted_state(featurizer, head, classes)
        self.evals_result_, self.feature_means_ = history, means

    def _lazy(self, method: str, X: Any, head: npt.NDArray[Any]) -> da.Array:
        client = self.client
        with client.as_current():
            paths = as_paths(X)
        return lazy_method(paths, method, send_model(client, self.to_local()), head)

    def _no_features(self) -> npt.NDArray[np.float32]:
        """Return one row of features, to learn the form of the head's answers."""
        return self.feature_means_[None].astype(np.float32)

    def _children(self, rng: np.random.RandomState) -> tuple[ImageFeaturizer, Any]:
        featurizer, classifier = super()._children(rng)
        if isinstance(featurizer, DaskImageFeaturizer):
            featurizer = featurizer.to_local()
        return featurizer, classifier

    def _learn_familiarity(self, *_: Any) -> None:
        return None  # images would have to be read here

    def _head_rows(
        self,
        featurizer: ImageFeaturizer,
        rows: LabelledImages,
        classes: npt.NDArray[Any],
        on_disk: bool,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the training rows of a head in this process; their features come from workers."""
        average = self.view_averaging == "features"
        features = extract(self.client, featurizer, rows.images.images, average=average)
        target = rows.encode(classes)
        if average:
            return features, target
        return features.reshape(-1, features.shape[2]), np.repeat(target, features.shape[1])
