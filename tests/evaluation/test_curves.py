import json

import matplotlib as mpl
import numpy as np
import pytest

from common.networks import tiny_featurizer
from effboost import CNNClassifier, HybridClassifier, LearningCurvesDisplay, evaluate

mpl.use("Agg")


@pytest.fixture
def hybrid():
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=3, batch_size=8, lr=0.02)
    clf = HybridClassifier(featurizer, random_state=0)
    return clf.set_params(classifier__n_estimators=4, classifier__n_jobs=1)


@pytest.fixture
def report(hybrid, pixels, three_classes, subjects):
    return evaluate(hybrid, pixels, three_classes, groups=subjects, cv=2, n_bootstrap=50)


def test_the_network_alone_is_reported_on_the_same_folds(report, three_classes):
    assert np.array_equal(report.cnn.fold, report.fold)
    assert report.cnn.confusion_matrix.sum() == 24
    gain = report.metrics["accuracy"].value - report.cnn.metrics["accuracy"].value
    assert report.gain.value == pytest.approx(gain)
    assert report.gain.low <= report.gain.value <= report.gain.high
    assert report.cnn.cnn is None


def test_its_predictions_are_those_of_a_cnn_classifier(
    hybrid, report, pixels, three_classes, subjects
):
    train, test = (np.flatnonzero(report.fold == k) for k in (1, 0))
    clf = hybrid.fit(pixels[train], three_classes[train], groups=subjects[train])
    np.testing.assert_array_equal(report.cnn.y_pred[test], clf.cnn_.predict(pixels[test]))
    np.testing.assert_array_equal(report.y_pred[test], clf.predict(pixels[test]))


def test_the_table_and_the_json_hold_both(report):
    text = str(report)
    assert "hybrid                  CNN alone" in text
    assert "hybrid minus CNN" in text
    data = json.loads(report.to_json())
    assert data["cnn"]["metrics"]["accuracy"]["value"] == pytest.approx(
        report.cnn.metrics["accuracy"].value, abs=1e-6
    )
    assert data["gain"]["value"] == pytest.approx(report.gain.value, abs=1e-6)
    assert len(data["history"]) == len(data["evals_result"]) == 2


def test_frozen_features_have_no_network_of_their_own(pixels, three_classes, subjects):
    clf = HybridClassifier(tiny_featurizer()).set_params(classifier__n_estimators=3)
    report = evaluate(clf, pixels, three_classes, groups=subjects, cv=2, n_bootstrap=5)
    assert report.cnn is None
    assert report.gain is None
    assert "CNN" not in str(report)
    assert len(report.evals_result) == 2


def test_curves_of_a_report_have_one_line_a_fold(report):
    display = LearningCurvesDisplay.from_report(report)
    accuracy, error = display.axes_
    assert [len(line.get_ydata()) for line in accuracy.get_lines() if len(line.get_ydata())] == [
        3,
        3,
    ]
    expected = [result["train"]["merror"] for result in report.evals_result]
    assert [list(line.get_ydata()) for line in error.get_lines()] == expected
    assert (accuracy.get_xlabel(), error.get_xlabel()) == ("epoch", "round")


def test_curves_of_an_estimator_have_validation_where_there_is_one(hybrid, pixels, three_classes):
    hybrid.fit(pixels[:16], three_classes[:16], X_val=pixels[16:], y_val=three_classes[16:])
    display = LearningCurvesDisplay.from_estimator(hybrid)
    for ax in display.axes_:
        assert len([line for line in ax.get_lines() if len(line.get_ydata())]) == 2
        assert len(ax.get_legend().get_texts()) == 2
    assert display.plot(display.axes_) is display


def test_a_network_alone_has_no_rounds(hybrid, pixels, three_classes):
    cnn = CNNClassifier(hybrid.featurizer).fit(pixels, three_classes)
    display = LearningCurvesDisplay.from_estimator(cnn)
    assert "nothing recorded" in [text.get_text() for text in display.axes_[1].texts]
