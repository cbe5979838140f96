"""Wrong labels that were planted are found, in generated cells with out-of-fold probabilities."""

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from effboost.datasets import make_blood_cells
from effboost.exceptions import SplitError, UnsupportedInputError
from effboost.inspection import LabelIssues, label_issues
from effboost.model_selection import SubjectKFold


@pytest.fixture(scope="module")
def cells():
    """Features, labels and subjects of 40 subjects with 10 cells each."""
    made = make_blood_cells(n_subjects=40, images_per_subject=10, image_size=32, random_state=0)
    pictures = made.images.astype(float)
    stained = (pictures > 0).all(axis=3)
    area = stained.mean(axis=(1, 2))
    features = [area]
    for channel in range(3):
        inside = [p[m, channel] for p, m in zip(pictures, stained, strict=True)]
        features += [[values.mean() for values in inside], [values.std() for values in inside]]
        features.append([np.percentile(values, 20) for values in inside])
    return np.transpose(features), made.target, made.groups


def predict(X, y, groups, cv):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = list(cv.split(X, y, groups))
    return cross_val_predict(model, X, y, cv=folds, method="predict_proba")


def flip(y, where):
    wrong = y.copy()
    wrong[where] = np.where(y[where] == "ALL", "HEM", "ALL")
    return wrong


def precision_and_recall(found, planted):
    right = len(set(found) & set(planted))
    return right / max(1, len(found)), right / len(planted)


def test_wrong_labels_of_images_are_found_and_better_than_by_cleanlab_alone(cells):
    X, y, groups = cells
    rng = np.random.default_rng(0)
    planted = rng.choice(len(y), len(y) // 20, replace=False)
    wrong = flip(y, planted)
    proba = predict(X, wrong, groups, SubjectKFold(5))
    found = label_issues(wrong, proba, groups)
    alone = find_label_issues(
        np.searchsorted(["ALL", "HEM"], wrong),
        predict(X, wrong, None, KFold(5, shuffle=True, random_state=0)),
    )
    precision, recall = precision_and_recall(found.images, planted)
    assert precision > 0.95
    assert recall > 0.95
    assert precision_and_recall(np.flatnonzero(alone), planted)[0] < precision
    assert found.labels_of_subjects
    assert found.subjects.tolist() == []
    assert found.suggested[planted].tolist() == y[planted].tolist()
    text = str(found)
    assert f"{len(found.images)} of 400 images probably have a wrong label" in text
    assert f"... and {len(found.images) - 10} more" in text


def test_wrong_labels_of_whole_subjects_are_found_as_subjects(cells):
    X, y, groups = cells
    planted = ["S006", "S013"]
    wrong = flip(y, np.isin(groups, planted))
    found = label_issues(wrong, predict(X, wrong, groups, SubjectKFold(5)), groups)
    assert set(planted) <= set(found.subjects.tolist())
    assert len(found.subjects) <= 4
    assert not np.isin(groups[found.images], found.subjects).any()
    qualities = [found.subject_quality[name] for name in found.subjects.tolist()]
    assert qualities == sorted(qualities)
    assert "S006 (label quality 0." in str(found)


def test_correct_labels_have_few_issues(cells):
    X, y, groups = cells
    found = label_issues(y, predict(X, y, groups, SubjectKFold(5)), groups)
    assert len(found.images) == 0
    assert len(found.subjects) <= 2


def test_labels_that_do_not_depend_on_subjects_are_judged_by_pixels_alone():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 300)
    proba = rng.dirichlet(np.ones(3), 300) * 0.4 + 0.6 * np.eye(3)[codes]
    codes[:15] = (codes[:15] + 1) % 3
    found = label_issues(codes, proba, rng.integers(0, 30, 300))
    plain = label_issues(codes, proba)
    assert not found.labels_of_subjects
    assert found.images.tolist() == plain.images.tolist()
    np.testing.assert_allclose(found.quality, proba[np.arange(300), codes], rtol=1e-9)
    assert found.subjects.size == 0
    assert found.subject_quality == {}
    assert precision_and_recall(found.images, range(15))[1] > 0.9
    assert "subjects" not in str(found)


def test_a_class_without_labels_and_one_class_alone_are_allowed():
    proba = np.tile([0.1, 0.8, 0.1], (6, 1))
    found = label_issues(["b"] * 6, proba, classes=["a", "b", "c"])
    assert isinstance(found, LabelIssues)
    assert found.images.size == 0
    assert label_issues(["b", "c"] * 3, proba, classes=["a", "b", "c"]).suggested[0] == "b"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"probabilities": [[0.5, 0.5]]}, UnsupportedInputError, r"shape \(1, 2\)"),
        ({"probabilities": [[0.9, 0.9]] * 2}, UnsupportedInputError, "do not sum to 1"),
        ({"probabilities": [[np.nan, 0.9]] * 2}, UnsupportedInputError, "NaN"),
        ({"classes": ["a", "c"]}, UnsupportedInputError, "the label 'b' is not a class"),
        ({"classes": ["a", "b", "c"]}, UnsupportedInputError, "expected floats of shape"),
        ({"groups": ["S1"]}, SplitError, "groups has 1 values"),
    ],
)
def test_arguments_that_do_not_match_raise(arguments, error, message):
    usual = {"probabilities": [[0.5, 0.5]] * 2, "groups": None} | arguments
    with pytest.raises(error, match=message):
        label_issues(["a", "b"], **usual)
