import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)
from sklearn.model_selection import GroupKFold, ShuffleSplit, StratifiedKFold
from sklearn.svm import SVC

from common.networks import tiny_featurizer
from effboost import HybridClassifier, ImageSequence, evaluate
from effboost.evaluation._scores import auroc, calibration_errors, log_losses, operating_points
from effboost.exceptions import (
    ImageDecodeError,
    LeakageError,
    SplitError,
    UnsupportedInputError,
)
from effboost.metrics import (
    expected_calibration_error,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)


class ColourClassifier(ClassifierMixin, BaseEstimator):
    """Learns the mean colour of each class: a real classifier in ten lines."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        means = np.array([picture.mean(axis=(0, 1)) for picture in X])
        self.means_ = np.array([means[y == label].mean(axis=0) for label in self.classes_])
        return self

    def predict_proba(self, X):
        means = np.array([picture.mean(axis=(0, 1)) for picture in X])
        distance = ((means[:, None] - self.means_) ** 2).sum(axis=2)
        closeness = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / 300)
        return closeness / closeness.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.fixture
def noisy():
    """Thirty subjects of four pictures each, whose classes overlap."""
    rng = np.random.default_rng(3)
    groups = np.repeat([f"S{i:02d}" for i in range(30)], 4)
    target = np.repeat(np.array(["a", "b", "c"])[np.arange(30) % 3], 4)
    pictures = rng.integers(0, 60, (120, 12, 12, 3))
    channel = np.searchsorted(["a", "b", "c"], target)
    pictures[np.arange(120), :, :, channel] += 20
    return (pictures + rng.integers(0, 40, (120, 1, 1, 3))).astype(np.uint8), target, groups


@pytest.fixture
def report(noisy):
    X, y, groups = noisy
    return evaluate(ColourClassifier(), X, y, groups=groups, cv=5, n_bootstrap=200)


def test_numbers_are_those_of_scikit_learn(report):
    true, pred = report.y_true, report.y_pred
    assert 0.5 < report.metrics["accuracy"].value < 1  # neither trivial nor hopeless
    assert report.metrics["accuracy"].value == pytest.approx(accuracy_score(true, pred))
    weighted = f1_score(true, pred, average="weighted")
    assert report.metrics["weighted_f1"].value == pytest.approx(weighted)
    auroc = roc_auc_score(true, report.probabilities, multi_class="ovr", average="macro")
    assert report.metrics["auroc"].value == pytest.approx(auroc)
    assert report.metrics["log_loss"].value == pytest.approx(log_loss(true, report.probabilities))
    error = expected_calibration_error(true, report.probabilities)
    assert report.metrics["calibration_error"].value == pytest.approx(error)
    for i, scores in enumerate(
        np.transpose(precision_recall_fscore_support(true, pred, labels=["a", "b", "c"]))
    ):
        name = "abc"[i]
        got = [report.per_class[name][key].value for key in ("precision", "recall", "f1")]
        assert [*got, report.support[name]] == pytest.approx(list(scores))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_auroc_of_bootstrap_samples_is_scikit_learns_weighted_one(n_classes):
    rng = np.random.default_rng(1)
    true = rng.integers(0, n_classes, 200)
    proba = rng.dirichlet(np.ones(n_classes), 200).round(1)  # many ties
    subject_of = rng.integers(0, 20, 200)
    draws = rng.multinomial(20, np.full(20, 1 / 20), size=5)
    got = auroc(true, proba, subject_of, draws)
    columns = [1] if n_classes == 2 else range(n_classes)
    expected = [
        np.mean(
            [roc_auc_score(true == c, proba[:, c], sample_weight=w[subject_of]) for c in columns]
        )
        for w in draws
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_scores_of_draws_equal_the_metrics_with_the_same_weights():
    rng = np.random.default_rng(2)
    true = rng.integers(0, 2, 200)
    up = rng.random(200).round(1)
    proba = np.column_stack([1 - up, up])
    subject_of = rng.integers(0, 20, 200)
    draws = rng.multinomial(20, np.full(20, 1 / 20), size=5)
    points = operating_points(true == 1, up, subject_of, draws, 0.95)
    for row, draw in enumerate(draws):
        weight = draw[subject_of]
        expected = [
            sensitivity_at_specificity(true, up, sample_weight=weight),
            specificity_at_sensitivity(true, up, sample_weight=weight),
            log_loss(true, proba, sample_weight=weight),
            expected_calibration_error(true, proba, sample_weight=weight),
        ]
        got = [
            points[0][row],
            points[1][row],
            log_losses(true, proba, subject_of, draws)[row],
            calibration_errors(true, proba, subject_of, draws)[row],
        ]
        np.testing.assert_allclose(got, expected, rtol=1e-9)
    without_positives = operating_points(np.zeros(200, bool), up, subject_of, draws, 0.95)
    assert np.isnan(without_positives).all()


def test_pos_label_adds_operating_points(noisy):
    X, y, groups = noisy
    report = evaluate(ColourClassifier(), X, y, groups=groups, cv=5, n_bootstrap=100, pos_label="b")
    is_b, score = report.y_true == "b", report.probabilities[:, 1]
    assert report.metrics["sensitivity_at_95_specificity"].value == pytest.approx(
        sensitivity_at_specificity(is_b, score)
    )
    assert report.metrics["specificity_at_95_sensitivity"].value == pytest.approx(
        specificity_at_sensitivity(is_b, score)
    )
    assert "sens. at 95 % spec." in str(report)
    with pytest.raises(UnsupportedInputError, match=r"pos_label='d' is not a class"):
        evaluate(ColourClassifier(), X, y, groups=groups, cv=5, pos_label="d")


def test_subject_accuracy_uses_mean_probabilities(report):
    right = [
        report.classes[report.probabilities[report.groups == g].mean(axis=0).argmax()]
        == report.y_true[report.groups == g][0]
        for g in np.unique(report.groups)
    ]
    assert report.metrics["subject_accuracy"].value == pytest.approx(np.mean(right))
    means = np.array(
        [report.probabilities[report.groups == g].mean(axis=0) for g in np.unique(report.groups)]
    )
    labels = [report.y_true[report.groups == g][0] for g in np.unique(report.groups)]
    area = roc_auc_score(labels, means, multi_class="ovr", average="macro")
    assert report.metrics["subject_auroc"].value == pytest.approx(area)


def test_every_number_is_in_its_interval(report):
    numbers = [
        *report.metrics.values(),
        *(m for scores in report.per_class.values() for m in scores.values()),
    ]
    for metric in numbers:
        assert metric.low <= metric.value <= metric.high
        assert metric.low < metric.high


def test_intervals_come_from_subjects_and_not_from_images():
    """Four copies of each picture are no more evidence than one."""
    rng = np.random.default_rng(0)
    single = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    y = np.arange(40) % 2
    copies = (np.repeat(single, 4, axis=0), np.repeat(y, 4), np.repeat(np.arange(40), 4))
    one = evaluate(ColourClassifier(), single, y, groups=np.arange(40), cv=2)
    four = evaluate(ColourClassifier(), copies[0], copies[1], groups=copies[2], cv=2)
    width = [r.metrics["accuracy"].high - r.metrics["accuracy"].low for r in (one, four)]
    assert width[1] == pytest.approx(width[0], rel=0.25)


def test_no_subject_is_on_both_sides_of_a_fold(report):
    for subject in np.unique(report.groups):
        assert len(np.unique(report.fold[report.groups == subject])) == 1
    assert report.shared_subjects == 0
    assert (report.n_subjects, report.n_splits) == (30, 5)


def test_the_same_seed_gives_the_same_report(noisy, report):
    X, y, groups = noisy
    again = evaluate(ColourClassifier(), X, y, groups=groups, cv=5, n_bootstrap=200)
    one, other = report.to_dict(), again.to_dict()
    assert one.pop("seconds") >= 0
    assert other.pop("seconds") >= 0
    assert one == other


def test_groups_of_the_images_are_used_where_none_are_given(noisy, report):
    X, y, groups = noisy
    carried = evaluate(ColourClassifier(), ImageSequence(X, groups=groups), y, n_bootstrap=200)
    assert np.array_equal(carried.fold, report.fold)


def test_leaking_split_raises_or_is_reported_when_forced(noisy):
    X, y, groups = noisy
    cv = StratifiedKFold(5, shuffle=True, random_state=0)
    with pytest.raises(LeakageError, match=r"subjects are in both parts.*such as 'S\d\d'"):
        evaluate(ColourClassifier(), X, y, groups=groups, cv=cv)
    forced = evaluate(
        ColourClassifier(), X, y, groups=groups, cv=cv, check_leakage=False, n_bootstrap=10
    )
    assert forced.shared_subjects > 20
    assert "these numbers are too good" in str(forced)


def test_one_image_under_two_subjects_is_refused(noisy):
    X, y, groups = noisy
    X[7] = X[100]
    with pytest.raises(LeakageError, match=r"identical images is in both parts.*position"):
        evaluate(ColourClassifier(), X, y, groups=groups)


def test_a_cv_that_does_not_test_each_image_once_is_refused(noisy):
    X, y, groups = noisy
    with pytest.raises(SplitError, match="each image exactly once"):
        evaluate(ColourClassifier(), X, y, groups=groups, cv=ShuffleSplit(3, random_state=0))
    ok = evaluate(ColourClassifier(), X, y, groups=groups, cv=GroupKFold(3), n_bootstrap=5)
    assert ok.n_splits == 3


def test_subjects_of_two_classes_have_no_subject_accuracy(noisy):
    X, y, _ = noisy
    groups = np.arange(120) // 12  # pictures of all classes
    report = evaluate(ColourClassifier(), X, y, groups=groups, cv=2, n_bootstrap=5)
    assert "subject_accuracy" not in report.metrics


def test_classifier_without_probabilities_has_no_auroc(noisy):
    X, y, groups = noisy
    clf = HybridClassifier(tiny_featurizer(), SVC())
    report = evaluate(clf, X, y, groups=groups, cv=2, n_bootstrap=20)
    assert report.probabilities is None
    assert set(report.metrics) == {"accuracy", "weighted_f1", "subject_accuracy"}


def test_a_class_that_is_never_predicted_has_precision_zero():
    class AlwaysA(ColourClassifier):
        def predict_proba(self, X):
            return np.tile([0.8, 0.2], (len(X), 1))

    X = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    report = evaluate(AlwaysA(), X, ["a", "b"] * 4, cv=2, n_bootstrap=50)
    assert report.per_class["b"]["precision"].value == 0
    assert report.per_class["b"]["f1"].value == 0
    assert report.metrics["auroc"].value == 0.5


def test_json_has_the_numbers_and_no_nan(report, tmp_path):
    report.to_json(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    assert data == report.to_dict()
    assert data["metrics"]["accuracy"]["value"] == pytest.approx(
        report.metrics["accuracy"].value, abs=1e-6
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "report.json"]
    assert "NaN" not in report.to_json()


def test_table_has_all_titles(report):
    text = str(report)
    for part in ("120 images of 30 subjects, 5 folds", "accuracy", "AUROC", "recall", "95%"):
        assert part in text


def test_class_name_is_not_read_as_formula(noisy):
    X, y, groups = noisy
    named = np.where(y == "a", r"$\frac{<b>$", y)
    report = evaluate(ColourClassifier(), X, named, groups=groups, n_bootstrap=10)
    display = report.plot_confusion_matrix()
    display.figure_.canvas.draw()  # a formula that cannot be read would raise
    assert display.ax_.get_xticklabels()[0].get_text() == r"$\frac{<b>$"


def test_the_confusion_matrix_is_drawn(report, tmp_path):
    display = report.plot_confusion_matrix()
    assert np.array_equal(display.confusion_matrix, report.confusion_matrix)
    display.figure_.savefig(tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "length"), [("y", 119), ("groups", 119)])
def test_different_lengths_raise(noisy, name, length):
    X, y, groups = noisy
    given = {"y": y, "groups": groups}
    given[name] = given[name][:length]
    with pytest.raises((UnsupportedInputError, SplitError), match="119"):
        evaluate(ColourClassifier(), X, **given)


def test_class_with_one_subject_raises_with_its_name(noisy):
    X, y, groups = noisy
    y = np.where(groups == "S00", "rare", y)
    with pytest.raises(SplitError, match=r"class 'rare' has 1 subject"):
        evaluate(ColourClassifier(), X, y, groups=groups)


def test_missing_file_raises_before_anything_is_fitted(paths, three_classes, subjects):
    class MustNotFit(ColourClassifier):
        def fit(self, X, y):
            raise AssertionError("fitted before the images were checked")

    with pytest.raises(ImageDecodeError, match=r"nowhere\.png"):
        evaluate(MustNotFit(), [*paths[:-1], "nowhere.png"], three_classes, groups=subjects, cv=2)


def test_missing_subject_raises_for_every_cv(noisy):
    X, y, groups = noisy
    groups = np.where(np.arange(120) % 7 == 3, None, groups)
    with pytest.raises(SplitError, match="groups is missing for 17 images"):
        evaluate(ColourClassifier(), X, y, groups=groups, cv=StratifiedKFold(2))


def test_report_that_cannot_be_written_leaves_no_file(report, tmp_path):
    (tmp_path / "report.json").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        report.to_json(tmp_path / "report.json")
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_prefit_tests_the_classifier_without_fitting(noisy):
    X, y, groups = noisy
    train, test = groups < "S15", groups >= "S15"
    clf = ColourClassifier().fit(X[train], y[train])
    report = evaluate(
        clf, X[test], y[test], groups=groups[test], cv="prefit", return_estimator=True
    )
    assert report.estimators == (clf,)
    np.testing.assert_allclose(report.probabilities, clf.predict_proba(X[test]))
    assert report.metrics["accuracy"].value == pytest.approx(clf.score(X[test], y[test]))
    assert "by a model fitted before" in str(report)
    assert report.to_dict()["prefit"]
    with pytest.raises(NotFittedError):
        evaluate(ColourClassifier(), X[test], y[test], cv="prefit")


def test_classes_without_test_images_have_undefined_scores(noisy):
    X, y, groups = noisy
    clf = ColourClassifier().fit(X, y)
    few = y != "c"
    report = evaluate(clf, X[few], y[few], groups=groups[few], cv="prefit", n_bootstrap=50)
    assert report.classes.tolist() == ["a", "b", "c"]
    assert report.support == {"a": 40, "b": 40, "c": 0}
    assert report.confusion_matrix.sum() == 80
    assert np.isnan(report.per_class["c"]["recall"].value)
    assert report.metrics["accuracy"].value == pytest.approx(clf.score(X[few], y[few]))
    assert report.to_dict()["per_class"]["c"]["recall"]["value"] is None


def test_return_estimator_keeps_the_classifiers(noisy, report):
    X, y, groups = noisy
    assert report.estimators == ()
    kept = evaluate(ColourClassifier(), X, y, groups=groups, cv=5, return_estimator=True)
    assert len(kept.estimators) == 5
    for fold, clf in enumerate(kept.estimators):
        test = kept.fold == fold
        np.testing.assert_allclose(clf.predict_proba(X[test]), kept.probabilities[test])


def test_text_escapes_control_characters_of_class_names(noisy):
    X, y, groups = noisy
    hostile = np.array(["\x1b]0;owned\x07", "\u202eb", "c"])[np.searchsorted(["a", "b", "c"], y)]
    report = evaluate(ColourClassifier(), X, hostile, groups=groups, cv=3, n_bootstrap=20)
    text = str(report)
    assert text.isascii()
    assert not any(ord(char) < 32 for char in text.replace("\n", ""))
    assert text.count("\\u001b]0;owned\\u0007") == 3
    assert report.classes.tolist() == sorted(set(hostile.tolist()))
