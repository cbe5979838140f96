"""The decision is the classifier's own `predict`, and images pass through the network once."""

import numpy as np
import pytest
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from common.networks import tiny_featurizer
from effboost import CNNClassifier, HybridClassifier, ImageSequence, evaluate, iter_predictions
from effboost._utils.decision import (
    MostProbableMixin,
    check_probabilities,
    most_probable,
    predict_both,
)
from effboost.exceptions import UnsupportedInputError

y = np.array(["ALL", "HEM"])[np.arange(24) % 2]


class Counting:
    """Counts the images that are read."""

    def __init__(self):
        self.n = 0

    def __call__(self, picture):
        self.n += 1
        return picture


@pytest.fixture
def noise():
    """Images in which nothing tells the classes apart: probabilities are close to a half."""
    return np.random.default_rng(0).integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)


def hybrid(head, **params):
    return HybridClassifier(tiny_featurizer(), head, random_state=0, **params)


class Contrary(HybridClassifier):
    """A hybrid with a decision of its own: the less probable class."""

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmin(axis=1)]


DECIDING = {
    "threshold around": lambda: FixedThresholdClassifier(
        hybrid(LogisticRegression()), threshold=0.05, pos_label="ALL"
    ),
    "threshold as head": lambda: hybrid(
        FixedThresholdClassifier(LogisticRegression(), threshold=0.05)
    ),
    "threshold in a pipeline": lambda: make_pipeline(
        FunctionTransformer(),
        FixedThresholdClassifier(hybrid(LogisticRegression()), threshold=0.95, pos_label="HEM"),
    ),
    "probabilities of an SVC": lambda: hybrid(SVC(probability=True, random_state=0)),
    "hard vote": lambda: hybrid(
        VotingClassifier([("a", LogisticRegression()), ("b", SVC())], voting="hard")
    ),
    "search": lambda: GridSearchCV(
        FixedThresholdClassifier(hybrid(LogisticRegression()), pos_label="ALL"),
        {"threshold": [0.05]},
        cv=2,
    ),
    "subclass": lambda: Contrary(tiny_featurizer(), LogisticRegression(), random_state=0),
}


@pytest.mark.filterwarnings("ignore:The `probability` parameter")
@pytest.mark.parametrize("name", DECIDING)
def test_every_route_predicts_as_predict_does(noise, name):
    clf = DECIDING[name]().fit(ImageSequence(noise), y)
    expected = clf.predict(ImageSequence(noise))
    labels, probabilities = predict_both(clf, ImageSequence(noise))
    np.testing.assert_array_equal(labels, expected)
    assert (probabilities is not None) == hasattr(clf, "predict_proba")
    np.testing.assert_array_equal([p.label for p in iter_predictions(clf, noise)], expected)
    report = evaluate(clf, noise, y, cv="prefit", n_bootstrap=5)
    np.testing.assert_array_equal(report.y_pred, expected)
    assert report.metrics["accuracy"].value == pytest.approx((expected == y).mean())


@pytest.mark.filterwarnings("ignore:The `probability` parameter")
@pytest.mark.parametrize(
    "name", ["threshold around", "threshold as head", "probabilities of an SVC", "subclass"]
)
def test_these_decisions_differ_from_the_most_probable_class(noise, name):
    """What the test before compares would be equal otherwise, whoever decides."""
    clf = DECIDING[name]().fit(noise, y)
    best = most_probable(clf.classes_, clf.predict_proba(noise))
    assert (clf.predict(noise) != best).mean() > 0.2


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.filterwarnings("ignore:The `probability` parameter")
def test_images_pass_through_the_network_once(noise, name):
    clf = DECIDING[name]().fit(ImageSequence(noise), y)
    count = Counting()
    predict_both(clf, ImageSequence(noise).map(count))
    assert count.n == 24


def test_the_network_alone_decides_on_the_same_pass(noise):
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=1)
    clf = HybridClassifier(featurizer, LogisticRegression(), random_state=0).fit(noise, y)
    count = Counting()
    report = evaluate(clf, ImageSequence(noise).map(count), y, cv="prefit", check_leakage=False)
    assert count.n == 24
    np.testing.assert_allclose(report.cnn.probabilities, clf.cnn_.predict_proba(noise), rtol=1e-6)
    np.testing.assert_allclose(report.probabilities, clf.predict_proba(noise), rtol=1e-6)


def test_the_network_alone_predicts_from_the_mean_features_of_the_views(noise):
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=1, views="dihedral")
    clf = HybridClassifier(
        featurizer, LogisticRegression(), view_averaging="probabilities", random_state=0
    ).fit(noise, y)
    count = Counting()
    report = evaluate(clf, ImageSequence(noise).map(count), y, cv="prefit", check_leakage=False)
    assert count.n == 24
    np.testing.assert_array_equal(report.cnn.probabilities, clf.cnn_.predict_proba(noise))


def test_a_head_that_changes_its_features_in_place_does_not_change_those_of_others(noise):
    head = make_pipeline(StandardScaler(copy=False), LogisticRegression())
    clf = hybrid(head).fit(noise, y)
    labels, probabilities = predict_both(clf, ImageSequence(noise))
    np.testing.assert_array_equal(labels, clf.predict(noise))
    np.testing.assert_array_equal(probabilities, clf.predict_proba(noise))


def test_two_featurizers_share_nothing(noise):
    """Each member of a vote has features of its own."""
    members = [
        (str(seed), HybridClassifier(tiny_featurizer(random_state=seed), LogisticRegression()))
        for seed in range(2)
    ]
    clf = VotingClassifier(members, voting="soft").fit(ImageSequence(noise), y)
    probabilities = predict_both(clf, ImageSequence(noise))[1]
    expected = np.mean([member.predict_proba(noise) for member in clf.estimators_], axis=0)
    np.testing.assert_array_equal(probabilities, expected)


class Means(MostProbableMixin):
    classes_ = np.array(["a", "b"])

    def __init__(self):
        self.n_calls = 0

    def predict_proba(self, X):
        self.n_calls += 1
        return np.tile([0.2, 0.8], (len(X), 1))


def test_the_mixin_predicts_the_most_probable_class_in_one_call():
    clf = Means()
    labels, probabilities = predict_both(clf, np.zeros(3))
    assert labels.tolist() == ["b"] * 3
    assert probabilities.shape == (3, 2)
    assert clf.n_calls == 1
    assert clf.predict(np.zeros(2)).tolist() == ["b", "b"]


def test_a_cnn_is_asked_for_its_features_once(noise):
    cnn = CNNClassifier(tiny_featurizer(fine_tune=True, max_epochs=1), random_state=0)
    cnn.fit(noise, y)
    count = Counting()
    labels, probabilities = predict_both(cnn, ImageSequence(noise).map(count))
    np.testing.assert_array_equal(labels, most_probable(cnn.classes_, probabilities))
    assert count.n == 24


@pytest.mark.parametrize(
    "rows",
    [[[-0.2, 1.2]], [[0.2, 0.2]], [[0.6, 0.6]], [[np.nan, 0.5]], [[-3.2, 4.2]], [[1.0, 1.0]]],
    ids=str,
)
def test_values_that_are_not_probabilities_raise(rows):
    with pytest.raises(UnsupportedInputError, match="Means cannot be used: its probabilities"):
        check_probabilities(np.array(rows), Means())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_of_many_classes_are_accepted_despite_rounding(dtype):
    rows = np.random.default_rng(0).dirichlet(np.ones(50), 1000).astype(dtype)
    clf = Means()
    clf.classes_ = np.arange(50)
    check_probabilities(rows, clf)
    check_probabilities(rows[:0], clf)
