"""Distances to the training images are learnt once for the same features, labels and subjects."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from effboost import Cache
from effboost._extraction.distance_cache import learn_distance_cached
from effboost._heads.feature_distance import FeatureDistance

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(40, 6)).astype(np.float32)
TARGET = np.arange(40) % 2
SUBJECTS = np.arange(40) // 4


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def assert_equal(found, expected):
    for name in FeatureDistance.NAMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("groups", [None, SUBJECTS], ids=["no groups", "groups"])
def test_a_stored_distance_is_the_one_that_was_learnt(cache, groups, monkeypatch):
    expected = FeatureDistance.learn(FEATURES, TARGET, groups)
    assert_equal(learn_distance_cached(cache, FEATURES, TARGET, groups), expected)
    monkeypatch.setattr(FeatureDistance, "_fit", None)
    found = learn_distance_cached(cache, FEATURES, TARGET, groups)
    assert_equal(found, expected)
    np.testing.assert_array_equal(found.p_values(FEATURES), expected.p_values(FEATURES))


def test_another_argument_has_another_entry(cache):
    changed = FEATURES.copy()
    changed[3, 2] += 1e-3
    calls = [
        (FEATURES, TARGET, SUBJECTS),
        (changed, TARGET, SUBJECTS),
        (FEATURES[:, ::-1], TARGET, SUBJECTS),
        (FEATURES, 1 - TARGET, SUBJECTS),
        (FEATURES, TARGET, None),
        (FEATURES, TARGET, SUBJECTS // 2),
        (FEATURES[:36], TARGET[:36], SUBJECTS[:36]),
    ]
    for n, call in enumerate(calls, start=1):
        assert_equal(learn_distance_cached(cache, *call), FeatureDistance.learn(*call))
        assert len(cache) == n
    named = np.array([f"patient {i:02}" for i in SUBJECTS], dtype=object)
    learn_distance_cached(cache, FEATURES, TARGET, named)
    assert len(cache) == len(calls)  # the same subjects under other names


def test_nothing_is_stored_where_nothing_can_be_learnt(cache):
    assert learn_distance_cached(cache, FEATURES[:5], TARGET[:5], None) is None
    assert learn_distance_cached(cache, FEATURES, TARGET, np.zeros(40)) is None
    assert len(cache) == 0


def broken(arrays, **changes):
    return save(arrays | {name: np.ascontiguousarray(a) for name, a in changes.items()})


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: b"",
        lambda arrays: b"\xff" * 100,
        lambda arrays: save({}),
        lambda arrays: save({k: v for k, v in arrays.items() if k != "rest"}),
        lambda arrays: broken(arrays, more=np.zeros(1, np.float32)),
        lambda arrays: broken(arrays, center=arrays["center"][:-1]),
        lambda arrays: broken(arrays, class_means=arrays["class_means"][:1]),
        lambda arrays: broken(arrays, weights=arrays["weights"].astype(np.float64)),
        lambda arrays: broken(arrays, scores=np.full_like(arrays["scores"], np.nan)),
    ],
    ids=["empty", "noise", "no arrays", "no rest", "more", "narrow", "classes", "doubles", "nan"],
)
def test_an_entry_that_cannot_be_a_distance_is_replaced(cache, damage):
    expected = learn_distance_cached(cache, FEATURES, TARGET, SUBJECTS)
    entries = []

    class Damaged(Cache):
        def get(self, keys):
            found = super().get(keys)
            entries.extend(found)
            return {key: damage(load(value)) for key, value in found.items()}

    damaged = Damaged(cache.folder)
    assert_equal(learn_distance_cached(damaged, FEATURES, TARGET, SUBJECTS), expected)
    assert len(entries) == len(cache) == 1
