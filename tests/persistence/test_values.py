import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effboost import Augmentation
from effboost._utils.refusal import RefusedError
from effboost.persistence._values import NotPlainError, decode, encode

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.integers(0, 255).map(np.uint8)
    | st.floats(width=32, allow_nan=False).map(np.float32)
    | st.just(Augmentation(rotation=7))
    | st.just(Path("a/b"))
)
KEYS = st.text(max_size=3) | st.integers() | st.booleans()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


def through_json(value):
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)), "it")


def types(value):
    if isinstance(value, dict):
        return [(types(key), types(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [type(value), *map(types, value)]
    return type(value)


@given(VALUES)
def test_values_keep_their_types(value):
    again = through_json(value)
    assert again == value
    assert types(again) == types(value)


def test_nan_is_restored():
    assert math.isnan(through_json(math.nan))
    assert math.isnan(through_json(np.float64("nan")))


@pytest.mark.parametrize(
    "labels", [["a", "bcé"], [1, 2**62], [True, False], [0.5, np.inf], np.array(["a", "b"], object)]
)
def test_arrays_keep_their_dtype(labels):
    array = np.asarray(labels)
    again = through_json(array)
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


class Strange(Augmentation):
    pass


@pytest.mark.parametrize(
    "value", [print, Strange(), object(), {"a": [print]}, torch.nn.Linear, np.zeros((2, 2)), {1, 2}]
)
def test_code_and_unknown_classes_are_refused(value):
    with pytest.raises(NotPlainError):
        encode(value)


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"a": 1, "b": 2},
        {"eval": "1"},
        {"float": "1"},
        {"float": []},
        {"tuple": 3},
        {"dict": [[1]]},
        {"dict": [[[], 1]]},
        {"path": 3},
        {"path": None},
        {"scalar": ["<f8"]},
        {"scalar": ["O8", "x"]},
        {"array": ["<i1", [300]]},
        {"array": ["<U1", ["ab"]]},
        {"array": ["<M8[s]", [1]]},
        {"array": ["(1000000,)<f8", [1]]},
        {"array": ["<U1000000000", ["a"]]},
        {"array": ["|O", [[]]]},
        {"Augmentation": []},
        {"Augmentation": {"rotation": "x"}},
        {"Augmentation": {"factory": 1}},
    ],
)
def test_other_descriptions_are_refused(described):
    with pytest.raises(RefusedError, match=r"^it "):
        decode(described, "it")
