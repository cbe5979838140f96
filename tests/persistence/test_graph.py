"""The exported graph in a model file: quick, never trusted, and never other features."""

import subprocess
import sys

import numpy as np
import pytest
from xgboost import XGBClassifier

import effboost
import onnx
from common.exported import cells
from common.model_files import edit as change
from common.model_files import read_members, refuse
from effboost import HybridClassifier, presets
from effboost.exceptions import ModelFileError, ModelFileWarning
from effboost.persistence import _manifest
from effboost.persistence._archive import digest
from effboost.persistence._graph import GRAPH, StoredGraph
from onnx import numpy_helper


@pytest.fixture(scope="module")
def model():
    clf = presets.frozen(
        "mobilenet_v3_small", weights=None, image_size=32, runtime="onnxruntime", random_state=0
    )
    clf.set_params(classifier=XGBClassifier(n_estimators=3, n_jobs=1))
    return clf.fit(*cells())


@pytest.fixture
def path(model, tmp_path):
    return effboost.save(model, tmp_path / "model.effboost")


@pytest.fixture
def no_export(monkeypatch):
    """Make an export fail, so that only the graph of the file can be used."""

    def fail(*_):
        raise AssertionError("the network was exported")

    monkeypatch.setattr("effboost._extraction.feature_extractor.export_graph", fail)
    monkeypatch.setattr("effboost._extraction.feature_extractor._GRAPHS", {})


@pytest.mark.slow
def test_a_loaded_model_predicts_the_same_bits_without_an_export(model, path, no_export):
    images = cells(9, side=37, seed=2)[0]
    again = effboost.load(path)
    np.testing.assert_array_equal(again.predict_proba(images), model.predict_proba(images))
    assert again.featurizer_._extractor.graph() == model.featurizer_._extractor.graph()


def test_the_weights_are_in_the_file_once(model, path):
    _, members = read_members(path.read_bytes())
    assert len(members[GRAPH]) < 200_000
    assert len(members["network.safetensors"]) > 3_000_000
    graph = model.featurizer_._extractor.graph()
    n_cut = len(graph) - len(members[GRAPH])
    assert n_cut > 0.9 * len(members["network.safetensors"])
    for trace in (b"site-packages", b"_export.py", b"stack_trace"):
        assert trace not in members[GRAPH]


def test_a_loaded_model_is_saved_with_its_graph(path, tmp_path, no_export):
    copy = effboost.save(effboost.load(path), tmp_path / "copy.effboost")
    assert copy.read_bytes() == path.read_bytes()


def test_models_without_a_graph_are_exported(model, path):
    def drop(manifest, members):
        del manifest["model"]["featurizer_"]["graph"], members[GRAPH]

    changed = change(path, drop)
    images = cells(3)[0]
    np.testing.assert_array_equal(
        effboost.load(changed).predict_proba(images), model.predict_proba(images)
    )


def whole_of(model, edit):
    """Return the description and the bytes of an edited graph, with its hash."""
    graph = onnx.load_from_string(model.featurizer_._extractor.graph())
    edit(graph.graph)
    content = graph.SerializeToString()
    return {"cuts": [], "sha256": digest(content)}, content


def replace_graph(model, edit):
    def replace(manifest, members):
        manifest["model"]["featurizer_"]["graph"], members[GRAPH] = whole_of(model, edit)

    return replace


def flip(graph):
    """Return features with the opposite sign."""
    (output,) = graph.output
    for node in graph.node:
        node.output[:] = ["before" if name == output.name else name for name in node.output]
    graph.node.append(onnx.helper.make_node("Neg", ["before"], [output.name]))


def widen(graph):
    """Return features of another shape."""
    (output,) = graph.output
    for node in graph.node:
        node.output[:] = ["before" if name == output.name else name for name in node.output]
    graph.node.append(onnx.helper.make_node("Concat", ["before"] * 2, [output.name], axis=1))
    output.type.tensor_type.shape.dim[1].dim_value *= 2


def drop_weights(graph):
    """Make the graph small enough for a file: its weights are not in the cuts."""
    for initializer in graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.size > 100:
            initializer.CopyFrom(numpy_helper.from_array(np.zeros_like(values), initializer.name))


@pytest.mark.slow
@pytest.mark.parametrize("edit", [flip, widen, drop_weights])
def test_a_graph_with_other_features_is_not_used(edit, model, path, monkeypatch):
    """Even if all hashes were repaired."""
    monkeypatch.setattr("effboost.persistence._construct.MAX_GRAPH_BYTES", 2**24)
    monkeypatch.setattr("effboost._extraction.feature_extractor._GRAPHS", {})
    again = effboost.load(change(path, replace_graph(model, edit)))
    images = cells(3)[0]
    with pytest.warns(ModelFileWarning, match=r"graph .* is not used, .* exported again"):
        found = again.predict_proba(images)
    np.testing.assert_array_equal(found, model.predict_proba(images))


def other_weights(manifest, members):
    """Change one weight, and repair the hash of the member."""
    content = bytearray(members["network.safetensors"])
    content[-4000:-3000] = bytes(1000)
    members["network.safetensors"] = bytes(content)


def other_order(manifest, members):
    cuts = manifest["model"]["featurizer_"]["graph"]["cuts"]
    cuts[0][1], cuts[1][1] = cuts[1][1], cuts[0][1]


def unknown_name(manifest, members):
    manifest["model"]["featurizer_"]["graph"]["cuts"][0][1] = "unknown"


def one_name_twice(manifest, members):
    cuts = manifest["model"]["featurizer_"]["graph"]["cuts"]
    cuts[0][1] = cuts[1][1]


def other_rest(manifest, members):
    members[GRAPH] = members[GRAPH][:-1] + bytes([members[GRAPH][-1] ^ 1])


@pytest.mark.parametrize(
    "edit", [other_weights, other_order, unknown_name, one_name_twice, other_rest]
)
def test_the_hash_covers_the_weights_and_the_graph(edit, model, path, monkeypatch):
    # The next export, which takes seconds, is not what is tested.
    graph = model.featurizer_._extractor.graph()
    monkeypatch.setattr("effboost._extraction.feature_extractor.export_graph", lambda *_: graph)
    monkeypatch.setattr("effboost._extraction.feature_extractor._GRAPHS", {})
    again = effboost.load(change(path, edit))
    with pytest.warns(ModelFileWarning, match="another hash|other weights than"):
        again.predict_proba(cells(3)[0])
    assert again.featurizer_._extractor._stored is None


def test_graphs_that_name_other_files_are_not_used(model, path, monkeypatch):
    def external(graph):
        (one, *_) = graph.initializer
        one.ClearField("raw_data")
        one.data_location = onnx.TensorProto.EXTERNAL
        one.external_data.add(key="location", value="/etc/passwd")

    described, content = whole_of(model, external)
    with pytest.raises(Exception, match="contains data in another file"):
        StoredGraph.read(content, described, "graph").complete({})


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"cuts": []}, "has no field 'sha256'"),
        ({"cuts": [[1]], "sha256": ""}, "are not places with names"),
        ({"cuts": [[True, "a"]], "sha256": ""}, "are not places with names"),
        ({"cuts": [[5, "a"], [4, "b"]], "sha256": ""}, "in order"),
        ({"cuts": [[-1, "a"]], "sha256": ""}, "not within the graph"),
        ({"cuts": [[10**9, "a"]], "sha256": ""}, "not within the graph"),
        ({"cuts": [[0, "a"]] * 10_001, "sha256": ""}, "in order"),
    ],
)
def test_damaged_descriptions_are_refused(described, message, path):
    def replace(manifest, members):
        manifest["model"]["featurizer_"]["graph"] = described

    refuse(change(path, replace), message, backbone=None)


def test_a_member_that_is_not_described_is_refused(path):
    def forget(manifest, members):
        del manifest["model"]["featurizer_"]["graph"]

    content = path.read_bytes()
    with pytest.raises(ModelFileError):
        effboost.load(change(path, forget))

    def lose(manifest, members):
        del members[GRAPH]

    path.write_bytes(content)
    refuse(change(path, lose), "has no member 'graph.cut'", backbone=None)


def test_networks_of_the_caller_are_saved_without_a_graph(tmp_path):
    from common.networks import tiny_featurizer

    clf = HybridClassifier(tiny_featurizer(runtime="onnxruntime"), XGBClassifier(n_estimators=2))
    path = effboost.save(clf.fit(*cells()), tmp_path / "own.effboost")
    assert GRAPH not in read_members(path.read_bytes())[1]


def test_the_version_of_the_format_is_the_same():
    assert _manifest.VERSION == 2


@pytest.mark.slow
def test_a_first_prediction_imports_no_exporter(path):
    code = (
        "import sys, numpy as np, effboost\n"
        "model = effboost.load(sys.argv[1])\n"
        "model.predict_proba(np.zeros((1, 40, 40, 3), np.uint8))\n"
        "print('onnxscript' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
