"""Vision transformers of timm from one end of the package to the other."""

import copy

import numpy as np
import pytest
import torch

import effboost
import effboost._training.module
from effboost import CNNClassifier, FineTuning, ImageFeaturizer, ImageTransform, presets
from effboost.backbones import timm_spec
from effboost.exceptions import UnsupportedInputError
from effboost.inspection import feature_importance, grad_cam, hybrid_attribution
from effboost.inspection._importance import find_patches
from effboost.onnx import OnnxClassifier, export_onnx

pytest.importorskip("timm")

SMALL = timm_spec("test_vit", depth=4)
TRANSFORM = ImageTransform(None, 32, normalize="backbone")


def featurizer(backbone=SMALL, **params):
    settings = {"weights": None, "training": None, "transform": TRANSFORM, "runtime": "torch"}
    return ImageFeaturizer(backbone, **(settings | {"random_state": 0} | params))


def tuned(**training):
    settings = {"max_epochs": 2, "batch_size": 8, "augmentation": None}
    return featurizer(training=FineTuning(**(settings | training)))


@pytest.mark.parametrize(("trainable", "n_moved"), [(2, 2), ("head", 0), ("all", 5)])
def test_the_last_blocks_are_trained_and_frozen_ones_run_once(
    pixels, three_classes, monkeypatch, trainable, n_moved
):
    start = featurizer().fit(pixels).module_
    got = tuned(trainable=trainable).fit(pixels, three_classes)
    stages = [(start.patch_embed, got.module_.patch_embed)]
    stages += zip(start.blocks, got.module_.blocks, strict=True)
    moved = [
        any(
            not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
        )
        for one, other in stages
    ]
    assert moved == [False] * (5 - n_moved) + [True] * n_moved
    assert torch.equal(start.cls_token, got.module_.cls_token) == (n_moved < 5)

    found = []

    def without(*args):
        found.append(find(*args))

    find = effboost._training.module.find_prefix
    monkeypatch.setattr(effboost._training.module, "find_prefix", without)
    expected = tuned(trainable=trainable).fit(pixels, three_classes)
    assert (found[0] is None) == (n_moved == 5)
    for epoch, other in zip(got.history_, expected.history_, strict=True):
        assert epoch["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
    np.testing.assert_allclose(got.transform(pixels), expected.transform(pixels), atol=1e-3)


def test_more_stages_than_there_are_is_an_error(pixels, three_classes):
    with pytest.raises(ValueError, match="has 5 stages"):
        tuned(trainable=6).fit(pixels, three_classes)


def test_features_of_other_tokens_are_not_taken_from_the_cache(pixels, tmp_path):
    rows = {
        features: featurizer(features=features, cache=tmp_path).fit_transform(pixels)
        for features in ("cls_token", "avg_tokens")
    }
    assert not np.allclose(rows["cls_token"], rows["avg_tokens"])
    again = featurizer(features="avg_tokens", cache=tmp_path).fit_transform(pixels)
    np.testing.assert_array_equal(again, rows["avg_tokens"])


def test_features_do_not_depend_on_other_images(pixels):
    model = featurizer(features="avg_tokens", extra_features="stages").fit(pixels)
    rows = model.transform(pixels)
    assert rows.shape == (24, 64 * 9)
    np.testing.assert_array_equal(model.transform(pixels[::-1]), rows[::-1])
    np.testing.assert_array_equal(model.transform(pixels[5:6]), rows[5:6])


@pytest.mark.slow
def test_the_recommended_hybrid_fits_saves_loads_and_exports(pixels, three_classes, tmp_path):
    clf = presets.recommended(SMALL, weights=None, image_size=32, random_state=0)
    proba = clf.fit(pixels, three_classes).predict_proba(pixels)
    assert clf.featurizer_.runtime_ == "onnxruntime"
    by_torch = copy.deepcopy(clf).set_params(featurizer__runtime="torch")
    by_torch.fit(pixels, three_classes)
    np.testing.assert_allclose(
        by_torch.transform(pixels), clf.transform(pixels), rtol=1e-4, atol=1e-4
    )
    loaded = effboost.load(effboost.save(clf, tmp_path / "m.effboost"))
    np.testing.assert_array_equal(loaded.predict_proba(pixels), proba)
    export_onnx(clf, tmp_path / "m.onnx")
    exported = OnnxClassifier(tmp_path / "m.onnx")
    np.testing.assert_allclose(exported.predict_proba(pixels), proba, atol=1e-4)


@pytest.fixture(scope="module")
def spots():
    """A bright spot of one of three colours, in one of four patches of 16 x 16 pixels."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 30, (60, 32, 32, 3), dtype=np.uint8)
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    place = rng.integers(0, 4, 60)
    for i in range(60):
        row, column = divmod(int(place[i]), 2)
        X[i, 16 * row + 4 : 16 * row + 12, 16 * column + 4 : 16 * column + 12, i % 3] = 255
    return X, y, place


def test_grad_cam_is_on_the_grid_of_the_patches(spots):
    X, y, _ = spots
    cnn = CNNClassifier(tuned(max_epochs=1), random_state=0).fit(X, y)
    found = grad_cam(cnn, X, target="b")
    assert (found.layer, found.maps.shape) == ("blocks.3.norm1", (60, 32, 32))
    fitted = cnn.featurizer_
    network = copy.deepcopy(torch.nn.Sequential(fitted.module_, fitted.head_)).eval()
    kept = []
    network[0].blocks[3].norm1.register_forward_hook(lambda *given: kept.append(given[2]))
    x = torch.from_numpy(fitted.transform_.normalize_pixels(X)).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[:, 1].sum(), kept[0])
    tokens, slopes = kept[0][:, 1:], gradient[:, 1:]  # without the class token
    small = torch.relu((tokens * slopes.mean(dim=1, keepdim=True)).sum(dim=2)).detach().numpy()
    marked = np.ptp(small, axis=1) > 0
    assert marked.sum() >= 3
    middles = found.maps[:, 7::16, 7::16].reshape(60, 4)
    np.testing.assert_array_equal(middles[marked].argmax(axis=1), small[marked].argmax(axis=1))
    with pytest.raises(UnsupportedInputError, match="neither a feature map nor the tokens"):
        grad_cam(cnn, X[:1], layer="fc_norm")


@pytest.mark.parametrize("runtime", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_attribution_of_means_over_patches_adds_up(spots, runtime):
    X, y, place = spots
    clf = presets.frozen(
        SMALL, weights=None, image_size=32, features="avg_tokens", runtime=runtime, random_state=0
    ).fit(X, y)
    found = hybrid_attribution(clf, X)
    assert found.maps.shape == (60, 3, 2, 2)
    gap = np.abs(found.maps.sum(axis=(2, 3)) + found.base - found.margin)
    assert (gap <= 1e-4 * np.maximum(1, np.abs(found.margin))).all()
    # The patch with the spot counts most for the class that its colour stands for.
    own = found.maps[np.arange(60), np.arange(60) % 3].reshape(60, 4)
    assert (own.argmax(axis=1) == place).mean() > 0.8


@pytest.mark.parametrize("n_classes", [2, 3])
def test_attribution_of_the_recommended_hybrid_adds_up_with_means_over_patches(spots, n_classes):
    X, y, _ = spots
    keep = np.isin(y, np.unique(y)[:n_classes])
    X, y = X[keep][:24], y[keep][:24]
    settings = {"weights": None, "image_size": 32, "runtime": "torch", "random_state": 0}
    clf = presets.recommended(SMALL, features="avg_tokens", **settings).fit(X, y)
    found = hybrid_attribution(clf, X[:4])
    assert found.maps.shape == (4, 1 if n_classes == 2 else 3, 2, 2)
    gap = np.abs(found.maps.sum(axis=(2, 3)) + found.base - found.margin)
    assert (gap <= 1e-4 * np.maximum(1, np.abs(found.margin))).all()
    proba = clf.predict_proba(X[:4])
    np.testing.assert_allclose(found.margin, proba[:, -found.margin.shape[1] :], atol=1e-5)
    # Stages are the quarters of the blocks; channels are those of the tokens.
    importance = feature_importance(clf, X, y)
    assert len(importance.stages) > 2
    codes = np.searchsorted(clf.classes_, y[:4])
    sums = found.maps.sum(axis=(2, 3))
    own = sums[:, 0] * (2 * codes - 1) if n_classes == 2 else sums[np.arange(4), codes]
    np.testing.assert_allclose(importance.contributions[:4].sum(axis=1), own, atol=1e-4)
    patches = find_patches(clf, X, importance, n_channels=1, n_patches=1)
    assert {one.grid for one in patches} == {(2, 2)}


@pytest.mark.parametrize(
    ("name", "features", "message"),
    [
        ("timm/test_vit", "pooled", "are a class token, which gathers from all patches"),
        ("timm/test_vit4", "pooled", "are not means over the tokens of its patches"),
    ],
)
def test_attribution_of_other_features_is_refused(spots, name, features, message):
    X, y, _ = spots
    clf = presets.frozen(
        name, weights=None, image_size=32, features=features, runtime="torch", random_state=0
    )
    with pytest.raises(UnsupportedInputError, match=message):
        hybrid_attribution(clf.fit(X, y), X[:2])
