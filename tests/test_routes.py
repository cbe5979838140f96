"""Every way to a prediction gives the same decision and the same probabilities.

For twelve heads and six forms of images: `predict`, `predict_proba`, `cross_val_predict`,
`evaluate`, `iter_predictions`, the command line, the saved model, the ONNX model and its standalone
folder; in one thread and in four. What cannot go a way is refused there.
"""

import csv
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from xgboost import XGBClassifier

import effboost
from effboost import (
    HybridClassifier,
    ImageSequence,
    LinearBoostedClassifier,
    OnnxClassifier,
    evaluate,
    export_onnx,
    iter_predictions,
    presets,
)
from effboost.cli import main
from effboost.datasets import make_blood_cells
from effboost.exceptions import EffboostError
from effboost.model_selection import SubjectKFold

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The `probability` parameter"),
    pytest.mark.filterwarnings("ignore:probability=True of SVC splits rows"),
]

SIDE = 40
TOLERANCE = 1e-5


def scaled(head):
    return make_pipeline(StandardScaler(), head)


HEADS = {
    "XGBoost": lambda: XGBClassifier(n_estimators=10),
    "LinearBoosted": lambda: LinearBoostedClassifier(),
    "logistic": lambda: scaled(LogisticRegression(C=0.1)),
    "forest": lambda: RandomForestClassifier(10, random_state=0),
    "discriminant": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5),
    "network": lambda: scaled(MLPClassifier((8,), max_iter=2000, random_state=0)),
    "calibrated": lambda: CalibratedClassifierCV(scaled(LogisticRegression()), cv=3),
    "vote": lambda: VotingClassifier(
        [("a", LogisticRegression()), ("b", RandomForestClassifier(5, random_state=0))],
        voting="soft",
    ),
    "stack": lambda: StackingClassifier(
        [("a", scaled(LogisticRegression())), ("b", RandomForestClassifier(5, random_state=0))],
        cv=3,
    ),
    "SVM": lambda: scaled(SVC(C=0.1, probability=True, random_state=0)),
    "margins": lambda: scaled(LinearSVC()),
    "threshold": lambda: FixedThresholdClassifier(LogisticRegression(), threshold=0.05),
}
NOT_SAVED = {"threshold"}
# The graphs of the last two lose digits in float32, for random networks have tiny features:
# export_onnx notices, and refuses them.
NOT_EXPORTED = {"SVM", "margins", "threshold", "discriminant", "calibrated"}


@pytest.fixture(scope="module")
def cells():
    return make_blood_cells(n_subjects=12, images_per_subject=3, image_size=SIDE, random_state=0)


@pytest.fixture(scope="module")
def pixels(cells):
    return np.stack([np.asarray(image) for image in cells.images])


@pytest.fixture(scope="module")
def paths(pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    files = [str(folder / f"{i:02d}.png") for i in range(len(pixels))]
    for file, picture in zip(files, pixels, strict=True):
        Image.fromarray(picture).save(file)
    return files


FORMS = {
    "paths": lambda pixels, paths: pd.Series(paths),
    "PIL": lambda pixels, paths: [Image.fromarray(picture) for picture in pixels],
    "array": lambda pixels, paths: pixels,
    "floats": lambda pixels, paths: pixels / np.float32(255),
    "tensor": lambda pixels, paths: torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()),
    "rows": lambda pixels, paths: pixels.reshape(len(pixels), -1).astype(np.float64) / 255,
}


@pytest.fixture(scope="module")
def features_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("features"))


def make(name, form, cache):
    featurizer = presets.frozen(
        "mobilenet_v3_small",
        weights=None,
        image_size=32,
        runtime="onnxruntime",
        cache=cache,
        random_state=0,
    ).featurizer
    if form == "rows":
        featurizer.set_params(image_shape=(SIDE, SIDE, 3))
    return HybridClassifier(featurizer, HEADS[name](), random_state=0)


@pytest.fixture(scope="module", params=HEADS)
def fitted(request, cells, pixels, paths, features_cache):
    """A head, and its classifier fitted on each form."""
    name = request.param
    models = {}
    for form, convert in FORMS.items():
        clf = make(name, form, features_cache)
        models[form] = clf.fit(convert(pixels, paths), cells.target, groups=cells.groups)
    return name, models


def assert_same(found, expected):
    """Compare labels and probabilities."""
    np.testing.assert_array_equal(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        np.testing.assert_allclose(found[1], expected[1], atol=TOLERANCE)


def ask(clf, X):
    return clf.predict(X), clf.predict_proba(X) if hasattr(clf, "predict_proba") else None


def iterate(clf, X):
    found = list(iter_predictions(clf, X, block_size=7))
    shares = None if found[0].probabilities is None else [p.probabilities for p in found]
    return [p.label for p in found], shares


def report(clf, X, y):
    found = evaluate(clf, X, y, cv="prefit", check_leakage=False, n_bootstrap=2)
    return found.y_pred, found.probabilities


def command(model, paths):
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["predict", str(model), *paths, "--format", "json", "--quiet"]) == 0
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    shares = None
    if rows[0]["probabilities"]:
        shares = [list(row["probabilities"].values()) for row in rows]
    return [row["class"] for row in rows], shares


def standalone(folder, paths):
    command = [sys.executable, folder / "predict.py", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    shares = [[float(v) for k, v in row.items() if k.startswith("probability_")] for row in rows]
    return [row["label"] for row in rows], shares


def test_forms_and_routes_agree(fitted, cells, pixels, paths, tmp_path):
    name, models = fitted
    expected = ask(models["paths"], paths)
    for form, convert in FORMS.items():
        X, clf = convert(pixels, paths), models[form]
        assert_same(ask(clf, X), expected)
        assert_same(iterate(clf, X), expected)
        assert_same(report(clf, X, cells.target), expected)
    if name in NOT_SAVED:
        with pytest.raises(EffboostError):
            effboost.save(models["paths"], tmp_path / "model.effboost")
    else:
        file = effboost.save(models["paths"], tmp_path / "model.effboost")
        assert_same(ask(effboost.load(file), paths), expected)
        assert_same(command(file, paths), expected)
        assert_same(iterate(effboost.load(file), paths), expected)
    if name in NOT_EXPORTED:
        with pytest.raises(EffboostError):
            export_onnx(models["paths"], tmp_path / "model.onnx")
        return
    file = export_onnx(models["paths"], tmp_path / "model.onnx")
    for form, convert in FORMS.items():
        if form != "rows":  # its graph is another one
            assert_same(ask(OnnxClassifier(file), convert(pixels, paths)), expected)
    assert_same(iterate(OnnxClassifier(file), paths), expected)
    assert_same(command(file, paths), expected)
    folder = export_onnx(models["paths"], tmp_path / "alone", standalone=True)
    assert_same(standalone(folder, paths), expected)
    rows = OnnxClassifier(export_onnx(models["rows"], tmp_path / "rows.onnx"))
    assert_same(ask(rows, FORMS["rows"](pixels, paths)), expected)


# Each head with one form, and each form with a head that has probabilities and one that has none.
@pytest.mark.parametrize("name", HEADS)
def test_cross_validation_agrees(name, cells, pixels, paths, features_cache):
    expected = None
    for form in FORMS if name in ("XGBoost", "margins") else ["paths"]:
        clf, X = make(name, form, features_cache), FORMS[form](pixels, paths)
        shape = (SIDE, SIDE, 3) if form == "rows" else None
        images = ImageSequence(X, groups=cells.groups, image_shape=shape)
        found = evaluate(
            clf, X, cells.target, groups=cells.groups, cv=SubjectKFold(3), n_bootstrap=2
        )
        found = found.y_pred, found.probabilities
        methods = ["predict"] + ["predict_proba"] * (found[1] is not None)
        validated = [
            cross_val_predict(clf, images, cells.target, cv=SubjectKFold(3), method=method)
            for method in methods
        ]
        assert_same((validated[0], validated[1] if len(methods) > 1 else None), found)
        expected = expected or found
        assert_same(found, expected)


def test_four_threads_agree_with_one(fitted, pixels, paths):
    _, models = fitted
    for form, convert in FORMS.items():
        X, clf = convert(pixels, paths), models[form]
        expected = ask(clf, X)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda i: (ask if i % 2 else iterate)(clf, X), range(8)):  # noqa: B023
                assert_same(found, expected)
