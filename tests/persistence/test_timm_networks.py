"""Models with networks of timm: restored by name, and nothing else that timm could load."""

import sys

import numpy as np
import pytest
import torch

import effboost
from common.model_files import edit, refuse
from effboost import HybridClassifier, ImageFeaturizer, ImageTransform
from effboost.backbones import timm_spec
from effboost.exceptions import MissingDependencyError
from effboost.persistence._values import encode

pytest.importorskip("timm")

SPEC = timm_spec("test_vit", depth=2, embed_dim=64)


def fitted(booster, pixels, y, backbone=SPEC, **params):
    featurizer = ImageFeaturizer(
        backbone,
        weights=None,
        training=None,
        transform=ImageTransform(None, 32, normalize="backbone"),
        runtime="torch",
        **params,
    )
    return HybridClassifier(featurizer, booster, random_state=0).fit(pixels, y)


@pytest.mark.parametrize(
    ("backbone", "params"),
    [
        (SPEC, {}),
        (SPEC, {"features": "avg_tokens", "extra_features": "stages"}),
        ("timm/test_vit", {"features": "cls_token", "extra_features": ((-2, "std"),)}),
        ("timm/test_vit.r160_in1k", {"views": "dihedral"}),
        ("timm/test_efficientnet", {"extra_features": "stages"}),
        ("timm/vit_tiny_patch16_dinov3_qkvb", {}),  # tables outside of its state dict
    ],
)
def test_predictions_are_restored(booster, pixels, three_classes, tmp_path, backbone, params):
    clf = fitted(booster, pixels, three_classes, backbone, **params)
    loaded = effboost.load(effboost.save(clf, tmp_path / "m.effboost"))
    assert loaded.featurizer.backbone == backbone
    np.testing.assert_array_equal(loaded.transform(pixels), clf.transform(pixels))
    np.testing.assert_array_equal(loaded.predict_proba(pixels), clf.predict_proba(pixels))


def test_the_networks_own_size_is_restored(booster, pixels, three_classes, tmp_path):
    clf = fitted(booster, pixels, three_classes)
    clf.set_params(featurizer__transform__image_size=None).fit(pixels[:6], three_classes[:6])
    loaded = effboost.load(effboost.save(clf, tmp_path / "m.effboost"))
    assert loaded.featurizer_.transform_.image_size == 160
    assert loaded.get_params()["featurizer__transform__image_size"] is None


@pytest.fixture
def saved(booster, pixels, three_classes, tmp_path):
    clf = fitted(booster, pixels, three_classes)
    return effboost.save(clf, tmp_path / "model.effboost")


def change(name, value):
    """Change a field of the backbone's spec in a manifest."""

    def changed(manifest, members):
        for part in (manifest["model"]["featurizer"], manifest["model"]["featurizer_"]):
            part["backbone"]["spec"][name] = encode(value)

    return changed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("name", "timm/hf-hub:timm/resnet18.a1_in1k", "no backbone is named"),
        ("name", "timm/local-dir:/tmp", "no backbone is named"),
        ("name", "timm/../x", "no backbone is named"),
        ("name", "timm/test_vit2", "lacks tensor 'network.reg_token'"),
        ("options", (("checkpoint_path", "/tmp/x.pth"),), "is not an option"),
        ("options", (("pretrained", True),), "is not an option"),
        ("options", (("depth", 10**7),), "is not an option"),
        ("options", (("depth", 8000), ("embed_dim", 64)), "more than 10,000 tensors"),
        ("image_size", 10**9, "description of its backbone is not valid"),
    ],
)
def test_files_that_ask_for_more_than_a_known_network_are_refused(
    saved, monkeypatch, name, value, message
):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a file was read"))
    edit(saved, change(name, value))
    refuse(saved, message, backbone=None)


def test_a_network_for_huge_images_is_refused(saved):
    def enlarge(manifest, members):
        for part in (manifest["model"]["featurizer"], manifest["model"]["featurizer_"]):
            part["params"]["transform"]["ImageTransform"]["image_size"] = 4096

    edit(saved, enlarge)
    refuse(saved, "images of 4096 pixels a side; 1024 is the limit", backbone=None)


def test_without_timm_the_error_names_the_extra(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match=r"effboost\[timm\]"):
        effboost.load(saved)
