import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

import effboost
from common.networks import tiny_featurizer
from effboost import HybridClassifier, ImageSequence, evaluate, presets
from effboost._heads.booster import paper_booster
from effboost._heads.fit import check_head, fit_head, stops_early
from effboost.exceptions import UnsupportedInputError

CPU = torch.device("cpu")


@pytest.fixture
def cells():
    X = np.random.default_rng(0).integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    return X, np.array(["ALL", "HEM"])[np.arange(24) // 2 % 2], np.arange(24) // 2


def hybrid(head, **params):
    return HybridClassifier(tiny_featurizer(), head, random_state=0, **params)


class Recorder(LogisticRegression):
    """Keeps what it is fitted on."""

    def fit(self, X, y, sample_weight=None):
        self.rows_ = X, y, sample_weight
        return super().fit(X, y, sample_weight)


# --- the order of rows ----------------------------------------------------------------------


def test_weights_leave_the_order_of_rows_as_it_is():
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 2, 40)
    weight = rng.uniform(1, 2, 40)
    head = Recorder()
    fit_head(head, (features, y), None, sample_weight=weight, device=CPU)
    for got, expected in zip(head.rows_, (features, y, weight), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_equal_rows_are_merged_at_the_position_of_the_first():
    features = np.array([[3.0], [1.0], [3.0], [2.0], [1.0], [3.0]], np.float32)
    y = np.array([0, 1, 0, 0, 1, 1])  # the last is equal but for its class
    head = Recorder()
    fit_head(head, (features, y), None, sample_weight=np.arange(1.0, 7), device=CPU)
    X, classes, weight = head.rows_
    assert X.ravel().tolist() == [3, 1, 2, 3]
    assert classes.tolist() == [0, 1, 0, 1]
    assert weight.tolist() == [4, 7, 4, 6]


def test_the_views_of_an_image_stay_together_and_share_its_weight():
    features = np.arange(24, dtype=np.float32)[::-1].reshape(-1, 2)
    head = Recorder()
    fit_head(
        head,
        (features, np.repeat([0, 1, 0], 4)),
        None,
        sample_weight=np.array([1.0, 2.0, 4.0]),
        device=CPU,
        n_views=4,
    )
    np.testing.assert_array_equal(head.rows_[0], features)
    np.testing.assert_array_equal(head.rows_[2], np.repeat([0.25, 0.5, 1.0], 4))


# --- probabilities --------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["binary:logitraw", "reg:squarederror", "count:poisson"])
def test_an_objective_without_probabilities_is_refused(cells, objective):
    X, y, _ = cells
    images = ImageSequence(X).map(fail_to_read)
    booster = XGBClassifier(objective=objective)
    for head in (booster, make_pipeline(StandardScaler(), booster)):
        with pytest.raises(UnsupportedInputError, match=r"XGBClassifier.*binary:logistic"):
            hybrid(head).fit(images, y)


def fail_to_read(picture):
    raise AssertionError("an image was read")


def test_a_classifier_whose_probabilities_are_scores_is_refused_after_it_is_fitted(cells):
    class Scores(LogisticRegression):
        def predict_proba(self, X):
            return super().predict_proba(X) * 1.5

    X, y, _ = cells
    with pytest.raises(UnsupportedInputError, match="Scores cannot be used: its probabilities"):
        hybrid(Scores()).fit(X, y)
    with pytest.raises(UnsupportedInputError, match="Pixels cannot be used: its probabilities"):
        evaluate(Pixels(Scores()), X, y, cv=2)


class Pixels(BaseEstimator, ClassifierMixin):
    """A classifier of images without a network."""

    def __init__(self, classifier):
        self.classifier = classifier

    def fit(self, X, y):
        self.classifier_ = clone(self.classifier).fit(self._means(X), y)
        self.classes_ = self.classifier_.classes_
        return self

    def predict_proba(self, X):
        return self.classifier_.predict_proba(self._means(X))

    def predict(self, X):
        return self.classifier_.predict(self._means(X))

    def _means(self, X):
        return np.array([image.mean(axis=(0, 1)) for image in X])


def logistic(true, scores):
    """The gradient of the log-loss, as a function of the user's own."""
    found = 1 / (1 + np.exp(-scores))
    return found - true, found * (1 - found)


@pytest.mark.parametrize(
    "objective", ["binary:logistic", "binary:hinge", "multi:softprob", logistic]
)
def test_objectives_with_probabilities_are_taken(cells, objective):
    X, y, _ = cells
    extra = {"num_class": 2} if objective == "multi:softprob" else {}
    clf = hybrid(XGBClassifier(n_estimators=3, objective=objective, **extra)).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


def test_a_refused_head_leaves_a_former_fit_as_it_is(cells):
    X, y, _ = cells
    clf = hybrid(XGBClassifier(n_estimators=3)).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(classifier__objective="binary:logitraw", classifier__n_estimators=100)
    with pytest.raises(UnsupportedInputError):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


# --- a fitted booster keeps its parameters --------------------------------------------------


@pytest.mark.parametrize("how", ["fitted", "saved"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_parameters_of_a_fitted_booster_can_be_set(cells, how, n_classes, tmp_path):
    X, _, _ = cells
    y = np.array(["a", "b", "c"])[np.arange(24) % n_classes]
    clf = presets.frozen("resnet18", weights=None, image_size=32, runtime="torch", random_state=0)
    clf.set_params(classifier__n_estimators=3).fit(X, y)
    expected = clf.predict_proba(X)
    if how == "saved":
        clf = effboost.load(effboost.save(clf, tmp_path / "model.effboost"))
    assert clf.classifier_.eval_metric is None
    clf.classifier_.set_params(n_jobs=1, verbosity=0)
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-6)
    assert clf.classifier_.get_booster().num_boosted_rounds() == 3


def test_a_metric_of_the_users_own_is_kept(cells):
    X, y, _ = cells
    clf = hybrid(XGBClassifier(n_estimators=3, eval_metric="auc")).fit(X, y)
    assert clf.classifier_.eval_metric == "auc"
    assert list(clf.evals_result_["train"]) == ["auc"]


def test_a_booster_that_fails_keeps_its_parameters(cells):
    features, y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
    head = XGBClassifier(max_depth=-3)
    with pytest.raises(ValueError, match="max_depth"):
        fit_head(head, (features, y), None, sample_weight=np.ones(4), device=CPU)
    assert head.eval_metric is None
    assert head.callbacks is None


# --- what splits rows by itself -------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        MLPClassifier(early_stopping=True),
        SGDClassifier(early_stopping=True),
        GradientBoostingClassifier(n_iter_no_change=3),
        make_pipeline(StandardScaler(), MLPClassifier(early_stopping=True)),
        BaggingClassifier(HistGradientBoostingClassifier(early_stopping=True)),
    ],
    ids=lambda head: type(head).__name__,
)
def test_early_stopping_on_random_rows_warns_for_subjects_and_raises_for_views(head):
    check_head(head)
    with pytest.warns(UserWarning, match="images of one subject are on both sides"):
        check_head(head, groups=np.arange(8) // 2)
    with pytest.raises(UnsupportedInputError, match="would separate views of one image"):
        check_head(head, n_views=8)


@pytest.mark.parametrize(
    "head",
    [RandomForestClassifier(oob_score=True), SVC(probability=True)],
    ids=lambda head: type(head).__name__,
)
def test_estimates_on_random_rows_warn(head):
    check_head(head)
    with pytest.warns(UserWarning, match="images of one subject"):
        check_head(head, groups=np.arange(8) // 2)
    with pytest.warns(UserWarning, match="views of one image"):
        check_head(head, n_views=8)


def test_heads_without_splits_do_not_warn():
    for head in (
        SVC(),
        MLPClassifier(),
        RandomForestClassifier(),
        SGDClassifier(),
        paper_booster(),
    ):
        check_head(head, groups=np.arange(8), n_views=8, n_rows=20_000)


def test_gradient_boosting_of_scikit_learn_stops_on_other_subjects(cells):
    X, y, groups = cells
    head = HistGradientBoostingClassifier(
        early_stopping=True, n_iter_no_change=2, min_samples_leaf=2, scoring="loss"
    )
    clf = hybrid(head).set_params(featurizer__random_state=0).fit(X, y, groups=groups)
    assert stops_early(head)
    assert clf.classifier_.n_iter_ < 100
    assert len(clf.classifier_.validation_score_) == clf.classifier_.n_iter_ + 1


def test_it_stops_by_itself_above_ten_thousand_rows():
    head = HistGradientBoostingClassifier()
    assert not stops_early(head, 10_000)
    assert stops_early(head, 10_001)
    nested = make_pipeline(StandardScaler(), head)
    check_head(nested, groups=np.arange(9), n_rows=10_000)
    with pytest.warns(UserWarning, match="early_stopping='auto'"):
        check_head(nested, groups=np.arange(9), n_rows=10_001)


def test_a_booster_that_stops_early_inside_another_estimator_is_refused():
    head = make_pipeline(StandardScaler(), XGBClassifier(early_stopping_rounds=3))
    with pytest.raises(UnsupportedInputError, match="cannot get validation rows"):
        check_head(head)


def test_calibration_does_not_discard_a_threshold(cells):
    X, y, _ = cells
    head = FixedThresholdClassifier(LogisticRegression(), threshold=0.05)
    with pytest.raises(UnsupportedInputError, match="would discard the threshold"):
        hybrid(head, calibration="sigmoid").fit(X, y)
