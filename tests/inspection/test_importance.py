"""What decides over a set of images, and where."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from xgboost import XGBClassifier

from common.networks import tiny_featurizer
from effboost import HybridClassifier, LinearBoostedClassifier
from effboost.exceptions import UnsupportedInputError
from effboost.inspection import feature_importance, hybrid_attribution
from effboost.inspection._importance import _locate, find_patches

PLACES = [(4, 4), (4, 20), (20, 4), (20, 20)]


@pytest.fixture(scope="module")
def spots():
    """Dim noise with one bright spot in a known corner, whose colour is the class."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 30, (60, 24, 24, 3), dtype=np.uint8)
    corner = rng.integers(0, 4, 60)
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    for i in range(60):
        row, column = PLACES[corner[i]]
        X[i, row - 4 : row + 4, column - 4 : column + 4, i % 3] = 255
    return X, y, corner, np.array([f"S{i // 6}" for i in range(60)])


def fitted(X, y, head=None, **params):
    settings = {"extra_features": ((-3, "avg"), (-1, "std"), (-3, "std")), "views": "dihedral"}
    head = LinearBoostedClassifier() if head is None else head
    featurizer = tiny_featurizer(**(settings | params))
    return HybridClassifier(featurizer, head, random_state=0).fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_contributions_add_up_to_the_margin_of_the_class(spots, n_classes):
    X, y, _, groups = spots
    keep = np.isin(y, ["a", "b", "c"][:n_classes])
    X, y, groups = X[keep], y[keep], groups[keep]
    clf = fitted(X, y)
    found = feature_importance(clf, X, y, groups=groups)
    maps = hybrid_attribution(clf, X)
    # Of the first stage 6 channels, of the second 8, and the same 8 as the network's own features.
    assert found.stages == ("features.2", "features.5", "")
    assert np.bincount(found.stage).tolist() == [6, 8, 8]
    assert found.channel[found.stage == 1].tolist() == list(range(8))
    codes = np.searchsorted(clf.classes_, y)
    sums = maps.maps.sum(axis=(2, 3))
    own = sums[:, 0] * (2 * codes - 1) if n_classes == 2 else sums[np.arange(len(y)), codes]
    np.testing.assert_allclose(found.contributions.sum(axis=1), own, atol=1e-5)
    for i, layer in enumerate(found.stages):
        sums = maps.stages[layer].sum(axis=(2, 3))
        own = sums[:, 0] * (2 * codes - 1) if n_classes == 2 else sums[np.arange(len(y)), codes]
        of_stage = found.contributions[:, found.stage == i].sum(axis=1)
        np.testing.assert_allclose(of_stage, own, atol=1e-5)
    assert found.is_probability


def test_shares_of_stages_are_means_over_classes_and_subjects(spots):
    X, y, _, groups = spots
    found = feature_importance(fitted(X, y), X, y, groups=groups)
    size = np.abs(found.contributions)
    np.testing.assert_allclose(found.by_channel(), size.mean(axis=0))
    names, shares = found.by_stage()
    assert names.tolist() == ["all"]
    expected = size[:, found.stage == 0].sum() / size.sum()
    assert shares[0, 0] == pytest.approx(expected, rel=1e-5)
    for of_image in (y, groups):
        names, shares = found.by_stage(of_image)
        assert names.tolist() == sorted(set(of_image))
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        rows = size[of_image == names[1]]
        expected = rows[:, found.stage == 2].sum() / rows.sum()
        assert shares[1, 2] == pytest.approx(expected, rel=1e-5)


def test_classes_are_the_predicted_ones_by_default(spots):
    X, y, _, _ = spots
    clf = fitted(X, y)
    found = feature_importance(clf, X[:9])
    np.testing.assert_array_equal(found.y, clf.predict(X[:9]))
    assert found.groups is None


@pytest.mark.parametrize("head", [None, XGBClassifier(n_estimators=10)], ids=["both", "trees"])
def test_patches_show_what_drives_a_channel(spots, head):
    X, y, corner, groups = spots
    clf = fitted(X, y, head)
    found = feature_importance(clf, X, y, groups=groups)
    patches = find_patches(clf, X, found, n_channels=2, n_patches=4)
    assert {one.label for one in patches} == {"a", "b", "c"}
    hits = []
    for one in patches:
        mean = found.contributions[y == one.label].mean(axis=0)
        assert mean[one.channel] >= np.sort(mean)[-2]
        assert one.grid == ((12, 12) if found.stage[one.channel] == 0 else (6, 6))
        assert len({groups[i] for i in one.images}) == len(one.images) == 4
        given = found.contributions[one.images, one.channel]
        assert (np.diff(given) <= 0).all()
        assert (given > 0).all()
        for i, (left, top, width, height), crop in zip(
            one.images, one.boxes, one.crops, strict=True
        ):
            assert y[i] == one.label
            assert width == height == 24 // one.grid[0]
            assert crop[0] <= left <= left + width <= crop[2]
            assert crop[1] <= top <= top + height <= crop[3]
            row, column = PLACES[corner[i]]
            middle = top + height / 2, left + width / 2
            hits.append(max(abs(middle[0] - row), abs(middle[1] - column)) <= 6)
        np.testing.assert_array_equal(one.pictures[0], X[one.images[0]])
    # A quarter by chance. Channels that the spot of another class would activate speak for a class
    # anywhere else.
    assert np.mean(hits) > 0.5


def test_what_is_usual_at_a_position_is_not_marked(spots):
    X, y, corner, _ = spots
    X = X.copy()
    X[:, 10:14] = 255  # a bright bar in all pictures
    clf = fitted(X, y, views="original")
    found = feature_importance(clf, X, y)
    hits = [
        np.abs(np.array([top + height / 2, left + width / 2]) - PLACES[corner[i]]).max() <= 6
        for one in find_patches(clf, X, found, n_channels=2)
        for i, (left, top, width, height) in zip(one.images, one.boxes, strict=True)
    ]
    assert np.mean(hits) > 0.8


def test_crops_stay_in_the_picture():
    assert _locate(0, 0, (7, 7), (224, 224)) == ((0, 0, 32, 32), (0, 0, 96, 96))
    assert _locate(6, 3, (7, 7), (224, 224)) == ((96, 192, 32, 32), (64, 128, 160, 224))
    box, crop = _locate(27, 0, (28, 28), (224, 224))
    assert box == (0, 216, 8, 8)
    assert crop == (0, 168, 56, 224)
    assert _locate(0, 0, (1, 1), (24, 24)) == ((0, 0, 24, 24), (0, 0, 24, 24))


def test_images_without_subjects_have_patches_of_the_largest_contributions(spots):
    X, y, _, _ = spots
    clf = fitted(X, y)
    found = feature_importance(clf, X, y)
    for one in find_patches(clf, X, found, n_channels=1, n_patches=3):
        of_class = found.contributions[y == one.label, one.channel]
        expected = np.sort(of_class)[::-1][:3]
        np.testing.assert_allclose(found.contributions[one.images, one.channel], expected)


def test_importance_needs_one_margin_and_known_classes(spots):
    X, y, _, groups = spots
    clf = fitted(X, y)
    with pytest.raises(UnsupportedInputError, match=r"y has the classes \['z'\]"):
        feature_importance(clf, X, np.where(y == "a", "z", y))
    with pytest.raises(UnsupportedInputError, match="lengths differ"):
        feature_importance(clf, X, y[:3], groups=groups)
    forest = fitted(X, y, RandomForestClassifier(3))
    with pytest.raises(UnsupportedInputError, match="the head is RandomForestClassifier"):
        feature_importance(forest, X, y)
