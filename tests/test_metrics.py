"""Metrics against their definitions, and scorers by name inside scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    brier_score_loss,
    get_scorer,
    get_scorer_names,
    log_loss,
    make_scorer,
    roc_auc_score,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
    cross_validate,
)
from sklearn.svm import LinearSVC

import effboost.metrics
from common.networks import tiny_featurizer
from effboost import HybridClassifier, ImageSequence, evaluate
from effboost.exceptions import SplitError, UnsupportedInputError
from effboost.metrics import (
    SCORERS,
    SubjectScorer,
    expected_calibration_error,
    make_subject_scorer,
    register_scorers,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from effboost.model_selection import SubjectKFold, aggregate_by_subject

binary = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
        st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9]), min_size=n, max_size=n),
    )
)


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_scorers()


@pytest.mark.slow
def test_importing_classifiers_does_not_change_the_scorers_of_scikit_learn():
    code = (
        "from sklearn.metrics import get_scorer_names\n"
        "before = get_scorer_names()\n"
        "import effboost\n"
        "effboost.CNNClassifier, effboost.HybridClassifier, effboost.evaluate\n"
        "import effboost.metrics\n"
        "assert get_scorer_names() == before\n"
        "effboost.metrics.register_scorers()\n"
        "assert set(get_scorer_names()) - set(before) == set(effboost.metrics.SCORERS)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_are_objects_too(name):
    scorer = getattr(effboost.metrics, f"{name}_scorer")
    assert scorer is SCORERS[name]
    assert repr(get_scorer(name)) == repr(scorer)


def by_trying_every_threshold(y, score):
    """Sensitivity and specificity of each threshold."""
    for threshold in [np.inf, *np.unique(score)]:
        alarm = score >= threshold
        yield alarm[y == 1].mean(), (~alarm)[y == 0].mean()


@settings(deadline=None)
@given(binary, st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]))
def test_operating_points_are_optimal_over_thresholds(sample, level):
    y, score = (np.array(part) for part in sample)
    if len(set(y.tolist())) < 2:
        return
    points = list(by_trying_every_threshold(y, score))
    best_sensitivity = max(sens for sens, spec in points if spec >= level - 1e-12)
    best_specificity = max(spec for sens, spec in points if sens >= level - 1e-12)
    assert sensitivity_at_specificity(y, score, specificity=level) == pytest.approx(
        best_sensitivity
    )
    assert specificity_at_sensitivity(y, score, sensitivity=level) == pytest.approx(
        best_specificity
    )


def test_string_labels_require_pos_label():
    y, score = np.array(["ALL", "HEM", "ALL", "HEM"]), [0.9, 0.1, 0.4, 0.6]
    assert sensitivity_at_specificity(y, score, pos_label="ALL") == 0.5
    with pytest.raises(ValueError, match="pos_label"):
        sensitivity_at_specificity(y, score)
    with pytest.raises(UnsupportedInputError, match=r"specificity=95 must be between 0 and 1"):
        sensitivity_at_specificity(y, score, pos_label="ALL", specificity=95)


def test_missing_class_gives_nan_with_warning():
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(specificity_at_sensitivity([1, 1], [0.2, 0.3]))
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(sensitivity_at_specificity([0, 0], [0.2, 0.3], pos_label=1))


def test_calibration_error_by_hand():
    # Two bins: three rows 0.9 sure and twice right, one row 0.6 sure and wrong.
    proba = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.6, 0.4]]
    got = expected_calibration_error([0, 1, 1, 1], proba)
    assert got == pytest.approx(0.75 * abs(2 / 3 - 0.9) + 0.25 * 0.6)
    column = [row[1] for row in proba]
    assert expected_calibration_error([0, 1, 1, 1], column) == pytest.approx(got)
    twice = expected_calibration_error([0, 1, 1, 1], proba, sample_weight=[2, 2, 2, 2])
    assert twice == pytest.approx(got)


def test_calibration_error_of_calibrated_and_overconfident_classifiers():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), 20_000)
    y = np.array(["a", "b", "c"])[(rng.random(20_000)[:, None] > proba.cumsum(axis=1)).sum(axis=1)]
    assert expected_calibration_error(y, proba) < 0.02
    sure = np.eye(3)[proba.argmax(axis=1)]
    assert expected_calibration_error(y, sure) == pytest.approx(
        1 - (proba.argmax(axis=1) == np.searchsorted(["a", "b", "c"], y)).mean()
    )


def test_labels_name_classes_without_rows():
    proba = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]
    assert expected_calibration_error([0, 1], proba, labels=[0, 1, 2]) == pytest.approx(0.25)
    with pytest.raises(UnsupportedInputError, match="3 columns, but the classes are"):
        expected_calibration_error([0, 1], proba)


@pytest.fixture
def cells():
    """Forty pictures of ten subjects, two classes that overlap."""
    rng = np.random.default_rng(1)
    subjects = np.repeat(np.arange(10), 4)
    y = np.array(["HEM", "ALL"])[subjects % 2]
    pixels = rng.integers(0, 200, (40, 16, 16, 3), dtype=np.uint8)
    pixels[:, :, :, 0] += (rng.integers(0, 40, 40) + 15 * (subjects % 2)).astype(np.uint8)[
        :, None, None
    ]
    return pixels, y, np.array([f"S{i}" for i in subjects])


@pytest.fixture
def fitted(cells):
    X, y, _ = cells
    return HybridClassifier(tiny_featurizer(), LogisticRegression()).fit(X, y)


def expected_by_hand(clf, X, y, groups, metric):
    subjects, means = aggregate_by_subject(clf.predict_proba(X), groups)
    labels = np.array([y[groups == subject][0] for subject in subjects])
    return metric(labels, means)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("subject_roc_auc", lambda y, p: roc_auc_score(y, p[:, 1])),
        ("subject_accuracy", lambda y, p: (np.array(["ALL", "HEM"])[p.argmax(axis=1)] == y).mean()),
        ("subject_neg_log_loss", lambda y, p: -log_loss(y, p)),
        ("subject_neg_brier_score", lambda y, p: -brier_score_loss(y, p[:, 1], pos_label="HEM")),
        (
            "subject_neg_expected_calibration_error",
            lambda y, p: -expected_calibration_error(y, p),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_registered_scorers_use_means_of_subjects(cells, fitted, name, metric):
    X, y, groups = cells
    expected = expected_by_hand(fitted, X, y, groups, metric)
    scorer = get_scorer(name)
    assert scorer(fitted, X, y, groups=groups) == pytest.approx(expected)
    assert scorer(fitted, ImageSequence(X, groups=groups), y) == pytest.approx(expected)


def test_subject_scorer_uses_pos_label(cells, fitted):
    X, y, groups = cells
    for label, column in (("ALL", 0), ("HEM", 1)):
        scorer = make_subject_scorer("specificity_at_95_sensitivity", pos_label=label)
        expected = expected_by_hand(
            fitted,
            X,
            y,
            groups,
            lambda y, p, label=label, column=column: specificity_at_sensitivity(
                y, p[:, column], pos_label=label
            ),
        )
        assert scorer(fitted, X, y, groups=groups) == pytest.approx(expected)
    assert repr(scorer) == "make_subject_scorer(specificity_at_sensitivity, pos_label='HEM')"


def test_scorers_of_both_classes_in_one_search_are_independent(cells, fitted):
    """scikit-learn shares predictions between scorers by the name of the method alone."""
    X, y, groups = cells
    other = make_scorer(
        specificity_at_sensitivity, response_method="predict_proba", pos_label="ALL"
    )
    scoring = {"a": other, "b": "subject_roc_auc", "c": "subject_accuracy"}
    together = cross_validate(
        HybridClassifier(tiny_featurizer(), LogisticRegression()),
        ImageSequence(X, groups=groups),
        y,
        cv=SubjectKFold(2),
        scoring=scoring,
    )
    for key, scorer in scoring.items():
        alone = cross_validate(
            HybridClassifier(tiny_featurizer(), LogisticRegression()),
            ImageSequence(X, groups=groups),
            y,
            cv=SubjectKFold(2),
            scoring=scorer,
        )
        np.testing.assert_allclose(together[f"test_{key}"], alone["test_score"])


def test_classifier_without_probabilities_uses_votes(cells):
    X, y, groups = cells
    clf = HybridClassifier(tiny_featurizer(), LinearSVC()).fit(X, y)
    right = [
        (np.mean(clf.predict(X[groups == g]) == y[groups == g][0]) > 0.5) for g in np.unique(groups)
    ]
    ties = [np.mean(clf.predict(X[groups == g]) == y[groups == g][0]) == 0.5 for g in set(groups)]
    got = make_subject_scorer("accuracy")(clf, X, y, groups=groups)
    assert np.mean(right) <= got <= np.mean(right) + np.mean(ties)


def test_subjects_are_decided_by_the_classifiers_own_threshold(cells):
    X, y, groups = cells
    clf = FixedThresholdClassifier(
        HybridClassifier(tiny_featurizer(), LogisticRegression()), threshold=0.05, pos_label="ALL"
    ).fit(X, y)
    right = [(clf.predict(X[groups == g]) == y[groups == g][0]).mean() > 0.5 for g in set(groups)]
    means = [clf.predict_proba(X[groups == g]).mean(axis=0).argmax() for g in set(groups)]
    probable = [
        clf.classes_[k] == y[groups == g][0] for k, g in zip(means, set(groups), strict=True)
    ]
    assert np.mean(probable) != np.mean(right)
    n_read = []
    images = ImageSequence(X, groups=groups).map(lambda image: n_read.append(1) or image)
    got = make_subject_scorer("accuracy")(clf, images, y)
    assert got == pytest.approx(np.mean(right))
    assert len(n_read) == len(X)
    report = evaluate(clf, X, y, groups=groups, cv="prefit", n_bootstrap=2)
    assert report.metrics["subject_accuracy"].value == pytest.approx(got)


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
def test_search_accepts_scorers_by_name(cells, routing):
    X, y, groups = cells
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression())
    scoring = ["accuracy", "subject_accuracy", "subject_roc_auc", "subject_neg_log_loss"]
    search = GridSearchCV(
        clf,
        {"classifier__C": [0.01, 100.0]},
        cv=SubjectKFold(2),
        scoring=scoring,
        refit="subject_neg_log_loss",
        error_score="raise",
    )
    with config_context(enable_metadata_routing=routing):
        if routing:
            search.fit(X, y, groups=groups)
        else:
            search.fit(ImageSequence(X, groups=groups), y)
    train, test = next(SubjectKFold(2).split(X, y, groups))
    alone = HybridClassifier(tiny_featurizer(), LogisticRegression(C=100.0)).fit(X[train], y[train])
    expected = get_scorer("subject_roc_auc")(alone, X[test], y[test], groups=groups[test])
    assert search.cv_results_["split0_test_subject_roc_auc"][1] == pytest.approx(expected)


@pytest.mark.parametrize("routing", [False, True], ids=["routing_off", "routing_on"])
def test_search_for_a_threshold_does_not_score_images_in_place_of_subjects(cells, routing):
    X, y, groups = cells
    clf = HybridClassifier(tiny_featurizer(), LogisticRegression())
    tuned = TunedThresholdClassifierCV(
        clf, scoring=get_scorer("subject_accuracy"), cv=SubjectKFold(2)
    )
    images, keywords = (X, {"groups": groups}) if routing else (ImageSequence(X, groups=groups), {})
    with (
        config_context(enable_metadata_routing=routing),
        pytest.raises(UnsupportedInputError, match="applies metrics to images"),
    ):
        tuned.fit(images, y, **keywords)


def test_unknown_or_ambiguous_subjects_raise(cells, fitted):
    X, y, _ = cells
    scorer = get_scorer("subject_accuracy")
    with pytest.raises(SplitError, match="does not know the subjects"):
        scorer(fitted, X, y)
    with pytest.raises(SplitError, match="two classes"):
        scorer(fitted, X, y, groups=np.repeat("one", 40))
    with pytest.raises(SplitError, match="3 values"):
        scorer(fitted, X, y, groups=["a", "b", "c"])


def test_invalid_scorer_raises():
    for scoring in (lambda clf, X, y: 1.0, "subject_accuracy"):
        with pytest.raises(UnsupportedInputError, match="not a scorer by image"):
            make_subject_scorer(scoring)


def test_scorers_are_registered_without_overriding_others():
    ours = {name for name in get_scorer_names() if name.startswith("subject_")}
    assert len(ours) == 11
    assert all(isinstance(get_scorer(name), SubjectScorer) for name in ours)
    assert not isinstance(get_scorer("accuracy"), SubjectScorer)


@pytest.mark.parametrize("wrong", [np.nan, 1.2, -0.1])
def test_values_that_are_not_probabilities_raise(wrong):
    with pytest.raises(UnsupportedInputError, match="probabilities must be between 0 and 1"):
        expected_calibration_error([0, 1, 1], [0.2, wrong, 0.9])
    rounded = np.array([[0, 1 + 1e-7], [1, -1e-7]], dtype=np.float32)
    assert expected_calibration_error([1, 0], rounded) == pytest.approx(0, abs=1e-6)


def test_missing_label_raises_with_position():
    with pytest.raises(UnsupportedInputError, match="label at position 1 is missing"):
        expected_calibration_error(["a", None, "b"], [0.2, 0.7, 0.9])


def test_calibration_error_takes_columns_in_any_order():
    true = ["a", "b", "a", "b"]
    swapped = [[0.1, 0.9], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]]
    plain = [row[::-1] for row in swapped]
    expected = pytest.approx(0.1)
    assert expected_calibration_error(true, swapped, labels=["b", "a"]) == expected
    assert expected_calibration_error(true, plain, labels=["a", "b"]) == expected
    assert expected_calibration_error(true, plain) == expected
    with pytest.raises(UnsupportedInputError, match="class of each column"):
        expected_calibration_error(true, plain, labels=["a", "a"])


def test_subject_scorers_take_the_positive_class_of_a_metric_as_scikit_learn_does():
    X = np.random.default_rng(0).normal(size=(60, 2))
    y = (X[:, 0] > 0).astype(int) + 1  # 1, the default of the metric, comes first
    clf = LogisticRegression().fit(X, y)
    by_image, of_single = get_scorer("average_precision"), np.arange(60)
    by_subject = make_subject_scorer("average_precision")
    assert by_subject(clf, X, y, groups=of_single) == pytest.approx(by_image(clf, X, y))
    with pytest.raises(UnsupportedInputError, match="pos_label=3 is not a class"):
        make_subject_scorer("average_precision", pos_label=3)(clf, X, y, groups=of_single)
