"""The internal part of the featurizers, and what other sub-packages may use of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from effboost._extraction.cache import Cache
from effboost._extraction.extract import compute_features
from effboost._extraction.feature_extractor import FeatureExtractor
from effboost._extraction.prepared_images import PreparedImages
from effboost._extraction.row_cache import map_temporary_file
from effboost._extraction.temporary_cache import find_temporary_cache
from effboost._images import ImageSequence, as_images
from effboost._training.config import FineTuning
from effboost._training.network_fit import FittedNetwork, NetworkFit
from effboost._transforms import ImageTransform, Views
from effboost._utils.compat import DocumentedMixin, fit_context
from effboost._utils.default_estimators import NestedDefaults
from effboost._utils.device import check_precision, draw_seed, resolve_device
from effboost._utils.fit_callbacks import CallbackSteps, callback_data
from effboost._utils.parameter_beside_method import ParameterBesideMethod
from effboost._validation import LabelledImages, check_validation, check_weight
from effboost.backbones import POOLINGS, BackboneSpec, get_backbone_spec
from effboost.exceptions import ImageDecodeError, UnsupportedInputError

__all__ = ["BaseImageFeaturizer"]


class BaseImageFeaturizer(
    CallbackSupportMixin,
    DocumentedMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    NestedDefaults,
):
    """The internal protocol of featurizers.

    Other modules (the classifiers, persistence, onnx, inspection, comparators) use these methods
    besides the public interface, and no other private ones:

    ``_check_params()``
        Check all parameters, before any work.
    ``_check_backbone()``
        Return the spec of the backbone.
    ``_resolve_transform(spec)``
        Return the transform with the backbone's own numbers.
    ``_check_images(X, reset=)``, ``_prepare_images(X, reset=, measured=)``
        Return `X` as an `ImageSequence`; as `PreparedImages`, for `fit`.
    ``_fit_labelled(rows, validation)``
        Fit on rows that have been checked.
    ``_compute_features(images, average=, rejects=, progress=, on_disk=)``
        Return the features of prepared images, always as an array.
    ``_feature_cache()``
        Return the `Cache` for features, or None.
    ``_load_network()``
        Return the network up to its features, with its initial weights.
    ``_set_fitted_state(network)``
        Set the fitted attributes from a `FittedNetwork`.
    ``_extractor``, ``_n_features_out``
        What computes the features, and their number.
    """

    # Parameters, which the constructors of subclasses set.
    backbone: Any
    weights: Any
    training: Any
    features: str | None
    extra_features: Any
    views: str
    image_shape: Any
    cache: Any
    runtime: str
    device: Any
    callbacks: Any
    random_state: Any
    verbose: int

    def _fit(
        self,
        X: Any,
        y: Any,
        train: tuple[Any, Any],
        validation: tuple[Any, Any, Any],
        data: dict[str, Any],
        owner: Any,
        describe: Callable[[Self], dict[str, Any]],
    ) -> PreparedImages:
        """Check the arguments of `fit`, fit, and return the prepared images.

        `owner` is the estimator whose callbacks are called for the fit and for each epoch.
        `describe` returns its fitted attributes, given the featurizer after an epoch.
        """
        self._check_params()
        task = owner._init_callback_context(max_subtasks=self._n_epochs())
        task.call_on_fit_task_begin(estimator=owner, **data)
        images = self._prepare_images(X, reset=True)
        groups, sample_weight = train
        if self.training is None:
            check_weight(images, sample_weight)
            self._fit_frozen()
        else:
            rows = self._check_labels(images, y, groups, sample_weight)
            watched = check_validation(rows, self._prepare_images, *validation)
            steps = CallbackSteps("epoch", owner, task, data)
            self._fit_tuned(rows, watched, steps, describe)
        if owner is not self:
            vars(owner).update(describe(self))  # before callbacks look at the fitted estimator
        task.call_on_fit_task_end(estimator=owner, reconstruction_attributes={}, **data)
        return images

    @fit_context(prefer_skip_nested_validation=True)
    def _fit_labelled(self, rows: LabelledImages, validation: LabelledImages | None) -> Self:
        """Fit on rows that have been checked, and whose images have been prepared."""
        task = self._init_callback_context(max_subtasks=self._n_epochs())
        data = callback_data(rows.images.images, rows.labels, rows.weight)
        task.call_on_fit_task_begin(estimator=self, **data)
        if self.training is None:
            self._fit_frozen()
        else:
            steps = CallbackSteps("epoch", self, task, data)
            self._fit_tuned(rows, validation, steps, vars)
        task.call_on_fit_task_end(estimator=self, reconstruction_attributes={}, **data)
        return self

    def _n_epochs(self) -> int:
        training: FineTuning | None = self._child("training")
        return 0 if training is None else training.max_epochs

    def _check_params(self) -> None:
        """Check all parameters, and that each has an effect."""
        self._validate_params()
        self._child("transform").check()
        extra = _check_extra(self.extra_features)
        training: FineTuning | None = self._child("training")
        if self.features is None and (training is not None or not extra):
            raise ValueError(
                "features=None uses `extra_features` alone; it requires some, and training=None, "
                "since a network is trained by its own features"
            )
        device = resolve_device(self.device)
        if training is not None:
            training.check()
            check_precision(training.precision, device)
        elif self.callbacks:
            raise ValueError(
                "callbacks have no effect with training=None: nothing is trained; leave them out"
            )
        self._check_backbone()

    def _fit_frozen(self) -> None:
        self._set_fitted_state(self._network_fit().fit_frozen())

    def _fit_tuned(
        self,
        rows: LabelledImages,
        validation: LabelledImages | None,
        epochs: CallbackSteps,
        describe: Callable[[Self], dict[str, Any]],
    ) -> None:
        """Fine-tune the network, and call the callbacks for each epoch."""
        training: FineTuning = self._child("training")
        network_fit = self._network_fit()
        config = training.resolve(
            resolve_device(self.device),
            network_fit.seeds[2],
            verbose=int(self.verbose),
            callbacks=self.callbacks or (),
        )

        def fitted(network: FittedNetwork) -> dict[str, Any]:
            other = copy.copy(self)
            other._set_fitted_state(network)
            return describe(other)

        self._set_fitted_state(
            network_fit.fit_tuned(
                rows,
                validation,
                training,
                config,
                # What is drawn anew each time is not found again.
                cache=Cache.at(self.cache) if isinstance(self.random_state, Integral) else None,
                epochs=epochs,
                describe=fitted,
            )
        )

    def _network_fit(self) -> NetworkFit:
        rng = check_random_state(self.random_state)
        spec = self._check_backbone()
        return NetworkFit(
            spec,
            self.weights,
            self.features or "pooled",
            self._resolve_transform(spec).side,
            (draw_seed(rng), draw_seed(rng), draw_seed(rng)),
            bool(self.verbose),
        )

    def _set_fitted_state(self, network: FittedNetwork) -> None:
        """Set the fitted attributes; those of a previous fit are removed."""
        self.spec_, self.module_ = network.spec, network.module
        self.transform_ = self._resolve_transform(network.spec)
        self.head_, self.history_ = network.head, network.history
        self.__dict__.pop("classes_", None)
        if network.classes is not None:
            self.classes_ = network.classes
        extra = _check_extra(self.extra_features)
        self._extractor = FeatureExtractor(
            network.module,
            network.spec,
            self.transform_,
            self.runtime,
            extra,
            self.features is not None,
        )
        self._n_features_out = self._extractor.width() if extra else network.width

    def _prepare_images(self, X: Any, *, reset: bool, measured: bool = False) -> PreparedImages:
        """Return `X` as `fit` reads it; for training, each prepared image is kept."""
        images, spec = self._check_images(X, reset=reset), self._check_backbone()
        transform, keep = self._resolve_transform(spec), self.training is not None
        hashed = keep and self.cache is not None
        return PreparedImages(images, transform, keep=keep, measured=measured, hashed=hashed)

    def _resolve_transform(self, spec: BackboneSpec) -> ImageTransform:
        """Return the transform with the backbone's own numbers, where it is set to take them."""
        transform: ImageTransform = self._child("transform")
        return transform.resolve(spec.mean, spec.std, spec.image_size)

    def _compute_features(
        self,
        images: PreparedImages,
        *,
        average: bool = True,
        rejects: dict[int, ImageDecodeError] | None = None,
        progress: bool | None = None,
        on_disk: bool = False,
    ) -> npt.NDArray[np.float32]:
        """Compute features: (n_samples, n_features), or (n_samples, n_views, n_features).

        `rejects`, if given, is filled with the errors of images that cannot be read, whose rows are
        NaN. Progress is shown if `progress` is True, or None with `verbose`. `on_disk` returns an
        array in a temporary file.
        """
        views = Views(self.views, average=average)
        device = resolve_device(self.device, or_cpu=True)
        width = self._n_features_out * (1 if average else views.count)
        features = compute_features(
            images,
            lambda: self._extractor.start(device),
            width,
            views=views,
            feature_cache=self._extractor.feature_cache(self._feature_cache(), device, views),
            progress=bool(self.verbose) if progress is None else progress,
            rejects=rejects,
            out=map_temporary_file((len(images), width), np.float32) if on_disk else None,
        )
        return features if average else features.reshape(-1, views.count, self._n_features_out)

    def _feature_cache(self) -> Cache | None:
        """Return the cache for features: that of an evaluation, if the network is frozen."""
        own = Cache.at(self.cache)
        return find_temporary_cache() if own is None and self.training is None else own

    def _check_images(self, X: Any, *, reset: bool) -> ImageSequence:
        """Return `X` as a sequence of images; rows of numbers are checked as scikit-learn does."""
        if self.image_shape is None or isinstance(X, ImageSequence):
            return as_images(X)
        return self._rows_to_images(validate_data(self, X, reset=reset, dtype="numeric"))

    def _rows_to_images(self, rows: npt.NDArray[Any]) -> ImageSequence:
        return ImageSequence(rows, image_shape=self.image_shape)

    def _check_backbone(self) -> BackboneSpec:
        return get_backbone_spec(self.backbone)

    def _check_labels(
        self, images: PreparedImages, y: Any, groups: Any, sample_weight: Any
    ) -> LabelledImages:
        if y is None:
            raise UnsupportedInputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: "
                "fine-tuning learns from labels; training=None keeps the network as it was loaded"
            )
        train = LabelledImages.check(images, y, groups=groups, sample_weight=sample_weight)
        train.classes()
        return train

    def _load_network(self) -> torch.nn.Module:
        """Build the network up to its features, with its initial weights."""
        return self._network_fit().load()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _keep_transform_parameter(cls)


def _keep_transform_parameter(cls: type) -> None:
    """Let `transform` be both a method and a parameter, in a class that defines the method."""
    method = vars(cls).get("transform")
    if method is not None and not isinstance(method, ParameterBesideMethod):
        wrapped = ParameterBesideMethod(method)
        wrapped.__set_name__(cls, "transform")
        cls.transform = wrapped  # type: ignore[attr-defined]


def _check_extra(extra: Any) -> Any:
    if extra is None or isinstance(extra, str):
        return extra
    for pair in extra:
        if len(pair) != 2 or not isinstance(pair[0], Integral) or pair[1] not in POOLINGS:
            raise ValueError(
                f"extra_features={extra!r}; expected pairs of a stage and a pooling, such as "
                f'((-1, "max"), (-3, "avg")); poolings are {", ".join(POOLINGS)}'
            )
    return tuple((int(stage), pooling) for stage, pooling in extra)
