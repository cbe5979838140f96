import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, LinearBoostedClassifier


def few_rounds(**params):
    trees = XGBClassifier(n_estimators=5, max_depth=2, n_jobs=1)
    return LinearBoostedClassifier(trees=trees, **({"random_state": 0} | params))


@parametrize_with_checks([few_rounds()])
def test_it_is_a_classifier_as_scikit_learn_wants_it(estimator, check):
    check(estimator)


@pytest.fixture
def rows():
    X, y = make_classification(120, 40, n_informative=8, n_classes=3, random_state=0)
    return X.astype(np.float32), np.array(["a", "b", "c"])[y]


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_the_probabilities_are_the_weighted_mean_of_the_parts(rows, share):
    X, y = rows
    clf = few_rounds(linear_weight=share).fit(X[:80], y[:80])
    target = np.unique(y, return_inverse=True)[1][:80]
    scaler = StandardScaler().fit(X[:80])
    linear = LogisticRegression(C=0.01, max_iter=1000).fit(scaler.transform(X[:80]), target)
    trees = XGBClassifier(n_estimators=5, max_depth=2, n_jobs=1, random_state=0)
    trees.fit(X[:80], target)
    expected = share * linear.predict_proba(scaler.transform(X[80:]))
    expected = expected + (1 - share) * trees.predict_proba(X[80:])
    np.testing.assert_allclose(clf.predict_proba(X[80:]), expected, atol=1e-6)
    assert (clf.linear_ is None) == (share == 0)
    assert (clf.trees_ is None) == (share == 1)


def test_a_search_reaches_both_parts_by_name(rows):
    X, y = rows
    grid = {"linear__C": [0.01, 1.0], "trees__max_depth": [1, 2]}
    search = GridSearchCV(few_rounds(), grid, cv=2).fit(X, y)
    assert set(search.best_params_) == set(grid)


def test_its_defaults_are_named_and_stay_none_in_clones():
    params = LinearBoostedClassifier().get_params()
    assert params["linear__C"] == 0.01
    assert params["trees__colsample_bytree"] == 0.05
    assert clone(LinearBoostedClassifier()).trees is None


def test_a_weight_of_two_is_a_row_that_stands_there_twice_for_the_linear_part(rows):
    X, y = rows
    twice = np.concatenate([X, X[:20]]), np.concatenate([y, y[:20]])
    weight = np.where(np.arange(120) < 20, 2.0, 1.0)
    weighted = few_rounds(linear_weight=1).fit(X, y, sample_weight=weight).predict_proba(X)
    repeated = few_rounds(linear_weight=1).fit(*twice).predict_proba(X)
    np.testing.assert_allclose(weighted, repeated, atol=1e-4)


def test_class_weights_of_a_hybrid_reach_it(pixels):
    y = np.array(["rare"] * 4 + ["common"] * 20)

    def rare(class_weight):
        clf = HybridClassifier(tiny_featurizer(), few_rounds(), class_weight=class_weight)
        return clf.fit(pixels, y).predict_proba(pixels)[:, 1].mean()

    assert rare("balanced") > rare(None) + 0.05
