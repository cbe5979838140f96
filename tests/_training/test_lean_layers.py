import copy

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from effboost._training.lean_layers import LeanLayers
from effboost.backbones import build_backbone, get_backbone_spec


def fixed_norms(network):
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    generator = torch.Generator().manual_seed(1)
    for norm in norms:
        norm.eval()
        norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) / 5)
        norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
    return norms


def gradients(network, x):
    network.zero_grad()
    torch.manual_seed(0)
    loss = network(x).square().mean()
    loss.backward()
    return loss.item(), [p.grad.clone() for p in network.parameters() if p.grad is not None]


def assert_same_gradients(network, twin, x):
    loss, grads = gradients(network, x)
    other_loss, other_grads = gradients(twin, x)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert len(grads) == len(other_grads)
    scale = max(grad.norm() for grad in grads)
    for grad, other in zip(grads, other_grads, strict=True):
        assert (grad - other).norm() <= 1e-4 * (grad.norm() + 1e-3 * scale)


def folded(network):
    return [
        part
        for part in network.modules()
        if isinstance(part, nn.BatchNorm2d) and "forward" in vars(part)
    ]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_gradients_of_fixed_norms_are_those_of_the_layers_alone(name):
    torch.manual_seed(0)
    network = get_model(name, weights=None, num_classes=3).double().train()
    norms = fixed_norms(network)
    twin = copy.deepcopy(network)
    twin_norms = [part for part in twin.modules() if isinstance(part, nn.BatchNorm2d)]
    LeanLayers(twin, set(twin_norms))
    assert len(folded(twin)) == len(norms)
    assert_same_gradients(network, twin, torch.rand(2, 3, 40, 40, dtype=torch.double))


def test_deep_copies_compute_with_their_own_layers():
    network = build_backbone(get_backbone_spec("efficientnet_lite0"), None, seed=0).train()
    LeanLayers(network, set(fixed_norms(network)))
    x = torch.rand(2, 3, 32, 32)
    before = gradients(network, x)[0]
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert gradients(twin, x)[0] == 0.0
    assert gradients(network, x)[0] == before


def test_restore_leaves_no_trace():
    network = get_model("mobilenet_v2", weights=None).train()
    norms = fixed_norms(network)
    before = {name: dict(vars(part)) for name, part in network.named_modules()}
    lean = LeanLayers(network, set(norms))
    assert not any(part.inplace for part in network.modules() if isinstance(part, nn.ReLU6))
    lean.restore()
    assert {name: dict(vars(part)) for name, part in network.named_modules()} == before


class Branches(nn.Module):
    """Layers that must not be folded, beside one pair that can be."""

    def __init__(self):
        super().__init__()
        self.seen, self.shared = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.last, self.other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(5))

    def forward(self, x):
        seen = self.seen(x)  # used twice
        x = self.norms[0](seen) + seen
        x = self.norms[1](self.shared(x)) + self.norms[2](self.shared(x))
        x = self.norms[3](self.other(x))  # its statistics are not fixed
        return self.norms[4](self.last(x))


def test_only_pairs_that_nothing_else_uses_are_folded():
    network = Branches().train()
    fixed_norms(network)
    network.norms[3].train()
    twin = copy.deepcopy(network)
    LeanLayers(twin, {norm for i, norm in enumerate(twin.norms) if i != 3})
    assert folded(twin) == [twin.norms[4]]
    assert_same_gradients(network, twin, torch.rand(4, 3, 5, 5))


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.layers(x) if x.sum() > 0 else x


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_layers_that_something_looks_at_stay_as_they_are(hook):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    getattr(network[0], hook)(lambda *_: None)
    LeanLayers(network, set(fixed_norms(network)))
    assert folded(network) == []


def test_networks_that_cannot_be_traced_stay_as_they_are():
    network = Untraceable().train()
    LeanLayers(network, set(fixed_norms(network)))
    assert folded(network) == []
