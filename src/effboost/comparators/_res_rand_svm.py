"""ResRandSVM of Sulaiman et al. 2023."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from effboost._featurizer import ImageFeaturizer
from effboost._featurizer_keywords import build_featurizer
from effboost._hybrid_classifier import HybridClassifier

__all__ = ["res_rand_svm"]


def res_rand_svm(
    *, weights: Any = "imagenet", random_state: Any = None, verbose: int = 0, **featurizer: Any
) -> HybridClassifier:
    """Build ResRandSVM: an SVM on the features of ResNet50 that a random forest selects.

    Known from the source: the three parts. Assumed: a frozen network with ImageNet weights and
    their normalisation; features of more than mean importance in a forest of 100 trees;
    standardised features; the radial kernel with scikit-learn's defaults.

    The SVM has a ``decision_function`` and no probabilities.

    ResNet50 has 25,557,032 parameters with its 1000-class head.

    Parameters
    ----------
    weights : "imagenet", path or None, default="imagenet"
        Weights of ResNet50.
    random_state : int, RandomState instance or None, default=None
        Seed of the `HybridClassifier`, and of the forest.
    verbose : int, default=0
        1 shows progress bars on stderr.
    **featurizer
        Any other parameter of `ImageFeaturizer`, such as ``image_size``.

    Returns
    -------
    HybridClassifier
        The unfitted classifier.

    References
    ----------
    A. Sulaiman et al., "ResRandSVM: Hybrid approach for acute lymphocytic leukemia
    classification in blood smear images", Diagnostics 13(12), 2023.

    Examples
    --------
    >>> from effboost.comparators import res_rand_svm
    >>> list(res_rand_svm().classifier.named_steps)
    ['selectfrommodel', 'standardscaler', 'svc']
    """
    settings = {
        "backbone": "resnet50",
        "weights": weights,
        "fine_tune": False,
        "normalize": "backbone",
    }
    forest = RandomForestClassifier(random_state=random_state)
    return HybridClassifier(
        build_featurizer(kind=ImageFeaturizer, **(settings | featurizer)),
        make_pipeline(SelectFromModel(forest), StandardScaler(), SVC()),
        random_state=random_state,
        verbose=verbose,
    )
