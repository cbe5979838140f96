import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier
from effboost._heads.view_averaging import decide_over_views, mean_over_views

N_VIEWS = 8


@pytest.fixture
def rows():
    """Views of 60 images that a head is unsure of."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 1, 4)) * 0.4 + rng.normal(size=(60, N_VIEWS, 4))
    return features.astype(np.float32), rng.integers(0, 2, 60)


def fit(head, rows):
    features, y = rows
    return head.fit(features.reshape(-1, 4), np.repeat(y, N_VIEWS))


@pytest.mark.parametrize(
    "head",
    [
        LogisticRegression(),
        RandomForestClassifier(10, random_state=0),
        XGBClassifier(n_estimators=5),
    ],
    ids=lambda head: type(head).__name__,
)
def test_a_head_that_predicts_the_most_probable_class_uses_mean_probabilities(rows, head):
    head = fit(head, rows)
    means = mean_over_views(head, "predict_proba", rows[0])
    np.testing.assert_array_equal(decide_over_views(head, rows[0]), means.argmax(axis=1))


THRESHOLDED = {
    "fixed": FixedThresholdClassifier(LogisticRegression(), threshold=0.42),
    "of scores": FixedThresholdClassifier(
        LogisticRegression(), threshold=-0.25, response_method="decision_function"
    ),
    "pipeline": make_pipeline(
        StandardScaler(), FixedThresholdClassifier(LogisticRegression(), threshold=0.42)
    ),
    "search": GridSearchCV(
        FixedThresholdClassifier(LogisticRegression()), {"threshold": [0.42]}, cv=2
    ),
}


@pytest.mark.parametrize("name", THRESHOLDED)
def test_a_threshold_is_applied_to_the_mean(rows, name):
    head = fit(THRESHOLDED[name], rows)
    of_scores = name == "of scores"
    means = mean_over_views(head, "decision_function" if of_scores else "predict_proba", rows[0])
    expected = means >= -0.25 if of_scores else means[:, 1] >= 0.42
    decided = decide_over_views(head, rows[0])
    np.testing.assert_array_equal(decided, expected.astype(int))
    assert 0 < decided.mean() < 1
    by_default = mean_over_views(head, "predict_proba", rows[0]).argmax(axis=1)
    assert (decided != by_default).any()


def test_a_threshold_that_was_tuned_is_applied_to_the_mean(rows):
    head = fit(TunedThresholdClassifierCV(LogisticRegression(), cv=3), rows)
    means = mean_over_views(head, "predict_proba", rows[0])[:, 1]
    np.testing.assert_array_equal(
        decide_over_views(FrozenEstimator(head), rows[0]), means >= head.best_threshold_
    )


def test_a_hard_vote_decides_for_the_class_of_most_views(rows):
    vote = VotingClassifier([("a", LogisticRegression()), ("b", LinearSVC())], voting="hard")
    head = fit(vote, rows)
    of_views = head.predict(rows[0].reshape(-1, 4)).reshape(60, N_VIEWS)
    share = of_views.mean(axis=1)
    decided = decide_over_views(head, rows[0])
    np.testing.assert_array_equal(decided[share != 0.5], (share > 0.5)[share != 0.5])


@pytest.mark.filterwarnings("ignore:The `probability` parameter")
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("shape", ["ovr", "ovo"])
def test_an_svm_predicts_the_same_without_probabilities(rows, n_classes, shape):
    features, _ = rows
    y = np.arange(60) % n_classes
    plain, with_probabilities = (
        fit(SVC(decision_function_shape=shape, random_state=0, **extra), (features, y))
        for extra in ({}, {"probability": True})
    )
    decided = decide_over_views(plain, features)
    np.testing.assert_array_equal(decided, decide_over_views(with_probabilities, features))
    assert set(decided) == set(range(n_classes))


def test_the_decision_on_an_image_does_not_depend_on_others(rows):
    for head in (*THRESHOLDED.values(), LogisticRegression(), SVC()):
        fitted = fit(head, rows)
        together = decide_over_views(fitted, rows[0])
        alone = [decide_over_views(fitted, rows[0][i : i + 1])[0] for i in range(20)]
        np.testing.assert_array_equal(alone, together[:20])


@pytest.mark.parametrize("threshold", [0.05, 0.95])
def test_a_hybrid_keeps_the_threshold_of_its_head_over_views(threshold):
    X = np.random.default_rng(0).integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    clf = HybridClassifier(
        tiny_featurizer(views="dihedral"),
        FixedThresholdClassifier(LogisticRegression(), threshold=threshold),
        view_averaging="probabilities",
        random_state=0,
    ).fit(X, ["ALL", "HEM"] * 12)
    expected = clf.classes_[(clf.predict_proba(X)[:, 1] >= threshold).astype(int)]
    np.testing.assert_array_equal(clf.predict(X), expected)


def test_a_hybrid_with_a_hard_vote_predicts_over_views():
    X = np.random.default_rng(0).integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    vote = VotingClassifier([("a", LogisticRegression()), ("b", LogisticRegression(C=0.1))])
    clf = HybridClassifier(
        tiny_featurizer(views="dihedral"), vote, view_averaging="probabilities", random_state=0
    )
    assert set(clf.fit(X, ["ALL", "HEM"] * 12).predict(X)) <= {"ALL", "HEM"}
    assert not hasattr(clf, "predict_proba")
