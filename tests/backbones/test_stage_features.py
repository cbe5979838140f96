import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from common.networks import TinyNet
from effboost._transforms import ImageTransform
from effboost.backbones import append_stages, build_backbone, get_backbone_spec, remove_head
from effboost.exceptions import UnsupportedInputError
from effboost.runtime import export_graph, fused

TINY = get_backbone_spec(TinyNet)


def tiny():
    torch.manual_seed(0)
    return remove_head(TinyNet().eval(), TINY)


def random_pixels(n=3):
    return torch.rand(n, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_poolings_are_computed_from_the_maps():
    body, x = tiny(), random_pixels()
    with torch.inference_mode():
        first, last = body.features[:3](x), body.features(x)
        poolings = ("avg", "max", "std", "gem")
        got = append_stages(body, TINY, [(-3, p) for p in poolings] + [(-1, "max")], 24)(x)
        expected = [
            body(x),
            first.mean((2, 3)),
            first.amax((2, 3)),
            first.std((2, 3), correction=0),
            first.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3),
            last.amax((2, 3)),
        ]
    assert got.shape == (3, 8 + 4 * 6 + 8)
    torch.testing.assert_close(got, torch.cat(expected, dim=1))


def test_network_is_returned_if_nothing_is_appended():
    body = tiny()
    assert append_stages(body, TINY, None, 24) is body
    assert append_stages(body, TINY, (), 24) is body


def test_weights_are_shared_and_the_network_is_not_changed():
    body, x = tiny(), random_pixels()
    with torch.inference_mode():
        before = body(x)
        more = append_stages(body, TINY, "stages", 24)
        torch.testing.assert_close(body(x), before, rtol=0, atol=0)
        torch.testing.assert_close(more(x)[:, :8], before, rtol=0, atol=0)
    shared = {p.data_ptr() for p in body.parameters()}
    assert {p.data_ptr() for p in more.parameters()} == shared


@pytest.mark.parametrize(
    ("name", "n_more"),
    [("efficientnet_b0", 1488), ("mobilenet_v2", 1344), ("resnet18", 896)],
)
def test_stages_are_mean_and_deviation_at_five_earlier_widths(name, n_more):
    spec = get_backbone_spec(name)
    body = remove_head(build_backbone(spec, None, seed=0), spec)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        own, more = body(x), append_stages(body, spec, "stages", 64)(x)
    assert more.shape[1] == own.shape[1] + n_more
    torch.testing.assert_close(more[:, : own.shape[1]], own)


def test_deviation_of_a_map_of_one_position_is_zero():
    spec = get_backbone_spec("resnet18")
    body = remove_head(build_backbone(spec, None, seed=0), spec)
    with torch.inference_mode():
        got = append_stages(body, spec, ((-1, "std"),), 32)(torch.rand(2, 3, 32, 32))
    assert got.shape == (2, 1024)
    assert not got[:, 512:].any()


def test_exported_graph_computes_the_same_features():
    body = tiny()
    more = append_stages(body, TINY, "stages", 24)
    graph = export_graph(more, ImageTransform(None, 24))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3), dtype=np.uint8)
    from effboost.runtime import OnnxRuntime

    with torch.inference_mode():
        expected = more(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).numpy()
    np.testing.assert_allclose(OnnxRuntime(graph).run(pixels), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stage", [0, 1, -5])
def test_unknown_stage_raises_with_the_known_ones(stage):
    with pytest.raises(UnsupportedInputError, match=rf"stage {stage}; .* -4 \(features\.0\), -3"):
        append_stages(tiny(), TINY, ((stage, "avg"),), 24)


class Branching(nn.Module):
    """Cannot be traced by torch.fx: it looks at its data."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x if x.sum() > 0 else -x).mean((2, 3))


def test_network_that_torch_fx_cannot_trace_has_maps_too():
    body, x = Branching().eval(), random_pixels()
    network = append_stages(body, get_backbone_spec(Branching), ((-1, "std"),), 24)
    with torch.inference_mode():
        expected = torch.cat([body(x), body.conv(x).std((2, 3), correction=0)], dim=1)
        torch.testing.assert_close(network(x), expected)
        torch.testing.assert_close(fused(network)(x), expected)


def test_a_failed_call_leaves_nothing_behind():
    body = tiny()
    network = append_stages(body, TINY, ((-3, "avg"),), 24)
    with torch.inference_mode():
        expected = network(random_pixels())
        body.pool.forward = lambda x: 1 / 0
        with pytest.raises(ZeroDivisionError):
            network(random_pixels(2))
        del body.pool.forward
        assert torch.equal(network(random_pixels()), expected)


def test_threads_that_share_a_network_do_not_see_each_others_maps():
    network = append_stages(Branching().eval(), get_backbone_spec(Branching), ((-1, "std"),), 24)
    batches = [torch.rand(2, 3, 24, 24) for _ in range(40)]

    def run(batch):
        with torch.inference_mode():
            return network(batch)

    expected = [run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for got, wanted in zip(pool.map(run, batches), expected, strict=True):
                assert torch.equal(got, wanted)


def test_networks_with_stages_survive_pickle():
    network = append_stages(tiny(), TINY, "stages", 24)
    twin = pickle.loads(pickle.dumps(network))
    with torch.inference_mode():
        assert torch.equal(twin(random_pixels()), network(random_pixels()))
