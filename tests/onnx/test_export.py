import getpass
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

import onnx
from common.exported import cells, tiny_file, tiny_hybrid
from common.networks import tiny_featurizer
from effboost import (
    CNNClassifier,
    HybridClassifier,
    ImageSequence,
    LinearBoostedClassifier,
    OnnxClassifier,
    export_onnx,
)
from effboost._utils.onnx_session import start_session
from effboost.exceptions import RuntimeUnavailableError, UnsupportedInputError
from onnx import checker
from runtime.test_torch import Branching


def new_cells():
    return cells(60, side=47, seed=1)[0]


def outputs(content, images):
    session = start_session(content)
    rows = [session.run(["label", "probabilities"], {"image": image}) for image in images]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def test_the_graph_computes_labels_and_probabilities_of_images():
    images = new_cells()
    labels, probabilities = outputs(tiny_file(), images)
    assert np.abs(probabilities - tiny_hybrid().predict_proba(images)).max() <= 1e-6
    assert labels.tolist() == tiny_hybrid().predict(images).tolist()
    assert len(set(labels)) == 3


def test_the_checker_and_shape_inference_pass():
    model = onnx.load_from_string(tiny_file())
    checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {
        value.name: [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.input, *inferred.graph.output)
    }
    assert shapes == {
        "image": ["height", "width", 3],
        "label": [1],
        "probabilities": [1, 3],
        "familiarity": [1],
        "reasons": [1, 4],
    }


def test_the_file_contains_no_paths_of_this_machine():
    for trace in (Path(__file__).anchor + "home", "site-packages", "_export.py", "stack_trace"):
        assert trace.encode() not in tiny_file()
    for place in (Path.cwd(), Path.home(), tempfile.gettempdir(), getpass.getuser() + "/"):
        assert str(place).encode() not in tiny_file()


@pytest.mark.slow
@pytest.mark.parametrize("features", ["pooled", "logits"])
@pytest.mark.parametrize("kind", ["network", "hybrid"])
def test_networks_predict_by_their_own_softmax(features, kind, tmp_path):
    X, y = cells()
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=1, features=features)
    model = CNNClassifier(featurizer).fit(X, y)
    if kind == "hybrid":
        frozen = tiny_featurizer(features=features)
        model = HybridClassifier(frozen, LogisticRegression(max_iter=1000)).fit(X, y)
    images = new_cells()
    got = OnnxClassifier(export_onnx(model, tmp_path / "model.onnx"))
    assert np.abs(got.predict_proba(images) - model.predict_proba(images)).max() <= 1e-5
    assert (got.predict(images) == model.predict(images)).mean() >= 0.995


@pytest.mark.slow
def test_the_network_of_a_hybrid_is_exported_too(tmp_path):
    X, y = cells()
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=1)
    clf = HybridClassifier(featurizer, LogisticRegression()).fit(X, y)
    got = OnnxClassifier(export_onnx(clf.cnn_, tmp_path / "cnn.onnx"))
    assert np.abs(got.predict_proba(X) - clf.cnn_.predict_proba(X)).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("labels", [[3, 7], [False, True], [0.0, 1.0]])
def test_labels_keep_their_type(labels, tmp_path):
    X, _ = cells(24)
    y = np.array(labels)[np.arange(24) % 2]
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression()).fit(X, y)
    path = export_onnx(clf, tmp_path / "model.onnx")
    got = OnnxClassifier(path).predict(X)
    assert got.dtype == clf.predict(X).dtype
    assert got.tolist() == clf.predict(X).tolist()
    assert outputs(path.read_bytes(), ImageSequence(X))[0].tolist() == got.tolist()


def test_exports_are_atomic_and_replace_a_file(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(tiny_hybrid(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    assert export_onnx(tiny_hybrid(), str(path)) == path
    assert path.read_bytes() == tiny_file()


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("model", [LogisticRegression(), tiny_featurizer(), "model.joblib"])
def test_other_models_are_refused(model, tmp_path):
    with pytest.raises(
        UnsupportedInputError, match=f"got {type(model).__name__}; .* fitted Hybrid"
    ):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_models_must_be_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        export_onnx(HybridClassifier(), tmp_path / "model.onnx")


def test_a_network_that_cannot_be_exported_raises(tmp_path):
    X, y = cells()
    featurizer = tiny_featurizer(backbone=Branching, runtime="torch")
    clf = HybridClassifier(featurizer, LogisticRegression()).fit(X, y)
    with pytest.raises(RuntimeUnavailableError):
        export_onnx(clf, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0])
def test_the_recommended_hybrid_is_exported(tmp_path, weight):
    X, y = cells()
    featurizer = tiny_featurizer(
        views="dihedral", extra_features="stages", crop_size=36, runtime="onnxruntime"
    )
    head = LinearBoostedClassifier(trees=XGBClassifier(n_estimators=9), linear_weight=weight)
    clf = HybridClassifier(featurizer, head, random_state=0).fit(X, y)
    images = new_cells()
    got = OnnxClassifier(export_onnx(clf, tmp_path / "model.onnx"))
    assert np.abs(got.predict_proba(images) - clf.predict_proba(images)).max() <= 1e-5
    assert got.predict(images).tolist() == clf.predict(images).tolist()


def test_the_networks_own_classifier_ignores_features_of_stages(tmp_path):
    X, y = cells()
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=1, extra_features="stages")
    cnn = CNNClassifier(featurizer).fit(X, y)
    got = OnnxClassifier(export_onnx(cnn, tmp_path / "cnn.onnx"))
    assert np.abs(got.predict_proba(X) - cnn.predict_proba(X)).max() <= 1e-5


def test_view_averaging_of_probabilities_is_refused(tmp_path):
    X, y = cells()
    clf = HybridClassifier(tiny_featurizer(views="dihedral"), view_averaging="probabilities")
    with pytest.raises(UnsupportedInputError, match="averages the features"):
        export_onnx(clf.fit(X, y), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_label_that_is_no_unicode_text_is_refused(tmp_path):
    images, y = cells(12)[:2]
    labels = np.where(y == y[0], "caf\udce9", "b")  # as of a folder whose name is Latin-1
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression()).fit(images, labels)
    with pytest.raises(UnsupportedInputError, match=r"label 'caf\\udce9' is no text"):
        export_onnx(clf, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_label_beyond_64_bits_with_a_sign_is_refused(tmp_path):
    images, y = cells(12)[:2]
    labels = np.where(y == y[0], 2**63 + 1, 1).astype(np.uint64)
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression()).fit(images, labels)
    with pytest.raises(UnsupportedInputError, match=f"label {2**63 + 1} is too large"):
        export_onnx(clf, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
