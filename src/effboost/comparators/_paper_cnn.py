"""The paper's network without XGBoost."""

from __future__ import annotations

from typing import Any

from effboost._cnn_classifier import CNNClassifier
from effboost.presets import paper

__all__ = ["paper_cnn"]


def paper_cnn(
    *, weights: Any = "imagenet", random_state: Any = None, verbose: int = 0, **featurizer: Any
) -> CNNClassifier:
    """Build EfficientNet-B0 alone, fine-tuned as in the paper, with its own softmax.

    All settings are those of `presets.paper`. The paper reports an accuracy of 0.81, and 0.85 with
    XGBoost on the features.

    The network has 5,288,548 parameters with its 1000-class head.

    Parameters
    ----------
    weights : "imagenet", path or None, default="imagenet"
        Initial weights of the network.
    random_state : int, RandomState instance or None, default=None
        Seed of the `CNNClassifier`.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size`` or ``max_epochs``.

    Returns
    -------
    CNNClassifier
        The unfitted classifier.

    Examples
    --------
    >>> from effboost.comparators import paper_cnn
    >>> paper_cnn().featurizer
    EfficientNetFeaturizer()
    """
    network = paper(weights=weights, **featurizer).featurizer
    return CNNClassifier(network, random_state=random_state, verbose=verbose)
