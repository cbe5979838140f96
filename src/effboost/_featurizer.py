"""Transformers from images to features."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_is_fitted

from effboost._extraction.cache import Cache
from effboost._extraction.prepared_images import PreparedImages
from effboost._featurizer_base import BaseImageFeaturizer
from effboost._training.config import FineTuning
from effboost._transforms import ImageTransform
from effboost._utils.compat import StrOptions, fit_context
from effboost._utils.device import resolve_device
from effboost._utils.fit_callbacks import callback_data
from effboost.backbones import BackboneSpec
from effboost.runtime import RUNTIMES

__all__ = ["ImageFeaturizer"]


class ImageFeaturizer(BaseImageFeaturizer):
    """Turn images into the features of a convolutional network, fine-tuned on their labels.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default="efficientnet_b0"
        The network: a name of `effboost.backbones.BACKBONES` or of any other torchvision
        classification model; "timm/" and the name of any network of timm, such as
        "timm/vit_small_patch14_dinov2.lvd142m"; or a callable that builds a `torch.nn.Module` of
        your own.
    weights : "imagenet", path or None, default="imagenet"
        The initial weights: those that torchvision publishes for ImageNet, from ``TORCH_HOME`` or
        downloaded; for a network of timm, those of its name, whatever they were trained on; a local
        ``.pth`` or ``.bin`` (tensors only, no code) or ``.safetensors`` file; or None for random
        weights.
    training : "paper", FineTuning or None, default="paper"
        How `fit` trains the network on the labels; "paper" means ``FineTuning()``. None keeps the
        weights as they were loaded; `fit` then decodes no image.
    transform : "paper" or ImageTransform, default="paper"
        How images are prepared for the network; "paper" means ``ImageTransform()``, a centre crop
        of 448 pixels resized to 224.
    features : {"pooled", "logits", "cls_token", "avg_tokens"} or None, default="pooled"
        The input of the last linear layer (for EfficientNet-B0 the 1280 spatial means of its last
        feature map), or its 1000 outputs; with "logits" that layer is trained, too, by
        cross-entropy over its first n_classes outputs. For vision transformers of timm also the
        class token, or the mean of the patch tokens; "pooled" is what the network was trained to
        classify by, the class token for most. None leaves them out: the features are
        `extra_features` alone, unless "stages" finds no earlier stage in the network. It requires
        ``training=None``.
    extra_features : None, "stages" or tuple of (int, str), default=None
        Further features, from the feature maps of stages (`effboost.backbones.list_stages`): pairs
        of a stage (-1 is the last one) and how its map is pooled over its positions, "avg", "max",
        "std" or "gem" (the generalised mean, of power 3), such as ``((-1, "max"), (-3, "avg"))``.
        "stages" means mean and standard deviation of five earlier stages, the last ones of their
        width (number of channels): 1344 more values for MobileNetV2, 1488 for EfficientNet-B0. The
        stages of a vision transformer of timm are its blocks, their maps the patch tokens;
        "stages" means the blocks at each quarter of its depth. The network's own softmax does not
        use these features.
    views : {"original", "rotations", "dihedral"}, default="original"
        Average the features over the four quarter turns of an image ("rotations"), or over these
        and their mirror images ("dihedral"), since cells have no orientation. The network takes
        four or eight times as long.
    image_shape : tuple (h, w) or (h, w, c), default=None
        Height and width of an image in pixels, and its channels, if `X` has one image per row.
    cache : path, Cache or None, default=None
        Folder in which the features of each image are stored and, if `random_state` is an integer,
        the fine-tuned network. Fits that would compute the same reuse them: folds and candidates of
        a search, other processes, later runs. See `Cache`.
    runtime : {"auto", "torch", "onnxruntime", "openvino"}, default="auto"
        What computes the features. "auto" is torch on a GPU and onnxruntime on a CPU, where it is
        about twice as fast as torch; if the network cannot be exported for onnxruntime, torch is
        used, with a warning. Features of different runtimes differ in their last digits. `runtime_`
        is the runtime that is used.
    device : str, default="auto"
        Where torch computes: "cpu", "cuda", ..., or "auto" for the GPU if there is one. A model
        that was fitted on a GPU uses the CPU on a machine without a GPU.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called in training. An error with ``training=None``.
    random_state : int, RandomState instance or None, default=None
        Controls random weights, the order and views of training images, dropout, and which subjects
        are set aside. The same seed and number of threads give the same bits on one machine's CPU;
        on a GPU, some of torch's sums vary in their last bits.
    verbose : int, default=0
        1 shows progress bars on stderr, 2 also a table of the epochs.

    Attributes
    ----------
    spec_ : BackboneSpec
        Specification of the network.
    module_ : torch.nn.Module
        The network, in evaluation mode on the CPU.
    head_ : torch.nn.Linear or None
        The classification layer of the training. None without fine-tuning, or with
        ``features="logits"``.
    classes_ : ndarray of shape (n_classes,)
        The labels; exists only after fine-tuning.
    history_ : list of dict
        For each epoch "epoch", "dur" (seconds), "train_loss", "train_acc" and, with validation,
        "valid_loss" and "valid_acc"; empty without fine-tuning.
    transform_ : ImageTransform
        The transform, with its normalisation as numbers.
    runtime_ : {"torch", "onnxruntime", "openvino"}
        What computes the features.
    n_features_in_ : int
        Number of columns seen in `fit`; exists only if `X` has one image per row.
    feature_names_in_ : ndarray of shape (n_columns,), object
        Names of these columns; exists only if `X` is a table with names.

    See Also
    --------
    EfficientNetFeaturizer : The same, limited to the EfficientNet family.
    CNNClassifier : The fine-tuned network's own decision.
    HybridClassifier : Features and boosted trees in one classifier.

    Notes
    -----
    The features of an image never depend on the other images, to the bit. Memory is needed for one
    small batch of images and for the features (4 bytes a value); in training, for one batch with
    its activations, and for three to four copies of the network's weights.

    The statistics of batch norms are estimated again after the last epoch, from all training
    images: after few steps, they would lag behind the weights, and the network would predict at
    chance.

    ``fit_transform`` returns features of images that the network was trained on, and decodes each
    image once. These features separate the classes better than those of new images do: see
    ``head_protocol`` of `HybridClassifier`.

    The features of random weights (``weights=None, training=None``) are tiny, about 1e-13 for
    EfficientNet-B0. They suffice for trees and for trying things out, not for classifiers that
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
        "features": [StrOptions({"pooled", "logits", "cls_token", "avg_tokens"}), None],
        "extra_features": [StrOptions({"stages"}), tuple, list, None],
        "views": [StrOptions({"original", "rotations", "dihedral"})],
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
        features: str | None = "pooled",
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
            What `ImageSequence` takes. Without fine-tuning, only their form is checked; no image is
            decoded.
        y : array-like of shape (n_samples,), default=None
            The labels: strings or integers, of two classes or more. Needed for fine-tuning.
        groups : array-like of shape (n_samples,), default=None
            The subject of each image, for the validation split of early stopping and for sampling
            by subject. None uses the groups of an `ImageSequence`; without groups, each image is
            its own subject.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image in the loss; images of weight 0 are left out.
        X_val, y_val : images and labels, default=None
            Images to validate each epoch on, for `history_` and for early stopping.
        groups_val : array-like of shape (n_validation_samples,), default=None
            The subjects of the validation images. None of them may be in `groups`.

        Returns
        -------
        self : object
            The fitted featurizer.

        Raises
        ------
        UnknownBackboneError
            If no backbone has this name.
        WeightsNotFoundError, WeightsMismatchError, WeightsError
            If the weights cannot be found, read or downloaded, or do not match the network.
        UnsupportedInputError, ImageDecodeError
            If `X` or `y` is of an unknown form, or an image cannot be read.
        SplitError
            If a class has too few subjects for the validation split, or the subject of an image is
            missing.
        TrainingError
            If the loss is no longer a finite number.
        LeakageError
            If a subject is in `groups` and in `groups_val`.
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
        X : images, n_samples of them
            What `ImageSequence` takes.
        y : array-like of shape (n_samples,), default=None
            The labels. Needed for fine-tuning.
        groups, sample_weight : array-like of shape (n_samples,), default=None
            Subject and weight of each image; see `fit`.
        X_val, y_val, groups_val : images, labels and subjects, default=None
            What each epoch is validated on; see `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            What `transform` returns for `X` after `fit`.
        """
        data = callback_data(X, y, sample_weight)
        prepared = self._fit(
            X, y, (groups, sample_weight), (X_val, y_val, groups_val), data, self, vars
        )
        return self._compute_features(prepared)

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

    @property
    def runtime_(self) -> str:
        """What computes the features: "torch", "onnxruntime" or "openvino"."""
        check_is_fitted(self)
        return self._extractor.name(resolve_device(self.device, or_cpu=True))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        tags.target_tags.required = self.training is not None
        return tags
