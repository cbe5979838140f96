"""Today's plain choice: a pretrained network from timm and logistic regression."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression

from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost._hybrid_classifier import HybridClassifier
from effboost.comparators._timm import timm_spec

__all__ = ["timm_logistic"]


def timm_logistic(
    name: str = "mobilenetv3_large_100",
    *,
    weights: Any = "imagenet",
    random_state: Any = None,
    verbose: int = 0,
    **featurizer: Any,
) -> HybridClassifier:
    """Return a yardstick: features of a frozen timm network, and logistic regression on them.

    This is embetter's way, with the network that its encoder takes by default. Unlike there,
    the whole picture is resized, bilinearly; there, its centre is cut out of a slightly larger
    one. No paper is followed, so nothing is assumed.

    5,483,032 parameters in the default network with its 1000-class head.

    Parameters
    ----------
    name : str, default="mobilenetv3_large_100"
        timm's name of the network. Needs the extra ``comparators``.
    weights : "imagenet", path or None, default="imagenet"
        The network's weights.
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
