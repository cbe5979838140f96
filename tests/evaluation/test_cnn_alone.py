import json

import numpy as np
import pytest

from common.networks import tiny_featurizer
from effboost import HybridClassifier, evaluate


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


def test_table_and_json_have_both(report):
    text = str(report)
    assert "hybrid                  CNN alone" in text
    assert "hybrid minus CNN" in text
    data = json.loads(report.to_json())
    assert data["cnn"]["metrics"]["accuracy"]["value"] == pytest.approx(
        report.cnn.metrics["accuracy"].value, abs=1e-6
    )
    assert data["gain"]["value"] == pytest.approx(report.gain.value, abs=1e-6)
    assert len(data["history"]) == len(data["evals_result"]) == 2


def test_frozen_network_has_no_report_of_its_own(pixels, three_classes, subjects):
    clf = HybridClassifier(tiny_featurizer()).set_params(classifier__n_estimators=3)
    report = evaluate(clf, pixels, three_classes, groups=subjects, cv=2, n_bootstrap=5)
    assert report.cnn is None
    assert report.gain is None
    assert "CNN" not in str(report)
    assert len(report.evals_result) == 2
