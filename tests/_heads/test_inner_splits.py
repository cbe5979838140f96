"""No subject, and no image, on both sides of a split inside a head.

The features say whose they are: the first is the number of the subject, the second that of the
image. So what counts is which rows a classifier inside learns from and is then asked about.
"""

import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import RFECV, SelectFromModel
from sklearn.linear_model import (
    LassoCV,
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifierCV,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import effboost._heads.fit
from common.networks import tiny_featurizer
from effboost import HybridClassifier
from effboost._heads.fit import check_head, fit_head
from effboost._heads.inner_splits import GroupedSplitter
from effboost.exceptions import SplitError
from effboost.model_selection import SubjectKFold

CPU = torch.device("cpu")
N_SUBJECTS, N_IMAGES, N_VIEWS = 12, 4, 4


class Leaf(LogisticRegression):
    """Logs whose rows its copies learn from, and are asked about afterwards."""

    log: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None):
        self.learned_ = np.asarray(X)[:, :2]
        return super().fit(X, y, sample_weight)

    def decision_function(self, X):
        if self.log is not None:
            self.log.append((self.learned_, np.asarray(X)[:, :2]))
        return super().decision_function(X)

    def predict_proba(self, X):
        self.log.append((self.learned_, np.asarray(X)[:, :2]))
        return super().predict_proba(X)


@pytest.fixture
def log(monkeypatch):
    """The log of what happens inside `fit` alone."""
    Leaf.log.clear()
    seen = []

    def stop(*_):
        seen.extend(Leaf.log)

    monkeypatch.setattr(effboost._heads.fit, "_check_fitted", stop)
    return seen


def assert_apart(log, column):
    """Check that no part that was left out of some fits shares a subject (or image) with them."""
    n_all = max(len(np.unique(learned[:, column])) for learned, _ in log)
    n_checked = 0
    for learned, asked in log:
        if len(np.unique(learned[:, column])) == n_all == N_ALL[column]:
            continue  # fitted on everything
        assert not set(learned[:, column]) & set(asked[:, column])
        n_checked += 1
    assert n_checked


N_ALL = (N_SUBJECTS, N_SUBJECTS * N_IMAGES)


def make_rows(n_views):
    """Rows of subjects of two classes, shuffled, with other features that say nothing."""
    rng = np.random.default_rng(0)
    image = rng.permutation(N_SUBJECTS * N_IMAGES)
    subject = image // N_IMAGES
    features = rng.normal(size=(len(image), n_views, 6)).astype(np.float32)
    features[:, :, 0], features[:, :, 1] = subject[:, None], image[:, None]
    target = np.repeat(subject % 2, n_views)
    return features.reshape(-1, 6), target, np.array([f"S{i:02d}" for i in subject])


def fit(head, *, n_views=1, groups=True, weighted=False, rows=None):
    features, target, subjects = make_rows(n_views) if rows is None else rows
    n = len(subjects)
    fit_head(
        head,
        (features, target),
        None,
        sample_weight=np.linspace(1, 2, n) if weighted else np.ones(n),
        device=CPU,
        groups=subjects if groups else None,
        n_views=n_views,
    )
    return head


HEADS = {
    "search": lambda cv: GridSearchCV(Leaf(), {"C": [0.1, 1.0]}, cv=cv, error_score="raise"),
    "calibration": lambda cv: CalibratedClassifierCV(Leaf(), cv=cv),
    "calibration of one": lambda cv: CalibratedClassifierCV(Leaf(), cv=cv, ensemble=False),
    "stack": lambda cv: StackingClassifier([("a", Leaf())], LogisticRegression(), cv=cv),
    "threshold": lambda cv: TunedThresholdClassifierCV(Leaf(), cv=cv),
    "pipeline": lambda cv: make_pipeline(
        "passthrough", GridSearchCV(Leaf(), {"C": [1.0]}, cv=cv, error_score="raise")
    ),
    "vote": lambda cv: VotingClassifier([("a", CalibratedClassifierCV(Leaf(), cv=cv))]),
    "search over a calibration": lambda cv: GridSearchCV(
        CalibratedClassifierCV(Leaf(), cv=cv), {"method": ["sigmoid"]}, cv=cv, error_score="raise"
    ),
    "stack of a calibration": lambda cv: StackingClassifier(
        [("a", CalibratedClassifierCV(Leaf(), cv=cv))], cv=cv
    ),
    "bag of calibrations": lambda cv: BaggingClassifier(
        CalibratedClassifierCV(Leaf(), cv=cv), 2, random_state=0
    ),
    "search over a pipeline": lambda cv: GridSearchCV(
        make_pipeline("passthrough", CalibratedClassifierCV(Leaf(), cv=cv)),
        {"calibratedclassifiercv__method": ["sigmoid"]},
        cv=cv,
        error_score="raise",
    ),
}
GROUPED = {
    "number": 3,
    "None": None,
    "SubjectKFold": SubjectKFold(3),
    "GroupKFold": GroupKFold(3),
    "StratifiedGroupKFold": StratifiedGroupKFold(3),
}


@pytest.mark.parametrize(
    ("n_views", "weighted", "routing"),
    [(1, False, False), (N_VIEWS, True, False), (N_VIEWS, False, True), (1, True, True)],
)
@pytest.mark.parametrize("cv", GROUPED)
@pytest.mark.parametrize("name", HEADS)
def test_subjects_stay_whole(log, name, cv, n_views, weighted, routing):
    if weighted and name in ("threshold", "search over a pipeline", "bag of calibrations"):
        weighted = False  # no weights reach them without requests
    if cv == "None" and name.startswith(("search over", "stack of", "bag of")):
        cv = "number"  # too few subjects are left for five folds of five folds
    head = HEADS[name](GROUPED[cv])
    with config_context(enable_metadata_routing=routing):
        fit(head, n_views=n_views, weighted=weighted)
    assert_apart(log, 0)
    for node in (head, *head.get_params().values()):
        if hasattr(node, "cv"):
            assert node.cv is GROUPED[cv]
    assert b"GroupedSplitter" not in pickle.dumps(head)


UNGROUPED = {
    "StratifiedKFold": StratifiedKFold(3, shuffle=True, random_state=0),
    "KFold": KFold(3),
    "number": 3,
    "GroupKFold": GroupKFold(3),
    "SubjectKFold": SubjectKFold(3),
}


@pytest.mark.parametrize("groups", [False, True], ids=["unknown", "known"])
@pytest.mark.parametrize("cv", UNGROUPED)
@pytest.mark.parametrize("name", HEADS)
def test_the_views_of_an_image_stay_together(log, name, cv, groups):
    fit(HEADS[name](UNGROUPED[cv]), n_views=N_VIEWS, groups=groups)
    assert_apart(log, 1)


@pytest.mark.parametrize(
    "cv",
    [
        RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0),
        LeaveOneGroupOut(),
        GroupShuffleSplit(3, random_state=0),
        StratifiedGroupKFold(3, shuffle=True, random_state=0),
    ],
    ids=lambda cv: type(cv).__name__,
)
def test_other_splitters_see_images_and_their_subjects(log, cv):
    fit(HEADS["search"](cv), n_views=N_VIEWS)
    assert_apart(log, 1 if isinstance(cv, RepeatedStratifiedKFold) else 0)


def test_splits_that_are_listed_are_of_images(log):
    halves = np.arange(48) < 24
    splits = [(np.flatnonzero(halves), np.flatnonzero(~halves))]
    head = fit(HEADS["search"](splits), n_views=N_VIEWS)
    assert_apart(log, 1)
    assert head.n_splits_ == 1
    assert len(log[0][0]) == 24 * N_VIEWS


def test_a_share_to_tune_a_threshold_on_is_of_subjects(log):
    fit(TunedThresholdClassifierCV(Leaf(), cv=0.25), n_views=N_VIEWS)
    assert_apart(log, 0)


def test_a_final_estimator_and_a_selection_split_by_subject(log):
    """They see other features, but all rows, in order."""
    stack = StackingClassifier(
        [("a", LogisticRegression())],
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=GroupKFold(3)),
        cv=GroupKFold(3),
    )
    pipeline = make_pipeline(
        StandardScaler(),
        SelectFromModel(LassoCV(cv=GroupKFold(3)), threshold=-np.inf),
        RFECV(LogisticRegression(), cv=GroupKFold(3)),
        LogisticRegressionCV(
            Cs=2, cv=GroupKFold(3), use_legacy_attributes=False, l1_ratios=(0,), scoring="accuracy"
        ),
    )
    for head in (stack, pipeline):
        fit(head, n_views=N_VIEWS)
        assert head.predict(make_rows(1)[0]).shape == (48,)


def test_transformed_rows_in_a_nested_cv_raise_without_routing():
    head = GridSearchCV(
        make_pipeline(StandardScaler(), CalibratedClassifierCV(LogisticRegression(), cv=3)),
        {"standardscaler__with_mean": [True, False]},
        cv=3,
        error_score="raise",
    )
    with pytest.raises(SplitError, match="a transformer has changed"):
        fit(head)
    with config_context(enable_metadata_routing=True):
        fit(head)


def test_splits_do_not_change_without_subjects_and_views():
    features, target, _ = make_rows(1)
    ours = fit(GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3), groups=False)
    theirs = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3).fit(features, target)
    np.testing.assert_array_equal(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


def test_parameters_are_as_before_after_an_error(log):
    class Failing(LogisticRegression):
        def fit(self, X, y):
            raise RuntimeError("stop")

    head = GridSearchCV(
        CalibratedClassifierCV(Failing(), cv=3), {"method": ["sigmoid"]}, cv=3, error_score="raise"
    )
    with pytest.raises(RuntimeError, match="stop"):
        fit(head)
    assert head.cv == head.estimator.cv == 3


def test_too_few_subjects_raise():
    features, target, _ = make_rows(1)
    rows = features, target, np.where(target == 0, "one", "other")
    with pytest.raises(SplitError, match="class 0 has 1 subject"):
        fit(HEADS["search"](3), rows=rows)


def test_group_splits_without_subjects_are_refused_before_anything_is_computed():
    for head in (HEADS["search"](GroupKFold(3)), HEADS["stack"](SubjectKFold(3))):
        with pytest.raises(SplitError, match="splits by group, but no subjects are known"):
            check_head(head)
        check_head(head, groups=np.arange(12))
        check_head(head, n_views=8)


def test_rows_of_views_are_scored_at_chance_if_labels_are_random():
    """The views of an image are alike: on both sides of a split, they tell its label."""
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(80, 1, 40)) + 0.05 * rng.normal(size=(80, 8, 40))).reshape(-1, 40)
    target = np.repeat(rng.integers(0, 2, 80), 8)
    rows = features.astype(np.float32), target, np.arange(80)
    for cv in (4, StratifiedKFold(4, shuffle=True, random_state=0)):
        for weighted in (False, True):
            head = GridSearchCV(LogisticRegression(C=100.0, max_iter=2000), {"C": [100.0]}, cv=cv)
            fit(head, n_views=8, groups=False, weighted=weighted, rows=rows)
            assert head.best_score_ < 0.65
    torn = GridSearchCV(
        LogisticRegression(max_iter=2000), {"C": [100.0]}, cv=StratifiedKFold(4, shuffle=True)
    )
    assert torn.fit(rows[0], target).best_score_ > 0.9


def test_a_hybrid_hands_subjects_to_a_search_and_a_ridge():
    X = np.random.default_rng(0).integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    y, groups = np.array(["ALL", "HEM"])[np.arange(24) // 2 % 2], np.arange(24) // 2
    for head in (
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=GroupKFold(3)),
        RidgeClassifierCV(alphas=[0.1, 1.0]),
    ):
        clf = HybridClassifier(tiny_featurizer(), head, random_state=0).fit(X, y, groups=groups)
        assert clf.predict(X).shape == (24,)
        assert clf.classifier_.cv is head.cv or isinstance(clf.classifier_.cv, GroupKFold)


def test_a_grouped_splitter_counts_its_folds():
    for cv, n in ((3, 3), (None, 5), (GroupKFold(4), 4), (0.2, 1)):
        assert GroupedSplitter(cv, None, True).get_n_splits() == n
