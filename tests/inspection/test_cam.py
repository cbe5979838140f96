import copy

import numpy as np
import pytest
import torch

from common.networks import tiny_featurizer
from effboost import CNNClassifier, HybridClassifier, ImageFeaturizer, ImageTransform
from effboost.exceptions import MissingDependencyError, UnsupportedInputError
from effboost.inspection import grad_cam


@pytest.fixture(scope="module")
def spots():
    """Three classes: a bright spot of a colour in the upper left or the lower right corner."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 30, (60, 24, 24, 3), dtype=np.uint8)
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    low = rng.random(60) < 0.5
    for i in range(60):
        corner = slice(15, 23) if low[i] else slice(1, 9)
        X[i, corner, corner, i % 3] = 255
    return X, y, low


@pytest.fixture(scope="module")
def cnn(spots):
    X, y, _ = spots
    settings = {"fine_tune": True, "max_epochs": 25, "lr": 1e-2, "augmentation": None}
    return CNNClassifier(tiny_featurizer(**settings), random_state=0).fit(X, y)


def by_hand(cnn, image, code, layer):
    """Grad-CAM as its paper defines it, in plain torch."""
    featurizer = cnn.featurizer_
    network = copy.deepcopy(torch.nn.Sequential(featurizer.module_, featurizer.head_)).eval()
    kept = []
    network[0].get_submodule(layer).register_forward_hook(lambda *a: kept.append(a[2]))
    x = torch.from_numpy(featurizer.transform_.normalize_pixels(image[np.newaxis]))
    score = network(x.requires_grad_())[0, code]
    (gradient,) = torch.autograd.grad(score, kept[0])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return torch.relu((weights * kept[0]).sum(dim=1))[0].detach().numpy()


def test_grad_cam_is_that_of_its_paper(cnn, spots):
    X, _, _ = spots
    found = grad_cam(cnn, X[:6], target="b", layer="features.5")
    assert found.maps.shape == (6, 24, 24)
    for i in range(6):
        small = by_hand(cnn, X[i], 1, "features.5")
        # The library subtracts the smallest value, divides by the largest, and enlarges.
        scaled = (small - small.min()) / (small - small.min()).max()
        own = found.maps[i].reshape(6, 4, 6, 4).mean(axis=(1, 3))
        assert np.corrcoef(scaled.ravel(), own.ravel())[0, 1] > 0.95
    assert 0 <= found.maps.min() <= found.maps.max() <= 1


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam++"])
def test_maps_mark_the_part_that_the_network_uses(cnn, spots, method):
    X, y, low = spots
    right = cnn.predict(X) == y
    assert right.mean() > 0.9
    found = grad_cam(cnn, X, method=method, target=y)
    assert found.targets.tolist() == y.tolist()
    best = found.maps.reshape(60, -1).argmax(axis=1)
    assert ((best // 24 >= 12) == low)[right].mean() > 0.8


def test_predicted_class_is_the_default_target(cnn, spots):
    X, _, _ = spots
    found = grad_cam(cnn, X[:9])
    assert found.targets.tolist() == cnn.predict(X[:9]).tolist()
    np.testing.assert_allclose(found.maps, grad_cam(cnn, X[:9], target=found.targets).maps)


def test_hybrid_is_explained_by_its_network(cnn, spots):
    X, y, _ = spots
    hybrid = HybridClassifier(tiny_featurizer(fine_tune=True, max_epochs=1), random_state=0)
    hybrid.fit(X, y)
    found = grad_cam(hybrid, X[:3], target="a")
    np.testing.assert_array_equal(found.maps, grad_cam(hybrid.cnn_, X[:3], target="a").maps)


def test_frozen_network_raises_except_for_eigen_cam(spots):
    X, y, _ = spots
    hybrid = HybridClassifier(tiny_featurizer(), random_state=0).fit(X, y)
    with pytest.raises(UnsupportedInputError, match=r"was not fine-tuned.*hybrid_attribution"):
        grad_cam(hybrid, X[:2])
    found = grad_cam(hybrid, X[:2], method="eigen_cam")
    assert found.method == "Eigen-CAM"
    assert found.maps.shape == (2, 24, 24)
    assert found.targets is None  # the network says no class


def test_pretrained_head_is_explained(spots):
    X, _, _ = spots
    standard = tiny_featurizer(features="logits").fit(X)
    found = grad_cam(standard, X[:3])
    assert found.targets.tolist() == standard.transform(X[:3]).argmax(axis=1).tolist()
    np.testing.assert_allclose(grad_cam(standard, X[:3], target=found.targets).maps, found.maps)


def test_classes_of_a_fine_tuned_original_head_are_its_first_outputs(spots):
    X, y, _ = spots
    settings = {"fine_tune": True, "max_epochs": 1, "features": "logits"}
    cnn = CNNClassifier(tiny_featurizer(**settings), random_state=0).fit(X, y)
    assert set(grad_cam(cnn, X[:5]).targets) <= {"a", "b", "c"}


@pytest.mark.parametrize(
    ("backbone", "side", "layer"),
    [
        ("efficientnet_b0", 64, "features.7"),
        ("efficientnet_v2_s", 64, "features.6"),
        ("resnet18", 64, "layer4"),
        ("mobilenet_v2", 64, "features.18"),
        ("inception_v3", 128, "Mixed_7c"),
    ],
    ids=lambda value: str(value),
)
def test_default_layer(backbone, side, layer):
    X = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    network = ImageFeaturizer(
        backbone,
        weights=None,
        training=None,
        transform=ImageTransform(crop_size=None, image_size=side),
        random_state=0,
    ).fit(X)
    assert grad_cam(network, X, method="eigen_cam").layer == layer


def test_estimator_is_not_changed(cnn, spots):
    X, _, _ = spots
    before = cnn.predict_proba(X[:4])
    grad_cam(cnn, X[:4])
    np.testing.assert_array_equal(cnn.predict_proba(X[:4]), before)
    module = cnn.featurizer_.module_
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gradcam"}, "must be one of"),
        ({"layer": "features.55"}, "no layer 'features.55'; did you mean"),
        ({"layer": "zzz"}, "its children are"),
        ({"layer": "pool", "target": "d"}, "target='d' is not a class of"),
        ({"target": ["a", "b"]}, "2 classes, but X has 3 images"),
    ],
    ids=["method", "near", "far", "class", "length"],
)
def test_unknown_method_layer_or_class_raises(cnn, spots, options, message):
    X, _, _ = spots
    with pytest.raises(UnsupportedInputError, match=message):
        grad_cam(cnn, X[:3], **options)


def test_classes_of_a_pretrained_head_are_numbers(spots):
    X, _, _ = spots
    with pytest.raises(UnsupportedInputError, match="numbers from 0"):
        grad_cam(tiny_featurizer(features="logits").fit(X), X[:2], target="a")
    with pytest.raises(UnsupportedInputError, match="target=5000 is not a class of the network"):
        grad_cam(tiny_featurizer(features="logits").fit(X), X[:2], target=5000)


def test_missing_package_raises_with_the_extra(cnn, spots, monkeypatch):
    X, _, _ = spots
    monkeypatch.setitem(__import__("sys").modules, "pytorch_grad_cam", None)
    with pytest.raises(MissingDependencyError, match=r"effboost\[explain\]"):
        grad_cam(cnn, X[:2])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", ["grad_cam", "grad_cam++"])
def test_maps_do_not_depend_on_the_callers_gradient_mode(cnn, spots, mode, method):
    X, _, _ = spots
    expected = grad_cam(cnn, X[:3], method=method).maps
    with mode():
        np.testing.assert_array_equal(grad_cam(cnn, X[:3], method=method).maps, expected)


@pytest.mark.parametrize("settings", [{}, {"trainable": 2}, {"trainable": "head"}], ids=str)
def test_networks_fitted_in_inference_mode_equal_those_fitted_outside(spots, settings):
    X, y, _ = spots
    settings = {"fine_tune": True, "max_epochs": 2} | settings
    expected = CNNClassifier(tiny_featurizer(**settings), random_state=0).fit(X, y)
    with torch.inference_mode():
        clf = CNNClassifier(tiny_featurizer(**settings), random_state=0).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    # Used later, where gradients are wanted.
    np.testing.assert_array_equal(grad_cam(clf, X[:2]).maps, grad_cam(expected, X[:2]).maps)
    assert not any(p.is_inference() for p in clf.featurizer_.module_.parameters())
