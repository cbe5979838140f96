import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

from common.networks import tiny_featurizer
from common.pictures import HOSTILE, count_figures, hide, texts_of
from effboost import HybridClassifier, evaluate
from effboost.evaluation import Metric
from effboost.exceptions import MissingDependencyError, UnsupportedInputError
from effboost.inspection import ExtractorComparisonDisplay

NAN = float("nan")


@pytest.fixture
def report(pixels, three_classes, subjects):
    clf = HybridClassifier(tiny_featurizer()).set_params(classifier__n_estimators=2)
    return evaluate(clf, pixels, three_classes, groups=subjects, cv=2, n_bootstrap=5)


@pytest.fixture
def reports(report):
    def with_metrics(accuracy, log_loss, **others):
        metrics = {"accuracy": Metric(*accuracy), "log_loss": Metric(*log_loss)}
        return dataclasses.replace(report, metrics=metrics, **others)

    alone = with_metrics((0.5, 0.4, 0.6), (0.9, 0.8, 1.0))
    return {
        "weak": with_metrics((0.6, 0.5, 0.7), (0.6, 0.5, 0.7)),
        "strong": with_metrics((0.9, 0.8, 0.95), (0.4, 0.45, 0.5), cnn=alone),
        "unknown": with_metrics((NAN, NAN, NAN), (0.5, NAN, NAN)),
    }


def dots(display):
    """Return (value, row) of the dots of each series; the bars at the ends come before them."""
    lines = [line for line in display.ax_.get_lines() if line.get_marker() != "|"]
    return [line.get_xydata() for line in lines]


def test_best_value_is_on_top(reports):
    display = ExtractorComparisonDisplay.from_reports(reports)
    assert display.names == ["strong", "weak", "unknown"]
    np.testing.assert_array_equal(display.values, [0.9, 0.6, NAN])
    np.testing.assert_array_equal(display.lows, [0.8, 0.5, NAN])
    np.testing.assert_array_equal(display.highs, [0.95, 0.7, NAN])
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == display.names
    assert display.ax_.yaxis_inverted()
    assert display.ax_.get_xlabel() == "accuracy with 95% interval"


def test_lowest_loss_is_on_top(reports):
    display = ExtractorComparisonDisplay.from_reports(reports, metric="log_loss")
    assert display.names == ["strong", "unknown", "weak"]
    assert display.ax_.get_xlabel() == "log-loss with 95% interval, lower is better"


def test_network_alone_is_drawn_beside_its_hybrid(reports):
    display = ExtractorComparisonDisplay.from_reports(reports)
    np.testing.assert_array_equal(display.cnn_values, [0.5, NAN, NAN])
    np.testing.assert_array_equal(display.cnn_lows, [0.4, NAN, NAN])
    np.testing.assert_array_equal(display.cnn_highs, [0.6, NAN, NAN])
    hybrid, cnn = dots(display)
    np.testing.assert_array_equal(hybrid[:, 0], display.values)
    np.testing.assert_array_equal(cnn[:, 0], display.cnn_values)
    assert (hybrid[:, 1] < cnn[:, 1]).all()
    assert (np.abs(np.r_[hybrid[:, 1], cnn[:, 1]] - np.tile(range(3), 2)) < 0.5).all()
    named = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert named == ["hybrid", "CNN alone"]


def test_frozen_networks_have_one_dot_a_row(reports):
    del reports["strong"]
    display = ExtractorComparisonDisplay.from_reports(reports)
    assert [rows[:, 1].tolist() for rows in dots(display)] == [[0, 1]]
    assert display.ax_.get_legend() is None


def test_intervals_are_drawn_even_if_they_exclude_the_value(reports):
    # A bootstrap over-estimates losses that count distances: 0.4 lies below 0.45 to 0.5.
    display = ExtractorComparisonDisplay.from_reports(reports, metric="log_loss")
    whiskers = [path.vertices[:, 0].tolist() for path in display.ax_.collections[0].get_paths()]
    assert [0.45, 0.5] in whiskers
    assert [0.5, 0.7] in whiskers
    texts_of(display.figure_)


def test_values_are_those_of_the_report(report):
    figure, ax = plt.subplots()
    for metric, found in report.metrics.items():
        display = ExtractorComparisonDisplay.from_reports({"a": report}, metric=metric, ax=ax)
        assert display.values.tolist() == [found.value]
        assert (display.lows[0], display.highs[0]) == (found.low, found.high)
    assert (display.ax_, display.figure_, count_figures()) == (ax, figure, 1)


def test_names_are_never_formulas(report):
    display = ExtractorComparisonDisplay.from_reports({HOSTILE: report})
    assert HOSTILE in texts_of(display.figure_)


def test_invalid_arguments_raise(reports):
    compare = ExtractorComparisonDisplay.from_reports
    with pytest.raises(ValueError, match=r"metric='f1' is not in .*'weak', .* accuracy, log_loss"):
        compare(reports, metric="f1")
    with pytest.raises(UnsupportedInputError, match="reports is empty"):
        compare({})
    with pytest.raises(UnsupportedInputError, match=r"reports\['x'\] is a float"):
        compare({"x": 0.9})
    reports["weak"] = dataclasses.replace(reports["weak"], confidence=0.9)
    with pytest.raises(UnsupportedInputError, match=r"different confidence levels, \[0.9, 0.95\]"):
        compare(reports)


def test_missing_matplotlib_raises_with_the_extra(reports, monkeypatch):
    hide(monkeypatch, "matplotlib")
    with pytest.raises(MissingDependencyError, match=r"effboost\[report\]"):
        ExtractorComparisonDisplay.from_reports(reports)
