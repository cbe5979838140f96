"""Ready-made hybrid classifiers, as plain functions."""

from __future__ import annotations

from typing import Any

from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost._heads.linear_boosted import LinearBoostedClassifier
from effboost._hybrid_classifier import HybridClassifier
from effboost._training.config import Regularization, Schedule
from effboost._transforms import Augmentation
from effboost.backbones._timm import PREFIX

__all__ = ["frozen", "paper", "paper_code", "recommended"]


def paper(
    backbone: Any = "efficientnet_b0",
    *,
    weights: Any = "imagenet",
    device: Any = "auto",
    random_state: Any = None,
    verbose: int = 0,
    **keywords: Any,
) -> HybridClassifier:
    """Return the hybrid of the paper's text.

    EfficientNet-B0 from ImageNet weights, on a 448-pixel centre crop resized to 224 and scaled to
    [0, 1], is fine-tuned for 5 epochs (Adamax, learning rate 1e-3, batches of 40, cross-entropy,
    flips with probability 0.2 each, rotation within 10 degrees). XGBoost with a learning rate of
    0.35 is fitted on its 1280 features of the same images.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default="efficientnet_b0"
        The network; see `ImageFeaturizer`. The paper also tries "vgg16", "resnet18" and
        "inception_v3".
    weights : "imagenet", path or None, default="imagenet"
        Its initial weights; see `ImageFeaturizer`.
    device : str, default="auto"
        Where torch computes; see `ImageFeaturizer`.
    random_state : int, RandomState instance or None, default=None
        See `HybridClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr, 2 also a table of the epochs.
    **keywords
        ``fine_tune=False``, and any other parameter of `ImageFeaturizer`, `FineTuning` and
        `ImageTransform` by its own name: ``image_size``, ``crop_size``, ``normalize``,
        ``max_epochs``, ``lr``, ``cache``, ``runtime``, ... Each is passed to the object that has
        it.

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
    return HybridClassifier(
        build_featurizer(backbone, weights=weights, device=device, **keywords),
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
    **keywords: Any,
) -> HybridClassifier:
    """Return the hybrid of a public script that matches the paper, except for the features.

    The script keeps the network's 1000 outputs for ImageNet, trains by cross-entropy over the first
    of them, one per class, and fits XGBoost on all 1000, instead of on the 1280 pooled features
    that the text describes. It is probably, but not certainly, the authors' script. Its faults are
    not repeated: it evaluates on augmented images with batch norms in training mode, and selects
    models by the test images.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default="efficientnet_b0"
        The network; see `ImageFeaturizer`.
    weights : "imagenet", path or None, default="imagenet"
        Its initial weights; see `ImageFeaturizer`.
    device : str, default="auto"
        Where torch computes; see `ImageFeaturizer`.
    random_state : int, RandomState instance or None, default=None
        See `HybridClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr, 2 also a table of the epochs.
    **keywords
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
        **({"features": "logits"} | keywords),
    )


def frozen(
    backbone: Any = "efficientnet_b0",
    *,
    weights: Any = "imagenet",
    device: Any = "auto",
    random_state: Any = None,
    verbose: int = 0,
    **keywords: Any,
) -> HybridClassifier:
    """Return a hybrid with a network that is not fine-tuned.

    Unlike the paper's settings, these suit any network and any size of image: images are not
    cropped, and pixels are normalised as in the pretraining of the network. The head is the
    paper's.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default="efficientnet_b0"
        The network; see `ImageFeaturizer`.
    weights : "imagenet", path or None, default="imagenet"
        Its initial weights; see `ImageFeaturizer`.
    device : str, default="auto"
        Where torch computes; see `ImageFeaturizer`.
    random_state : int, RandomState instance or None, default=None
        See `HybridClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr, 2 also a table of the epochs.
    **keywords
        Any other parameter of `ImageFeaturizer` and `ImageTransform` by its own name:
        ``image_size``, ``crop_size``, ``normalize``, ``cache``, ``runtime``, ...

    Returns
    -------
    HybridClassifier
        Not yet fitted. Each parameter can be set by its nested name, such as
        ``set_params(classifier__max_depth=3)``.

    Examples
    --------
    >>> from effboost import presets
    >>> presets.frozen("mobilenet_v2").get_params()["featurizer__transform__normalize"]
    'backbone'
    """
    settings = {"fine_tune": False, "crop_size": None, "normalize": "backbone"} | keywords
    return HybridClassifier(
        build_featurizer(
            backbone, kind=ImageFeaturizer, weights=weights, device=device, **settings
        ),
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
    **keywords: Any,
) -> HybridClassifier:
    """Return the hybrid that did best in effboost's own comparisons.

    Cells whose background was cut out are cropped, and images resized to 320 pixels. Mean and
    standard deviation of five stages before the last are averaged over the four orientations of
    each image. The head averages the probabilities of a linear model and of column-sampled
    boosted trees. The regularisation of the linear model is chosen by cross-validation over
    subjects.

    Parameters
    ----------
    backbone : str, BackboneSpec or callable, default="efficientnet_b0"
        The network; see `ImageFeaturizer`. Networks of timm keep their pooled
        features and 224 pixels, since vision transformers were not compared.
    weights : "imagenet", path or None, default="imagenet"
        Its initial weights; see `ImageFeaturizer`.
    fine_tune : bool, default=False
        First train the last three stages for 10 epochs, on 224 pixels; the features of the last
        stage are then used, too: AdamW with a lower learning rate than for
        the classification layer, warm-up and a cosine schedule, label smoothing, averaged weights,
        training images in all orientations and with jittered stains; the loaded batch norm
        statistics are kept. This takes many times as long, and is rarely better with pretrained
        weights. With ``weights=None``, all stages are trained, at one rate, and batch norm
        statistics are estimated. With a hundred subjects or more, also use
        ``set_params(calibration="temperature")``.
    device : str, default="auto"
        Where torch computes; see `ImageFeaturizer`.
    random_state : int, RandomState instance or None, default=None
        See `HybridClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr, 2 also a table of the epochs.
    **keywords
        Any other parameter of `ImageFeaturizer`, `ImageTransform` and, with `fine_tune`,
        `FineTuning` by its own name: ``image_size``, ``crop_size``, ``max_epochs``, ``lr``,
        ``cache``, ``runtime``, ...

    Returns
    -------
    HybridClassifier
        Not yet fitted.

    Examples
    --------
    >>> from effboost import presets
    >>> presets.recommended("mobilenet_v2").classifier
    LinearBoostedClassifier()
    >>> presets.recommended("mobilenet_v2", fine_tune=True).featurizer.training.optimizer
    'adamw'
    """
    settings: dict[str, Any] = {
        "fine_tune": fine_tune,
        "crop_size": None,
        "foreground": "masked",
        "normalize": "backbone",
        "extra_features": "stages",
        "views": "rotations",
    }
    if fine_tune:
        settings |= _careful_training(pretrained=weights is not None)
    elif not str(getattr(backbone, "name", backbone)).startswith(PREFIX):
        settings |= {"features": None, "image_size": 320}
    return HybridClassifier(
        build_featurizer(
            backbone,
            kind=ImageFeaturizer,
            weights=weights,
            device=device,
            **(settings | keywords),
        ),
        LinearBoostedClassifier(),
        random_state=random_state,
        verbose=verbose,
    )


def _careful_training(*, pretrained: bool) -> dict[str, Any]:
    """Return parameters of training that change pretrained weights little, and suit few images."""
    settings = {
        "augmentation": Augmentation(0.5, 0.5, rotation=0, quarter_turns=True, stain_jitter=0.2),
        "optimizer": "adamw",
        "max_epochs": 10,
        "schedule": Schedule("cosine", warmup_fraction=0.1),
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "regularization": Regularization(weight_average="ema"),
    }
    if pretrained:
        # The first stage's rate is for whoever sets trainable="all".
        settings |= {"lr": (1e-5, 1e-4, 1e-3), "trainable": 3, "freeze_batch_norm": True}
    return settings
