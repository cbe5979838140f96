import numpy as np
import pytest
import torch
from torch import nn

from common.networks import TinyNet
from effboost._transforms import ImageTransform
from effboost.backbones import (
    BackboneSpec,
    append_stages,
    build_backbone,
    get_backbone_spec,
    remove_head,
)
from effboost.runtime import TorchRuntime, fused

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
    turned = runtime.run(pixels[::-1].copy())[::-1]
    assert np.array_equal(turned, features)
    alone = np.zeros_like(pixels)
    alone[0] = pixels[5]
    assert np.array_equal(runtime.run(alone)[0], features[5])


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
