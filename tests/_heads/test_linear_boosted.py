import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, LinearBoostedClassifier
from effboost._heads.linear_boosted import _principal_axes
from effboost.exceptions import SplitError, UnsupportedInputError
from effboost.model_selection import subject_folds


def few_rounds(**params):
    trees = XGBClassifier(n_estimators=5, max_depth=2, n_jobs=1)
    return LinearBoostedClassifier(trees=trees, **({"random_state": 0} | params))


@parametrize_with_checks([few_rounds()])
def test_passes_scikit_learns_checks(estimator, check):
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


def test_classes_without_weight_do_not_count(rows):
    X, y = rows
    with pytest.raises(ValueError, match=r"weight above 0; y has \['b'\]"):
        few_rounds().fit(X, y, sample_weight=(y == "b").astype(float))
    clf = few_rounds().fit(X, y, sample_weight=(y != "c").astype(float))
    assert clf.classes_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("linear", [LinearDiscriminantAnalysis(), KNeighborsClassifier()])
def test_a_part_without_weights_is_fitted_without(rows, linear):
    X, y = rows
    clf = few_rounds(linear=linear).fit(X, y)
    target = np.unique(y, return_inverse=True)[1]
    alone = clone(linear).fit(StandardScaler().fit_transform(X), target)
    scaled = clf.scaler_.transform(X)
    np.testing.assert_array_equal(clf.linear_.predict(scaled), alone.predict(scaled))
    with pytest.raises(UnsupportedInputError, match="does not take sample_weight"):
        few_rounds(linear=linear).fit(X, y, sample_weight=np.arange(1, len(y) + 1))


def test_a_pipeline_gets_the_weights_of_its_last_step(rows):
    X, y = rows
    weight = np.random.default_rng(0).uniform(1, 2, len(y))
    inside = make_pipeline(LogisticRegression(C=0.01, max_iter=1000))
    one = few_rounds(linear=inside).fit(X, y, sample_weight=weight)
    other = few_rounds(linear=inside[0]).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


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


def of_subjects(difficulty, n_subjects=60, n_features=400):
    """Rows of five per subject, alike within it; what tells the classes apart is in 20 columns."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(n_subjects), 5)
    y = groups % 2
    X = rng.normal(size=(n_subjects, n_features))[groups]
    X[:, :20] += y[:, np.newaxis] / difficulty
    X += 0.3 * rng.normal(size=X.shape)
    return X.astype(np.float32), y, groups


@pytest.mark.parametrize(("difficulty", "C"), [(0.3, 0.1), (20.0, 0.001)])
def test_strength_is_chosen_on_held_out_subjects(difficulty, C):
    X, y, groups = of_subjects(difficulty)
    assert few_rounds().fit(X, y, groups=groups).linear_.C == C
    # Each row for its own subject: neighbours of what was learned are easy to know.
    assert few_rounds().fit(X, y, groups=np.arange(len(y))).linear_.C == 0.1


def test_the_choice_is_that_of_a_plain_search_by_subject():
    X, y, groups = of_subjects(1.0)
    grid = {"logisticregression__C": [0.001, 0.01, 0.1]}
    plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = subject_folds(y, groups, n_splits=3, random_state=0)
    search = GridSearchCV(plain, grid, cv=folds, scoring="neg_log_loss").fit(X, y)
    chosen = few_rounds().fit(X, y, groups=groups).linear_.C
    assert chosen == search.best_params_["logisticregression__C"]


@pytest.mark.parametrize("case", ["no subjects", "many rows", "few subjects", "a C of yours"])
def test_strength_stays_at_its_default(case):
    X, y, groups = of_subjects(20.0)
    clf = few_rounds()
    if case == "no subjects":
        groups = None
    elif case == "many rows":
        X = X[:, :100]
    elif case == "few subjects":
        X, y, groups = X[:10], y[:10], groups[:10]
    else:
        clf.set_params(linear__C=0.01)
    assert clf.fit(X, y, groups=groups).linear_.C == 0.01


def test_a_rotation_leaves_the_linear_model_as_it_is():
    X, y, _ = of_subjects(1.0)
    X -= X.mean(axis=0)
    axes = _principal_axes(X)
    assert axes.shape[1] <= len(X)
    direct, rotated = (LogisticRegression(tol=1e-8, max_iter=5000).fit(F, y) for F in (X, axes))
    np.testing.assert_allclose(
        direct.decision_function(X), rotated.decision_function(axes), rtol=1e-2, atol=1e-3
    )


def test_subjects_of_a_hybrid_reach_it(pixels):
    y, groups = np.repeat(["a", "b"], 12), np.arange(24) // 2
    seen = []

    class Head(LinearBoostedClassifier):
        def fit(self, X, y, sample_weight=None, groups=None):
            seen.append(groups)
            return super().fit(X, y, sample_weight, groups)

    HybridClassifier(tiny_featurizer(), Head(trees=XGBClassifier(n_estimators=2))).fit(
        pixels, y, groups=groups
    )
    assert sorted(seen[0]) == sorted(groups)


def test_wrong_subjects_are_refused():
    X, y, groups = of_subjects(1.0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        few_rounds().fit(X, y, groups=groups[:-1])
    with pytest.raises(SplitError):
        few_rounds().fit(X, y, groups=np.where(groups == 3, np.nan, groups))


def test_weight_of_two_equals_a_repeated_row_for_the_linear_part(rows):
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


def test_rows_of_weight_zero_have_no_effect():
    X, y, groups = of_subjects(20.0)
    weight = np.where(groups < 40, 1.0, 0.0)
    known = groups < 40
    some = few_rounds(linear_weight=1).fit(X, y, weight, groups).linear_
    rest = few_rounds(linear_weight=1).fit(X[known], y[known], groups=groups[known]).linear_
    assert some.C == rest.C
    np.testing.assert_allclose(some.coef_, rest.coef_, atol=1e-4)


def test_rows_that_are_all_the_same_are_fitted():
    groups = np.arange(12) // 2
    clf = few_rounds().fit(np.ones((12, 30)), groups % 2, groups=groups)
    np.testing.assert_allclose(clf.predict_proba(np.ones((1, 30))), 0.5, atol=0.01)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_output_as_frames_changes_nothing(library):
    pytest.importorskip(library, reason=f"{library} is an optional output of scikit-learn")
    X = np.random.default_rng(0).random((20, 30))
    y, groups = np.arange(20) % 2, np.arange(20) // 2
    expected = LinearBoostedClassifier(random_state=0).fit(X, y, groups=groups)
    with config_context(transform_output=library):
        clf = LinearBoostedClassifier(random_state=0).fit(X, y, groups=groups)
        np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
