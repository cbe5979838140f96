"""Learning curves by subject: what is fitted on what, the fitted curve and its interval."""

import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from effboost import ImageSequence, evaluate
from effboost.evaluation import LearningCurve, Metric, learning_curve
from effboost.exceptions import LeakageError, SplitError, UnsupportedInputError
from effboost.inspection import HTMLReport, LearningCurveDisplay


class Counting(ClassifierMixin, BaseEstimator):
    """Classifies by the mean brightness of the classes, and notes the subjects it was fitted on."""

    fits = []  # noqa: RUF012

    def fit(self, X, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        means = np.array([image.mean() for image in X])
        self.means_ = [means[codes == code].mean() for code in range(len(self.classes_))]
        self.fits.append(({*X.groups}, dict(zip(X.groups.tolist(), codes.tolist(), strict=True))))
        return self

    def predict(self, X):
        distance = [[abs(image.mean() - mean) for mean in self.means_] for image in X]
        return self.classes_[np.argmin(distance, axis=1)]


@pytest.fixture(scope="module")
def data():
    """Make thirty subjects of three images, a third of them of class b."""
    rng = np.random.default_rng(0)
    groups = np.repeat([f"S{i:02d}" for i in range(30)], 3)
    y = np.repeat(np.where(np.arange(30) % 3 == 0, "b", "a"), 3)
    X = rng.integers(0, 100, (90, 9, 9, 3)) + 8 * (y == "b")[:, None, None, None]
    return X.astype(np.uint8), y, groups


@pytest.fixture(scope="module")
def measured(data):
    X, y, groups = data
    Counting.fits.clear()
    curve = learning_curve(
        Counting(), X, y, groups=groups, fractions=(0.25, 0.5, 1.0), cv=3, n_repeats=2
    )
    return curve, list(Counting.fits)


def test_parts_are_drawn_by_subject_nested_and_with_the_shares_of_classes(measured, data):
    curve, fits = measured
    assert len(fits) == 3 * 3 * 2
    sizes = np.array([len(seen) for seen, _ in fits]).reshape(2, 3, 3)
    np.testing.assert_allclose(curve.n_subjects, sizes.mean(axis=(0, 2)))
    assert curve.n_subjects[-1] == 20
    for repeat in range(2):
        for fold in range(3):
            few, half, whole = (fits[repeat * 9 + size * 3 + fold] for size in range(3))
            assert few[0] < half[0] < whole[0]
            share = np.mean([code for _, code in half[1].items()])
            assert 0.2 < share < 0.5
            assert sum(few[1].values()) >= 2


def test_last_accuracy_is_that_of_a_cross_validation(data):
    X, y, groups = data
    curve = learning_curve(Counting(), X, y, groups=groups, cv=3, n_repeats=1, random_state=5)
    report = evaluate(Counting(), X, y, groups=groups, cv=3, random_state=5)
    assert curve.accuracy[-1].value == pytest.approx(report.metrics["accuracy"].value)
    for metric, column in zip(curve.accuracy, curve.samples.T, strict=True):
        assert metric.value == column[0]
        low, high = np.quantile(column[1:], [0.025, 0.975])
        assert (metric.low, metric.high) == pytest.approx((low, high))


def make_curve(n, values, noise=0.0, confidence=0.95):
    rng = np.random.default_rng(0)
    samples = np.array(values) + noise * rng.standard_normal((501, len(values)))
    samples[0] = values
    metrics = tuple(Metric(v, v - noise, v + noise) for v in values)
    return LearningCurve(np.asarray(n, dtype=float), metrics, samples, confidence)


@pytest.mark.parametrize("power", [0.25, 0.5, 0.75, 1.0])
def test_power_laws_are_extrapolated_exactly(power):
    n = np.array([5, 10, 20, 40])
    curve = make_curve(n, 0.95 - 0.6 * n**-power)
    for goal in (80, 400):
        assert curve.predict(goal).value == pytest.approx(0.95 - 0.6 * goal**-power, abs=1e-9)
    goal = 0.95 - 0.6 * 100**-power
    assert curve.subjects_for(goal - 1e-9) == pytest.approx(100, abs=1)
    assert curve.subjects_for(0.96) is None


def test_extrapolations_neither_fall_nor_exceed_1():
    n = [10, 20, 40]
    falling = make_curve(n, [0.8, 0.75, 0.7])
    assert falling.predict(80).value == pytest.approx(falling.predict(1000).value)
    assert 0.7 < falling.predict(80).value < 0.75
    steep = make_curve(n, [0.5, 0.75, 0.99])
    assert steep.predict(10**6).value == pytest.approx(1, abs=1e-2)
    flat = make_curve([10, 10], [0.8, 0.8])
    assert flat.predict(20).value == pytest.approx(0.8)


def test_interval_widens_with_noise_and_distance():
    n = np.array([5, 10, 20, 40])
    quiet, loud = (make_curve(n, 0.9 - 0.5 * n**-0.5, noise) for noise in (0.002, 0.02))

    def width(curve, goal):
        metric = curve.predict(goal)
        assert metric.low <= metric.value <= metric.high
        return metric.high - metric.low

    assert width(quiet, 80) < width(loud, 80)
    assert width(loud, 80) < width(loud, 1000)


def test_curve_is_text_json_picture_and_a_section_of_the_report(measured, data):
    curve, _ = measured
    text = str(curve)
    assert "training subjects  accuracy on other subjects" in text
    assert "extrapolated" in text
    plain = json.loads(json.dumps(curve.to_dict()))
    assert plain["twice"]["n_subjects"] == 40
    display = LearningCurveDisplay.from_curve(curve)
    assert display.ax_.get_xlim()[1] >= 40
    X, y, groups = data
    report = evaluate(Counting(), X, y, groups=groups, cv=2, n_bootstrap=10)
    page = HTMLReport.from_evaluation(report, X, n_mistakes=0, curve=curve).html
    assert page.count("<section") == 11
    assert "40 (extrapolated)" in page
    assert 'href="#curve"' in page
    without = HTMLReport.from_evaluation(report, X, n_mistakes=0).html
    assert 'href="#curve"' not in without


def test_display_measures_a_curve(data):
    X, y, groups = data
    display = LearningCurveDisplay.from_estimator(
        Counting(), X, y, groups=groups, fractions=(0.5, 1), cv=2, n_repeats=1, factor=3
    )
    assert len(display.curve.accuracy) == 2
    assert display.ax_.get_lines()


def test_leaks_and_invalid_arguments_raise(data):
    X, y, groups = data
    copied = X.copy()
    copied[0] = copied[80]
    with pytest.raises(LeakageError, match="identical images"):
        learning_curve(Counting(), copied, y, groups=groups, cv=3)
    learning_curve(
        Counting(), copied, y, groups=groups, cv=3, check_leakage=False, n_repeats=1, n_bootstrap=5
    )
    for fractions in ((1.0,), (0.5, 0.2), (0.0, 1.0), (0.5, 1.5)):
        with pytest.raises(SplitError, match="must be two or more ascending numbers"):
            learning_curve(Counting(), X, y, groups=groups, fractions=fractions)
    with pytest.raises(SplitError, match="n_repeats=0"):
        learning_curve(Counting(), X, y, groups=groups, n_repeats=0)
    with pytest.raises(ValueError, match="must be 1 or more"):
        make_curve([1, 2], [0.5, 0.6]).predict(0)


def test_groups_of_the_images_are_used(data):
    X, y, groups = data
    curve = learning_curve(
        Counting(), ImageSequence(X, groups=groups), y, cv=3, n_repeats=1, n_bootstrap=5
    )
    assert curve.n_subjects[-1] == 20


def test_each_part_has_two_subjects_of_each_class_where_subjects_have_several():
    y = np.full(120, "HEM")
    groups = np.repeat([f"P{i:02}" for i in range(20)], 6)
    for subject in (3, 8, 13, 17):
        y[6 * subject + 3 : 6 * subject + 6] = "ALL"  # after the healthy cells of each patient
    X = np.random.default_rng(0).integers(0, 256, (120, 24, 24, 3), dtype=np.uint8)
    Counting.fits.clear()
    learning_curve(Counting(), X, y, groups=groups, cv=2, n_repeats=2, fractions=(0.2, 0.5, 1.0))
    assert len(Counting.fits) == 12
    sick = {"P03", "P08", "P13", "P17"}
    assert all(len(names & sick) == 2 for names, _ in Counting.fits)


@pytest.mark.parametrize(("name", "value"), [("confidence", 95), ("n_bootstrap", -1)])
def test_settings_of_intervals_are_checked_before_any_fit(name, value):
    X, y = np.zeros((8, 9, 9, 3), np.uint8), np.array(["a", "b"] * 4)
    Counting.fits.clear()
    for measure in (evaluate, learning_curve):
        with pytest.raises(UnsupportedInputError, match=name):
            measure(Counting(), X, y, groups=np.arange(8), **{name: value})
    assert not Counting.fits


def test_cv_none_means_five_folds(data):
    X, y, groups = data
    one, other = (
        evaluate(Counting(), X, y, groups=groups, cv=cv, n_bootstrap=2) for cv in (None, 5)
    )
    np.testing.assert_array_equal(one.fold, other.fold)
