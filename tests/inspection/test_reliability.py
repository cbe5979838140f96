import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

from common.networks import tiny_featurizer
from common.pictures import count_figures, hide, texts_of
from effboost import HybridClassifier, evaluate
from effboost.exceptions import MissingDependencyError, UnsupportedInputError
from effboost.inspection import ReliabilityDisplay
from effboost.metrics import expected_calibration_error

# Confidence 0.9, 0.9, 0.6, 0.7: with 5 bins, two fall into the last and two into the one before.
TRUE = ["a", "b", "b", "b"]
PROBA = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])


def test_bins_are_those_counted_by_hand():
    display = ReliabilityDisplay.from_predictions(TRUE, PROBA, n_bins=5)
    assert display.n_images.tolist() == [0, 0, 0, 2, 2]
    np.testing.assert_allclose(display.confidence, [np.nan, np.nan, np.nan, 0.65, 0.9])
    np.testing.assert_allclose(display.accuracy, [np.nan, np.nan, np.nan, 1, 0.5])
    assert display.calibration_error == pytest.approx((2 * 0.35 + 2 * 0.4) / 4)


def test_stored_values_are_drawn():
    display = ReliabilityDisplay.from_predictions(TRUE, PROBA, n_bins=5)
    diagonal, dots = display.ax_.get_lines()
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_allclose(dots.get_xydata(), [[0.65, 1], [0.9, 0.5]])
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in display.ax_.patches]
    np.testing.assert_allclose(bars, [(0.6, 0.2, 0.5), (0.8, 0.2, 0.5)])
    assert [text.get_text() for text in display.ax_.texts] == ["2", "2"]
    assert display.ax_.get_title() == "expected calibration error 0.375"


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 4), st.integers(1, 60), st.integers(1, 20), st.integers(0, 999))
def test_calibration_error_is_that_of_the_metric(n_classes, n, n_bins, seed):
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, 0.3), n)
    true = rng.integers(0, n_classes, n)
    display = ReliabilityDisplay.from_predictions(
        true, proba, classes=range(n_classes), n_bins=n_bins
    )
    plt.close(display.figure_)
    expected = expected_calibration_error(true, proba, n_bins=n_bins, labels=range(n_classes))
    assert display.calibration_error == pytest.approx(expected, abs=1e-12)
    assert display.n_images.sum() == n


def test_single_column_is_the_second_class():
    both = ReliabilityDisplay.from_predictions(TRUE, PROBA)
    one = ReliabilityDisplay.from_predictions(TRUE, PROBA[:, 1])
    np.testing.assert_allclose(one.accuracy, both.accuracy)
    np.testing.assert_allclose(one.confidence, both.confidence)


def test_columns_may_be_in_any_order_with_classes():
    both = ReliabilityDisplay.from_predictions(TRUE, PROBA)
    turned = ReliabilityDisplay.from_predictions(TRUE, PROBA[:, ::-1], classes=["b", "a"])
    np.testing.assert_array_equal(turned.accuracy, both.accuracy)


def test_report_and_display_have_the_same_error(pixels, three_classes, subjects):
    clf = HybridClassifier(tiny_featurizer()).set_params(classifier__n_estimators=3)
    report = evaluate(clf, pixels, three_classes, groups=subjects, cv=2, n_bootstrap=2)
    display = ReliabilityDisplay.from_report(report)
    error = report.metrics["calibration_error"].value
    assert display.calibration_error == pytest.approx(error)
    assert f"expected calibration error {error:.3f}" in texts_of(display.figure_)


def test_estimator_provides_the_classes(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer()).set_params(classifier__n_estimators=3)
    clf.fit(pixels, three_classes)
    figure, ax = plt.subplots()
    two = three_classes != "other"  # whose column is there all the same
    display = ReliabilityDisplay.from_estimator(clf, pixels[two], three_classes[two], ax=ax)
    assert (display.ax_, display.figure_, count_figures()) == (ax, figure, 1)
    expected = expected_calibration_error(
        three_classes[two], clf.predict_proba(pixels[two]), labels=clf.classes_
    )
    assert display.calibration_error == pytest.approx(expected)


def test_rounding_that_evaluate_accepts_is_accepted():
    rounded = [[1 + 5e-6, -5e-6], [0.3, 0.7]]
    display = ReliabilityDisplay.from_predictions(["a", "b"], rounded)
    assert display.calibration_error == pytest.approx(0.15, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((TRUE[1:], PROBA), {}, "y_true has 3, y_prob has 4"),
        ((TRUE, PROBA), {"classes": ["a", "b", "c"]}, r"shape \(4, 2\), but the classes are \['a'"),
        ((TRUE, PROBA), {"classes": ["a", "a"]}, "give the class of each column"),
        ((TRUE, PROBA), {"classes": ["a", "c"]}, "contains class 'b', but the classes are"),
        ((TRUE, PROBA * 2), {}, "0 to 1"),
        ((TRUE, PROBA * np.nan), {}, "none missing"),
        ((TRUE, PROBA), {"n_bins": 0}, "n_bins=0 must be 1 or more"),
        (([], []), {}, "empty"),
    ],
    ids=["lengths", "three", "twice", "unknown", "two", "nan", "bins", "empty"],
)
def test_invalid_arguments_raise(arguments, options, message):
    with pytest.raises(UnsupportedInputError, match=message):
        ReliabilityDisplay.from_predictions(*arguments, **options)


def test_missing_probabilities_raise(pixels, three_classes, subjects):
    clf = HybridClassifier(tiny_featurizer(), LinearSVC())
    with pytest.raises(UnsupportedInputError, match="HybridClassifier has no predict_proba"):
        ReliabilityDisplay.from_estimator(clf.fit(pixels, three_classes), pixels, three_classes)
    report = evaluate(clf, pixels, three_classes, groups=subjects, cv=2, n_bootstrap=2)
    with pytest.raises(UnsupportedInputError, match="report has no probabilities"):
        ReliabilityDisplay.from_report(report)


def test_missing_matplotlib_raises_with_the_extra(monkeypatch):
    hide(monkeypatch, "matplotlib")
    with pytest.raises(MissingDependencyError, match=r"effboost\[report\]"):
        ReliabilityDisplay.from_predictions(TRUE, PROBA)
