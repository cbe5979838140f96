import pytest

from common.networks import tiny_featurizer
from effboost import CNNClassifier, HybridClassifier, evaluate
from effboost.inspection import TrainingHistoryDisplay


@pytest.fixture
def hybrid():
    featurizer = tiny_featurizer(fine_tune=True, max_epochs=3, batch_size=8, lr=0.02)
    clf = HybridClassifier(featurizer, random_state=0)
    return clf.set_params(classifier__n_estimators=4, classifier__n_jobs=1)


@pytest.fixture
def report(hybrid, pixels, three_classes, subjects):
    return evaluate(hybrid, pixels, three_classes, groups=subjects, cv=2, n_bootstrap=50)


def test_report_has_one_line_for_each_fold(report):
    display = TrainingHistoryDisplay.from_report(report)
    accuracy, error = display.axes_
    assert [len(line.get_ydata()) for line in accuracy.get_lines() if len(line.get_ydata())] == [
        3,
        3,
    ]
    expected = [result["train"]["merror"] for result in report.evals_result]
    assert [list(line.get_ydata()) for line in error.get_lines()] == expected
    assert (accuracy.get_xlabel(), error.get_xlabel()) == ("epoch", "round")


def test_validation_curves_are_drawn_if_there_are_any(hybrid, pixels, three_classes):
    hybrid.fit(pixels[:16], three_classes[:16], X_val=pixels[16:], y_val=three_classes[16:])
    display = TrainingHistoryDisplay.from_estimator(hybrid)
    for ax in display.axes_:
        assert len([line for line in ax.get_lines() if len(line.get_ydata())]) == 2
        assert len(ax.get_legend().get_texts()) == 2
    assert display.plot(display.axes_) is display


def test_network_alone_has_no_rounds(hybrid, pixels, three_classes):
    cnn = CNNClassifier(hybrid.featurizer).fit(pixels, three_classes)
    display = TrainingHistoryDisplay.from_estimator(cnn)
    assert "nothing recorded" in [text.get_text() for text in display.axes_[1].texts]


def test_axis_is_labelled_by_the_metric_of_the_booster():
    counted = {"train": {"auc": [0.5, 0.7]}, "validation": {"auc": [0.5, 0.6]}}
    error = TrainingHistoryDisplay([], [counted]).plot().axes_[1]
    assert error.get_ylabel() == "auc"
    assert [list(line.get_ydata()) for line in error.get_lines()] == [[0.5, 0.7], [0.5, 0.6]]
    assert [line.get_linestyle() for line in error.get_lines()] == ["-", "--"]
