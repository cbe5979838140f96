"""Ready-made hybrid classifiers, as plain functions."""

from __future__ import annotations

from typing import Any

from effboost._featurizer import EfficientNetFeaturizer, ImageFeaturizer
from effboost._heads.linear_boosted import LinearBoostedClassifier
from effboost._hybrid_classifier import HybridClassifier
from effboost._training.config import FineTuning
from effboost._transforms import Augmentation
from effboost.backbones import get_backbone_spec

__all__ = ["frozen", "paper", "paper_code", "recommended"]


def paper(
    backbone: Any = "efficientnet_b0",
    *,
    weights: Any = "imagenet",
    device: Any = "auto",
    random_state: Any = None,
    verbose: int = 0,
    **featurizer: Any,
) -> HybridClassifier:
    """Give the hybrid of the paper's text.

    EfficientNet-B0 from ImageNet weights, on a 448-pixel centre crop resized to 224 and scaled
    to [0, 1], is fine-tuned for 5 epochs (Adamax, learning rate 1e-3, batches of 40,
    cross-entropy, flips with probability 0.2 each, rotation within 10 degrees). XGBoost with a
    learning rate of 0.35 decides on its 1280 features, and learns from the images that the
    network was tuned on.

    Parameters
    ----------
    backbone, weights, device
        Parameters of `ImageFeaturizer`. The paper also tries "vgg16", "resnet18" and
        "inception_v3".
    random_state, verbose
        Parameters of `HybridClassifier`.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size`` or ``max_epochs``.

    Returns
    -------
    HybridClassifier
        Not yet fitted.

    References
    ----------
    "Advancing the Diagnosis of Acute Lymphoblastic Leukemia with Hybrid Neural Networks".

    Examples
    --------
    >>> from effboost import presets
    >>> presets.paper().featurizer
    EfficientNetFeaturizer()
    """
    family = get_backbone_spec(backbone).family
    kind = EfficientNetFeaturizer if family == "efficientnet" else ImageFeaturizer
    return HybridClassifier(
        kind(backbone, weights=weights, device=device, **featurizer),
        random_state=random_state,
        verbose=verbose,
    )


def paper_code(
    backbone: Any = "efficientnet_b0",
    *,
    weights: Any = "imagenet",
    device: Any = "auto",
    random_state: Any = None,
    verbose: int = 0,
    **featurizer: Any,
) -> HybridClassifier:
    """Give the hybrid of a public script that matches the paper but for the features.

    The script keeps the network's 1000 outputs for ImageNet, trains by cross-entropy over the
    first of them, and hands all 1000 to XGBoost, instead of the 1280 pooled features that the
    text speaks of. That it is the authors' is inferred, not known. Its faults (augmented
    images, and batch norms in training mode, at evaluation; choosing by the test images) are
    not repeated.

    Parameters
    ----------
    backbone, weights, device, random_state, verbose, **featurizer
        See `paper`.

    Returns
    -------
    HybridClassifier
        Not yet fitted.

    Examples
    --------
    >>> from effboost import presets
    >>> presets.paper_code().featurizer
    EfficientNetFeaturizer(features='logits')
    """
    return paper(
        backbone,
        weights=weights,
        device=device,
        random_state=random_state,
        verbose=verbose,
        **({"features": "logits"} | featurizer),
    )


def frozen(
    backbone: Any = "efficientnet_b0",
    *,
    weights: Any = "imagenet",
    device: Any = "auto",
    random_state: Any = None,
    verbose: int = 0,
    **featurizer: Any,
) -> HybridClassifier:
    """Give a hybrid on a network that stays as it was pretrained.

    Unlike the paper's settings, these fit any network and any size of image: nothing is cropped
    and pixels are normalised the way the network was trained with. The head is the paper's.

    Parameters
    ----------
    backbone, weights, device
        Parameters of `ImageFeaturizer`.
    random_state, verbose
        Parameters of `HybridClassifier`.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size``.

    Returns
    -------
    HybridClassifier
        Not yet fitted. Everything can be set by its nested name, such as
        ``set_params(classifier__max_depth=3)``.

    Examples
    --------
    >>> from effboost import presets
    >>> presets.frozen("mobilenet_v2").featurizer.normalize
    'backbone'
    """
    settings = {"fine_tune": False, "crop_size": None, "normalize": "backbone"} | featurizer
    return HybridClassifier(
        ImageFeaturizer(backbone, weights=weights, device=device, **settings),
        random_state=random_state,
        verbose=verbose,
    )


def recommended(
    backbone: Any = "efficientnet_b0",
    *,
    weights: Any = "imagenet",
    fine_tune: bool = False,
    device: Any = "auto",
    random_state: Any = None,
    verbose: int = 0,
    **featurizer: Any,
) -> HybridClassifier:
    """Give the hybrid that did best in effboost's own comparisons.

    Features of the network's last stage, and of the five before it, are averaged over the eight
    orientations of each picture; a linear model and column-sampled boosted trees decide
    together. How strongly the linear model is regularised is chosen by subject.

    Parameters
    ----------
    backbone, weights, device
        Parameters of `ImageFeaturizer`.
    fine_tune : bool, default=False
        Tune the last three stages first, for 10 epochs: AdamW with lower rates than for the
        layer that classifies, warm-up and a cosine schedule, label smoothing, averaged weights,
        training pictures in all orientations and with jittered stains, and the batch norms that
        came with the weights. Takes many times as long, and is rarely better where the weights
        know of pictures at all. Without weights, all stages learn, at one rate, and their batch
        norms with them. With a hundred subjects or more,
        ``set_params(calibration="temperature")`` as well.
    random_state, verbose
        Parameters of `HybridClassifier`.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size``.

    Returns
    -------
    HybridClassifier
        Not yet fitted.

    Examples
    --------
    >>> from effboost import presets
    >>> presets.recommended("mobilenet_v2").classifier
    LinearBoostedClassifier()
    >>> presets.recommended("mobilenet_v2", fine_tune=True).featurizer.optimizer
    'adamw'
    """
    settings = {
        "fine_tune": fine_tune,
        "crop_size": None,
        "normalize": "backbone",
        "extra_features": "stages",
        "views": "dihedral",
    }
    if fine_tune:
        settings |= _careful_training(pretrained=weights is not None)
    return HybridClassifier(
        ImageFeaturizer(backbone, weights=weights, device=device, **(settings | featurizer)),
        LinearBoostedClassifier(),
        random_state=random_state,
        verbose=verbose,
    )


def _careful_training(*, pretrained: bool) -> dict[str, Any]:
    """Give parameters of training that keep what the weights know, and suit few pictures."""
    settings = {
        "augmentation": Augmentation(0.5, 0.5, rotation=0, quarter_turns=True, stain_jitter=0.2),
        "optimizer": "adamw",
        "max_epochs": 10,
        "recipe": FineTuning(
            schedule="cosine",
            warmup_fraction=0.1,
            weight_decay=0.05,
            label_smoothing=0.1,
            weight_average="ema",
        ),
    }
    if pretrained:
        # The first stage's rate is for whoever sets trainable="all".
        settings |= {"lr": (1e-5, 1e-4, 1e-3), "trainable": 3, "freeze_batch_norm": True}
    return settings
