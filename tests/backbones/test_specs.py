import re

import numpy as np
import pytest
import torch
import torchvision.models
from sklearn.base import clone
from torch import nn

from common.networks import TinyNet, tiny_featurizer
from effboost.backbones import (
    BACKBONES,
    BackboneSpec,
    build_backbone,
    get_backbone_spec,
    remove_head,
)
from effboost.exceptions import UnknownBackboneError

WIDTHS = {
    "efficientnet_b0": 1280,
    "mobilenet_v2": 1280,
    "resnet18": 512,
    "resnet50": 2048,
    "inception_v3": 2048,
    "vgg16": 4096,
    "alexnet": 4096,
}
NO_LINEAR_LAYER = ["squeezenet1_0", "squeezenet1_1"]
TORCHVISION = sorted(set(torchvision.models.list_models(module=torchvision.models)))


@pytest.mark.parametrize(("name", "width"), WIDTHS.items())
def test_widths_are_those_of_the_input_of_the_head(name, width):
    assert BACKBONES[name].n_features == width


# On the meta device there are shapes alone: no memory, no arithmetic. RegNet computes its widths
# by tensors and cannot be built there, so its smallest members are built for real.
ON_META = [n for n in TORCHVISION if n not in NO_LINEAR_LAYER and not n.startswith("regnet")]


@pytest.mark.parametrize(
    ("name", "device"),
    [*((n, "meta") for n in ON_META), ("regnet_x_400mf", "cpu"), ("regnet_y_400mf", "cpu")],
)
def test_every_torchvision_model_returns_one_row_of_features(name, device):
    spec = get_backbone_spec(name)
    with torch.device(device):
        module = spec.build()
        width = module.get_submodule(spec.head_of(module)).in_features
        body = remove_head(module, spec).eval()
        side = 299 if name == "inception_v3" else 224
        side = 518 if name == "vit_h_14" and body.image_size == 518 else side
        with torch.no_grad():
            assert body(torch.zeros(2, 3, side, side)).shape == (2, width)
    assert spec.n_features in (None, width)


def has_torchvision_weights(name):
    """Whether the network and its weights are torchvision's; other weights come from elsewhere."""
    spec = BACKBONES[name]
    known = name in TORCHVISION and torchvision.models.get_model_weights(name).__members__
    return bool(known) and not re.match("https?:|pip:|file:", str(spec.weights))


@pytest.mark.parametrize("name", filter(has_torchvision_weights, BACKBONES))
def test_normalisation_size_and_weights_are_those_of_torchvision(name):
    spec = BACKBONES[name]
    weights = torchvision.models.get_model_weights(name)[spec.weights]
    preset = weights.transforms()
    assert [spec.image_size] == preset.crop_size
    assert list(spec.mean) == list(preset.mean)
    assert list(spec.std) == list(preset.std)


@pytest.mark.parametrize("name", NO_LINEAR_LAYER)
def test_model_without_a_linear_layer_raises(name):
    with pytest.raises(UnknownBackboneError, match="not end in a linear layer"):
        build_backbone(get_backbone_spec(name), None, seed=0, keep_head=False)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("EfficientNet-B0", "'efficientnet_b0'"),
        ("efficientnetb0", "'efficientnet_b0'"),
        ("ResNet-18", "'resnet18'"),
        ("vgg", "'vgg1"),
    ],
)
def test_unknown_name_raises_with_the_nearest_names(name, suggestion):
    with pytest.raises(UnknownBackboneError, match="did you mean") as caught:
        get_backbone_spec(name)
    assert suggestion in str(caught.value)


def test_name_without_a_near_one_raises_with_the_list():
    with pytest.raises(UnknownBackboneError, match=r"see effboost\.backbones"):
        get_backbone_spec("@@@")


def test_head_of_a_factory_is_its_last_linear_layer():
    spec = get_backbone_spec(TinyNet)
    assert (spec.name, spec.weights) == ("TinyNet", None)
    assert spec.head_of(spec.build()) == "classifier"


def test_features_of_a_factory_without_a_linear_layer_are_its_output():
    spec = get_backbone_spec(nn.Flatten)
    module = spec.build()
    assert spec.head_of(module) is None
    assert remove_head(module, spec)(torch.zeros(2, 3, 4, 4)).shape == (2, 48)


def test_factory_that_returns_no_module_raises():
    with pytest.raises(TypeError, match="returned a list"):
        get_backbone_spec(list).build()


def test_spec_is_returned_unchanged():
    spec = BackboneSpec("mine", factory=nn.Flatten)
    assert get_backbone_spec(spec) is spec


def test_head_that_is_not_a_layer_raises():
    spec = BackboneSpec("resnet18", head="fcc")
    with pytest.raises(UnknownBackboneError, match=r"no layer 'fcc' for its head; .* 'fc'"):
        spec.head_of(spec.build())


def test_a_factory_that_returns_the_same_network_again_gives_it_unchanged():
    """A fit trains the network and removes its head; the next one starts from the beginning."""
    shared = TinyNet()
    before = {name: values.clone() for name, values in shared.state_dict().items()}

    def build():
        return shared

    X = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    featurizer = tiny_featurizer(backbone=build, fine_tune=True, max_epochs=1)
    first = featurizer.fit(X, np.arange(12) % 2).transform(X)
    twin = clone(featurizer).fit(X, np.arange(12) % 2)
    np.testing.assert_array_equal(twin.transform(X), first)
    np.testing.assert_array_equal(featurizer.transform(X), first)
    assert twin.module_ is not featurizer.module_
    assert all(torch.equal(values, before[n]) for n, values in shared.state_dict().items())
