import pytest
import torch
from torch import nn

from common.networks import TinyNet
from effboost.backbones import (
    BackboneSpec,
    build_backbone,
    feature_width,
    get_backbone_spec,
    list_frozen,
    list_stages,
    remove_head,
)


@pytest.fixture
def spec():
    return get_backbone_spec(TinyNet)


def states_equal(one, other):
    other = other.state_dict()
    return all(torch.equal(value, other[key]) for key, value in one.state_dict().items())


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(spec):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = build_backbone(spec, None, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert states_equal(first, build_backbone(spec, None, seed=1))
    assert not states_equal(first, build_backbone(spec, None, seed=2))


def test_the_network_comes_in_evaluation_mode(spec):
    assert not any(part.training for part in build_backbone(spec, None, seed=0).modules())


def test_removing_the_head_gives_its_input(spec):
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
def test_parameter_counts_are_those_that_the_paper_quotes(name, parameters):
    with torch.device("meta"):
        module = get_backbone_spec(name).build()
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_auxiliary_classifiers_are_left_out(name):
    module = build_backbone(get_backbone_spec(name), None, seed=0).train()
    assert not any(key.startswith(("Aux", "aux")) for key in module.state_dict())
    out = module(torch.rand(2, 3, 96, 96))
    assert out.shape == (2, 1000)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("efficientnet_b0", 9),
        ("mobilenet_v2", 19),
        ("resnet18", 6),
        ("vgg16", 14),
        ("vit_b_16", 2),
        (TinyNet, 4),
    ],
)
def test_stages_hold_every_parameter_but_the_classifiers(name, count):
    spec = get_backbone_spec(name)
    with torch.device("meta"):
        module = spec.build()
    stages = list_stages(module, spec)
    assert len(stages) == count
    head = {id(p) for p in module.get_submodule(spec.head_of(module)).parameters()}
    own = {id(p) for p in module.parameters(recurse=False)}
    held = [id(p) for stage in stages for part in stage for p in part.parameters(recurse=False)]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in module.parameters()} - head - own


def test_stages_before_the_last_are_frozen_and_what_stands_outside_of_stages_too():
    spec = get_backbone_spec("vit_b_16")  # its class token belongs to no stage
    with torch.device("meta"):
        module = spec.build()
    frozen = list_frozen(module, spec, 1)
    assert module in frozen
    assert module.conv_proj in frozen
    assert module.encoder not in frozen
    assert list_frozen(module, spec, 2) == []
    with pytest.raises(ValueError, match="has 2 stages"):
        list_frozen(module, spec, 3)


def test_a_network_that_gives_no_row_of_features_is_refused():
    spec = BackboneSpec("flat", factory=lambda: nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match="pool and flatten"):
        feature_width(build_backbone(spec, None, seed=0), 24)


def test_an_image_size_that_the_network_cannot_take_is_named():
    spec = get_backbone_spec("inception_v3")
    module = remove_head(build_backbone(spec, None, seed=0), spec)
    with pytest.raises(ValueError, match="image_size=32"):
        feature_width(module, 32)
