"""What a model knows about its training images, in files."""

import numpy as np
import pytest
import torch

from common.networks import tiny_featurizer
from effboost import HybridClassifier
from effboost._utils.refusal import RefusedError
from effboost.persistence._familiarity import (
    build_familiarity,
    describe_familiarity,
    list_familiarity_tensors,
)


@pytest.fixture
def described(pixels, three_classes):
    clf = HybridClassifier(tiny_featurizer(), random_state=0).fit(pixels, three_classes)
    return describe_familiarity(clf.familiarity_)


def test_tensors_are_those_that_are_expected(described):
    values, tensors = described
    expected = list_familiarity_tensors(values, 8)
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    assert found == expected
    assert list_familiarity_tensors(None, 8) == {}
    assert build_familiarity(None, {}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 0},
        {"images": 2**30},
        {"components": [1]},
        {"components": [9, 1]},
        {"components": [1, True]},
        {"components": [1, 19]},
        {"more": 1},
    ],
    ids=str,
)
def test_impossible_numbers_are_refused(change, described):
    with pytest.raises(RefusedError, match="familiarity"):
        list_familiarity_tensors(described[0] | change, 8)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("features.scale", torch.zeros_like, "not all positive"),
        ("colours.rest", torch.neg, "not all positive"),
        ("colours.scores", torch.neg, "ascending"),
        ("features.scores", lambda scores: scores.flip(0), "ascending"),
    ],
)
def test_impossible_values_are_refused(name, make, reason, described):
    values, tensors = described
    key = f"familiarity.{name}"
    with pytest.raises(RefusedError, match=reason):
        build_familiarity(values, tensors | {key: make(tensors[key])})


def test_damaged_ranges_are_refused(described):
    values, tensors = described
    for ranges in ([], [[1, 2], [3, 4]], [["a"] * 5] * 2, np.full((2, 5), np.inf).tolist()):
        with pytest.raises(RefusedError, match="is damaged"):
            build_familiarity(values | {"ranges": ranges}, tensors)
