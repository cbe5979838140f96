"""Transformers from images to features."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from effboost._compat import Interval, StrOptions, fit_context
from effboost._device import draw_seed, resolve_device
from effboost._extract import extract_features
from effboost._images import ImageSequence, as_images
from effboost._transforms import ImageTransform
from effboost.backbones import (
    BackboneSpec,
    build_backbone,
    feature_width,
    get_backbone_spec,
    remove_head,
)
from effboost.exceptions import UnknownBackboneError
from effboost.runtime import Runtime, TorchRuntime

__all__ = ["EfficientNetFeaturizer", "ImageFeaturizer"]


class ImageFeaturizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turn images into the features of a convolutional network.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default="efficientnet_b0"
        The network: a name of `effboost.backbones.BACKBONES` or of any other torchvision
        classification model, or a callable that builds a `torch.nn.Module` of your own.
    weights : "imagenet", path or None, default="imagenet"
        The weights that torchvision publishes for ImageNet, looked for in ``TORCH_HOME`` and
        else downloaded; a local ``.pth`` (tensors only, no code) or ``.safetensors`` file; or
        None for random ones.
    crop_size : int or None, default=448
        Side of the centre crop in pixels; smaller images are padded with black. None takes each
        image whole.
    image_size : int, default=224
        Side in pixels to which the crop is resized: what the network sees.
    image_shape : tuple (h, w) or (h, w, c), default=None
        Height, width and channels of an image, in pixels, where `X` holds one image per row.
    normalize : {"unit", "imagenet", "backbone"}, default="unit"
        Pixels scaled to [0, 1] and left there, as in the paper; then normalised by the mean and
        standard deviation of ImageNet; or by those that this backbone was trained with.
    features : {"pooled", "logits"}, default="pooled"
        What the last linear layer takes (for EfficientNet-B0 the 1280 spatial means of its last
        feature map), or its 1000 outputs.
    device : str, default="auto"
        Where torch computes: "cpu", "cuda", ..., or "auto" for the GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Draws the random weights of ``weights=None``.
    verbose : int, default=0
        1 shows progress bars on stderr.

    Attributes
    ----------
    spec_ : BackboneSpec
        What is known about the network.
    module_ : torch.nn.Module
        The network, in evaluation mode on the CPU.
    transform_ : ImageTransform
        What happens to an image before the network, as plain data.
    n_features_in_ : int
        Number of columns seen in `fit`; only where `X` holds one image per row.

    See Also
    --------
    EfficientNetFeaturizer : The same, for the EfficientNet family alone.
    HybridClassifier : Features and boosted trees in one classifier.

    Notes
    -----
    The features of an image never depend on the images beside it, to the bit. Memory holds one
    small batch of pictures and, at 4 bytes a value, the features.

    The features of random weights (``weights=None``) are tiny, about 1e-13 for EfficientNet-B0:
    good enough for trees and for trying things out, not for heads that care for scale.

    Examples
    --------
    >>> import numpy as np
    >>> from effboost import ImageFeaturizer
    >>> X = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    >>> featurizer = ImageFeaturizer(
    ...     "resnet18", weights=None, crop_size=None, image_size=32, random_state=0
    ... )
    >>> featurizer.fit_transform(X).shape
    (6, 512)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, BackboneSpec, callable],
        "weights": [str, os.PathLike, None],
        "crop_size": [Interval(Integral, 1, None, closed="left"), None],
        "image_size": [Interval(Integral, 1, None, closed="left")],
        "image_shape": [tuple, list, None],
        "normalize": [StrOptions({"unit", "imagenet", "backbone"})],
        "features": [StrOptions({"pooled", "logits"})],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone: str | BackboneSpec | Callable[..., torch.nn.Module] = "efficientnet_b0",
        *,
        weights: str | os.PathLike[str] | None = "imagenet",
        crop_size: int | None = 448,
        image_size: int = 224,
        image_shape: tuple[int, ...] | None = None,
        normalize: str = "unit",
        features: str = "pooled",
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.crop_size = crop_size
        self.image_size = image_size
        self.image_shape = image_shape
        self.normalize = normalize
        self.features = features
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Build the network and load its weights.

        Parameters
        ----------
        X : images, n_samples of them
            What `ImageSequence` takes. Their form is checked; none is decoded.
        y : ignored
            Not used, present for API consistency.

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
        UnsupportedInputError
            If `X` is of an unknown form.
        """
        self._check_images(X, reset=True)
        resolve_device(self.device)
        spec = self._check_backbone()
        module = self._build(spec)
        transform = _make_transform(self, spec)
        width = feature_width(module, self.image_size)
        self.spec_, self.module_, self.transform_ = spec, module, transform
        self._n_features_out = width
        self._runtime: Runtime | None = None
        return self

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
        check_is_fitted(self)
        images = self._check_images(X, reset=False)
        if self._runtime is None:
            self._runtime = TorchRuntime(self.module_, self.transform_, resolve_device(self.device))
        return extract_features(images, self.transform_, self._runtime, progress=bool(self.verbose))

    def _check_images(self, X: Any, *, reset: bool) -> ImageSequence:
        """Give `X` as a sequence of images; check rows of numbers as scikit-learn does."""
        if self.image_shape is not None and not isinstance(X, ImageSequence):
            X = validate_data(self, X, reset=reset, dtype="numeric")
        return as_images(X, image_shape=self.image_shape)

    def _check_backbone(self) -> BackboneSpec:
        return get_backbone_spec(self.backbone)

    def _build(self, spec: BackboneSpec) -> torch.nn.Module:
        logits = self.features == "logits"
        module = build_backbone(
            spec,
            self.weights,
            seed=draw_seed(self.random_state),
            keep_head=logits,
            progress=bool(self.verbose),
        )
        return module if logits else remove_head(module, spec)

    def __getstate__(self) -> dict[str, Any]:
        # The engine is a second copy of the network, laid out for this machine.
        state = dict(super().__getstate__())
        if "_runtime" in state:
            state["_runtime"] = None
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


class EfficientNetFeaturizer(ImageFeaturizer):
    """Turn images into the features of an EfficientNet.

    This is `ImageFeaturizer`, with the same parameters and attributes, limited to the networks
    of the EfficientNet family: "efficientnet_b0" to "efficientnet_b7" and "efficientnet_v2_s",
    "efficientnet_v2_m", "efficientnet_v2_l". Its defaults are the paper's: EfficientNet-B0 with
    ImageNet weights on a 448-pixel centre crop, resized to 224 and scaled to [0, 1], gives 1280
    features.

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
    >>> featurizer = EfficientNetFeaturizer(weights=None, crop_size=None, image_size=32)
    >>> features = featurizer.fit_transform(X)
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


def _make_transform(featurizer: ImageFeaturizer, spec: BackboneSpec) -> ImageTransform:
    transform = ImageTransform(featurizer.crop_size, featurizer.image_size)
    if featurizer.normalize == "unit":
        return transform
    # A spec with nothing said about it has ImageNet's normalisation.
    source = spec if featurizer.normalize == "backbone" else BackboneSpec("imagenet")
    return dataclasses.replace(transform, mean=source.mean, std=source.std)
