"""The real estimators inside scikit-learn's meta-estimators, with metadata routing on and off."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, ImageSequence
from effboost._validation import LabelledImages
from effboost.model_selection import SubjectKFold

KINDS = np.array(["blast", "healthy"])


@pytest.fixture
def cells():
    """64 pictures of 32 subjects, two classes told apart by their colour."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(32), 2)
    y = KINDS[subjects % 2]
    pixels = rng.integers(0, 120, (64, 24, 24, 3), dtype=np.uint8)
    pixels[np.arange(64), :, :, subjects % 2] += 100
    return pixels, y, np.array([f"S{i:02d}" for i in subjects])


@pytest.fixture
def cuts(monkeypatch):
    """Records the subjects on each side of every split that an estimator makes inside."""
    made = []
    train_validation_split = LabelledImages.train_validation_split

    def recorded(self, share, seed):
        kept, cut = train_validation_split(self, share, seed)
        made.append((kept.groups, cut.groups))
        return kept, cut

    monkeypatch.setattr(LabelledImages, "train_validation_split", recorded)
    return made


def check_cuts(cuts, at_least):
    assert len(cuts) >= at_least
    for kept, cut in cuts:
        assert kept is not None
        assert not set(kept) & set(cut)
        assert set(kept.tolist()) <= {f"S{i:02d}" for i in range(32)}


def hybrid(**params):
    """A hybrid that splits inside: for its head, and for early stopping."""
    featurizer = tiny_featurizer(
        fine_tune=True,
        max_epochs=1,
        batch_size=8,
        early_stopping=1,
        validation_fraction=0.25,
        random_state=None,
    )
    booster = XGBClassifier(n_estimators=3, learning_rate=0.35, n_jobs=1)
    settings = {"head_protocol": "holdout", "holdout_fraction": 0.4, "random_state": 0}
    return HybridClassifier(featurizer, booster, **(settings | params))


def frozen_hybrid(**params):
    booster = XGBClassifier(n_estimators=5, learning_rate=0.35, n_jobs=1)
    return HybridClassifier(tiny_featurizer(**params), booster, random_state=0)


CV = SubjectKFold(2)
DEPTHS = {"classifier__max_depth": [1, 2]}
# Two cuts a fit: the rows that stop it early, and those of its head.
META = {
    "GridSearchCV": (lambda clf: GridSearchCV(clf, DEPTHS, cv=CV), 2 * 5),
    "nested GridSearchCV": (
        lambda clf: GridSearchCV(
            GridSearchCV(clf, DEPTHS, cv=CV), {"estimator__classifier__reg_lambda": [1.0]}, cv=CV
        ),
        2 * 15,
    ),
    "Pipeline": (lambda clf: make_pipeline(FunctionTransformer(), clf), 2),
    "CalibratedClassifierCV": (lambda clf: CalibratedClassifierCV(clf, cv=CV), 2 * 2),
    "StackingClassifier": (
        lambda clf: StackingClassifier([("a", clf), ("b", clf)], LogisticRegression(), cv=CV),
        2 * 6,
    ),
    "BaggingClassifier": (
        lambda clf: BaggingClassifier(clf, 3, bootstrap=False, max_samples=0.9, random_state=0),
        2 * 3,
    ),
}


@pytest.mark.parametrize("name", META)
def test_images_that_carry_their_subjects_need_no_routing(cells, cuts, name):
    X, y, subjects = cells
    make, n_cuts = META[name]
    images = ImageSequence(X, groups=subjects)
    if name == "BaggingClassifier":  # it insists on a table
        images = np.asarray(images)
    model = make(hybrid()).fit(images, y)
    check_cuts(cuts, n_cuts)
    assert model.predict(images).shape == (64,)


@pytest.mark.parametrize("name", META)
def test_with_routing_subjects_reach_every_split_inside(cells, cuts, name):
    X, y, subjects = cells
    make, n_cuts = META[name]
    with config_context(enable_metadata_routing=True):
        if name == "BaggingClassifier":
            X = X.reshape(len(X), -1)
            model = make(hybrid().set_params(featurizer__image_shape=(24, 24, 3)))
        else:
            model = make(hybrid())
        if name == "StackingClassifier":
            # scikit-learn 1.9 hands what it routes to the final estimator as well, which need not
            # know of subjects, and nothing to the splitter: there the images carry them.
            model.fit(ImageSequence(X, groups=subjects), y)
        else:
            model.fit(X, y, groups=subjects)
    check_cuts(cuts, n_cuts)


def test_with_routing_subjects_reach_cross_validation(cells, cuts):
    X, y, subjects = cells
    with config_context(enable_metadata_routing=True):
        cross_validate(hybrid(), X, y, cv=CV, params={"groups": subjects})
        search = GridSearchCV(hybrid(), DEPTHS, cv=CV)
        cross_validate(search, X, y, cv=CV, params={"groups": subjects})
    check_cuts(cuts, 2 * 2 + 2 * 10)


def test_with_routing_weights_reach_the_network_and_the_booster(cells, monkeypatch):
    X, y, subjects = cells
    seen = []
    check = LabelledImages.check.__func__

    def recorded(cls, images, labels, *, groups=None, sample_weight=None):
        seen.append(sample_weight)
        return check(cls, images, labels, groups=groups, sample_weight=sample_weight)

    monkeypatch.setattr(LabelledImages, "check", classmethod(recorded))
    weight = np.linspace(1, 2, 64)
    with config_context(enable_metadata_routing=True):
        clf = hybrid().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        GridSearchCV(clf, DEPTHS, cv=CV).fit(X, y, groups=subjects, sample_weight=weight)
    weights = [w for w in seen if w is not None]
    assert len(weights) >= 5  # of each fit, at the door
    assert all(set(w) <= set(weight) for w in weights)


def test_folds_of_a_search_are_by_the_subjects_of_the_images(cells):
    X, y, subjects = cells
    for train, test in SubjectKFold(3).split(ImageSequence(X, groups=subjects), y):
        assert not set(subjects[train]) & set(subjects[test])


@pytest.mark.parametrize("Frame", [pd.DataFrame, pl.DataFrame])
def test_a_column_of_paths_beside_clinical_columns(cells, tmp_path, Frame):

    X, y, _ = cells
    paths = [str(tmp_path / f"{i:02d}.png") for i in range(len(X))]
    for path, picture in zip(paths, X, strict=True):
        Image.fromarray(picture).save(path)
    rng = np.random.default_rng(0)
    table = Frame({"path": paths, "age": rng.normal(50, 9, 64), "count": rng.normal(size=64)})
    columns = make_column_transformer(
        (make_union(tiny_featurizer()), ["path"]), (StandardScaler(), ["age", "count"])
    )
    model = make_pipeline(columns, StandardScaler(), LogisticRegression()).fit(table, y)
    assert model.score(table, y) == 1.0
    assert len(columns.fit(table, y).get_feature_names_out()) == 8 + 2
    if Frame is pd.DataFrame:
        importance = permutation_importance(model, table, y, n_repeats=3, random_state=0)
        assert importance.importances_mean.argmax() == 0


def test_features_come_as_a_data_frame(cells):
    X, y, _ = cells
    features = tiny_featurizer().set_output(transform="pandas").fit_transform(X, y)
    assert features.columns.tolist() == [f"imagefeaturizer{i}" for i in range(8)]
    clf = frozen_hybrid().set_output(transform="polars").fit(X, y)
    assert clf.transform(X).columns == clf.get_feature_names_out().tolist()
    assert clf.predict(X).shape == (64,)


@pytest.mark.parametrize(
    "search",
    [
        lambda clf: RandomizedSearchCV(clf, DEPTHS, n_iter=2, cv=CV, random_state=0),
        lambda clf: HalvingGridSearchCV(
            clf, DEPTHS, cv=CV, resource="classifier__n_estimators", max_resources=4
        ),
        lambda clf: TunedThresholdClassifierCV(clf, cv=CV),
        lambda clf: CalibratedClassifierCV(FrozenEstimator(clf)),
    ],
    ids=["randomized", "halving", "threshold", "frozen"],
)
def test_searches_and_thresholds(cells, search):
    X, y, subjects = cells
    images = ImageSequence(X, groups=subjects)
    clf = frozen_hybrid().fit(images, y)
    assert search(clf).fit(images, y).score(images, y) > 0.9


def test_learning_curves_are_cut_by_subject(cells):
    X, y, subjects = cells
    images = ImageSequence(X, groups=subjects)
    sizes, train, test = learning_curve(
        frozen_hybrid(), images, y, cv=CV, train_sizes=[0.5, 1.0], shuffle=True, random_state=0
    )
    assert sizes.tolist() == [16, 32]
    assert train.shape == test.shape == (2, 2)


@pytest.mark.slow
def test_two_processes_give_the_same_result_as_one(cells, tmp_path):
    X, y, subjects = cells
    images = ImageSequence(X, groups=subjects)
    clf = frozen_hybrid(cache=str(tmp_path))
    one, two = (
        cross_val_predict(clf, images, y, cv=CV, method="predict_proba", n_jobs=n) for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_without_routing_cross_validation_and_pipelines_keep_subjects_together(cells, cuts):
    X, y, subjects = cells
    cross_validate(hybrid(), ImageSequence(X, groups=subjects), y, cv=CV)
    make_pipeline(FunctionTransformer(), hybrid()).fit(X, y, hybridclassifier__groups=subjects)
    check_cuts(cuts, 2 * 2 + 2)


_THREADS = """
import joblib

def threads():
    import torch
    return torch.get_num_threads()
print(joblib.cpu_count(), *joblib.Parallel(2)(joblib.delayed(threads)() for _ in range(2)))
"""


@pytest.mark.slow
def test_workers_share_the_cores():
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    found = subprocess.run(
        [sys.executable, "-c", _THREADS],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    cores, *threads = map(int, found.stdout.split())
    assert threads == [max(1, cores // 2)] * 2
