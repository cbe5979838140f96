import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from common.networks import TinyNet
from effboost._transforms import ImageTransform
from effboost.backbones import (
    BackboneSpec,
    append_stages,
    build_backbone,
    get_backbone_spec,
    remove_head,
)
from effboost.runtime import TorchRuntime, fused, to_channels_last

CPU = torch.device("cpu")


def calibrated(spec, side):
    """A random network whose batch norms know their data: its signals do not fade."""
    module = remove_head(build_backbone(spec, None, seed=0), spec).train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.rand(8, 3, side, side))
    return module.eval()


def pictures(n, side):
    return np.random.default_rng(1).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "mobilenet_v2", TinyNet])
@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), (0.485, 0.456, 0.406)])
def test_features_are_those_of_the_plain_network(name, mean):
    module = calibrated(get_backbone_spec(name), 64)
    transform = ImageTransform(None, 64, normalize=(mean, (0.229, 0.224, 0.225)))
    pixels = pictures(4, 64)
    with torch.no_grad():
        expected = module(torch.from_numpy(transform.normalize_pixels(pixels))).numpy()
    got = TorchRuntime(module, transform, CPU, batch_size=4).run(pixels)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("extra", [None, "stages"])
@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "mobilenet_v2"])
def test_batch_norms_are_fused(name, extra):
    spec = get_backbone_spec(name)
    module = append_stages(calibrated(spec, 64), spec, extra, 64)
    kinds = {type(part) for part in fused(module).modules()}
    assert nn.Conv2d in kinds
    assert nn.BatchNorm2d not in kinds


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "alexnet", TinyNet])
def test_rows_do_not_depend_on_other_images(name):
    runtime = TorchRuntime(calibrated(get_backbone_spec(name), 64), ImageTransform(None, 64), CPU)
    pixels = pictures(runtime.batch_size, 64)
    features = runtime.run(pixels)
    # Up to the last bit, which may depend on the place of an image in the batch.
    close = {"rtol": 0, "atol": 2e-7 * np.abs(features).max()}
    turned = runtime.run(pixels[::-1].copy())[::-1]
    np.testing.assert_allclose(turned, features, **close)
    alone = np.zeros_like(pixels)
    alone[0] = pixels[5]
    np.testing.assert_allclose(runtime.run(alone)[0], features[5], **close)


def test_network_is_not_changed():
    module = calibrated(get_backbone_spec(TinyNet), 24)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    TorchRuntime(module, ImageTransform(None, 24), CPU).run(pictures(8, 24))
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())


class Branching(nn.Module):
    """Cannot be traced: it looks at its data."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.layer(x).mean(dim=(2, 3))
        return x if x.sum() > -1e9 else -x


def test_network_that_cannot_be_traced_runs_unfused():
    spec = BackboneSpec("branching", factory=Branching)
    module = build_backbone(spec, None, seed=0)
    pixels = pictures(8, 24)
    transform = ImageTransform(None, 24)
    got = TorchRuntime(module, transform, CPU).run(pixels)
    with torch.no_grad():
        expected = module(torch.from_numpy(transform.normalize_pixels(pixels))).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_features_do_not_depend_on_the_callers_autocast():
    module = calibrated(get_backbone_spec(TinyNet), 24)
    runtime, pixels = TorchRuntime(module, ImageTransform(None, 24), CPU), pictures(8, 24)
    expected = runtime.run(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(runtime.run(pixels), expected)


def test_tensors_of_five_axes_keep_their_layout():
    """Swin transformers have such masks, for which torch has no layout with channels last."""
    module = nn.Conv2d(3, 4, 3)
    module.register_buffer("mask", torch.zeros(1, 2, 1, 4, 4))
    weight = module.weight.detach().clone()
    assert to_channels_last(module) is module
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(module.weight, weight)
    assert module.mask.is_contiguous()


def block():
    part = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
    part[1].running_mean.fill_(0.1)
    part[1].running_var.fill_(0.04)
    return part


class Twice(nn.Module):
    """One convolution at two scales."""

    def __init__(self):
        super().__init__()
        self.part = block()

    def forward(self, x):
        half = functional.avg_pool2d(x, 2)
        return torch.cat([self.part(x).mean((2, 3)), self.part(half).mean((2, 3))], 1)


class Recursive(Twice):
    def forward(self, x):
        return self.part(self.part(x)).mean((2, 3))


class Masked(Twice):
    """An argument that a trace takes for a tensor."""

    def forward(self, x, mask=None):
        if mask is not None:
            x = x * mask
        return self.part(x).mean((2, 3))


class Listed(Twice):
    """A branch that a trace does not follow."""

    def forward(self, x):
        x = x if isinstance(x, torch.Tensor) else x[0]
        return self.part(x).mean((2, 3))


def hooked():
    network = nn.Sequential(block(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network[0][0].register_forward_hook(lambda module, arguments, output: 2 * output)
    return network


def repeated():
    part = block()
    return nn.Sequential(part, part, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("build", [Twice, Recursive, Masked, Listed, hooked, repeated])
def test_features_of_own_networks_are_those_of_the_network(build):
    """Batch norms are not folded where that would change them."""
    torch.manual_seed(0)
    network = build().eval()
    transform = ImageTransform(crop_size=None, image_size=32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    scale, shift = (torch.from_numpy(v).view(1, 3, 1, 1) for v in transform.scale_and_shift())
    with torch.inference_mode():
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * scale + shift
        expected = network(batch).numpy()
    got = TorchRuntime(network, transform, torch.device("cpu"), batch_size=2).run(pixels)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_batch_norms_of_plain_networks_of_the_user_are_folded():
    class Plain(Twice):
        def forward(self, x):
            return self.part(x).mean((2, 3))

    found = fused(Plain(), torch.rand(1, 3, 16, 16))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in found.modules())
