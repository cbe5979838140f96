import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from effboost._heads.feature_distance import (
    MAX_IMAGES,
    FeatureDistance,
    _find_components,
    choose_rows,
)


def draw(n, seed=0, d=40, shift=0.0):
    """Features of two classes, and of three images of each subject, with a shared deviation."""
    rng = np.random.default_rng(seed)
    target, groups = np.arange(n) % 2, np.arange(n) // 3
    own = rng.normal(size=(n // 3 + 1, d))[groups]
    return rng.normal(size=(n, d)) + own + 2 * target[:, None] + shift, target, groups


def test_p_values_of_new_subjects_are_valid():
    learnt = FeatureDistance.learn(*draw(150))
    p_values = learnt.p_values(draw(900, seed=1)[0])
    for alpha in (0.05, 0.1, 0.3):
        assert (p_values <= alpha).mean() <= 1.5 * alpha
    assert 0.35 < p_values.mean() < 0.75


def test_distant_features_have_the_smallest_p_value():
    learnt = FeatureDistance.learn(*draw(90))
    p_values = learnt.p_values(draw(20, seed=1, shift=30)[0])
    np.testing.assert_allclose(p_values, 1 / 91)


def test_what_lies_between_two_classes_is_unfamiliar():
    features, target, groups = draw(90, d=5)
    features[target == 1] += 20
    between = features[target == 0] + 11
    alone = FeatureDistance.learn(features, target, groups)
    as_one = FeatureDistance.learn(features, np.zeros(90), groups)
    assert np.median(alone.p_values(between)) < 0.05 < np.median(as_one.p_values(between))


def test_subjects_are_held_out():
    """Images of one subject are alike: among others of theirs, they would seem too near."""
    features, target, groups = draw(90)
    by_subject = FeatureDistance.learn(features, target, groups)
    by_image = FeatureDistance.learn(features, target, None)
    assert np.median(by_subject.scores) > np.median(by_image.scores)


def test_the_same_is_learnt_each_time():
    first, second = (FeatureDistance.learn(*draw(60)) for _ in range(2))
    for name in FeatureDistance.NAMES:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(
    ("n", "groups"), [(9, None), (30, np.zeros(30))], ids=["few images", "one subject"]
)
def test_too_little_to_learn_from(n, groups):
    features, target, _ = draw(n)
    assert FeatureDistance.learn(features, target, groups) is None


@settings(max_examples=25, deadline=None)
@given(
    st.integers(10, 40),
    st.integers(1, 6),
    st.sampled_from([0.0, 1e-8, 1.0, 1e6]),
    st.booleans(),
    st.integers(0, 5),
)
def test_any_features_give_p_values(n, d, size, equal, seed):
    rng = np.random.default_rng(seed)
    features = size * rng.normal(size=(1 if equal else n, d)) * np.ones((n, 1))
    learnt = FeatureDistance.learn(features, rng.integers(0, 2, n), None)
    p_values = learnt.p_values(np.concatenate([features, features + 1, -3 * features]))
    assert np.isfinite(p_values).all()
    assert (p_values >= 1 / (n + 1) - 1e-9).all()
    assert (p_values <= 1).all()


def test_p_values_fall_with_the_distance_and_without_jumps():
    learnt = FeatureDistance.learn(*draw(60))
    direction = np.ones(40)
    away = learnt.p_values(np.linspace(0, 60, 4000)[:, None] * direction)
    far = away[np.argmin(np.abs(learnt.measure(np.linspace(0, 60, 4000)[:, None] * direction))) :]
    assert (np.diff(far) <= 1e-12).all()
    scores = learnt.scores.astype(float)
    steps = learnt.steps()[0]
    np.testing.assert_array_equal(steps, scores)


def test_p_values_are_those_of_conformal_prediction_but_just_behind_a_score():
    learnt = FeatureDistance.learn(*draw(90))
    rows = draw(600, seed=1)[0]
    n_as_large = (learnt.scores[None] >= learnt.measure(rows)[:, None]).sum(axis=1)
    surplus = learnt.p_values(rows) - (1 + n_as_large) / 91
    assert (surplus > -1e-9).all()
    assert np.mean(surplus < 1e-9) > 0.8


def test_many_images_are_sampled():
    assert len(choose_rows(100)) == 100
    chosen = choose_rows(3 * MAX_IMAGES)
    assert len(np.unique(chosen)) == MAX_IMAGES
    np.testing.assert_array_equal(chosen, choose_rows(3 * MAX_IMAGES))


@pytest.mark.parametrize("shape", [(60, 300), (300, 60), (700, 600)])
def test_components_are_those_of_pca(shape):
    rng = np.random.default_rng(0)
    strong = rng.normal(size=(shape[0], 4)) * [40, 30, 20, 10] @ rng.normal(size=(4, shape[1]))
    rows = (strong + rng.normal(size=shape)).astype(np.float32)
    rows -= rows.mean(axis=0)
    variances, components = _find_components(rows, 4)
    expected = PCA(4, svd_solver="full").fit(rows.astype(float))
    np.testing.assert_allclose(variances, expected.explained_variance_, rtol=1e-3)
    agreement = np.abs((components.T * expected.components_).sum(axis=1))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)


def test_features_without_variance_have_components_of_weight_zero():
    variances, components = _find_components(np.zeros((20, 90), np.float32), 5)
    assert not variances.any()
    assert not components.any()


@pytest.mark.parametrize("n_kinds", [1, 2, 3])
def test_components_of_equal_rows_are_no_longer_than_one(n_kinds):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kinds = rng.normal(size=(n_kinds, 200)).astype(np.float32)
        rows = kinds[rng.integers(0, n_kinds, 52)]
        _, components = _find_components(rows - rows.mean(axis=0), 13)
        assert np.linalg.norm(components.astype(float), axis=0).max() < 1 + 1e-5
