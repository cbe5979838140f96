import pytest
import torch
from torch import nn

from common.networks import TinyNet
from effboost.backbones import (
    append_stages,
    build_backbone,
    get_backbone_spec,
    list_children,
    list_frozen,
    list_stages,
    remove_head,
    renumber_stages,
)
from effboost.backbones._stages import name_stages


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
def test_stages_contain_every_parameter_except_the_head(name, count):
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


def test_frozen_modules_are_earlier_stages_and_the_networks_own_parameters():
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


NETWORKS = ["efficientnet_b0", "mobilenet_v2", "resnet18", "vgg16_bn", "densenet121", TinyNet]


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_are_the_same_with_and_without_the_head(name):
    spec = get_backbone_spec(name)
    with torch.device("meta"):
        module = spec.build()
    before = name_stages(module, spec), [stage[0] for stage in list_stages(module, spec)]
    remove_head(module, spec)
    after = name_stages(module, spec), [stage[0] for stage in list_stages(module, spec)]
    # The classifier's own place has no parameters any more.
    assert [names[0] for names in before[0]] == [names[0] for names in after[0]]
    assert after[1] == before[1]
    assert spec.head_of(module) is not None  # removing it once more changes nothing


def test_head_of_a_network_around_others_is_its_own():
    class Joint(nn.Module):
        def __init__(self):
            super().__init__()
            spec = get_backbone_spec(TinyNet)
            self.parts = nn.ModuleList([remove_head(TinyNet(), spec) for _ in range(2)])
            self.joint = nn.Linear(16, 4)
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.joint(torch.cat([part(x) for part in self.parts], dim=1)))

    spec = get_backbone_spec(Joint)
    module = Joint()
    assert spec.head_of(module) == "last"
    assert list_stages(module, spec)[-1] == [module.joint]
    remove_head(module, spec)
    assert list_stages(module, spec)[-1] == [module.joint]
    assert module(torch.rand(1, 3, 24, 24)).shape == (1, 4)


@pytest.mark.parametrize("name", NETWORKS)
def test_trainable_and_extra_features_count_the_same_stages(name):
    """The map of a stage depends on the parameters of that stage, and of none behind it."""
    spec = get_backbone_spec(name)
    body = remove_head(build_backbone(spec, None, seed=0), spec)
    stages, x = list_stages(body, spec), torch.rand(1, 3, 64, 64)
    with_map = [i - len(stages) for i in range(len(stages)) if _has_map(stages[i])]
    for number in (with_map[0], with_map[len(with_map) // 2], with_map[-1]):
        network = append_stages(body, spec, ((number, "avg"),), 64).eval()
        own = len(body.eval()(x)[0])

        def pooled(network=network, own=own):
            with torch.inference_mode():
                return network(x)[0, own:].clone()

        before = pooled()
        later = [p for stage in stages[number:][1:] for part in stage for p in part.parameters()]
        _scale(later)
        assert torch.equal(pooled(), before)
        assert not list_frozen(body, spec, len(stages))
        assert stages[number][0] not in list_frozen(body, spec, -number)
        _scale(next(p.parameters(recurse=False) for p in stages[number] if _has_own(p)))
        assert not torch.equal(pooled(), before)


def _has_map(stage):
    return any(isinstance(part, nn.Conv2d | nn.BatchNorm2d) for part in stage)


def _has_own(part):
    return any(True for _ in part.parameters(recurse=False))


def _scale(parameters):
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(1.01)


# What "stages" has always meant: the last map of each of the five widths before the last.
EARLIER = {
    "efficientnet_b0": [f"features.{i}" for i in (7, 6, 5, 4, 3)],
    "mobilenet_v2": [f"features.{i}" for i in (17, 16, 13, 10, 6)],
    "resnet18": ["layer3", "layer2", "layer1"],
    "vgg16_bn": [f"features.{i}" for i in (23, 13, 6)],
    "densenet121": [
        "features.transition3",
        "features.denseblock3",
        "features.transition2",
        "features.denseblock2",
        "features.transition1",
    ],
    TinyNet: ["features.2"],
}


@pytest.mark.parametrize(("name", "maps"), EARLIER.items(), ids=str)
def test_stages_by_name_are_the_ends_of_earlier_widths(name, maps):
    spec = get_backbone_spec(name)
    body = remove_head(build_backbone(spec, None, seed=0), spec)
    children, found = list_children(body), {}

    def look(child):
        def hook(module, given, out):
            found[child] = out.mean((2, 3))

        return hook

    hooks = [children[child].register_forward_hook(look(child)) for child in maps]
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        own = body.eval()(x)
        for hook in hooks:
            hook.remove()
        rows = append_stages(body, spec, "stages", 64).eval()(x)[:, own.shape[1] :]
    assert rows.shape[1] == 2 * sum(out.shape[1] for out in found.values())
    start = 0
    for child in maps:
        width = found[child].shape[1]
        torch.testing.assert_close(rows[:, start : start + width], found[child], rtol=0, atol=0)
        start += 2 * width


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("efficientnet_b0", {i: i for i in range(-9, 0)}),
        ("resnet18", {i: i for i in range(-4, 0)}),
        (
            "mobilenet_v2",
            {-1: -1, -2: -2, -3: -3, -4: -6, -5: -9, -6: -13, -7: -16, -8: -18, -9: -19},
        ),
        ("vgg16_bn", {-1: -2, -2: -14, -3: -20, -4: -24}),
        (TinyNet, {-1: -1, -2: -3}),
    ],
    ids=str,
)
def test_numbers_of_widths_are_translated_to_those_of_stages(name, numbers):
    spec = get_backbone_spec(name)
    body = remove_head(build_backbone(spec, None, seed=0), spec)
    pairs = tuple((number, "max") for number in numbers)
    expected = tuple((number, "max") for number in numbers.values())
    assert renumber_stages(body, spec, pairs, 64) == expected
    with pytest.raises(ValueError, match="does not fit"):
        renumber_stages(body, spec, ((min(numbers) - 1, "avg"),), 64)
