import numpy as np
import pytest

from effboost import backbones, comparators
from effboost.comparators import timm_logistic


def test_timm_spec_is_still_found_here():
    assert comparators.timm_spec is backbones.timm_spec


def test_features_are_those_before_the_classifier(pixels):
    """With the default runtime, as embetter gives them: the pooled layer."""
    timm = pytest.importorskip("timm")
    clf = timm_logistic("test_resnet", weights=None, image_size=32, random_state=0)
    clf.fit(pixels[:8], ["ALL", "HEM"] * 4)
    expected = timm.create_model("test_resnet", num_classes=0).num_features
    assert clf.transform(pixels).shape == (24, expected)
    assert np.isfinite(clf.predict_proba(pixels)).all()
