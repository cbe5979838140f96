"""InceptionV3 and XGBoost, of Ramaneswaran et al. 2021."""

from __future__ import annotations

from typing import Any

from effboost._hybrid_classifier import HybridClassifier
from effboost.presets import paper

__all__ = ["inception_xgboost"]


def inception_xgboost(
    *, weights: Any = "imagenet", random_state: Any = None, verbose: int = 0, **featurizer: Any
) -> HybridClassifier:
    """Build fine-tuned InceptionV3 with XGBoost on its features, of Ramaneswaran et al.

    Known from the source: InceptionV3 is fine-tuned, then XGBoost is fitted on its features.
    Assumed: ImageNet weights with their normalisation, images of 299 pixels, and all settings of
    training and of XGBoost, which are those of `presets.paper`.

    The weighted F1 of 0.986 is typical of splits by image: on this data, a published notebook has
    0.975 to 0.985 with such splits, and 0.82 to 0.88 by subject.

    InceptionV3 has 27,161,264 parameters with its 1000-class head and its auxiliary classifier,
    which is left out in training here.

    Parameters
    ----------
    weights : "imagenet", path or None, default="imagenet"
        Initial weights of the network.
    random_state : int, RandomState instance or None, default=None
        Seed of the `HybridClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size`` or ``max_epochs``.

    Returns
    -------
    HybridClassifier
        The unfitted classifier.

    References
    ----------
    S. Ramaneswaran et al., "Hybrid Inception v3 XGBoost model for acute lymphoblastic leukemia
    classification", Computational and Mathematical Methods in Medicine, 2021.

    Examples
    --------
    >>> from effboost.comparators import inception_xgboost
    >>> inception_xgboost().get_params()["featurizer__transform__image_size"]
    299
    """
    settings = {"backbone": "inception_v3", "image_size": 299, "normalize": "backbone"}
    return paper(
        weights=weights, random_state=random_state, verbose=verbose, **(settings | featurizer)
    )
