import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from common.networks import tiny_featurizer
from common.pictures import HOSTILE, count_figures, hide, texts_of
from effboost import HybridClassifier, ImageSequence, evaluate
from effboost.exceptions import MissingDependencyError, SplitError, UnsupportedInputError
from effboost.inspection import SubjectDisplay

TRUE = ["a", "a", "a", "b", "b", "b", "b", "a"]
PRED = ["a", "b", "a", "a", "a", "b", "a", "a"]
GROUPS = ["P3", "P3", "P3", "P1", "P1", "P1", "P1", "P2"]


def dots(display):
    """Return (accuracy, row, area) of every dot, from the top."""
    found = [
        (*map(float, place), float(area))
        for part in display.ax_.collections
        if hasattr(part, "get_sizes") and len(part.get_offsets()) == len(part.get_sizes())
        for place, area in zip(part.get_offsets(), part.get_sizes(), strict=True)
    ]
    return sorted(found, key=lambda dot: dot[1])


def row_names(display):
    return [text.get_text() for text in display.ax_.get_yticklabels()]


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def hundred():
    """100 subjects of 4 images; subject i has i % 5 of them right."""
    right = np.arange(4) < (np.arange(100) % 5)[:, np.newaxis]
    true = np.repeat(["a", "b"], 200)
    pred = np.where(right.ravel(), true, "c")
    return true, pred, np.repeat([f"S{i:02d}" for i in range(100)], 4)


def test_subjects_are_sorted_by_accuracy():
    display = SubjectDisplay.from_predictions(TRUE, PRED, GROUPS)
    assert display.subjects.tolist() == ["P1", "P3", "P2"]
    np.testing.assert_allclose(display.accuracy, [1 / 4, 2 / 3, 1])
    assert display.n_images.tolist() == [4, 3, 1]
    assert display.labels.tolist() == ["b", "a", "a"]


def test_stored_values_are_drawn():
    display = SubjectDisplay.from_predictions(TRUE, PRED, GROUPS)
    accuracy, rows, areas = zip(*dots(display), strict=True)
    np.testing.assert_allclose(accuracy, display.accuracy)
    assert rows == (0, 1, 2)
    top, bottom = display.ax_.get_ylim()[1], display.ax_.get_ylim()[0]
    assert top < 0 < 2 < bottom
    np.testing.assert_allclose(np.array(areas) / areas[0], [1, 3 / 4, 1 / 4])
    assert row_names(display) == ["P1 (4)", "P3 (3)", "P2 (1)"]


def test_line_is_the_accuracy_over_images():
    display = SubjectDisplay.from_predictions(TRUE, PRED, GROUPS)
    assert display.ax_.get_lines()[0].get_xdata() == [0.5, 0.5]
    assert legend(display) == ["all images: 0.50", "a", "b"]


def test_subject_of_two_classes_is_marked():
    display = SubjectDisplay.from_predictions(TRUE, PRED, ["P1", *GROUPS[1:]])
    assert display.subjects.tolist() == ["P1", "P3", "P2"]
    assert display.labels.tolist() == [None, "a", "a"]
    assert legend(display) == ["all images: 0.50", "a", "several classes"]


def test_all_subjects_of_two_classes():
    display = SubjectDisplay.from_predictions([0, 1], [0, 0], [7, 7])
    assert legend(display) == ["all images: 0.50", "several classes"]
    assert display.accuracy.tolist() == [0.5]


def test_some_of_many_subjects_are_labelled():
    display = SubjectDisplay.from_predictions(*hundred())
    assert (np.diff(display.accuracy) >= 0).all()
    assert len(dots(display)) == 100
    names = row_names(display)
    assert names == [f"{name} (4)" for name in display.subjects[::2]]
    assert display.figure_.get_figheight() == 12
    few = SubjectDisplay.from_predictions(TRUE, PRED, GROUPS)
    assert few.figure_.get_figheight() == 2.4


def test_labels_do_not_overlap():
    display = SubjectDisplay.from_predictions(*hundred())
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in display.ax_.get_yticklabels()]
    assert all(above.y0 >= below.y1 - 1 for above, below in itertools.pairwise(boxes))


def test_small_axes_have_fewer_labels():
    figure, ax = plt.subplots(figsize=(4, 2))
    display = SubjectDisplay.from_predictions(*hundred(), ax=ax)
    assert (display.ax_, display.figure_, count_figures()) == (ax, figure, 1)
    assert 1 < len(row_names(display)) <= 10


def test_names_are_never_formulas():
    true, pred = [HOSTILE, HOSTILE, "_hidden"], [HOSTILE, "_hidden", "_hidden"]
    display = SubjectDisplay.from_predictions(true, pred, [HOSTILE, "x\n\0y", "P" * 99])
    drawn = texts_of(display.figure_)
    assert f"{HOSTILE} (1)" in drawn
    assert "x \N{REPLACEMENT CHARACTER}y (1)" in drawn
    assert f"{'P' * 11}…{'P' * 12} (1)" in drawn
    assert legend(display) == ["all images: 0.67", HOSTILE, "_hidden"]


def test_subjects_of_an_image_sequence_are_used(pixels, three_classes, subjects):
    clf = HybridClassifier(tiny_featurizer()).set_params(classifier__n_estimators=2)
    clf.fit(pixels[:12], three_classes[:12])
    images = ImageSequence(pixels, groups=subjects)
    for X, groups in ((images, None), (pixels, subjects)):
        display = SubjectDisplay.from_estimator(clf, X, three_classes, groups)
        right = clf.predict(pixels) == three_classes
        assert (display.accuracy @ display.n_images) == right.sum()
        assert sorted(display.subjects) == sorted(set(subjects))
    with pytest.raises(SplitError, match="subjects of the images are not known"):
        SubjectDisplay.from_estimator(clf, pixels, three_classes)


def test_predictions_of_an_evaluation_are_drawn(pixels, three_classes, subjects):
    clf = HybridClassifier(tiny_featurizer()).set_params(classifier__n_estimators=2)
    report = evaluate(clf, pixels, three_classes, groups=subjects, cv=2, n_bootstrap=2)
    display = SubjectDisplay.from_report(report)
    for subject, accuracy in zip(display.subjects, display.accuracy, strict=True):
        mine = report.groups == subject
        assert accuracy == (report.y_pred == report.y_true)[mine].mean()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((TRUE, PRED[1:], GROUPS), UnsupportedInputError, "y_true has 8, y_pred has 7, groups has"),
        ((TRUE, PRED, GROUPS[1:]), UnsupportedInputError, "groups has 7.*one value for each image"),
        (([], [], []), UnsupportedInputError, "empty"),
        ((TRUE, PRED, [None, *GROUPS[1:]]), SplitError, "groups is missing for 1 images"),
        (([None, *TRUE[1:]], PRED, GROUPS), UnsupportedInputError, "position 0 is missing"),
        ((TRUE, [None, *PRED[1:]], GROUPS), UnsupportedInputError, "position 0 is missing"),
        ((TRUE, range(8), GROUPS), ValueError, "[Mm]ix of label input types"),
    ],
    ids=["predictions", "groups", "empty", "no subject", "no label", "no prediction", "kinds"],
)
def test_invalid_arguments_raise(arguments, error, message):
    with pytest.raises(error, match=message):
        SubjectDisplay.from_predictions(*arguments)


def test_missing_matplotlib_raises_with_the_extra(monkeypatch):
    hide(monkeypatch, "matplotlib")
    with pytest.raises(MissingDependencyError, match=r"effboost\[report\]"):
        SubjectDisplay.from_predictions(TRUE, PRED, GROUPS)
