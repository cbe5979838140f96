import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from effboost.exceptions import SplitError
from effboost.model_selection import aggregate_by_subject, one_image_per_subject


@st.composite
def predictions(draw):
    """Class probabilities of some images, and their subjects."""
    shape = (draw(st.integers(1, 30)), draw(st.integers(1, 4)))
    weights = draw(hnp.arrays(np.float64, shape, elements=st.floats(0.01, 1)))
    names = draw(
        st.sampled_from([st.integers(-5, 5), st.sampled_from(["S1", "S10", "S2", "s1", "ß"])])
    )
    groups = draw(st.lists(names, min_size=shape[0], max_size=shape[0]))
    return weights / weights.sum(axis=1, keepdims=True), groups


@settings(max_examples=80, deadline=None)
@given(predictions())
def test_means_are_those_of_pandas_in_sorted_order_and_sum_to_one(images):
    probabilities, groups = images
    subjects, means = aggregate_by_subject(probabilities, groups)
    expected = pd.DataFrame(probabilities).groupby(np.array(groups)).mean()
    assert subjects.tolist() == expected.index.tolist() == sorted(set(groups))
    np.testing.assert_allclose(means, expected.to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(means.sum(axis=1), 1, rtol=1e-12)


def test_subjects_come_sorted_whatever_the_order_of_the_images():
    probabilities = np.array([[0.2, 0.8], [1.0, 0.0], [0.4, 0.6], [0.0, 1.0]])
    subjects, means = aggregate_by_subject(probabilities, ["S2", "S3", "S2", "S1"])
    assert subjects.tolist() == ["S1", "S2", "S3"]
    np.testing.assert_allclose(means, [[0.0, 1.0], [0.3, 0.7], [1.0, 0.0]])


def test_float32_probabilities_are_averaged_in_float64():
    probabilities = np.full((3000, 2), 0.1, dtype=np.float32)
    _, means = aggregate_by_subject(probabilities, np.zeros(3000, dtype=int))
    assert means.dtype == np.float64
    np.testing.assert_allclose(means, [[np.float64(np.float32(0.1))] * 2], rtol=1e-12)


@pytest.mark.parametrize(
    ("given_as", "groups"),
    [
        (pd.DataFrame, pd.Series(["b", "a", "b"], index=[7, 8, 9])),
        (list, ("b", "a", "b")),
        (np.asarray, np.array(["b", "a", "b"], dtype=object)),
    ],
    ids=["pandas", "list", "object"],
)
def test_every_array_like_is_taken(given_as, groups):
    subjects, means = aggregate_by_subject(given_as([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]), groups)
    assert subjects.tolist() == ["a", "b"]
    assert means.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_what_went_in_is_left_as_it_was():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5]])
    aggregate_by_subject(probabilities, ["S1", "S1"])
    assert probabilities.tolist() == [[0.9, 0.1], [0.5, 0.5]]


@pytest.mark.parametrize("groups", [["S1"], ["S1"] * 3, []])
def test_lengths_that_differ_are_refused(groups):
    with pytest.raises(ValueError, match=rf"inconsistent numbers of samples.*2, {len(groups)}\]"):
        aggregate_by_subject([[0.9, 0.1], [0.5, 0.5]], groups)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(0, 99))
def test_each_subject_gives_one_image(groups, seed):
    drawn = one_image_per_subject(groups, seed)
    assert sorted(np.array(groups)[drawn]) == sorted(set(groups))
    assert np.all(np.diff(drawn) > 0)
    assert np.array_equal(drawn, one_image_per_subject(groups, np.random.RandomState(seed)))


def test_each_image_of_a_subject_has_the_same_chance():
    groups = np.repeat(["S1", "S2", "S3"], [1, 4, 3])
    rng = np.random.RandomState(0)
    drawn = np.concatenate([one_image_per_subject(groups, rng) for _ in range(2000)])
    shares = np.bincount(drawn, minlength=8) / 2000
    np.testing.assert_allclose(shares, [1, *[1 / 4] * 4, *[1 / 3] * 3], atol=0.04)


def test_images_without_a_subject_are_refused():
    with pytest.raises(SplitError, match="groups is missing for 1 images, the first at position 1"):
        one_image_per_subject(["S1", None])
