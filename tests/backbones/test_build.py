import pytest
import torch
from torch import nn

from common.networks import TinyNet
from effboost.backbones import (
    BackboneSpec,
    build_backbone,
    feature_width,
    get_backbone_spec,
    remove_head,
)


@pytest.fixture
def spec():
    return get_backbone_spec(TinyNet)


def states_equal(one, other):
    other = other.state_dict()
    return all(torch.equal(value, other[key]) for key, value in one.state_dict().items())


def test_random_weights_depend_only_on_the_seed(spec):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = build_backbone(spec, None, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert states_equal(first, build_backbone(spec, None, seed=1))
    assert not states_equal(first, build_backbone(spec, None, seed=2))


def test_network_is_in_evaluation_mode(spec):
    assert not any(part.training for part in build_backbone(spec, None, seed=0).modules())


def test_network_without_head_returns_the_input_of_the_head(spec):
    module = build_backbone(spec, None, seed=0)
    x = torch.rand(2, 3, 24, 24)
    logits, head = module(x), module.classifier
    features = remove_head(module, spec)(x)
    assert features.shape == (2, 8)
    assert torch.equal(head(features), logits)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("efficientnet_b0", 5_288_548), ("resnet50", 25_557_032), ("inception_v3", 27_161_264)],
)
def test_parameter_counts_are_those_of_the_paper(name, parameters):
    with torch.device("meta"):
        module = get_backbone_spec(name).build()
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_auxiliary_classifiers_are_removed(name):
    module = build_backbone(get_backbone_spec(name), None, seed=0).train()
    assert not any(key.startswith(("Aux", "aux")) for key in module.state_dict())
    out = module(torch.rand(2, 3, 96, 96))
    assert out.shape == (2, 1000)


def test_network_without_one_row_of_features_raises():
    spec = BackboneSpec("flat", factory=lambda: nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match="not one row of features"):
        feature_width(build_backbone(spec, None, seed=0), 24)


def test_image_size_too_small_for_the_network_raises():
    spec = get_backbone_spec("inception_v3")
    module = remove_head(build_backbone(spec, None, seed=0), spec)
    with pytest.raises(ValueError, match="image_size=32"):
        feature_width(module, 32)
