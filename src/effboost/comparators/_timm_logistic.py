"""A simple baseline: a pretrained network of timm and logistic regression."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression

from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost._hybrid_classifier import HybridClassifier
from effboost.backbones import timm_spec

__all__ = ["timm_logistic"]


def timm_logistic(
    name: str = "mobilenetv3_large_100",
    *,
    weights: Any = "imagenet",
    random_state: Any = None,
    verbose: int = 0,
    **featurizer: Any,
) -> HybridClassifier:
    """Build a baseline: logistic regression on the features of a frozen timm network.

    This is the approach of embetter, with the default network of its encoder. Here, the whole image
    is resized bilinearly; embetter crops the centre of a slightly larger image. The baseline is not
    from a paper, so nothing is assumed.

    The default network has 5,483,032 parameters with its 1000-class head.

    Parameters
    ----------
    name : str, default="mobilenetv3_large_100"
        Name of the network in timm. Needs the extra ``comparators``.
    weights : "imagenet", path or None, default="imagenet"
        Weights of the network.
    random_state : int, RandomState instance or None, default=None
        Seed of the `HybridClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size``.

    Returns
    -------
    HybridClassifier
        The unfitted classifier.

    Examples
    --------
    >>> from effboost.comparators import timm_logistic
    >>> timm_logistic().classifier
    LogisticRegression(max_iter=1000)
    """
    settings = {
        "backbone": timm_spec(name),
        "weights": weights,
        "fine_tune": False,
        "crop_size": None,
        "normalize": "backbone",
    }
    return HybridClassifier(
        build_featurizer(kind=ImageFeaturizer, **(settings | featurizer)),
        LogisticRegression(max_iter=1000),
        random_state=random_state,
        verbose=verbose,
    )
