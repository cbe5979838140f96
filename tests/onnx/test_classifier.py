import io
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from xgboost import XGBClassifier

import effboost
from common.exported import cells, tiny_file, tiny_hybrid
from common.networks import TinyNet, tiny_featurizer
from effboost import (
    HybridClassifier,
    ImageSequence,
    OnnxClassifier,
    evaluate,
    export_onnx,
    iter_predictions,
)
from effboost.exceptions import ImageDecodeError, UnsupportedInputError


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "tiny.onnx"
    file.write_bytes(tiny_file())
    return file


@pytest.fixture
def clf(path):
    return OnnxClassifier(path)


def test_it_predicts_as_the_exported_model(clf):
    images = cells(50, side=53, seed=2)[0]
    assert np.abs(clf.predict_proba(images) - tiny_hybrid().predict_proba(images)).max() <= 1e-6
    assert clf.predict(images).tolist() == tiny_hybrid().predict(images).tolist()
    np.testing.assert_array_equal(clf.classes_, tiny_hybrid().classes_)
    assert clf.score(images, clf.predict(images)) == 1


def test_no_images_give_no_predictions(clf):
    none = ImageSequence(cells(2, side=53)[0])[:0]
    np.testing.assert_array_equal(clf.predict_proba(none), tiny_hybrid().predict_proba(none))
    assert clf.predict(none).dtype == tiny_hybrid().predict(none).dtype
    assert len(clf.predict(none)) == len(clf.check_familiarity(none).familiar) == 0


def as_files(X, folder):
    files = [folder / f"{i}.png" for i in range(len(X))]
    for file, picture in zip(files, X, strict=True):
        Image.fromarray(picture).save(file)
    return files


@pytest.mark.parametrize(
    "form",
    [
        lambda X, folder: as_files(X, folder),
        lambda X, folder: pd.DataFrame({"path": map(str, as_files(X, folder))}),
        lambda X, folder: [Image.fromarray(picture) for picture in X],
        lambda X, folder: X / 255,
        lambda X, folder: list(X),
        lambda X, folder: torch.from_numpy(np.moveaxis(X, -1, 1).copy()),
        lambda X, folder: ImageSequence(X),
    ],
    ids=["paths", "frame", "pictures", "floats", "list", "tensor", "sequence"],
)
def test_every_form_of_images_is_accepted(form, clf, tmp_path):
    X = cells(6)[0]
    np.testing.assert_array_equal(clf.predict_proba(form(X, tmp_path)), clf.predict_proba(X))


def test_rows_of_numbers_are_images_if_the_model_was_fitted_on_rows(tmp_path):
    X, y = cells()
    rows = X.reshape(len(X), -1) / 255
    featurizer = tiny_featurizer(image_shape=(40, 40, 3), runtime="onnxruntime")
    model = HybridClassifier(featurizer).fit(rows, y)
    got = OnnxClassifier(export_onnx(model, tmp_path / "rows.onnx"))
    assert np.abs(got.predict_proba(rows) - model.predict_proba(rows)).max() <= 1e-6
    assert got.n_features_in_ == 4800
    with pytest.raises(ValueError, match="4800 features"):
        got.predict(rows[:, :-1])


@pytest.fixture(scope="module")
def table():
    X, _ = cells()
    return pd.DataFrame(X.reshape(len(X), -1) / 255, columns=[f"p{i}" for i in range(4800)])


@pytest.fixture(scope="module")
def routes(table, tmp_path_factory):
    """Return all ways to ask a model that was fitted on a table with names, and the model."""
    featurizer = tiny_featurizer(image_shape=(40, 40, 3), runtime="onnxruntime")
    model = HybridClassifier(featurizer, XGBClassifier(n_estimators=5)).fit(table, cells()[1])
    folder = tmp_path_factory.mktemp("rows")
    exported = OnnxClassifier(export_onnx(model, folder / "rows.onnx"))
    loaded = effboost.load(effboost.save(model, folder / "rows.effboost"), backbone=TinyNet)
    every = {"model": model, "loaded": loaded, "onnx": exported}
    ways = {name: one.predict_proba for name, one in every.items()}
    for name, one in every.items():
        ways[f"{name}, in blocks"] = lambda X, one=one: predict_in_blocks(one, X)
        ways[f"{name}, evaluated"] = lambda X, one=one: evaluate_fitted(one, X)
    return ways | {"pickled": pickle.loads(pickle.dumps(exported)).predict_proba}, every


def predict_in_blocks(clf, X):
    return np.stack([p.probabilities for p in iter_predictions(clf, X, block_size=7)])


def evaluate_fitted(clf, X):
    report = evaluate(clf, X, cells()[1][: len(X)], cv="prefit", n_bootstrap=5, check_leakage=False)
    return report.probabilities


FAULTS = {
    "reversed": (lambda t: t[t.columns[::-1]], "must be in the same order"),
    "unknown": (lambda t: t.rename(columns={"p0": "q"}), "unseen at fit time:\n- q"),
    "missing": (lambda t: t.drop(columns="p3"), "now missing:\n- p3"),
    "more": (lambda t: t.assign(q=0.0), "unseen at fit time:\n- q"),
    "polars": (lambda t: pl.from_pandas(t[t.columns[::-1]]), "must be in the same order"),
    "narrow": (lambda t: t.to_numpy()[:, 1:], "has 4799 features, but .* expecting 4800"),
    "NaN": (lambda t: t.where(t > 0.2), "contains NaN"),
    "one row": (lambda t: t.to_numpy()[0], "Expected 2D array"),
    "boolean": (lambda t: t > 0.5, "pixels are of type bool"),
    "empty": (lambda t: t[:0], "0 sample"),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("fault", FAULTS)
def test_every_route_makes_the_same_checks_of_rows(fault, routes, table):
    change, message = FAULTS[fault]
    for way in routes[0].values():
        with pytest.raises(ValueError, match=message):
            way(change(table))


@pytest.mark.parametrize("form", [lambda t: t, pl.from_pandas, lambda t: t.astype(object)])
def test_every_route_predicts_the_same_for_rows(form, routes, table, recwarn):
    ways, models = routes
    expected = models["model"].predict_proba(table)
    for way in ways.values():
        assert np.abs(way(form(table)) - expected).max() <= 1e-6
    assert [str(w.message) for w in recwarn if "feature names" in str(w.message)] == []
    for model in models.values():
        assert model.feature_names_in_.tolist() == table.columns.tolist()
        assert model.n_features_in_ == 4800


def test_every_route_warns_of_rows_without_names(routes, table):
    for way in routes[0].values():
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            way(table.to_numpy())


def test_rows_of_numbers_are_refused_otherwise(clf):
    assert not hasattr(clf, "n_features_in_")
    assert not hasattr(clf, "feature_names_in_")
    with pytest.raises(UnsupportedInputError, match="image_shape"):
        clf.predict(np.zeros((2, 4800)))


def test_features_depend_neither_on_other_images_nor_on_the_number_of_threads(clf, monkeypatch):
    images = cells(40)[0]
    together = clf.predict_proba(images)
    alone = np.concatenate([clf.predict_proba(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_array_equal(alone, together)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr("effboost._utils.threads.joblib.cpu_count", lambda: 4)
    np.testing.assert_array_equal(clf.predict_proba(images), together)


def test_an_unreadable_image_is_reported_with_position_and_path(clf, tmp_path):
    files = as_files(cells(3)[0], tmp_path)
    files[1].write_bytes(files[1].read_bytes()[:200])
    with pytest.raises(ImageDecodeError, match=r"position 1, .*1\.png") as error:
        clf.predict(files)
    assert error.value.index == 1


def test_fit_raises_and_the_classifier_counts_as_fitted(clf):
    assert is_classifier(clf)
    check_is_fitted(clf)
    X, y = cells(6)
    with pytest.raises(UnsupportedInputError, match=r"fitted with its file .*FrozenEstimator"):
        clf.fit(X, y)
    assert clone(clf).path == clf.path
    np.testing.assert_array_equal(clone(clf).predict_proba(X), clf.predict_proba(X))


def test_the_constructor_does_not_read_the_file(tmp_path):
    missing = OnnxClassifier(tmp_path / "none.onnx")
    assert "none.onnx" in repr(missing)
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        missing.predict(cells(2)[0])


@pytest.mark.parametrize("path", [None, 3])
def test_invalid_paths_are_refused(path):
    with pytest.raises(ValueError, match="'path' parameter"):
        OnnxClassifier(path).predict(cells(2)[0])


def test_setting_another_path_changes_the_model(clf, tmp_path):
    X, _ = cells(24)
    other = HybridClassifier(tiny_featurizer()).fit(X, np.array(["a", "b"])[np.arange(24) % 2])
    assert len(clf.classes_) == 3
    clf.set_params(path=export_onnx(other, tmp_path / "other.onnx"))
    assert clf.classes_.tolist() == ["a", "b"]


def test_a_pickle_contains_the_file(clf, path):
    X = cells(6)[0]
    expected = clf.predict_proba(X)
    buffer = io.BytesIO()
    joblib.dump(clf, buffer)
    copies = [pickle.loads(pickle.dumps(OnnxClassifier(path))), joblib.load(buffer)]
    path.unlink()
    for copy in copies:
        np.testing.assert_array_equal(copy.predict_proba(X), expected)


def test_it_works_in_calibration_and_evaluate(clf):
    X, y = cells()
    calibrated = CalibratedClassifierCV(FrozenEstimator(clf), method="temperature").fit(X, y)
    assert calibrated.predict_proba(X).shape == (36, 3)
    report = evaluate(clf, X, y, groups=np.arange(36), cv="prefit")
    assert report.y_pred.tolist() == clf.predict(X).tolist()


ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
from effboost import OnnxClassifier
clf = OnnxClassifier({path!r})
print(clf.predict_proba([{image!r}]).tolist())
"""


def test_it_imports_only_numpy_pillow_scikit_learn_and_onnxruntime(clf, path, tmp_path):
    blocked = ("torch", "torchvision", "skorch", "xgboost", "onnx", "onnxscript", "safetensors")
    blocked += ("tqdm", "skl2onnx", "onnxmltools", "pandas", "matplotlib")
    (image, *_) = as_files(cells(1)[0], tmp_path)
    code = ALONE.format(blocked=blocked, path=str(path), image=str(image))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == f"{clf.predict_proba([image]).tolist()}\n"
