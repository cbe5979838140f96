"""Networks of model files that are huge, do not fit their weights, or have invalid settings."""

import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from torch.nn import functional

import effboost
from common.model_files import edit, refuse

GOLDEN = Path(__file__).parent / "golden"


def featurizer(change):
    """Make a change of both featurizers of a manifest, the fitted one and the one it is of."""

    def change_both(manifest, members=None):
        for name in ("featurizer", "featurizer_"):
            change(manifest["model"][name])

    return change_both


def with_network(name, options):
    """Make a change of the network to one of torchvision's with some options."""

    def change(part):
        spec = {"name": name, "family": "", "weights": None, "head": "last_linear"}
        spec["mean"] = spec["std"] = {"tuple": [1.0, 1.0, 1.0]}
        pairs = [{"tuple": [key, value]} for key, value in options.items()]
        spec["options"] = {"tuple": pairs}
        part["backbone"] = {"spec": spec, "factory": False, "is_spec": True}

    return featurizer(change)


SETTINGS = [[6, 10**6, 10**9, 1]] * 100
OPTIONS = {
    "channels": ("mobilenet_v2", {"inverted_residual_setting": [[6, 10**9, 1, 1]]}, "lacks tensor"),
    "layers": ("mobilenet_v2", {"inverted_residual_setting": SETTINGS}, "10,000 tensors"),
    "a window": (
        "swin_t",
        {"window_size": [10**5, 10**5]},
        "computes large tensors|cannot be built",
    ),
    "width": ("mobilenet_v2", {"width_mult": 1e30}, "cannot be built|lacks tensor"),
    "an unknown one": ("resnet18", {"eval": "1"}, "cannot be built"),
}


@pytest.mark.parametrize(("name", "options", "message"), OPTIONS.values(), ids=OPTIONS.keys())
def test_options_that_make_huge_networks_are_refused_at_once(name, options, message, saved):
    start = time.perf_counter()
    edit(saved, lambda manifest, _: with_network(name, options)(manifest))
    refuse(saved, message, backbone=None)
    assert time.perf_counter() - start < 20


def test_networks_are_not_run_while_loading(monkeypatch):
    """Features of stages made it run one image of the size that the file says."""
    golden = GOLDEN / "format-1-recommended.effboost"
    expected = effboost.load(golden).featurizer_._n_features_out
    conv2d = functional.conv2d

    def refuse_numbers(x, *args, **kwargs):
        assert x.is_meta
        return conv2d(x, *args, **kwargs)

    monkeypatch.setattr(functional, "conv2d", refuse_numbers)
    assert effboost.load(golden).featurizer_._n_features_out == expected


def settings(name, value):
    return featurizer(lambda part: part["params"].update({name: value}))


SETTINGS_OF_IMAGES = {
    "size": (
        lambda m: [
            settings("image_size", 4096)(m),
            m["model"]["featurizer_"]["transform"].update(image_size=4096),
        ],
        "images of 4096 pixels a side; 1024",
    ),
    "stain of another type": (settings("stain", [["x"]]), "stain|parameters"),
    "stain that is unknown": (settings("stain", "x"), "stain"),
    "stages of another type": (
        settings("extra_features", {"tuple": [1]}),
        "extra_features are not of its network|damaged",
    ),
    "stages of text": (settings("extra_features", "x"), "extra_features"),
    "stages that do not exist": (
        settings("extra_features", {"tuple": [{"tuple": [-900, "avg"]}]}),
        "does not fit 'mobilenet_v2'",
    ),
    "shape": (settings("image_shape", {"tuple": [1.5, "x"]}), "image_shape is not height"),
    "negative shape": (settings("image_shape", [-1, 2]), "image_shape is not height"),
    "device": (settings("device", "meta"), "device is 'meta'"),
    "another device": (settings("device", "x" * 10**5), "not a device of torch"),
    "width": (lambda m: m["model"]["featurizer_"].update(width=999), "999"),
    "seen": (
        lambda m: m["model"]["featurizer_"]["seen"].update(n_features_in_=5),
        "has seen 5 columns",
    ),
    "history": (
        lambda m: m["model"]["featurizer_"].update(history=[{"dict": [["a", [1]]]}]),
        "list of epochs",
    ),
    "classes of two types": (
        lambda m: m["model"].update(classes={"array": ["|O", ["a", 1]]}),
        "classes are not of one type",
    ),
    "one class twice": (
        lambda m: m["model"].update(classes={"array": ["<U1", ["a", "a"]]}),
        "each once",
    ),
    "metrics": (
        lambda m: m["model"].update(evals_result={"dict": [["train", 1]]}),
        "a dictionary of metrics",
    ),
}


@pytest.mark.parametrize(
    ("change", "message"), SETTINGS_OF_IMAGES.values(), ids=SETTINGS_OF_IMAGES.keys()
)
def test_invalid_settings_of_a_featurizer_are_refused(change, message, tmp_path):
    path = tmp_path / "model.effboost"
    path.write_bytes((GOLDEN / "format-1-recommended.effboost").read_bytes())
    edit(path, lambda manifest, _: change(manifest) and None)
    refuse(path, message, backbone=None)


def test_a_network_without_its_weights_takes_no_memory(saved):
    """Ten million outputs of VGG16 would take 160 gigabytes."""

    def change(manifest, members):
        spec = {"name": "vgg16", "family": "", "weights": None, "head": "last_linear"}
        spec["mean"] = spec["std"] = {"tuple": [1.0, 1.0, 1.0]}
        spec["options"] = {"tuple": [{"tuple": ["num_classes", 10**7]}]}
        backbone = {"spec": spec, "factory": False, "is_spec": True}
        for name in ("featurizer", "featurizer_"):
            manifest["model"][name]["backbone"] = backbone
        manifest["model"]["featurizer_"]["params"]["features"] = "logits"

    refuse(edit(saved, change), "lacks tensor 'network.features.0.bias'", backbone=None)


def with_header(content, change):
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header = change(header) or header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


WEIGHT = "network.features.0.weight"
HEADERS = {
    "pickle": (lambda h: pickle.dumps(h), "header of network.safetensors is damaged"),
    "missing": (lambda h: h.pop(WEIGHT) and None, "overlap, or there is a gap"),
    "renamed": (lambda h: h.update(x=h.pop(WEIGHT)), "lacks tensor"),
    "type": (lambda h: h[WEIGHT].update(dtype="O"), "of an unknown type"),
    "shape": (
        lambda h: h[WEIGHT].update(shape=[2**40, 2**40]),
        "not as large as its shape",
    ),
    "negative": (lambda h: h[WEIGHT].update(shape=[-6, 3, -3, 3]), "an impossible shape or place"),
    "turned": (lambda h: h[WEIGHT].update(shape=[3, 6, 3, 3]), r"float32 \[3, 6, 3, 3\]; the net"),
    "place": (
        lambda h: h[WEIGHT].update(data_offsets=[0, 648]),
        "overlap|not as large",
    ),
    "thousands of digits": (
        # Multiplying them took half a minute.
        lambda h: h[WEIGHT].update(shape=[10**3000] * 200),
        "an integer has 3001 digits",
    ),
    "many axes": (lambda h: h[WEIGHT].update(shape=[1] * 999), "an impossible shape"),
    "metadata": (lambda h: h.update(__metadata__={"a": "b"}), "has an unknown field 'a'"),
}


@pytest.mark.parametrize(("change", "message"), HEADERS.values(), ids=HEADERS.keys())
def test_tensors_that_do_not_fit_are_refused(change, message, saved):
    def change_network(manifest, members):
        members["network.safetensors"] = with_header(members["network.safetensors"], change)

    refuse(edit(saved, change_network), message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value, saved):
    def change(manifest, members):
        content = bytearray(members["network.safetensors"])
        content[-4:] = np.float32(value).tobytes()
        members["network.safetensors"] = bytes(content)

    refuse(edit(saved, change), "contains NaN or infinity")
