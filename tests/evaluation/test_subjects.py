"""The subjects that `evaluate` knows reach all splits inside the estimator."""

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from common.networks import tiny_featurizer
from common.recorded import RecordedRegression
from effboost import HybridClassifier, ImageSequence, evaluate, iter_predictions
from effboost.exceptions import SplitError
from effboost.model_selection import SubjectKFold

SHADES = 5
N_SUBJECTS, N_IMAGES = 16, 3
subjects = np.repeat(np.arange(N_SUBJECTS), N_IMAGES)
y = np.array(["ALL", "HEM"])[subjects % 2]
names = np.array([f"S{i:02d}" for i in subjects])


@pytest.fixture
def shades():
    """Images of one shade each, by which their subject is known."""
    shade = (subjects * SHADES).astype(np.uint8)
    return np.broadcast_to(shade[:, None, None, None], (len(shade), 12, 12, 3)).copy()


class Shades(ClassifierMixin, BaseEstimator):
    """Logs whose images its copies learn from, and are asked about afterwards."""

    log = []  # noqa: RUF012

    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, y):
        self.learned_ = self._subjects(X)
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        asked = self._subjects(X)
        self.log.append((self.learned_, asked))
        share = np.linspace(0.3, 0.7, len(X))
        return np.column_stack([share, 1 - share])

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _subjects(self, X):
        images = X if isinstance(X, ImageSequence) else ImageSequence(X)
        return {int(image[0, 0, 0]) // SHADES for image in images}


WRAPPERS = {
    "search": lambda cv: GridSearchCV(Shades(), {"C": [1.0, 2.0]}, cv=cv, error_score="raise"),
    "calibration": lambda cv: CalibratedClassifierCV(Shades(), cv=cv),
    "stack": lambda cv: StackingClassifier([("a", Shades())], LogisticRegression(), cv=cv),
    "threshold": lambda cv: TunedThresholdClassifierCV(Shades(), cv=cv),
    "pipeline": lambda cv: make_pipeline(
        FunctionTransformer(), GridSearchCV(Shades(), {"C": [1.0]}, cv=cv, error_score="raise")
    ),
    "nested": lambda cv: GridSearchCV(
        GridSearchCV(Shades(), {"C": [1.0]}, cv=cv, error_score="raise"),
        {"estimator__C": [1.0]},
        cv=cv,
        error_score="raise",
    ),
}


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
@pytest.mark.parametrize(
    "cv",
    [2, None, SubjectKFold(2), StratifiedGroupKFold(2)],
    ids=["number", "None", "subjects", "groups"],
)
@pytest.mark.parametrize("name", WRAPPERS)
def test_splits_inside_keep_subjects_whole(shades, name, cv, routing):
    if name in ("nested", "threshold") and cv is None:
        cv = 2  # too few subjects are left for five folds
    Shades.log.clear()
    clf = WRAPPERS[name](cv)
    with config_context(enable_metadata_routing=routing):
        evaluate(clf, shades, y, groups=names, cv=2, n_bootstrap=5)
    held_out = [(learned, asked) for learned, asked in Shades.log if len(learned) < 8]
    assert held_out
    for learned, asked in Shades.log:
        # What is fitted on all subjects of a fold may be asked about them again.
        assert not learned & asked or (len(learned) == 8 and asked <= learned)
    assert all(not learned & asked for learned, asked in held_out if len(asked) < 8)
    assert clf.get_params().get("cv", cv) is cv


def test_the_log_detects_subjects_on_both_sides(shades):
    """What the test before shows would be seen otherwise."""
    Shades.log.clear()
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    WRAPPERS["search"](cv).fit(ImageSequence(shades), y)
    assert any(learned & asked for learned, asked in Shades.log)


def test_a_splitter_that_takes_no_groups_is_left_as_it_is(shades):
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    report = evaluate(
        WRAPPERS["search"](cv),
        shades,
        y,
        groups=names,
        cv=2,
        n_bootstrap=5,
        return_estimator=True,
    )
    assert {type(clf.cv) for clf in report.estimators} == {StratifiedKFold}


def test_images_carry_the_subjects_that_were_given(shades):
    class Asking(Shades):
        def fit(self, X, y):
            assert set(X.groups) <= set(names)
            assert len(X.groups) == len(X)
            return super().fit(X, y)

    evaluate(Asking(), shades, y, groups=names, cv=2, n_bootstrap=5)
    images = ImageSequence(shades, groups=np.arange(len(y)))
    evaluate(Asking(), images, y, groups=names, cv=2, n_bootstrap=5)
    assert images.groups.tolist() == list(range(len(y)))  # the caller's own are as before


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
def test_heads_with_splits_inside_get_the_subjects(routing):
    X = np.random.default_rng(0).integers(0, 256, (48, 24, 24, 3), dtype=np.uint8)
    for head in (
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=GroupKFold(3)),
        StackingClassifier([("a", LogisticRegression())], cv=SubjectKFold(3)),
        CalibratedClassifierCV(LogisticRegression(), cv=3),
    ):
        clf = HybridClassifier(tiny_featurizer(), head, random_state=0)
        with config_context(enable_metadata_routing=routing):
            report = evaluate(clf, X, y, groups=names, cv=2, n_bootstrap=5)
            assert report.confusion_matrix.sum() == 48


def test_unknown_subjects_are_not_made_up(shades):
    """`evaluate` fits as the user would: without groups, none are passed."""

    class Asking(Shades):
        def fit(self, X, y, groups=None):
            assert groups is None
            assert X.groups is None
            return super().fit(X, y)

    assert evaluate(Asking(), shades, y, cv=2, check_leakage=False, n_bootstrap=5).n_subjects == 48
    with pytest.raises(SplitError, match="subjects are not known"):
        evaluate(WRAPPERS["search"](SubjectKFold(2)), shades, y, cv=2, check_leakage=False)


def test_predictions_are_those_of_cross_val_predict():
    X = np.random.default_rng(0).integers(0, 256, (48, 24, 24, 3), dtype=np.uint8)
    images = ImageSequence(X, groups=names)
    clf = FixedThresholdClassifier(
        HybridClassifier(tiny_featurizer(), LogisticRegression(), random_state=0),
        threshold=0.05,
        pos_label="ALL",
    )
    report = evaluate(clf, images, y, cv=SubjectKFold(3), n_bootstrap=20)
    expected = cross_val_predict(clf, images, y, cv=SubjectKFold(3))
    np.testing.assert_array_equal(report.y_pred, expected)
    assert report.metrics["accuracy"].value == pytest.approx((expected == y).mean())
    probable = report.classes[report.probabilities.argmax(axis=1)]
    assert (probable != expected).any()
    # The subjects are decided for by the images' own decisions, too.
    right = [(expected[names == s] == y[names == s][0]).mean() > 0.5 for s in np.unique(names)]
    assert report.metrics["subject_accuracy"].value == pytest.approx(np.mean(right))


def test_rows_of_numbers_are_checked_as_in_predict():
    """Columns in another order are refused by every route."""
    X = np.random.default_rng(0).integers(0, 256, (24, 12 * 12 * 3)).astype(float) / 255
    table = pd.DataFrame(X, columns=[f"p{i}" for i in range(X.shape[1])])
    target = np.array(["ALL", "HEM"] * 12)
    clf = HybridClassifier(
        tiny_featurizer(image_shape=(12, 12, 3)), LogisticRegression(), random_state=0
    )
    clf = FixedThresholdClassifier(clf.fit(table, target), threshold=0.4, pos_label="ALL")
    clf.fit(table, target)
    report = evaluate(clf, table, target, cv="prefit", check_leakage=False, n_bootstrap=5)
    np.testing.assert_array_equal(report.y_pred, clf.predict(table))
    np.testing.assert_array_equal([p.label for p in iter_predictions(clf, table)], report.y_pred)
    reversed_ = table[table.columns[::-1]]
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(reversed_)
    with pytest.raises(ValueError, match="feature names"):
        evaluate(clf, reversed_, target, cv="prefit")
    with pytest.raises(ValueError, match="feature names"):
        next(iter_predictions(clf, reversed_))


def test_columns_of_a_former_fit_do_not_matter_to_a_new_one():
    X = np.random.default_rng(0).integers(0, 256, (24, 12 * 12 * 3)).astype(float) / 255
    table = pd.DataFrame(X, columns=[f"p{i}" for i in range(X.shape[1])])
    other = table.rename(columns=lambda name: f"q{name}")
    target = np.array(["ALL", "HEM"] * 12)
    clf = HybridClassifier(
        tiny_featurizer(image_shape=(12, 12, 3)), LogisticRegression(), random_state=0
    )
    fresh, fitted = (
        evaluate(one, other, target, cv=2, check_leakage=False, n_bootstrap=5, random_state=0)
        for one in (clf, clone(clf).fit(table, target))
    )
    np.testing.assert_array_equal(fresh.y_pred, fitted.y_pred)


def test_pipelines_check_rows_in_every_route():
    X = np.random.default_rng(0).integers(0, 256, (24, 12 * 12 * 3)).astype(float) / 255
    table = pd.DataFrame(X, columns=[f"p{i}" for i in range(X.shape[1])])
    target = np.array(["ALL", "HEM"] * 12)
    clf = make_pipeline(tiny_featurizer(image_shape=(12, 12, 3)), LogisticRegression())
    clf.fit(table, target)
    text = table.astype(str)
    assert [p.label for p in iter_predictions(clf, text)] == clf.predict(text).tolist()
    with pytest.raises(ValueError, match="contains NaN"):
        next(iter_predictions(clf, table.where(table > 0.2)))


@pytest.mark.parametrize(
    "head",
    [
        CalibratedClassifierCV(RecordedRegression(), cv=3),
        GridSearchCV(RecordedRegression(), {"C": [0.1, 1]}, cv=3),
        make_pipeline(
            FunctionTransformer(), TunedThresholdClassifierCV(RecordedRegression(), cv=3)
        ),
    ],
    ids=lambda head: type(head).__name__,
)
def test_splits_behind_a_featurizer_keep_subjects_together(head):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 200, (len(y), 24, 24, 3), dtype=np.uint8)
    featurizer = tiny_featurizer()
    subject_of = {
        row.tobytes(): subject
        for row, subject in zip(featurizer.fit_transform(X), subjects, strict=True)
    }
    RecordedRegression.fits.clear()
    evaluate(make_pipeline(featurizer, head), X, y, groups=names, cv=2, n_bootstrap=2)
    assert len(RecordedRegression.fits) >= 6
    for rows in RecordedRegression.fits:
        n_images = np.unique([subject_of[row.tobytes()] for row in rows], return_counts=True)[1]
        assert set(n_images) == {N_IMAGES}


def test_a_stack_of_hybrids_with_a_cv_in_its_final_estimator_is_evaluated(shades):
    hybrids = [(name, HybridClassifier(tiny_featurizer())) for name in "ab"]
    stack = StackingClassifier(hybrids, CalibratedClassifierCV(LogisticRegression(), cv=2), cv=2)
    report = evaluate(stack, shades, y, groups=names, cv=2, n_bootstrap=2)
    assert len(report.fold) == len(y)


def test_a_cv_whose_subjects_cannot_be_known_is_named(shades):
    inner = make_pipeline(tiny_featurizer(), CalibratedClassifierCV(LogisticRegression(), cv=2))
    grid = {"calibratedclassifiercv__estimator__C": [1]}
    search = GridSearchCV(inner, grid, cv=2, error_score="raise")
    with pytest.raises(SplitError, match="sees features, whose subjects are not known"):
        evaluate(search, shades, y, groups=names, cv=2)
