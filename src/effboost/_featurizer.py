"""Transformers from images to features."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from effboost._extraction.cache import Cache
from effboost._extraction.extract import extract_features
from effboost._extraction.feature_extractor import FeatureExtractor
from effboost._images import ImageSequence, as_images
from effboost._training.cached_runs import fine_tune_cached
from effboost._training.config import FineTuning
from effboost._training.dataset import TrainingDataset
from effboost._training.trainer import OPTIMIZERS, EpochObserver, TrainableNetwork, TrainingConfig
from effboost._transforms import Augmentation, ImageTransform, Views
from effboost._transforms.stain import STAINS
from effboost._utils.compat import DocumentedMixin, Interval, StrOptions, fit_context
from effboost._utils.device import check_precision, draw_seed, resolve_device, seeded
from effboost._utils.fit_callbacks import CallbackSteps, callback_data
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

__all__ = ["EfficientNetFeaturizer", "ImageFeaturizer"]

_PATIENCE: Final = 5


class ImageFeaturizer(
    CallbackSupportMixin,
    DocumentedMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
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
    fine_tune : bool, default=True
        Whether `fit` trains the network on the labels. False keeps it as it was loaded: then
        `fit` looks at no image, and the parameters up to `callbacks` do nothing.
    trainable : "all", "head" or int, default="all"
        What is trained: the whole network; the linear layer that classifies alone; or that
        layer and so many of the last stages (`effboost.backbones.list_stages`; 9 of them for
        EfficientNet-B0). The rest stays as it was loaded, its batch norms included.
    freeze_batch_norm : bool, default=False
        Keep the statistics of all batch norms as they were loaded. Needed for weights whose
        batch norms were folded into the convolutions.
    max_epochs : int, default=5
        Passes over the training images.
    batch_size : int, default=40
        Images in a training step, 2 or more.
    optimizer : {"adamax", "adam", "adamw", "rmsprop", "sgd"} or class, default="adamax"
        A name, or any `torch.optim.Optimizer` class.
    lr : float or tuple of 3 floats, default=1e-3
        Learning rate; or those of the first stage (`effboost.backbones.list_stages`), of the
        further ones, and of the layer that classifies.
    class_weight : "balanced", dict or None, default=None
        Weights of the classes in the loss, as scikit-learn has them.
    augmentation : "paper", Augmentation or None, default="paper"
        Random views of training images; "paper" means ``Augmentation()``, None none. They are
        never used for features.
    minority_augmentation : Augmentation or None, default=None
        The same for the images of all classes but the most frequent, to give a small class
        more views (``views=2``) or stronger ones. None treats all classes alike.
    early_stopping : bool or int, default=False
        Stop once the validation loss has not improved for so many epochs (True: 5), and go
        back to the best epoch's weights. Validates on `X_val`, or else on subjects split off.
    validation_fraction : float, default=0.1
        Share of the images to split off, by subject, for early stopping without `X_val`.
    frozen_views : int, default=5
        Number of different random views of each training image where `trainable` freezes the
        first stages: these see each view once, and further epochs take the views in turn.
        That is most of the work saved.
    precision : {"float32", "mixed"}, default="float32"
        Arithmetic in training; "mixed" computes in bfloat16 where torch thinks it safe, which
        is faster on recent GPUs. Features are always computed in float32.
    recipe : FineTuning or None, default=None
        What else training does: learning rate schedule, label smoothing, focal loss, mixup,
        balanced sampling, averaged weights, gradual unfreezing. None is the paper's: nothing.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called in training, such as learning rate schedulers.
    crop_size : int or None, default=448
        Side of the centre crop in pixels; smaller images are padded with black. None takes each
        image whole.
    image_size : int, default=224
        Side in pixels to which the crop is resized: what the network sees.
    image_shape : tuple (h, w) or (h, w, c), default=None
        Height, width and channels of an image, in pixels, where `X` holds one image per row.
    stain : {"reinhard", "macenko"} or None, default=None
        Bring the stains of each picture to one fixed look, before the crop: see `ImageTransform`.
    foreground : bool, default=False
        Cut the cell out of each picture, before all else: see `ImageTransform`. Meant to go with
        ``crop_size=None``.
    normalize : {"unit", "imagenet", "backbone"}, default="unit"
        Pixels scaled to [0, 1] and left there, as in the paper; then normalised by the mean and
        standard deviation of ImageNet; or by those that this backbone was trained with.
    features : {"pooled", "logits"}, default="pooled"
        What the last linear layer takes (for EfficientNet-B0 the 1280 spatial means of its last
        feature map), or its 1000 outputs; with "logits" that layer is trained, too, by
        cross-entropy over its first n_classes outputs.
    extra_features : None, "stages" or tuple of (int, str), default=None
        What to append to these features from maps of earlier stages: of each stage (-1 is the
        last one) how its map is pooled over its positions, "avg", "max", "std" or "gem" (the
        generalised mean, of power 3), such as ``((-1, "max"), (-3, "avg"))``. "stages" means
        mean and standard deviation of the five stages before the last: 1344 more values for
        MobileNetV2, 1488 for EfficientNet-B0. The network alone decides without them.
    views : {"original", "dihedral"}, default="original"
        "dihedral" averages the features over the eight orientations of a picture, quarter turns
        and their mirror images, which takes eight times as long: cells have no orientation.
    cache : path, Cache or None, default=None
        Folder that keeps the features of each image, and the tuned network if `random_state` is
        an integer, for all fits that would compute the same: in the folds and candidates of a
        search, in other processes, and later. See `Cache`.
    runtime : {"auto", "torch", "onnxruntime", "openvino"}, default="auto"
        What computes the features: "auto" takes torch on a GPU and onnxruntime, about twice as
        fast, on a CPU; where a network cannot be exported for it, torch, with a warning. Their
        features differ in the last digits. `runtime_` says what it was.
    device : str, default="auto"
        Where torch computes: "cpu", "cuda", ..., or "auto" for the GPU if there is one. A model
        that was fitted on a GPU computes on the CPU where there is none.
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
        The layer that classified in training. None where there is none: without fine-tuning,
        or with ``features="logits"``.
    classes_ : ndarray of shape (n_classes,)
        The labels; only after fine-tuning.
    history_ : list of dict
        For each epoch "epoch", "dur" (seconds), "train_loss", "train_acc" and, with validation,
        "valid_loss" and "valid_acc"; empty without fine-tuning.
    transform_ : ImageTransform
        What happens to an image before the network, as plain data.
    runtime_ : {"torch", "onnxruntime", "openvino"}
        What computes the features.
    n_features_in_ : int
        Number of columns seen in `fit`; only where `X` holds one image per row.

    See Also
    --------
    EfficientNetFeaturizer : The same, for the EfficientNet family alone.
    CNNClassifier : The fine-tuned network's own decision.
    HybridClassifier : Features and boosted trees in one classifier.

    Notes
    -----
    The features of an image never depend on the images beside it, to the bit. Memory holds one
    small batch of pictures and, at 4 bytes a value, the features; in training, one batch with
    what the network computes for it, and three to four times the network's weights.

    The statistics of batch norms are gathered anew after the last epoch, from all training
    images: after few steps they would lag behind, and the network would predict at chance.

    ``fit_transform`` gives features of images that the network was trained on. They look
    cleaner than those of new images: see ``head_protocol`` of `HybridClassifier`.

    The features of random weights (``weights=None``, not fine-tuned) are tiny, about 1e-13 for
    EfficientNet-B0: good enough for trees and for trying things out, not for heads that care
    for scale.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import ImageFeaturizer
    >>> X = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    >>> featurizer = ImageFeaturizer(
    ...     "resnet18", weights=None, crop_size=None, image_size=32, max_epochs=1, random_state=0
    ... )
    >>> featurizer.fit(X, ["ALL", "HEM"] * 3).transform(X).shape
    (6, 512)
    >>> sorted(featurizer.history_[0])
    ['dur', 'epoch', 'train_acc', 'train_loss']
    """

    # With metadata routing on, subjects come along without being asked for: a fit that does not
    # know them would tear them apart.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, BackboneSpec, callable],
        "weights": [str, os.PathLike, None],
        "fine_tune": ["boolean"],
        "trainable": [
            StrOptions({"all", "head"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "freeze_batch_norm": ["boolean"],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither"), tuple, list],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "augmentation": [StrOptions({"paper"}), Augmentation, None],
        "minority_augmentation": [Augmentation, None],
        "early_stopping": ["boolean", Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "frozen_views": [Interval(Integral, 1, None, closed="left")],
        "precision": [StrOptions({"float32", "mixed"})],
        "recipe": [FineTuning, None],
        "callbacks": [list, None],
        "crop_size": [Interval(Integral, 1, None, closed="left"), None],
        "image_size": [Interval(Integral, 1, None, closed="left")],
        "image_shape": [tuple, list, None],
        "stain": [StrOptions(set(STAINS)), None],
        "foreground": ["boolean"],
        "normalize": [StrOptions({"unit", "imagenet", "backbone"})],
        "features": [StrOptions({"pooled", "logits"})],
        "extra_features": [StrOptions({"stages"}), tuple, list, None],
        "views": [StrOptions({"original", "dihedral"})],
        "cache": [str, os.PathLike, Cache, None],
        "runtime": [StrOptions(set(RUNTIMES))],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone: str | BackboneSpec | Callable[..., torch.nn.Module] = "efficientnet_b0",
        *,
        weights: str | os.PathLike[str] | None = "imagenet",
        fine_tune: bool = True,
        trainable: str | int = "all",
        freeze_batch_norm: bool = False,
        max_epochs: int = 5,
        batch_size: int = 40,
        optimizer: str | type[torch.optim.Optimizer] = "adamax",
        lr: float | tuple[float, float, float] = 1e-3,
        class_weight: str | dict[Any, float] | None = None,
        augmentation: str | Augmentation | None = "paper",
        minority_augmentation: Augmentation | None = None,
        early_stopping: bool | int = False,
        validation_fraction: float = 0.1,
        frozen_views: int = 5,
        precision: str = "float32",
        recipe: FineTuning | None = None,
        callbacks: Sequence[Any] | None = None,
        crop_size: int | None = 448,
        image_size: int = 224,
        image_shape: tuple[int, ...] | None = None,
        stain: str | None = None,
        foreground: bool = False,
        normalize: str = "unit",
        features: str = "pooled",
        extra_features: str | Sequence[tuple[int, str]] | None = None,
        views: str = "original",
        cache: str | os.PathLike[str] | Cache | None = None,
        runtime: str = "auto",
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.fine_tune = fine_tune
        self.trainable = trainable
        self.freeze_batch_norm = freeze_batch_norm
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.class_weight = class_weight
        self.augmentation = augmentation
        self.minority_augmentation = minority_augmentation
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.frozen_views = frozen_views
        self.precision = precision
        self.recipe = recipe
        self.callbacks = callbacks
        self.crop_size = crop_size
        self.image_size = image_size
        self.image_shape = image_shape
        self.stain = stain
        self.foreground = foreground
        self.normalize = normalize
        self.features = features
        self.extra_features = extra_features
        self.views = views
        self.cache = cache
        self.runtime = runtime
        self.device = device
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
        """Build the network, load its weights, and train it if `fine_tune` is set.

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
        task = self._init_callback_context(max_subtasks=self._n_epochs())
        data = callback_data(X, y, sample_weight)
        task.call_on_fit_task_begin(estimator=self, **data)
        self._fit(
            CallbackSteps("epoch", self, task, data),
            vars,
            X,
            y,
            groups=groups,
            sample_weight=sample_weight,
            X_val=X_val,
            y_val=y_val,
            groups_val=groups_val,
        )
        task.call_on_fit_task_end(estimator=self, reconstruction_attributes={}, **data)
        return self

    def _n_epochs(self) -> int:
        return self.max_epochs if self.fine_tune else 0

    def _fit(
        self,
        epochs: CallbackSteps,
        describe: Callable[[Self], dict[str, Any]],
        X: Any,
        y: Any,
        *,
        groups: Any,
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
        groups_val: Any,
    ) -> None:
        """Fit, and tell callbacks of each epoch.

        `describe` gives the attributes of the estimator that they look at from a featurizer that
        is fitted so far.
        """
        images = self._check_images(X, reset=True)
        device = resolve_device(self.device)
        check_precision(self.precision, device)
        spec = self._check_backbone()
        rng = check_random_state(self.random_state)
        weights_seed, split_seed, training_seed = (draw_seed(rng) for _ in range(3))
        rows: tuple[LabelledImages, LabelledImages | None] | None = None
        if self.fine_tune:
            train = self._check_labels(images, y, groups, sample_weight)
            validation = check_validation(train, self._check_images, X_val, y_val, groups_val)
            rows = train, validation
            if validation is None and self._patience() is not None:
                rows = train.train_validation_split(self.validation_fraction, split_seed)
        else:
            check_weight(images, sample_weight)
        module, parts = self._build(spec, weights_seed)
        width = feature_width(module, self.image_size)
        if rows is None:
            self._set_fitted_state(spec, module, width)
            return
        trainee = self._prepare(module, parts, width, rows[0], training_seed)
        classes = rows[0].classes()

        def fitted(twin: TrainableNetwork, history: list[dict[str, float]]) -> dict[str, Any]:
            other = copy.copy(self)
            other._set_fitted_state(spec, twin.body, width, twin.head, history, classes)
            return describe(other)

        watch = EpochObserver(epochs, fitted)
        training = dataclasses.replace(self._training(device, training_seed), watch=watch)
        history = self._tune(trainee, rows, _make_transform(self, spec), training)
        self._set_fitted_state(spec, module, width, trainee.head, history, classes)

    def _set_fitted_state(
        self,
        spec: BackboneSpec,
        module: torch.nn.Module,
        width: int,
        head: torch.nn.Module | None = None,
        history: list[dict[str, float]] | None = None,
        classes: npt.NDArray[Any] | None = None,
    ) -> None:
        """Take on a network; what belongs to a former fit goes."""
        self.spec_, self.module_, self.transform_ = spec, module, _make_transform(self, spec)
        self.head_, self.history_ = head, history or []
        self.__dict__.pop("classes_", None)
        if classes is not None:
            self.classes_ = classes
        extra = _check_extra(self.extra_features)
        self._extractor = FeatureExtractor(module, spec, self.transform_, self.runtime, extra)
        self._n_features_out = self._extractor.width() if extra else width

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Compute the features of images.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            The features; 1280 wide for EfficientNet-B0.

        Raises
        ------
        UnsupportedInputError, ImageDecodeError
            If `X` is of an unknown form, or an image cannot be read.
        """
        return self._features(X)

    def _features(self, X: Any) -> npt.NDArray[np.float32]:
        # Beside `transform`, whose output set_output may turn into a data frame.
        return self._extract(X, Views(self.views == "dihedral"))

    def _features_of_views(self, X: Any) -> npt.NDArray[np.float32]:
        """Give the features of each view: shape (n_samples, n_views, n_features_out)."""
        views = Views(self.views == "dihedral", average=False)
        return self._extract(X, views).reshape(-1, views.count, self._n_features_out)

    def _extract(self, X: Any, views: Views) -> npt.NDArray[np.float32]:
        check_is_fitted(self)
        images = self._check_images(X, reset=False)
        device = resolve_device(self.device, or_cpu=True)
        return extract_features(
            images,
            self.transform_,
            lambda: self._extractor.start(device),
            self._n_features_out * (1 if views.average else views.count),
            views=views,
            feature_cache=self._extractor.feature_cache(Cache.at(self.cache), device, views),
            progress=bool(self.verbose),
        )

    @property
    def runtime_(self) -> str:
        """What computes the features: "torch", "onnxruntime" or "openvino"."""
        check_is_fitted(self)
        return self._extractor.name(resolve_device(self.device, or_cpu=True))

    def _check_images(self, X: Any, *, reset: bool) -> ImageSequence:
        """Give `X` as a sequence of images; check rows of numbers as scikit-learn does."""
        if self.image_shape is None or isinstance(X, ImageSequence):
            return as_images(X)
        return self._rows_to_images(validate_data(self, X, reset=reset, dtype="numeric"))

    def _rows_to_images(self, rows: npt.NDArray[Any]) -> ImageSequence:
        return ImageSequence(rows, image_shape=self.image_shape)

    def _check_backbone(self) -> BackboneSpec:
        return get_backbone_spec(self.backbone)

    def _check_labels(
        self, images: ImageSequence, y: Any, groups: Any, sample_weight: Any
    ) -> LabelledImages:
        if y is None:
            raise UnsupportedInputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: with "
                "fine_tune=True it learns from the labels; fine_tune=False keeps the network as "
                "it was loaded"
            )
        train = LabelledImages.check(images, y, groups=groups, sample_weight=sample_weight)
        train.classes()
        return train

    def _build(self, spec: BackboneSpec, seed: int) -> tuple[torch.nn.Module, dict[str, list[Any]]]:
        """Build the network up to its features, and list the parts that are trained otherwise."""
        logits = self.features == "logits"
        module = build_backbone(
            spec, self.weights, seed=seed, keep_head=logits, progress=bool(self.verbose)
        )
        parts: dict[str, list[Any]] = {"frozen": [], "stem": [], "top": [], "stages": []}
        if self.fine_tune and self.trainable != "all":
            n_last = 0 if self.trainable == "head" else int(self.trainable)
            parts["frozen"] = list_frozen(module, spec, n_last)
        if self.fine_tune and not isinstance(self.lr, Real):
            parts["stem"] = next(iter(list_stages(module, spec)), [])
            head = spec.head_of(module)
            parts["top"] = [] if head is None else [module.get_submodule(head)]
        if self.fine_tune and self._recipe().gradual_unfreezing:
            parts["stages"] = list_unfrozen(module, spec, parts["frozen"])
        return module if logits else remove_head(module, spec), parts

    def _prepare(
        self,
        module: torch.nn.Module,
        parts: dict[str, list[Any]],
        width: int,
        train: LabelledImages,
        seed: int,
    ) -> TrainableNetwork:
        """Put a new linear layer on the network, unless its own outputs are trained."""
        n_classes = len(train.classes())
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
        rows: tuple[LabelledImages, LabelledImages | None],
        transform: ImageTransform,
        training: TrainingConfig,
    ) -> list[dict[str, float]]:
        train, validation = rows
        classes = train.classes()
        weight = train.balanced(self.class_weight)
        train, weight = train.take(weight > 0), weight[weight > 0]
        sampling_weight = train.sampling_weights(training.recipe.sampling)

        def as_data(part: LabelledImages, weight: npt.NDArray[np.float64]) -> TrainingDataset:
            target = part.encode(classes)
            return TrainingDataset(part.images, target, weight.astype(np.float32), transform)

        cache = Cache.at(self.cache) if isinstance(self.random_state, Integral) else None
        return fine_tune_cached(
            cache,
            lambda: network_digest(trainee.body, self._check_backbone(), self.image_size),
            trainee,
            dataclasses.replace(as_data(train, weight), sampling_weight=sampling_weight),
            None if validation is None else as_data(validation, validation.weight),
            training,
        )

    def _patience(self) -> int | None:
        # True is 1 to Python, but not here.
        if isinstance(self.early_stopping, bool | np.bool_):
            return _PATIENCE if self.early_stopping else None
        return int(self.early_stopping)

    def _recipe(self) -> FineTuning:
        return FineTuning() if self.recipe is None else self.recipe

    def _training(self, device: torch.device, seed: int) -> TrainingConfig:
        optimizer, views = self.optimizer, self.augmentation
        return TrainingConfig(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            optimizer=OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer,
            lr=_check_rates(self.lr),
            freeze_batch_norm=bool(self.freeze_batch_norm),
            augmentation=Augmentation() if isinstance(views, str) else views,
            minority_augmentation=self.minority_augmentation,
            patience=self._patience(),
            mixed_precision=self.precision == "mixed",
            device=device,
            seed=seed,
            verbose=int(self.verbose),
            n_views=self.frozen_views,
            callbacks=self.callbacks or (),
            recipe=self._recipe(),
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        tags.target_tags.required = bool(self.fine_tune)
        return tags


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
    >>> from effboost import EfficientNetFeaturizer
    >>> X = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    >>> featurizer = EfficientNetFeaturizer(
    ...     weights=None, crop_size=None, image_size=32, max_epochs=1
    ... )
    >>> features = featurizer.fit(X, ["ALL", "HEM", "HEM", "ALL"]).transform(X)
    >>> features.shape, features.dtype
    ((4, 1280), dtype('float32'))
    """

    def _check_backbone(self) -> BackboneSpec:
        spec = super()._check_backbone()
        if spec.family != "efficientnet":
            raise UnknownBackboneError(
                f"backbone {spec.name!r} is no EfficientNet; ImageFeaturizer takes any network"
            )
        return spec


def _check_rates(lr: Any) -> Any:
    if isinstance(lr, Real):
        return lr
    rates = tuple(lr)
    if len(rates) != 3 or not all(isinstance(r, Real) and float(r) > 0 for r in rates):
        raise ValueError(
            f"lr={lr!r}; it is one number above 0, or three: of the first stage, of the further "
            "ones, and of the layer that classifies"
        )
    return rates


def _check_extra(extra: Any) -> Any:
    if extra is None or isinstance(extra, str):
        return extra
    for pair in extra:
        if len(pair) != 2 or not isinstance(pair[0], Integral) or pair[1] not in POOLINGS:
            raise ValueError(
                f"extra_features={extra!r}; it is pairs of a stage and a pooling, such as "
                f'((-1, "max"), (-3, "avg")); there are {", ".join(POOLINGS)}'
            )
    return tuple((int(stage), pooling) for stage, pooling in extra)


def _make_transform(featurizer: ImageFeaturizer, spec: BackboneSpec) -> ImageTransform:
    transform = ImageTransform(
        featurizer.crop_size,
        featurizer.image_size,
        stain=featurizer.stain,
        foreground=bool(featurizer.foreground),
    )
    if featurizer.normalize == "unit":
        return transform
    # A spec with nothing said about it has ImageNet's normalisation.
    source = spec if featurizer.normalize == "backbone" else BackboneSpec("imagenet")
    return dataclasses.replace(transform, mean=source.mean, std=source.std)
