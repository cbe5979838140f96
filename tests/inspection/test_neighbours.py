"""The training images that are decided on most alike."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, ImageSequence, LinearBoostedClassifier
from effboost.exceptions import SplitError, UnsupportedInputError
from effboost.inspection import feature_importance, hybrid_attribution, neighbours
from effboost.inspection._contributions import contribute

HEADS = {
    "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "trees": lambda: XGBClassifier(n_estimators=10, max_depth=2),
    "both": lambda: LinearBoostedClassifier(),
}


@pytest.fixture(scope="module")
def spots():
    """Noise with the brightness of one channel as the class, of six subjects."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 120, (48, 24, 24, 3), dtype=np.uint8)
    y = np.array(["a", "b", "c"])[np.arange(48) % 3]
    X[np.arange(48), :, :, np.arange(48) % 3] += 90
    return X, y, np.array([f"S{i // 8}" for i in range(48)])


def fitted(X, y, head="both", **params):
    return HybridClassifier(tiny_featurizer(**params), HEADS[head](), random_state=0).fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_contributions_are_the_sums_of_the_maps(spots, head, n_classes):
    X, y, _ = spots
    keep = np.isin(y, ["a", "b", "c"][:n_classes])
    clf = fitted(X[keep], y[keep], head, extra_features="stages")
    found = contribute(clf, clf.transform(X[:5]))
    maps = hybrid_attribution(clf, X[:5])
    assert found.values.shape == (*maps.margin.shape, clf.transform(X[:1]).shape[1])
    np.testing.assert_allclose(found.values.sum(axis=2), maps.maps.sum(axis=(2, 3)), atol=1e-4)
    np.testing.assert_allclose(found.margin, maps.margin, atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_neighbours_are_the_nearest_of_each_class(spots, head):
    X, y, _ = spots
    clf = fitted(X, y, head)
    found = neighbours(clf, X[:6], X[6:], y[6:], n_neighbors=4)
    assert found.labels.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(found.predicted, clf.predict(X[:6]))
    values = contribute(clf, clf.transform(X)).values
    values = (values - values.mean(axis=1, keepdims=True)).reshape(48, -1)
    for i, k in np.ndindex(6, 3):
        candidates = np.flatnonzero(y[6:] == found.labels[k])
        away = np.linalg.norm(values[6:][candidates] - values[i], axis=1)
        np.testing.assert_allclose(found.distances[i, k], np.sort(away)[:4], atol=1e-4)
        np.testing.assert_allclose(
            np.linalg.norm(values[6:][found.indices[i, k]] - values[i], axis=1),
            found.distances[i, k],
            atol=1e-4,
        )
        assert set(found.indices[i, k]) <= set(candidates.tolist())


def test_images_that_the_head_decides_on_alike_are_near_whatever_else_differs(spots):
    X, _, _ = spots
    y = np.array(["a", "b"])[(np.arange(48) % 3 == 0).astype(int)]
    clf = fitted(X, y, "linear")
    features = clf.transform(X)
    head = clf.classifier_
    # Features without a coefficient do not count.
    head[-1].coef_[:, 1:] = 0
    found = neighbours(clf, X[:4], X[4:], y[4:], n_neighbors=1)
    scaled = head[0].transform(features)[:, 0] * head[-1].coef_[0, 0]
    for i, k in np.ndindex(4, 2):
        away = np.abs(scaled[4:] - scaled[i])[y[4:] == found.labels[k]]
        assert found.distances[i, k, 0] == pytest.approx(away.min(), abs=1e-5)


def test_images_of_the_same_subject_are_left_out(spots):
    X, y, groups = spots
    clf = fitted(X, y)
    alone = neighbours(clf, X[:9], X, y, n_neighbors=1)
    assert (alone.distances.min(axis=(1, 2)) < 1e-6).all()  # each is its own neighbour
    found = neighbours(clf, X[:9], X, y, groups=groups[:9], groups_train=groups)
    assert (groups[found.indices] != groups[:9, np.newaxis, np.newaxis]).all()
    by_sequence = neighbours(
        clf, ImageSequence(X[:9], groups=groups[:9]), ImageSequence(X, groups=groups), y
    )
    np.testing.assert_array_equal(by_sequence.indices, found.indices)
    numbers = np.arange(48) // 8
    with pytest.raises(SplitError, match=r"are strings.*cannot be compared"):
        neighbours(clf, X[:9], X, y, groups=numbers[:9].astype(str), groups_train=numbers)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_classifiers_that_return_frames_are_explained(spots, library):
    pytest.importorskip(library, reason=f"{library} is an optional output of scikit-learn")
    X, y, _ = spots
    expected = neighbours(fitted(X, y), X[:3], X, y)
    importance = feature_importance(fitted(X, y), X[:9], y[:9])
    with config_context(transform_output=library):
        clf = fitted(X, y)
        np.testing.assert_allclose(neighbours(clf, X[:3], X, y).distances, expected.distances)
        found = feature_importance(clf, X[:9], y[:9])
        np.testing.assert_allclose(found.contributions, importance.contributions, atol=1e-7)


def test_class_with_too_few_images_of_other_subjects_has_no_neighbours(spots):
    X, y, groups = spots
    clf = fitted(X, y)
    few = np.r_[0, 3, 1, 12, 15, 18]  # of a: two of the subject itself and three of others
    found = neighbours(
        clf, X[6:7], X[few], y[few], groups=groups[6:7], groups_train=groups[few], n_neighbors=4
    )
    assert (found.indices[0, 0] >= 0).tolist() == [True, True, True, False]
    assert (found.indices[0, 1:] == -1).all()
    assert np.isnan(found.distances[0, 0, 3])
    assert found.names[0, 1, 0] == ""
    assert set(found.names[0, 0, :3]) == {"position 3", "position 4", "position 5"}
    assert found.take(0).indices.shape == (1, 3, 4)


def test_neighbours_need_one_margin_and_known_labels(spots):
    X, y, groups = spots
    forest = HybridClassifier(tiny_featurizer(), RandomForestClassifier(3), random_state=0)
    with pytest.raises(UnsupportedInputError, match="the head is RandomForestClassifier"):
        neighbours(forest.fit(X, y), X[:1], X, y)
    with pytest.raises(UnsupportedInputError, match="decision of a LogisticRegression is not"):
        neighbours(LogisticRegression(), X[:1], X, y)
    clf = fitted(X, y)
    with pytest.raises(UnsupportedInputError, match=r"y_train has the classes \['z'\]"):
        neighbours(clf, X[:1], X, np.where(y == "a", "z", y))
    with pytest.raises(UnsupportedInputError, match="X_train has 48, y_train has 3"):
        neighbours(clf, X[:1], X, y[:3])
    with pytest.raises(UnsupportedInputError, match=r"subjects of X are known.*give groups_train"):
        neighbours(clf, X[:1], X, y, groups=groups[:1])
    with pytest.raises(UnsupportedInputError, match=r"subjects of X_train are known.*give groups,"):
        neighbours(clf, X[:1], X, y, groups_train=groups)
    with pytest.raises(ValueError, match="n_neighbors == 0, must be >= 1"):
        neighbours(clf, X[:1], X, y, n_neighbors=0)
