"""Settings of the comparators that are made of a featurizer and a head."""

import numpy as np
import pytest
import torch
from sklearn.feature_selection import SelectFromModel
from sklearn.svm import SVC

from common.networks import TinyNet
from effboost import EfficientNetFeaturizer
from effboost.backbones import get_backbone_spec
from effboost.comparators import COMPARATORS, inception_xgboost, paper_cnn, res_rand_svm


@pytest.mark.parametrize(
    ("name", "backbone", "parameters"),
    [
        ("hybrid_efficientnet_b0", "efficientnet_b0", 5_288_548),
        ("efficientnet_b0", "efficientnet_b0", 5_288_548),
        ("hybrid_vgg16", "vgg16", 138_357_544),
        ("hybrid_inception_v3", "inception_v3", 27_161_264),
        ("inception_xgboost", "inception_v3", 27_161_264),
        ("res_rand_svm", "resnet50", 25_557_032),
    ],
)
def test_networks_have_the_parameters_that_the_paper_quotes(name, backbone, parameters):
    featurizer = COMPARATORS[name].factory().featurizer
    assert featurizer.backbone == backbone
    with torch.device("meta"):
        network = get_backbone_spec(backbone).build()
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_table_1_systems_differ_only_in_the_network():
    one, other = (
        COMPARATORS[name].factory().get_params() for name in ("hybrid_vgg16", "hybrid_resnet18")
    )
    changed = {key for key in one if repr(one[key]) != repr(other[key])}
    assert changed == {"featurizer", "featurizer__backbone"}


def test_the_papers_network_alone_is_trained_as_in_the_hybrid():
    assert isinstance(paper_cnn().featurizer, EfficientNetFeaturizer)
    assert repr(paper_cnn().featurizer) == repr(
        COMPARATORS["hybrid_efficientnet_b0"].factory().featurizer
    )


def test_inception_is_fine_tuned_at_its_own_size():
    featurizer = inception_xgboost().featurizer
    assert featurizer.training == "paper"
    transform = featurizer.get_params()["transform"]
    assert (transform.image_size, transform.normalize) == (299, "backbone")


def test_the_svm_decides_on_the_features_that_the_forest_picked(pixels, three_classes):
    clf = res_rand_svm(
        backbone=TinyNet,
        weights=None,
        crop_size=None,
        image_size=24,
        runtime="torch",
        random_state=0,
    ).fit(pixels, three_classes)
    select, _, svm = (part for _, part in clf.classifier_.steps)
    assert isinstance(select, SelectFromModel)
    assert isinstance(svm, SVC)
    forest = select.estimator_
    assert np.array_equal(
        select.get_support(), forest.feature_importances_ >= forest.feature_importances_.mean()
    )
    assert svm.n_features_in_ == select.get_support().sum() < 8
    assert clf.decision_function(pixels).shape == (24, 3)
    assert not hasattr(clf, "predict_proba")
