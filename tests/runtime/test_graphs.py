"""Exported networks on the runtimes that run them."""

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import psutil
import pytest
import torch
from torch import nn

import onnx
from common.networks import TinyNet
from effboost._transforms import ImageTransform
from effboost.backbones import BackboneSpec, build_backbone, get_backbone_spec
from effboost.exceptions import (
    MissingDependencyError,
    RuntimeFallbackWarning,
    RuntimeUnavailableError,
)
from effboost.runtime import (
    OnnxRuntime,
    OpenVinoRuntime,
    TorchRuntime,
    export_graph,
    start_runtime,
)
from runtime.test_torch import Branching, calibrated, pictures

CPU = torch.device("cpu")
RUNTIMES = [OnnxRuntime, OpenVinoRuntime]


@pytest.fixture(scope="module")
def graph():
    return export_graph(calibrated(get_backbone_spec(TinyNet), 24), ImageTransform(None, 24))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18"])
def test_features_are_those_of_torch(name, runtime):
    module = calibrated(get_backbone_spec(name), 64)
    transform = ImageTransform(None, 64, normalize="imagenet")
    pixels = pictures(4, 64)
    with torch.no_grad():
        expected = module(torch.from_numpy(transform.normalize_pixels(pixels))).numpy()
    loaded = runtime(export_graph(module, transform))
    got = np.concatenate([loaded.run(pixels[i : i + 1]) for i in range(4)])
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["torch", *(runtime.name for runtime in RUNTIMES)])
def test_runtimes_start_by_name_with_the_features_of_torch(name):
    module, transform = calibrated(get_backbone_spec(TinyNet), 24), ImageTransform(None, 24)
    pixels = pictures(4, 24)
    with torch.no_grad():
        expected = module(torch.from_numpy(transform.normalize_pixels(pixels))).numpy()
    loaded = start_runtime(name, module, transform, CPU, lambda: export_graph(module, transform))
    assert loaded.name == name
    got = np.concatenate([loaded.run(pixels[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_at_the_same_time_give_the_same_bits(runtime, graph):
    loaded, pixels = runtime(graph), pictures(64, 24)
    alone = [loaded.run(pixels[i : i + 1]) for i in range(64)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: loaded.run(pixels[i : i + 1]), range(64)))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_idle_runtime_does_not_spin(runtime, graph):
    loaded = runtime(graph)
    loaded.run(pictures(1, 24))
    before = psutil.Process().cpu_times()
    time.sleep(0.5)
    after = psutil.Process().cpu_times()
    assert after.user + after.system - before.user - before.system < 0.2


def test_number_of_workers_is_that_of_allowed_threads(graph, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert OnnxRuntime(graph).n_workers == OpenVinoRuntime(graph).n_workers == 1
    n_threads = threading.active_count()
    OnnxRuntime(graph).run(pictures(1, 24))
    assert threading.active_count() == n_threads


def test_network_is_not_changed():
    module = calibrated(get_backbone_spec(TinyNet), 24)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    export_graph(module, ImageTransform(None, 24))
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())


class Noisy(nn.Module):
    """Can be exported, and gives other features each time."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.layer(x).mean(dim=(2, 3))
        return x * torch.rand_like(x)


def no_graph():
    raise AssertionError("torch needs no graph")


@pytest.mark.slow
@pytest.mark.parametrize("factory", [Branching, Noisy], ids=lambda factory: factory.__name__)
def test_network_that_cannot_be_exported_runs_on_torch_with_a_warning(factory):
    module = build_backbone(BackboneSpec("own", factory=factory), None, seed=0)
    transform = ImageTransform(None, 24)

    def graph():
        return export_graph(module, transform)

    with pytest.warns(RuntimeFallbackWarning, match="torch computes its features"):
        runtime = start_runtime("auto", module, transform, CPU, graph)
    assert runtime.name == "torch"
    # What is wrong with the network, without torch's advice about its exporter.
    reason = "data-dependent expression" if factory is Branching else "computes other features"
    with pytest.raises(RuntimeUnavailableError, match=reason) as error:
        start_runtime("onnxruntime", module, transform, CPU, graph)
    assert "\x1b" not in str(error.value)


def test_export_is_accepted_if_one_probe_agrees(monkeypatch):
    """Batch norms that saw four pictures make some of the probes useless, but not all."""
    from effboost.runtime import _export

    module, transform = calibrated(get_backbone_spec(TinyNet), 24), ImageTransform(None, 24)
    alike, asked = _export._alike, []

    def mostly_not(got, expected):
        asked.append(1)
        return len(asked) >= 5 and alike(got, expected)

    monkeypatch.setattr(_export, "_alike", mostly_not)
    export_graph(module, transform)
    assert len(asked) == 5


def test_auto_is_torch_on_a_gpu_and_onnxruntime_on_a_cpu(graph):
    module, transform = calibrated(get_backbone_spec(TinyNet), 24), ImageTransform(None, 24)
    assert start_runtime("auto", module, transform, CPU, lambda: graph).name == "onnxruntime"
    assert start_runtime("openvino", module, transform, CPU, lambda: graph).name == "openvino"
    assert isinstance(start_runtime("torch", module, transform, CPU, no_graph), TorchRuntime)
    meta = torch.device("meta")  # stands for any device that is no CPU
    assert start_runtime("auto", module, transform, meta, no_graph).name == "torch"


def test_missing_runtime_raises_with_the_package(monkeypatch, graph):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'effboost\[openvino\]"):
        start_runtime("openvino", None, None, CPU, lambda: graph)


def test_export_prints_and_warns_nothing(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_graph(calibrated(get_backbone_spec(TinyNet), 24), ImageTransform(None, 24))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_exported_graph_does_not_depend_on_the_callers_modes():
    module, transform = calibrated(get_backbone_spec(TinyNet), 24), ImageTransform(None, 24)
    expected = OnnxRuntime(export_graph(module, transform)).run(pictures(1, 24))
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        found = OnnxRuntime(export_graph(module, transform)).run(pictures(1, 24))
    np.testing.assert_array_equal(found, expected)


def test_bounds_of_activations_are_constants_that_onnxruntime_fuses(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU6(), nn.Conv2d(16, 16, 3), nn.ReLU6(), nn.Flatten()
    )
    graph = export_graph(network, ImageTransform(None, 12))
    model = onnx.load_from_string(graph)
    assert not [node for node in model.graph.node if node.op_type == "CastLike"]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    fused_nodes = onnx.load(tmp_path / "fused.onnx").graph.node
    assert [node.op_type for node in fused_nodes if "Conv" in node.op_type] == ["FusedConv"] * 2
    assert not [node for node in fused_nodes if node.op_type == "Clip"]
