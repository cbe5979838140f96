import numpy as np
import pytest

from effboost.comparators import timm_logistic, timm_spec


def test_spec_has_timms_settings():
    spec = timm_spec("legacy_seresnext50_32x4d")
    assert spec.head == "last_linear"
    assert spec.weights.endswith("legacy_se_resnext50_32x4d-f3651bad.pth")
    assert spec.mean == (0.485, 0.456, 0.406)


def test_weights_on_a_hub_are_not_available():
    assert timm_spec("inception_resnet_v2").weights is None
    assert timm_spec("inception_resnet_v2", weights="file:///w-01234567.pth").weights


def test_an_unknown_name_is_refused():
    with pytest.raises(RuntimeError, match="no_such_net"):
        timm_spec("no_such_net")


def test_features_are_those_before_the_classifier(pixels):
    """With the default runtime, as embetter gives them: the pooled layer."""
    timm = pytest.importorskip("timm")
    clf = timm_logistic("test_resnet", weights=None, image_size=32, random_state=0)
    clf.fit(pixels[:8], ["ALL", "HEM"] * 4)
    expected = timm.create_model("test_resnet", num_classes=0).num_features
    assert clf.transform(pixels).shape == (24, expected)
    assert np.isfinite(clf.predict_proba(pixels)).all()
