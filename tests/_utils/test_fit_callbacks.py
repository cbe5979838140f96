"""scikit-learn's callbacks, on the real estimators."""

import io
import pickle
from contextlib import redirect_stdout

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import Cache, CNNClassifier, HybridClassifier


class Recorder:
    """Writes down what it is told, and may ask to stop after some tasks of one name."""

    max_propagation_depth = None

    def __init__(self, stop_after=None):
        self.begun, self.ended, self.life = [], [], []
        self.stop_after = stop_after

    def setup(self, estimator, context):
        self.life.append("setup")

    def teardown(self, estimator, context):
        self.life.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context):
        self.ended.append((type(estimator).__name__, context.task_name))
        return self.stop_after == (context.task_name, self.names().count(context.task_name))

    def names(self):
        return [name for _, name in self.ended]


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (16, 24, 24, 3), dtype=np.uint8)
    return X, np.array(["ALL", "HEM"] * 8)


def tuned(**params):
    return tiny_featurizer(fine_tune=True, **{"max_epochs": 3, **params})


def booster(**params):
    return XGBClassifier(**{"n_estimators": 4, "max_depth": 1, **params})


def test_a_hybrid_tells_of_its_parts_epochs_and_rounds(cells):
    recorder = Recorder()
    HybridClassifier(tuned(), booster()).set_callbacks(recorder).fit(*cells)
    hybrid = "HybridClassifier"
    assert recorder.ended == [
        *[("ImageFeaturizer", "epoch")] * 3,
        ("ImageFeaturizer", "fit"),
        (hybrid, "extract-features"),
        *[(hybrid, "boosting-round")] * 4,
        (hybrid, "fit-head"),
        (hybrid, "fit"),
    ]
    assert sorted(recorder.begun) == sorted(recorder.names())
    assert recorder.life == ["setup", "teardown"]


def test_callbacks_are_passed_to_a_head_that_supports_them(cells):
    recorder = Recorder()
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression())
    clf.set_callbacks(recorder).fit(*cells)
    assert ("LogisticRegression", "fit") in recorder.ended


@pytest.mark.parametrize("kind", ["hybrid", "cnn", "featurizer"])
def test_a_callback_may_end_the_training(cells, kind, tmp_path):
    estimator = {
        "hybrid": HybridClassifier(tuned(cache=tmp_path), booster()),
        "cnn": CNNClassifier(tuned(cache=tmp_path)),
        "featurizer": tuned(cache=tmp_path),
    }[kind]
    stopped = clone(estimator).set_callbacks(Recorder(stop_after=("epoch", 2))).fit(*cells)
    assert len(stopped.history_) == 2
    # What was stopped is not taken for the whole by the next fit with the same settings.
    assert len(estimator.fit(*cells).history_) == 3


def test_a_network_that_was_watched_is_found_in_the_cache(cells, tmp_path):
    featurizer = tuned(cache=tmp_path)
    featurizer.set_callbacks(Recorder()).fit(*cells)
    n_entries = len(Cache(tmp_path))
    recorder = Recorder()
    featurizer.set_callbacks(recorder).fit(*cells)
    assert len(Cache(tmp_path)) == n_entries
    assert recorder.names() == ["fit"]  # no epoch was run


def test_a_callback_may_end_the_boosting(cells):
    clf = HybridClassifier(tiny_featurizer(), booster())
    clf.set_callbacks(Recorder(stop_after=("boosting-round", 2))).fit(*cells)
    assert clf.classifier_.get_booster().num_boosted_rounds() == 2


def test_the_boosters_own_callbacks_are_called_and_kept(cells):
    from xgboost.callback import LearningRateScheduler

    own = [LearningRateScheduler(lambda number: 0.5**number)]
    clf = HybridClassifier(tiny_featurizer(), booster(callbacks=own)).fit(*cells)
    plain = HybridClassifier(tiny_featurizer(), booster()).fit(*cells)
    # clone copied them.
    assert [type(callback) for callback in clf.classifier_.callbacks] == [LearningRateScheduler]
    assert (clf.predict_proba(cells[0]) != plain.predict_proba(cells[0])).any()


def test_callbacks_are_torn_down_when_a_fit_fails(cells):
    recorder = Recorder()
    clf = HybridClassifier(tiny_featurizer(), booster()).set_callbacks(recorder)
    with pytest.raises(ValueError, match="one class only"):
        clf.fit(cells[0], ["ALL"] * 16)
    assert recorder.life == ["setup", "teardown"]
    assert not hasattr(clf, "classes_")


def test_each_epoch_can_be_scored(cells):
    X, y = cells
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    cnn = CNNClassifier(tuned(lr=0.02)).set_callbacks(monitor).fit(X, y)
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows] == ["fit", "epoch", "epoch", "epoch"]
    assert rows[0]["accuracy"] == cnn.score(X, y)
    losses = [row["neg_log_loss"] for row in rows[1:]]
    assert len(set(losses)) == 3  # each epoch was scored as it was
    # A copy was scored: training went on as if nobody had looked.
    unwatched = CNNClassifier(tuned(lr=0.02)).fit(X, y)
    np.testing.assert_array_equal(cnn.predict_proba(X), unwatched.predict_proba(X))


def test_a_hybrid_is_scored_at_its_end(cells):
    X, y = cells
    monitor = ScoringMonitor(scoring="accuracy")
    clf = HybridClassifier(tiny_featurizer(), booster()).set_callbacks(monitor).fit(X, y)
    assert [row["accuracy"] for row in monitor.get_logs().data] == [clf.score(X, y)]


@pytest.mark.slow
def test_progress_bars_work_in_searches_and_pipelines(cells):
    X, y = cells
    bar = ProgressBar(max_propagation_depth=None)
    clf = HybridClassifier(tiny_featurizer(), booster())
    model = make_pipeline(clf).set_callbacks(bar)
    with redirect_stdout(io.StringIO()) as out:
        model.fit(X, y)
    assert "HybridClassifier - fit" in out.getvalue()
    assert "fit-head" in out.getvalue()
    search = GridSearchCV(clf, {"classifier__max_depth": [1, 2]}, cv=2, n_jobs=2)
    if hasattr(search, "set_callbacks"):
        with redirect_stdout(io.StringIO()) as out:
            search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
        assert "HybridClassifier" in out.getvalue()


def test_a_classifier_that_was_watched_can_be_cloned_and_pickled(cells):
    X, y = cells
    clf = HybridClassifier(tuned(), booster()).set_callbacks(Recorder()).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(clone(clf).fit(X, y).predict_proba(X), clf.predict_proba(X))
