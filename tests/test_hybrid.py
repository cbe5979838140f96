import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import EfficientNetFeaturizer, HybridClassifier, ImageFeaturizer, ImageSequence
from effboost.exceptions import ImageDecodeError, UnsupportedInputError


def tiny_hybrid(**params):
    booster = XGBClassifier(n_estimators=5, learning_rate=0.35, tree_method="hist", n_jobs=1)
    settings = {"featurizer": tiny_featurizer(), "classifier": booster, "random_state": 0}
    return HybridClassifier(**(settings | params))


def test_fit_predict_score_as_scikit_learn_has_them(pixels, three_classes):
    clf = tiny_hybrid()
    assert clf.fit(pixels, three_classes) is clf
    assert list(clf.classes_) == ["blast", "healthy", "other"]
    proba = clf.predict_proba(pixels)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(clf.predict(pixels), clf.classes_[proba.argmax(axis=1)])
    assert clf.score(pixels, three_classes) > 0.9
    assert clf.transform(pixels).shape == (24, 8)
    assert len(clf.get_feature_names_out()) == 8


@pytest.mark.parametrize(
    ("backbone", "side"),
    [("vgg16", 32), ("resnet18", 32), ("inception_v3", 75), ("efficientnet_b0", 32)],
)
def test_every_network_of_table_1_fits_and_predicts(pixels, three_classes, backbone, side):
    featurizer = ImageFeaturizer(backbone, weights=None, crop_size=None, image_size=side)
    clf = tiny_hybrid(featurizer=featurizer).fit(pixels[:6], three_classes[:6])
    assert clf.predict_proba(pixels[:3]).shape == (3, 3)


@pytest.mark.parametrize(
    "y",
    [
        np.arange(24) % 2,
        np.arange(24) % 2 == 0,
        np.array(["b", "a"])[np.arange(24) % 2],
        [7, -3] * 12,
    ],
    ids=["int", "bool", "str", "list of odd ints"],
)
def test_labels_of_any_kind_come_back(pixels, y):
    clf = tiny_hybrid().fit(pixels, y)
    assert set(clf.predict(pixels).tolist()) <= set(np.asarray(y).tolist())
    assert clf.predict(pixels).dtype == np.asarray(y).dtype


def test_nothing_set_means_the_papers_parts():
    clf = HybridClassifier()
    assert clf.featurizer is None
    assert clf.classifier is None
    deep = clf.get_params()
    assert deep["featurizer__backbone"] == "efficientnet_b0"
    assert deep["featurizer__crop_size"] == 448
    assert deep["featurizer__image_size"] == 224
    assert deep["classifier__learning_rate"] == 0.35
    assert deep["classifier__tree_method"] == "hist"
    assert clone(clf).featurizer is None


def test_a_nested_name_first_replaces_none_by_the_default():
    clf = HybridClassifier().set_params(classifier__max_depth=3, featurizer__image_size=96)
    assert isinstance(clf.classifier, XGBClassifier)
    assert (clf.classifier.max_depth, clf.classifier.learning_rate) == (3, 0.35)
    assert isinstance(clf.featurizer, EfficientNetFeaturizer)
    assert clf.featurizer.image_size == 96


def test_a_wrong_nested_name_is_refused():
    with pytest.raises(ValueError, match="Invalid parameter 'image_sise'"):
        HybridClassifier().set_params(featurizer__image_sise=96)


def test_grid_search_by_nested_name_with_grouped_folds(paths, three_classes, subjects):
    search = GridSearchCV(
        tiny_hybrid(),
        {"classifier__max_depth": [1, 3], "featurizer__image_size": [24]},
        cv=StratifiedGroupKFold(2),
    ).fit(ImageSequence(paths), three_classes, groups=subjects)
    assert search.best_score_ > 0.8
    assert search.predict(paths[:2]).tolist() == three_classes[:2].tolist()


def test_grid_search_over_the_defaults_of_a_hybrid_with_nothing_set(pixels, three_classes):
    grid = {
        "featurizer__weights": [None],
        "featurizer__crop_size": [None],
        "featurizer__image_size": [32],
        "classifier__n_estimators": [2],
        "classifier__max_depth": [1, 2],
    }
    search = GridSearchCV(HybridClassifier(random_state=0), grid, cv=2, error_score="raise")
    search.fit(pixels[:12], three_classes[:12])
    assert search.best_estimator_.transform(pixels[:2]).shape == (2, 1280)


def test_cross_validate_pipeline_and_split(paths, three_classes, subjects):
    scores = cross_validate(
        make_pipeline(FunctionTransformer(lambda X: X), tiny_hybrid()),
        ImageSequence(paths),
        three_classes,
        groups=subjects,
        cv=StratifiedGroupKFold(3),
        return_train_score=True,
    )
    assert scores["test_score"].shape == (3,)
    assert scores["train_score"].min() > 0.9
    train, test, y_train, y_test = train_test_split(
        ImageSequence(paths), three_classes, stratify=three_classes, random_state=0
    )
    assert tiny_hybrid().fit(train, y_train).score(test, y_test) > 0.5


@pytest.mark.parametrize(
    "head",
    [make_pipeline(StandardScaler(), LogisticRegression()), SVC(), LogisticRegression(C=10)],
    ids=["pipeline", "svc", "logistic"],
)
def test_any_classifier_can_be_the_head(pixels, three_classes, head):
    clf = tiny_hybrid(classifier=head).fit(pixels, three_classes)
    assert clf.predict(pixels).shape == (24,)
    assert hasattr(clf, "predict_proba") == hasattr(head, "predict_proba")
    assert hasattr(clf, "decision_function")
    assert clf.decision_function(pixels).shape == (24, 3)


def test_boosted_trees_have_no_decision_function():
    assert not hasattr(HybridClassifier(), "decision_function")
    assert hasattr(HybridClassifier(), "predict_proba")


def test_a_saved_model_predicts_the_same(paths, three_classes, tmp_path):
    clf = tiny_hybrid().fit(paths, three_classes)
    expected = clf.predict_proba(paths)
    joblib.dump(clf, tmp_path / "model.joblib")
    assert np.array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(paths), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(paths), expected)


def test_the_seed_reaches_the_children_whose_own_is_none(pixels, three_classes):
    own = tiny_featurizer(random_state=None)
    one, same, other = (
        tiny_hybrid(featurizer=own, random_state=seed).fit(pixels, three_classes)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one.predict_proba(pixels), same.predict_proba(pixels))
    assert not np.array_equal(one.transform(pixels), other.transform(pixels))
    assert one.classifier_.random_state is not None
    kept = tiny_hybrid(featurizer=tiny_featurizer(random_state=5), random_state=1)
    assert kept.fit(pixels, three_classes).featurizer_.random_state == 5
    assert own.random_state is None


def test_sample_weight_reaches_the_head(pixels):
    y = np.arange(24) % 2
    # Contradicting labels: two copies of every picture, one of each class.
    X = np.concatenate([pixels, pixels])
    labels = np.concatenate([y, 1 - y])
    weight = np.concatenate([np.full(24, 10.0), np.full(24, 0.1)])
    clf = tiny_hybrid().set_params(classifier__n_estimators=50, classifier__min_child_weight=0)
    assert clf.fit(X, labels, sample_weight=weight).score(pixels, y) > 0.9
    assert clf.fit(X, labels, sample_weight=weight[::-1]).score(pixels, y) < 0.1


def test_set_output_changes_transform_but_not_what_the_head_sees(pixels, three_classes):
    clf = tiny_hybrid().set_output(transform="pandas").fit(pixels, three_classes)
    assert clf.transform(pixels).shape == (24, 8)
    assert hasattr(clf.transform(pixels), "columns")
    assert clf.score(pixels, three_classes) > 0.9


def test_one_class_is_an_error_that_names_it(pixels):
    with pytest.raises(UnsupportedInputError, match=r"one class only, 'ALL'.*at least two"):
        tiny_hybrid().fit(pixels, ["ALL"] * 24)


@pytest.mark.parametrize("name", ["y", "groups", "sample_weight"])
def test_lengths_that_differ_are_named(pixels, three_classes, name):
    arguments = {"y": three_classes, "groups": np.arange(24), "sample_weight": np.ones(24)}
    arguments[name] = arguments[name][:-1]
    with pytest.raises(UnsupportedInputError, match=f"24 images, but {name} has 23"):
        tiny_hybrid().fit(pixels, **arguments)


def test_real_valued_labels_are_refused(pixels):
    with pytest.raises(ValueError, match="Unknown label type"):
        tiny_hybrid().fit(pixels, np.linspace(0, 1, 24))


def test_a_broken_image_leaves_the_classifier_unfitted(paths, three_classes):
    clf = tiny_hybrid()
    Path(paths[5]).write_bytes(b"\x89PNG broken")
    with pytest.raises(ImageDecodeError, match=r"position 5, .*cell_05"):
        clf.fit(paths, three_classes)
    with pytest.raises(NotFittedError):
        clf.predict(paths)


def test_an_interrupted_refit_keeps_the_former_fit(pixels, three_classes):
    class Interrupting(LogisticRegression):
        def fit(self, X, y):
            raise KeyboardInterrupt

    clf = tiny_hybrid().fit(pixels, three_classes)
    before = clf.predict_proba(pixels)
    clf.classifier = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        clf.fit(pixels, three_classes)
    assert np.array_equal(clf.predict_proba(pixels), before)


def test_repr_and_html_are_short_and_do_not_build_networks():
    assert repr(HybridClassifier()) == "HybridClassifier()"
    assert "HybridClassifier" in HybridClassifier()._repr_html_()
