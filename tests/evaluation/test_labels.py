"""Labels that a fitted classifier does not know, or that are longer or of another kind."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier

from effboost import evaluate
from effboost.exceptions import UnsupportedInputError


class Constant(ClassifierMixin, BaseEstimator):
    """Predicts one label, whatever it is."""

    def __init__(self, label="ALL"):
        self.label = label

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.array([self.label] * len(X))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (12, 12, 12, 3), dtype=np.uint8)


def fitted(labels, label):
    return Constant(label).fit(None, np.array(labels))


@pytest.mark.parametrize(
    ("known", "y"),
    [
        (["ALL", "HEM"], ["blast", "healthy"]),
        (["ALL", "HEM"], ["all", "hem"]),
        (["0", "1"], [0, 1]),
        ([0, 1], ["0", "1"]),
        ([1, 2], [3, 4]),
    ],
    ids=str,
)
def test_labels_that_are_all_unknown_to_a_fitted_classifier_are_refused(pixels, known, y):
    clf = fitted(known, known[0])
    with pytest.raises(UnsupportedInputError, match="was fitted on") as caught:
        evaluate(clf, pixels, y * 6, cv="prefit")
    assert str(y) in str(caught.value)
    assert str(known) in str(caught.value)


def test_some_labels_unknown_to_a_fitted_classifier_warn_and_count_as_wrong(pixels):
    clf = fitted(["ALL", "HEM"], "ALL")
    with pytest.warns(UserWarning, match=r"not fitted on the classes \['other'\]"):
        report = evaluate(clf, pixels, ["ALL", "HEM", "other"] * 4, cv="prefit", n_bootstrap=5)
    assert report.metrics["accuracy"].value == pytest.approx(1 / 3)
    assert report.classes.tolist() == ["ALL", "HEM", "other"]
    assert report.per_class["other"]["recall"].value == 0


def test_a_predicted_label_that_is_longer_than_all_of_y_is_not_truncated(pixels):
    clf = fitted(["ALL", "healthy"], "healthy")
    report = evaluate(clf, pixels, ["ALL"] * 12, cv="prefit", n_bootstrap=5)
    assert set(report.y_pred) == {"healthy"}
    assert report.confusion_matrix.tolist() == [[0, 12], [0, 0]]


@pytest.mark.parametrize("kind", [bool, float])
def test_equal_labels_of_another_type_are_known(pixels, kind):
    clf = fitted([0, 1], 1)
    y = np.array([0, 1] * 6).astype(kind)
    report = evaluate(clf, pixels, y, cv="prefit", n_bootstrap=5)
    assert report.metrics["accuracy"].value == 0.5


def test_a_label_that_is_not_a_class_is_refused(pixels):
    with pytest.raises(UnsupportedInputError, match="predicts 'unsure', which is not a class"):
        evaluate(Constant("unsure"), pixels, ["ALL", "HEM"] * 6, cv=2)


def test_probabilities_of_a_fold_without_a_class_are_in_the_right_columns(pixels):
    y = np.array(["a", "b", "c"])[np.arange(12) // 4]
    halves = np.arange(12) < 8  # the first half knows no "c"
    folds = [
        (np.flatnonzero(part), np.flatnonzero(~part)) for part in (halves, ~halves | (y == "a"))
    ]
    folds[1] = (folds[1][0], np.flatnonzero(halves))
    report = evaluate(
        DummyClassifier(strategy="prior"), pixels, y, cv=folds, check_leakage=False, n_bootstrap=5
    )
    np.testing.assert_allclose(report.probabilities[8:], [[0.5, 0.5, 0]] * 4)
    np.testing.assert_allclose(report.probabilities[:8], [[0.5, 0, 0.5]] * 8)
