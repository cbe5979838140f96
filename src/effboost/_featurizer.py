"""Transformers from images to features."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Hashable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from effboost._extraction.cache import Cache
from effboost._extraction.extract import extract_features
from effboost._extraction.feature_extractor import FeatureExtractor
from effboost._extraction.prepared_images import PreparedImages
from effboost._images import ImageSequence, as_images
from effboost._training.cached_runs import fine_tune_cached
from effboost._training.callbacks import EpochObserver
from effboost._training.config import FineTuning, TrainingConfig
from effboost._training.dataset import TrainingDataset
from effboost._training.module import TrainableNetwork
from effboost._transforms import ImageTransform, Views
from effboost._utils.compat import DocumentedMixin, StrOptions, fit_context
from effboost._utils.default_estimators import NestedDefaults
from effboost._utils.device import check_precision, draw_seed, resolve_device, seeded
from effboost._utils.fit_callbacks import CallbackSteps, callback_data
from effboost._utils.parameter_beside_method import ParameterBesideMethod
from effboost._validation import LabelledImages, check_validation, check_weight
from effboost.backbones import (
    POOLINGS,
    BackboneSpec,
    build_backbone,
    feature_width,
    get_backbone_spec,
    list_frozen,
    list_stages,
    list_unfrozen,
    network_digest,
    remove_head,
)
from effboost.exceptions import UnknownBackboneError, UnsupportedInputError
from effboost.runtime import RUNTIMES

__all__ = ["EfficientNetFeaturizer", "FittedNetwork", "ImageFeaturizer"]


@dataclasses.dataclass(frozen=True)
class FittedNetwork:
    """What `fit` ends with, and what restores a featurizer.

    Attributes
    ----------
    spec : BackboneSpec
        What is known about the network.
    module : torch.nn.Module
        The network up to its features, in evaluation mode on the CPU.
    width : int
        Number of its own features, without those of `extra_features`.
    head : torch.nn.Module or None
        The layer that classified in training.
    history : list of dict
        Loss and accuracy of each epoch.
    classes : ndarray of shape (n_classes,) or None
        The labels that the network was tuned on.
    """

    spec: BackboneSpec
    module: torch.nn.Module
    width: int
    head: torch.nn.Module | None = None
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    classes: npt.NDArray[Any] | None = None


class ImageFeaturizer(
    CallbackSupportMixin,
    DocumentedMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    NestedDefaults,
):
    """Turn images into the features of a convolutional network, fine-tuned on their labels.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default="efficientnet_b0"
        The network: a name of `effboost.backbones.BACKBONES` or of any other torchvision
        classification model, or a callable that builds a `torch.nn.Module` of your own.
    weights : "imagenet", path or None, default="imagenet"
        The weights to start from: those that torchvision publishes for ImageNet, looked for in
        ``TORCH_HOME`` and else downloaded; a local ``.pth`` (tensors only, no code) or
        ``.safetensors`` file; or None for random ones.
    training : "paper", FineTuning or None, default="paper"
        How `fit` trains the network on the labels; "paper" means ``FineTuning()``. None keeps the
        weights as they were loaded: then `fit` decodes no image.
    transform : "paper" or ImageTransform, default="paper"
        What happens to pixels before the network; "paper" means ``ImageTransform()``, a centre
        crop of 448 pixels resized to 224.
    features : {"pooled", "logits"}, default="pooled"
        The input of the last linear layer (for EfficientNet-B0 the 1280 spatial means of its last
        feature map), or its 1000 outputs; with "logits" that layer is trained, too, by
        cross-entropy over its first n_classes outputs.
    extra_features : None, "stages" or tuple of (int, str), default=None
        What to append to these features from maps of earlier stages: of each stage (-1 is the
        last one) how its map is pooled over its positions, "avg", "max", "std" or "gem" (the
        generalised mean, of power 3), such as ``((-1, "max"), (-3, "avg"))``. "stages" means
        mean and standard deviation of the five stages before the last: 1344 more values for
        MobileNetV2, 1488 for EfficientNet-B0. The network's own decision does not use them.
    views : {"original", "dihedral"}, default="original"
        "dihedral" averages the features over the eight orientations of an image, quarter turns
        and their mirror images, which takes eight times as long: cells have no orientation.
    image_shape : tuple (h, w) or (h, w, c), default=None
        Height, width and channels of an image, in pixels, where `X` holds one image per row.
    cache : path, Cache or None, default=None
        Folder that keeps the features of each image, and the tuned network if `random_state` is
        an integer, for all fits that would compute the same: in the folds and candidates of a
        search, in other processes, and later. See `Cache`.
    runtime : {"auto", "torch", "onnxruntime", "openvino"}, default="auto"
        What computes the features: "auto" takes torch on a GPU and onnxruntime, about twice as
        fast, on a CPU; where a network cannot be exported for it, torch, with a warning. Their
        features differ in the last digits. `runtime_` says which one it was.
    device : str, default="auto"
        Where torch computes: "cpu", "cuda", ..., or "auto" for the GPU if there is one. A model
        that was fitted on a GPU computes on the CPU where there is none.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called in training. An error with ``training=None``.
    random_state : int, RandomState instance or None, default=None
        Draws random weights, the order and views of training images, dropout, and the subjects
        split off. The same seed and number of threads give the same bits on one machine's CPU;
        on a GPU, some of torch's sums vary in their last bits.
    verbose : int, default=0
        1 shows progress bars on stderr, 2 also a table of the epochs.

    Attributes
    ----------
    spec_ : BackboneSpec
        What is known about the network.
    module_ : torch.nn.Module
        The network, in evaluation mode on the CPU.
    head_ : torch.nn.Linear or None
        The layer that classified in training. None without fine-tuning, or with
        ``features="logits"``.
    classes_ : ndarray of shape (n_classes,)
        The labels; only after fine-tuning.
    history_ : list of dict
        For each epoch "epoch", "dur" (seconds), "train_loss", "train_acc" and, with validation,
        "valid_loss" and "valid_acc"; empty without fine-tuning.
    transform_ : ImageTransform
        The transform, its normalisation in numbers.
    runtime_ : {"torch", "onnxruntime", "openvino"}
        What computes the features.
    n_features_in_ : int
        Number of columns seen in `fit`; only where `X` holds one image per row.

    See Also
    --------
    EfficientNetFeaturizer : The same, limited to the EfficientNet family.
    CNNClassifier : The fine-tuned network's own decision.
    HybridClassifier : Features and boosted trees in one classifier.

    Notes
    -----
    The features of an image never depend on the images beside it, to the bit. Memory holds one
    small batch of images and, at 4 bytes a value, the features; in training, one batch with
    what the network computes for it, and three to four times the network's weights.

    The statistics of batch norms are estimated anew after the last epoch, from all training
    images: after few steps they would lag behind, and the network would predict at chance.

    ``fit_transform`` returns features of images that the network was trained on, and decodes each
    of them once. They look cleaner than those of new images: see ``head_protocol`` of
    `HybridClassifier`.

    The features of random weights (``weights=None, training=None``) are tiny, about 1e-13 for
    EfficientNet-B0: good enough for trees and for trying things out, not for classifiers that
    depend on the scale.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import FineTuning, ImageFeaturizer, ImageTransform
    >>> X = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    >>> featurizer = ImageFeaturizer(
    ...     "resnet18",
    ...     weights=None,
    ...     training=FineTuning(max_epochs=1),
    ...     transform=ImageTransform(crop_size=None, image_size=32),
    ...     random_state=0,
    ... )
    >>> featurizer.fit(X, ["ALL", "HEM"] * 3).transform(X).shape
    (6, 512)
    >>> sorted(featurizer.history_[0])
    ['dur', 'epoch', 'train_acc', 'train_loss']
    """

    # Other rooms (the hybrid, persistence, onnx, inspection, comparators) use this protocol of the
    # featurizer beside its public interface, and nothing else of it that has an underscore:
    #   _check_params()              all parameters checked, before any work
    #   _check_images(X, reset=)     X as an ImageSequence
    #   _check_backbone()            the spec of the backbone
    #   _build_network(spec, seed)   the network up to its features, without what a fit learns
    #   _set_fitted_state(network)   the attributes of a fit, from a FittedNetwork
    #   _fit_labelled(rows, ...)     `fit` on rows that have been checked
    #   _compute_features(images)    `transform` of prepared images, always as an array
    #   _prepare_images(X, reset=)   X as the network takes it, for `fit`
    #   _extractor, _n_features_out  what computes features, and how many

    _defaults: ClassVar[dict[str, dict[Hashable, Callable[[], Any]]]] = {
        "training": {"paper": FineTuning},
        "transform": {"paper": ImageTransform},
    }
    # With metadata routing on, subjects come along without being requested: a fit that does not
    # know them would split them.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, BackboneSpec, callable],
        "weights": [str, os.PathLike, None],
        "training": [StrOptions({"paper"}), FineTuning, None],
        "transform": [StrOptions({"paper"}), ImageTransform],
        "features": [StrOptions({"pooled", "logits"})],
        "extra_features": [StrOptions({"stages"}), tuple, list, None],
        "views": [StrOptions({"original", "dihedral"})],
        "image_shape": [tuple, list, None],
        "cache": [str, os.PathLike, Cache, None],
        "runtime": [StrOptions(set(RUNTIMES))],
        "device": [str, torch.device],
        "callbacks": [list, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone: str | BackboneSpec | Callable[..., torch.nn.Module] = "efficientnet_b0",
        *,
        weights: str | os.PathLike[str] | None = "imagenet",
        training: str | FineTuning | None = "paper",
        transform: str | ImageTransform = "paper",
        features: str = "pooled",
        extra_features: str | Sequence[tuple[int, str]] | None = None,
        views: str = "original",
        image_shape: tuple[int, ...] | None = None,
        cache: str | os.PathLike[str] | Cache | None = None,
        runtime: str = "auto",
        device: str | torch.device = "auto",
        callbacks: Sequence[Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.training = training
        self.transform = transform  # type: ignore[method-assign,assignment]
        self.features = features
        self.extra_features = extra_features
        self.views = views
        self.image_shape = image_shape
        self.cache = cache
        self.runtime = runtime
        self.device = device
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: npt.ArrayLike | None = None,
    ) -> Self:
        """Build the network, load its weights, and train it unless `training` is None.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes. Without fine-tuning their form is checked and none is
            decoded.
        y : array-like of shape (n_samples,), default=None
            The labels: strings or integers, of two classes or more. Needed for fine-tuning.
        groups : array-like of shape (n_samples,), default=None
            The subject of each image, for the split that early stopping makes and for sampling
            by subject; None takes the groups that an `ImageSequence` carries, or else each image
            for its own subject.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image in the loss; images of weight 0 are left out.
        X_val, y_val : images and labels, default=None
            Images to validate each epoch on, for `history_` and for early stopping.
        groups_val : array-like of shape (n_validation_samples,), default=None
            Their subjects. A subject that stands in `groups` as well is refused.

        Returns
        -------
        self : object
            The fitted featurizer.

        Raises
        ------
        UnknownBackboneError
            If no backbone has this name.
        WeightsNotFoundError, WeightsMismatchError, WeightsError
            If the weights cannot be had or do not fit.
        UnsupportedInputError, ImageDecodeError
            If `X` or `y` is of an unknown form, or an image cannot be read.
        SplitError
            If a class has too few subjects to split some off for early stopping, or an image has
            none.
        TrainingError
            If the loss is no longer a finite number.
        LeakageError
            If a subject stands in `groups` and in `groups_val`.
        """
        data = callback_data(X, y, sample_weight)
        self._fit(X, y, (groups, sample_weight), (X_val, y_val, groups_val), data, self, vars)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: npt.ArrayLike | None = None,
    ) -> npt.NDArray[np.float32]:
        """Fit to images, and compute their features; each image is decoded once.

        Parameters
        ----------
        X, y, groups, sample_weight, X_val, y_val, groups_val
            See `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            What `transform` gives for `X` after `fit`.
        """
        data = callback_data(X, y, sample_weight)
        prepared = self._fit(
            X, y, (groups, sample_weight), (X_val, y_val, groups_val), data, self, vars
        )
        return self._compute_features(prepared)

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

        `owner` is the estimator whose callbacks are told of the fit and of each epoch, and
        `describe` returns its attributes for a featurizer that has been fitted so far.
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
        _check_extra(self.extra_features)
        training: FineTuning | None = self._child("training")
        if training is not None:
            training.check()
            check_precision(training.precision, resolve_device(self.device))
        elif self.callbacks:
            raise ValueError(
                "callbacks have no effect with training=None: nothing is trained; leave them out"
            )
        self._check_backbone()

    def _fit_frozen(self) -> None:
        """Take on the network with the weights that it was loaded with."""
        spec, seeds = self._check_backbone(), self._draw_seeds()
        module = self._build_network(spec, seeds[0])
        width = feature_width(module, self._child("transform").image_size)
        self._set_fitted_state(FittedNetwork(spec, module, width))

    def _fit_tuned(
        self,
        rows: LabelledImages,
        validation: LabelledImages | None,
        epochs: CallbackSteps,
        describe: Callable[[Self], dict[str, Any]],
    ) -> None:
        """Fine-tune the network, and tell callbacks of each epoch."""
        training: FineTuning = self._child("training")
        weights_seed, split_seed, training_seed = self._draw_seeds()
        if validation is None and training.patience is not None:
            rows, validation = rows.train_validation_split(training.validation_fraction, split_seed)
        spec = self._check_backbone()
        module = build_backbone(
            spec,
            self.weights,
            seed=weights_seed,
            keep_head=self.features == "logits",
            progress=bool(self.verbose),
        )
        parts = _find_parts(module, spec, training)
        if self.features == "pooled":
            module = remove_head(module, spec)
        width = feature_width(module, self._child("transform").image_size)
        classes = rows.classes()
        trainee = self._add_head(module, parts, width, len(classes), training_seed)

        def fitted(twin: TrainableNetwork, history: list[dict[str, float]]) -> dict[str, Any]:
            other = copy.copy(self)
            other._set_fitted_state(
                FittedNetwork(spec, twin.body, width, twin.head, history, classes)
            )
            return describe(other)

        config = training.resolve(
            resolve_device(self.device),
            training_seed,
            verbose=int(self.verbose),
            callbacks=self.callbacks or (),
        )
        observer = EpochObserver(epochs, fitted)
        history = self._tune(trainee, rows, validation, training, config, observer)
        self._set_fitted_state(FittedNetwork(spec, module, width, trainee.head, history, classes))

    def _draw_seeds(self) -> list[int]:
        """Draw the seeds of random weights, of the split, and of training."""
        rng = check_random_state(self.random_state)
        return [draw_seed(rng) for _ in range(3)]

    def _set_fitted_state(self, network: FittedNetwork) -> None:
        """Take on a network; what belongs to a former fit is removed."""
        self.spec_, self.module_ = network.spec, network.module
        self.transform_ = self._child("transform").resolve(network.spec.mean, network.spec.std)
        self.head_, self.history_ = network.head, network.history
        self.__dict__.pop("classes_", None)
        if network.classes is not None:
            self.classes_ = network.classes
        extra = _check_extra(self.extra_features)
        self._extractor = FeatureExtractor(
            network.module, network.spec, self.transform_, self.runtime, extra
        )
        self._n_features_out = self._extractor.width() if extra else network.width

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Compute the features of images.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            The features; 1280 of them for EfficientNet-B0.

        Raises
        ------
        UnsupportedInputError, ImageDecodeError
            If `X` is of an unknown form, or an image cannot be read.
        """
        check_is_fitted(self)
        images = PreparedImages(self._check_images(X, reset=False), self.transform_)
        return self._compute_features(images)

    def _prepare_images(self, X: Any, *, reset: bool) -> PreparedImages:
        """Return `X` as `fit` reads it: each image is kept where training reads it many times."""
        images, spec = self._check_images(X, reset=reset), self._check_backbone()
        transform = self._child("transform").resolve(spec.mean, spec.std)
        return PreparedImages(images, transform, keep=self.training is not None)

    def _compute_features(
        self, images: PreparedImages, *, average: bool = True
    ) -> npt.NDArray[np.float32]:
        """Compute features: (n_samples, n_features), or (n_samples, n_views, n_features)."""
        views = Views(self.views == "dihedral", average=average)
        device = resolve_device(self.device, or_cpu=True)
        features = extract_features(
            images,
            lambda: self._extractor.start(device),
            self._n_features_out * (1 if average else views.count),
            views=views,
            feature_cache=self._extractor.feature_cache(Cache.at(self.cache), device, views),
            progress=bool(self.verbose),
        )
        return features if average else features.reshape(-1, views.count, self._n_features_out)

    @property
    def runtime_(self) -> str:
        """What computes the features: "torch", "onnxruntime" or "openvino"."""
        check_is_fitted(self)
        return self._extractor.name(resolve_device(self.device, or_cpu=True))

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

    def _build_network(self, spec: BackboneSpec, seed: int) -> torch.nn.Module:
        """Build the network up to its features, with the weights that it starts from."""
        keep_head = self.features == "logits"
        module = build_backbone(
            spec, self.weights, seed=seed, keep_head=keep_head, progress=bool(self.verbose)
        )
        return module if keep_head else remove_head(module, spec)

    def _add_head(
        self,
        module: torch.nn.Module,
        parts: dict[str, list[Any]],
        width: int,
        n_classes: int,
        seed: int,
    ) -> TrainableNetwork:
        """Put a new linear layer on the network, unless its own outputs are trained."""
        if self.features == "logits" and n_classes > width:
            raise UnsupportedInputError(
                f'features="logits" has outputs for {width} classes, y has {n_classes}'
            )
        head = None
        if self.features == "pooled":
            with seeded(seed):
                head = torch.nn.Linear(width, n_classes)
            parts = parts | {"top": [head]}
        return TrainableNetwork(module, head, n_classes, **parts)

    def _tune(
        self,
        trainee: TrainableNetwork,
        train: LabelledImages,
        validation: LabelledImages | None,
        training: FineTuning,
        config: TrainingConfig,
        observer: EpochObserver,
    ) -> list[dict[str, float]]:
        """Train the network on the rows that have a weight."""
        classes = train.classes()
        weight = train.weights_with_classes(training.class_weight)
        train, weight = train.take(weight > 0), weight[weight > 0]
        sampling_weight = train.sampling_weights(config.regularization.sampling)

        def as_dataset(part: LabelledImages, weight: npt.NDArray[np.float64]) -> TrainingDataset:
            return TrainingDataset(part.images, part.encode(classes), weight.astype(np.float32))

        cache = Cache.at(self.cache) if isinstance(self.random_state, Integral) else None
        return fine_tune_cached(
            cache,
            lambda: network_digest(
                trainee.body, self._check_backbone(), train.images.transform.image_size
            ),
            trainee,
            dataclasses.replace(as_dataset(train, weight), sampling_weight=sampling_weight),
            None if validation is None else as_dataset(validation, validation.weight),
            config,
            observer,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        tags.target_tags.required = self.training is not None
        return tags

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _keep_transform_parameter(cls)


def _keep_transform_parameter(cls: type) -> None:
    """Let `transform` be a method and a parameter, where a class defines the method."""
    method = vars(cls).get("transform")
    if method is not None and not isinstance(method, ParameterBesideMethod):
        wrapped = ParameterBesideMethod(method)
        wrapped.__set_name__(cls, "transform")
        cls.transform = wrapped  # type: ignore[attr-defined]


_keep_transform_parameter(ImageFeaturizer)


def _find_parts(
    module: torch.nn.Module, spec: BackboneSpec, training: FineTuning
) -> dict[str, list[Any]]:
    """List the parts of a whole network that are trained otherwise than the rest."""
    parts: dict[str, list[Any]] = {"frozen": [], "stem": [], "top": [], "stages": []}
    if training.trainable != "all":
        n_last = 0 if training.trainable == "head" else int(training.trainable)
        parts["frozen"] = list_frozen(module, spec, n_last)
    if not isinstance(training.lr, Real):
        parts["stem"] = next(iter(list_stages(module, spec)), [])
        head = spec.head_of(module)
        parts["top"] = [] if head is None else [module.get_submodule(head)]
    if training._child("schedule").unfreezing_epochs:
        parts["stages"] = list_unfrozen(module, spec, parts["frozen"])
    return parts


class EfficientNetFeaturizer(ImageFeaturizer):
    """Turn images into the features of a fine-tuned EfficientNet.

    This is `ImageFeaturizer`, with the same parameters and attributes, limited to the networks
    of the EfficientNet family: "efficientnet_b0" to "efficientnet_b7" and "efficientnet_v2_s",
    "efficientnet_v2_m", "efficientnet_v2_l". Its defaults are the paper's: EfficientNet-B0 with
    ImageNet weights, on a 448-pixel centre crop resized to 224 and scaled to [0, 1], is trained
    for five epochs by Adamax and then gives 1280 features.

    See Also
    --------
    ImageFeaturizer : The same for any network.

    References
    ----------
    M. Tan and Q. Le, "EfficientNet: Rethinking model scaling for convolutional neural
    networks", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import EfficientNetFeaturizer, FineTuning, ImageTransform
    >>> X = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    >>> featurizer = EfficientNetFeaturizer(
    ...     weights=None,
    ...     training=FineTuning(max_epochs=1),
    ...     transform=ImageTransform(crop_size=None, image_size=32),
    ... )
    >>> features = featurizer.fit(X, ["ALL", "HEM", "HEM", "ALL"]).transform(X)
    >>> features.shape, features.dtype
    ((4, 1280), dtype('float32'))
    """

    def _check_backbone(self) -> BackboneSpec:
        spec = super()._check_backbone()
        if spec.family != "efficientnet":
            raise UnknownBackboneError(
                f"backbone {spec.name!r} is not an EfficientNet; ImageFeaturizer takes any network"
            )
        return spec


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
