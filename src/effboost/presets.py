"""Ready-made hybrid classifiers, as plain functions."""

from __future__ import annotations

from typing import Any

from effboost._featurizer import ImageFeaturizer
from effboost._hybrid import HybridClassifier

__all__ = ["frozen"]


def frozen(
    backbone: Any = "efficientnet_b0",
    *,
    weights: Any = "imagenet",
    crop_size: int | None = None,
    image_size: int = 224,
    normalize: str = "backbone",
    device: Any = "auto",
    random_state: Any = None,
    verbose: int = 0,
) -> HybridClassifier:
    """Give a hybrid on a network that stays as it was pretrained.

    Unlike the paper's settings, these fit any network and any size of image: nothing is cropped
    and pixels are normalised the way the network was trained with. The head is the paper's.

    Parameters
    ----------
    backbone, weights, crop_size, image_size, normalize, device
        Parameters of `ImageFeaturizer`; only the defaults differ.
    random_state, verbose
        Parameters of `HybridClassifier`.

    Returns
    -------
    HybridClassifier
        Not yet fitted. Everything else can be set by its nested name, such as
        ``set_params(classifier__max_depth=3)``.

    Examples
    --------
    >>> from effboost import presets
    >>> presets.frozen("mobilenet_v2").featurizer.normalize
    'backbone'
    """
    featurizer = ImageFeaturizer(
        backbone,
        weights=weights,
        fine_tune=False,
        crop_size=crop_size,
        image_size=image_size,
        normalize=normalize,
        device=device,
    )
    return HybridClassifier(featurizer, random_state=random_state, verbose=verbose)
