import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from effboost import ImageSequence
from effboost.exceptions import SplitError
from effboost.model_selection import SubjectKFold, subject_folds


@pytest.mark.filterwarnings("ignore:The least populated class")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4)), min_size=6, max_size=20),
    st.integers(2, 4),
    st.integers(0, 9),
)
def test_folds_match_subject_folds_with_groups_of_images(kinds, n_splits, seed):
    y = np.concatenate([[kind] * count for kind, count in kinds])
    groups = np.concatenate([[f"S{i}"] * count for i, (_, count) in enumerate(kinds)])
    images = ImageSequence(np.zeros((len(y), 8, 8), np.uint8), groups=groups)
    splitter = SubjectKFold(n_splits, random_state=seed)
    try:
        expected = subject_folds(y, groups, n_splits, random_state=seed)
    except SplitError:
        with pytest.raises(SplitError):
            list(splitter.split(images, y))
        return
    for folds in (splitter.split(images, y), splitter.split(np.zeros(len(y)), y, groups)):
        for (train, test), (train_, test_) in zip(folds, expected, strict=True):
            np.testing.assert_array_equal(train, train_)
            np.testing.assert_array_equal(test, test_)
            assert not set(groups[train]) & set(groups[test])


def test_groups_override_those_of_the_images(pixels, subjects):
    images = ImageSequence(pixels, groups=subjects)
    y, groups = np.arange(24) % 2, np.arange(24) // 6
    for train, test in SubjectKFold(2).split(images, y, groups):
        assert not set(groups[train]) & set(groups[test])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"y": [0, 1] * 12}, "subjects are not known"),
        ({"groups": [0, 1] * 12}, "y is required"),
    ],
)
def test_missing_groups_or_labels_raise(pixels, given, match):
    with pytest.raises(SplitError, match=match):
        list(SubjectKFold().split(pixels, **given))


def test_splitter_has_scikit_learn_interface():
    splitter = SubjectKFold(3, random_state=1)
    assert splitter.get_n_splits() == 3
    assert repr(splitter) == "SubjectKFold(n_splits=3, random_state=1)"
    assert clone(splitter, safe=False).n_splits == 3
