"""Weights and subjects reach whatever a head is made of, with and without metadata routing."""

from typing import ClassVar

import numpy as np
import pytest
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, ImageSequence, LinearBoostedClassifier
from effboost.exceptions import UnsupportedInputError


class Recorder(LogisticRegression):
    """Keeps the weights and subjects of all its fits, also those of its copies."""

    seen: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None, groups=None):
        self.seen.append((len(X), sample_weight, groups))
        return super().fit(X, y, sample_weight)


@pytest.fixture
def seen():
    Recorder.seen.clear()
    return Recorder.seen


@pytest.fixture
def cells():
    X = np.random.default_rng(0).integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    return X, np.array(["ALL"] * 16 + ["HEM"] * 8), np.arange(24) // 2


def fit(head, cells, **params):
    X, y, groups = cells
    clf = HybridClassifier(tiny_featurizer(), head, class_weight="balanced", random_state=0)
    return clf.set_params(**params).fit(X, y, groups=groups)


TAKE = {
    "head": lambda head: head,
    "pipeline": lambda head: make_pipeline(StandardScaler(), head),
    "pipelines": lambda head: make_pipeline(StandardScaler(), make_pipeline(head)),
    "vote": lambda head: VotingClassifier([("a", head), ("b", LogisticRegression())]),
    "stack": lambda head: StackingClassifier([("a", head)], cv=2),
    "search": lambda head: GridSearchCV(head, {"C": [1.0]}, cv=2),
    "search over a pipeline": lambda head: GridSearchCV(
        make_pipeline(StandardScaler(), head), {"recorder__C": [1.0]}, cv=2
    ),
    "calibration": lambda head: CalibratedClassifierCV(head, cv=2),
    "pipeline of a vote": lambda head: make_pipeline(
        StandardScaler(), VotingClassifier([("a", head)])
    ),
}


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
@pytest.mark.parametrize("name", TAKE)
def test_class_weights_reach_the_classifier_inside(cells, seen, name, routing):
    with config_context(enable_metadata_routing=routing):
        fit(TAKE[name](Recorder()), cells)
    assert seen
    for n_rows, weight, _ in seen:
        assert weight.shape == (n_rows,)
        assert set(np.round(weight, 6)) == {0.75, 1.5}


REFUSE = {
    "neighbours": KNeighborsClassifier(3),
    "pipeline": make_pipeline(StandardScaler(), KNeighborsClassifier(3)),
    "vote": VotingClassifier([("a", LogisticRegression()), ("b", KNeighborsClassifier(3))]),
    "vote of pipelines": VotingClassifier([("a", make_pipeline(LogisticRegression()))]),
    "stack": StackingClassifier([("a", LogisticRegression())], KNeighborsClassifier(3)),
    "search": GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [3]}),
    "threshold": FixedThresholdClassifier(LogisticRegression()),
    "one against the rest": OneVsRestClassifier(LogisticRegression()),
}


def fail_to_read(picture):
    raise AssertionError("an image was read")


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
@pytest.mark.parametrize("how", ["class_weight", "sample_weight"])
@pytest.mark.parametrize("name", REFUSE)
def test_weights_that_no_estimator_takes_raise_before_an_image_is_read(cells, name, how, routing):
    X, y, _ = cells
    images = ImageSequence(X).map(fail_to_read)
    clf = HybridClassifier(tiny_featurizer(), REFUSE[name], random_state=0)
    weight = {"sample_weight": np.linspace(1, 2, 24)} if how == "sample_weight" else {}
    clf.set_params(class_weight=None if weight else "balanced")
    with (
        config_context(enable_metadata_routing=routing),
        pytest.raises(UnsupportedInputError, match="does not take sample_weight"),
    ):
        clf.fit(images, y, **weight)


def test_no_weights_are_refused_where_all_are_one(cells):
    X, y, _ = cells
    clf = HybridClassifier(tiny_featurizer(), KNeighborsClassifier(3), random_state=0)
    assert clf.fit(X, y, sample_weight=np.ones(24)).predict(X).shape == (24,)


@pytest.mark.parametrize(
    "make",
    [FixedThresholdClassifier, OneVsRestClassifier, lambda head: make_pipeline(head)],
    ids=["threshold", "one against the rest", "pipeline"],
)
def test_weights_are_passed_where_routing_requests_them(cells, seen, make):
    with config_context(enable_metadata_routing=True):
        fit(make(Recorder().set_fit_request(sample_weight=True)), cells)
        assert all(weight is not None for _, weight, _ in seen)


def test_missing_request_raises_before_an_image_is_read(cells):
    X, y, _ = cells
    images = ImageSequence(X).map(fail_to_read)
    with config_context(enable_metadata_routing=True):
        head = make_pipeline(
            StandardScaler(), LogisticRegression().set_fit_request(sample_weight=True)
        )
        clf = HybridClassifier(tiny_featurizer(), head, class_weight="balanced")
        with pytest.raises(UnsetMetadataPassedError, match="StandardScaler"):
            clf.fit(images, y)


def test_weights_change_the_predictions_of_a_pipeline(cells):
    X, y, _ = cells
    weight = np.where(y == "HEM", 100.0, 1.0)
    clf = HybridClassifier(
        tiny_featurizer(), make_pipeline(StandardScaler(), LogisticRegression(C=1e-4))
    )
    assert (clf.fit(X, y).predict(X) == "ALL").all()
    assert (clf.fit(X, y, sample_weight=weight).predict(X) == "HEM").all()


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
def test_subjects_reach_a_head_inside_a_pipeline(cells, seen, routing):
    class Requesting(Recorder):
        __metadata_request__fit = {"groups": True}  # noqa: RUF012

    with config_context(enable_metadata_routing=routing):
        fit(make_pipeline(StandardScaler(), Requesting()), cells, class_weight=None)
        fit(Recorder(), cells, class_weight=None)
    for _, _, groups in seen:
        np.testing.assert_array_equal(groups, cells[2])


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
@pytest.mark.parametrize(
    "head",
    [
        LinearBoostedClassifier(trees=XGBClassifier(n_estimators=2)),
        XGBClassifier(n_estimators=2),
        LogisticRegressionCV(
            Cs=2, cv=2, use_legacy_attributes=False, l1_ratios=(0,), scoring="accuracy"
        ),
        BaggingClassifier(LogisticRegression(), 2),
    ],
    ids=lambda head: type(head).__name__,
)
def test_weights_and_subjects_together(cells, head, routing):
    X, y, groups = cells
    with config_context(enable_metadata_routing=routing):
        clf = HybridClassifier(
            tiny_featurizer(views="dihedral"),
            head,
            view_averaging="probabilities",
            class_weight="balanced",
            random_state=0,
        ).fit(X, y, groups=groups)
    assert clf.predict_proba(X).shape == (24, 2)
