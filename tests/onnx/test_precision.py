import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import onnx
from common.exported import cells, tiny_file, tiny_hybrid
from common.networks import tiny_featurizer
from effboost import (
    HybridClassifier,
    ImageSequence,
    OnnxClassifier,
    describe_model,
    export_onnx,
)
from effboost._transforms import ImageTransform
from effboost._utils.onnx_session import start_session
from effboost.exceptions import LeakageError, PrecisionWarning, UnsupportedInputError
from effboost.onnx import _export
from effboost.onnx._precision import to_float16, to_int8
from effboost.runtime import export_graph
from onnx import numpy_helper


class Separable(nn.Module):
    """A network like EfficientNet-Lite: depthwise convolutions, ReLU6, a residual."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6())
        self.down = nn.Sequential(
            nn.Conv2d(16, 32, 1), nn.ReLU6(), nn.Conv2d(32, 32, 3, 8, 1, groups=32), nn.ReLU6()
        )
        self.block = nn.Sequential(
            nn.Conv2d(32, 48, 1), nn.ReLU6(), nn.Conv2d(48, 48, 3, 1, 1, groups=48), nn.ReLU6()
        )
        self.back = nn.Conv2d(48, 32, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x):
        x = self.down(self.stem(x))
        return self.classifier(self.pool(x + self.back(self.block(x))).flatten(1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    transform = ImageTransform(crop_size=None, image_size=96)
    return onnx.load_from_string(export_graph(Separable().eval(), transform))


def pictures(n, seed=0):
    """Return smooth images: noise of 12 x 12 squares."""
    small = np.random.default_rng(seed).integers(60, 220, (n, 8, 8, 3), dtype=np.uint8)
    return [one[None] for one in np.kron(small, np.ones((1, 12, 12, 1), np.uint8))]


def features(model, images):
    session = start_session(model.SerializeToString())
    return np.concatenate([session.run(["features"], {"pixels": one})[0] for one in images])


def relative_error(model, reference, images):
    expected = features(reference, images)
    return np.linalg.norm(features(model, images) - expected) / np.linalg.norm(expected)


def initializers(model):
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def test_float16_stores_large_weights_and_computes_in_float32(network):
    halved = to_float16(network)
    onnx.checker.check_model(halved, full_check=True)
    kinds = {name: value.dtype for name, value in initializers(halved).items()}
    assert sorted({str(kind) for kind in kinds.values()}) >= ["float16", "float32"]
    assert kinds["body.stem.0.weight"] == np.float32  # large maps
    assert 0 < relative_error(halved, network, pictures(8)) < 1e-3
    exact = initializers(network)["body.back.weight"]
    got = initializers(halved)["body.back.weight_float16"]
    np.testing.assert_array_equal(got, exact.astype(np.float16))


def test_weights_beyond_float16_stay(network):
    large = onnx.ModelProto()
    large.CopyFrom(network)
    for one in large.graph.initializer:
        if one.name == "body.back.weight":
            values = numpy_helper.to_array(one).copy()
            values[0, 0] = 1e5
            one.CopyFrom(numpy_helper.from_array(values, one.name))
    assert initializers(to_float16(large))["body.back.weight"].dtype == np.float32


def test_int8_quantises_convolutions_except_those_with_large_maps(network):
    quantized = to_int8(network, pictures(16))
    onnx.checker.check_model(quantized, full_check=True)
    made = {name: node for node in quantized.graph.node for name in node.output}
    convolutions = [node for node in quantized.graph.node if node.op_type == "Conv"]
    inside = [made.get(node.input[1]) is not None for node in convolutions]
    assert inside == [False, False, True, True, True, True]
    assert {node.domain for node in quantized.graph.node} == {""}
    assert relative_error(quantized, network, pictures(8, seed=1)) < 0.02


def test_products_of_two_pairs_of_8_bits_fit_into_16(network):
    """Processors with AVX2, but without VNNI, cut larger sums off."""
    quantized = to_int8(network, pictures(16))
    whole = [v for v in initializers(quantized).values() if v.dtype == np.int8 and v.ndim == 4]
    assert len(whole) == 4
    assert max(np.abs(values.astype(int)).max() for values in whole) == 64
    assert 2 * 255 * 64 < 2**15


def test_weights_are_rounded_better_than_by_onnxruntime(network, monkeypatch):
    better = to_int8(network, pictures(16))
    monkeypatch.setattr("effboost.onnx._precision._round_again", lambda *_: None)
    plain = to_int8(network, pictures(16))
    images = pictures(8, seed=1)
    assert relative_error(better, network, images) < relative_error(plain, network, images)


@pytest.fixture(scope="module")
def smooth():
    """Return a hybrid with a head whose probabilities change little, and its images."""
    X, y = cells(60)
    featurizer = tiny_featurizer(
        backbone=Separable,
        image_size=96,
        crop_size=36,
        runtime="onnxruntime",
        views="rotations",
    )
    return HybridClassifier(featurizer, LogisticRegression()).fit(X, y), X


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_exports_run_in_the_classifier_and_describe_their_agreement(smooth, precision, tmp_path):
    model, X = smooth
    path = export_onnx(
        model, tmp_path / "model.onnx", precision=precision, calibration=X, min_agreement=0.9
    )
    got = OnnxClassifier(path)
    difference = np.abs(got.predict_proba(X) - model.predict_proba(X)).max()
    assert difference < (0.1 if precision == "int8" else 1e-3)
    facts = describe_model(path)
    assert facts["precision"] == precision
    assert facts["classes"] == ["blast", "healthy", "other"]
    agreement = facts["agreement"]
    assert (agreement["n_calibration"], agreement["n_held_out"]) == (48, 12)
    assert agreement["held_out"] >= 0.9
    session = start_session(path.read_bytes())
    small = np.zeros((33, 57, 3), np.uint8)
    assert session.run(["probabilities"], {"image": small})[0].shape == (1, 3)


def test_subjects_are_held_out_whole(smooth, tmp_path, monkeypatch):
    model, X = smooth
    seen = []
    monkeypatch.setattr(
        _export, "compare", lambda *args: seen.extend(args[2:]) or _export.Agreement(1, 1, 1, 1)
    )
    images = ImageSequence(X, groups=np.repeat(list("abcde"), 12))
    export_onnx(model, tmp_path / "m.onnx", precision="float16", calibration=images)
    known, others = (set(part.groups) for part in seen)
    assert len(others) == 1
    assert known | others == set("abcde")
    assert not known & others
    seen.clear()
    export_onnx(model, tmp_path / "m.onnx", precision="float16", calibration=X, validation=X[:7])
    assert [len(part) for part in seen] == [60, 7]


def shift_features(network, _):
    """Return a network with features that are far off."""
    for one in network.graph.initializer:
        if one.name.endswith("bias"):
            values = numpy_helper.to_array(one)
            one.CopyFrom(numpy_helper.from_array(np.zeros_like(values), one.name))
        elif one.name.endswith("weight"):
            one.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(one), one.name))
    return network


def test_a_low_agreement_is_a_warning_and_a_very_low_one_an_error(tmp_path, monkeypatch):
    X, _ = cells(60)
    path = tmp_path / "model.onnx"
    monkeypatch.setattr(_export, "to_int8", shift_features)
    with pytest.raises(UnsupportedInputError, match="nothing was written"):
        export_onnx(tiny_hybrid(), path, precision="int8", calibration=X)
    assert not path.exists()
    monkeypatch.setattr(_export, "_TOO_FAR", 1)
    with pytest.warns(PrecisionWarning, match=r"of 48 calibration images and .* of 12 others"):
        export_onnx(tiny_hybrid(), path, precision="int8", calibration=X)
    share = json.loads(dict_of(path)["agreement"])["held_out"]
    assert share < 0.9


def dict_of(path):
    return {pair.key: pair.value for pair in onnx.load(path).metadata_props}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "int4"}, "precision='int4'; expected one of"),
        ({"precision": "int8"}, "without calibration; pass some training images"),
        ({"calibration": cells(20)[0]}, 'have no effect with precision="float32"'),
        ({"precision": "float16", "validation": cells(20)[0]}, "without calibration"),
        ({"precision": "int8", "calibration": cells(9)[0]}, "has 9 images; pass 10 or more"),
        (
            {"precision": "int8", "calibration": ImageSequence(cells(20)[0], groups=["a"] * 20)},
            "images of one subject",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message, tmp_path):
    with pytest.raises(UnsupportedInputError, match=message):
        export_onnx(tiny_hybrid(), tmp_path / "model.onnx", **settings)


def test_validation_images_are_those_of_other_subjects(tmp_path):
    X = ImageSequence(cells(20)[0], groups=np.arange(20) // 4)
    export = {"precision": "int8", "calibration": X[:16]}
    with pytest.raises(UnsupportedInputError, match="validation has no images"):
        export_onnx(tiny_hybrid(), tmp_path / "model.onnx", validation=X[:0], **export)
    with pytest.raises(LeakageError, match="1 subject"):
        export_onnx(tiny_hybrid(), tmp_path / "model.onnx", validation=X[15:], **export)
    assert not list(tmp_path.iterdir())


def test_float32_is_the_default(tmp_path):
    path = export_onnx(tiny_hybrid(), tmp_path / "model.onnx", precision="float32")
    assert path.read_bytes() == tiny_file()
    assert describe_model(path)["precision"] == "float32"
    assert describe_model(path)["agreement"] is None
