"""Boosters in UBJ, changed in ways that XGBoost would crash on or believe."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xgboost import XGBClassifier, XGBRegressor

from effboost._utils.refusal import RefusedError
from effboost.persistence._boosters import build_booster, check_booster, describe_booster
from effboost.persistence._ubjson import parse_ubjson


def write_ubjson(value):
    """The opposite of `parse_ubjson`."""
    if isinstance(value, dict):
        parts = [_length(key.encode()) + write_ubjson(item) for key, item in value.items()]
        return b"{" + b"".join(parts) + b"}"
    if isinstance(value, np.ndarray):
        codes = {"i1": b"i", "u1": b"U", "i2": b"I", "i4": b"l", "i8": b"L", "f4": b"d", "f8": b"D"}
        code = codes[value.dtype.str[1:]]
        return b"[$" + code + b"#" + _length(None, len(value)) + value.tobytes()
    if isinstance(value, list):
        return b"[#" + _length(None, len(value)) + b"".join(map(write_ubjson, value))
    if isinstance(value, str):
        return b"S" + _length(value.encode())
    if value is None or isinstance(value, bool):
        return {None: b"Z", True: b"T", False: b"F"}[value]
    return (
        b"L" + struct.pack(">q", value)
        if isinstance(value, int)
        else struct.pack(">cd", b"D", value)
    )


def _length(text, length=None):
    return b"L" + struct.pack(">q", len(text) if length is None else length) + (text or b"")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_what_was_written_is_read(value):
    assert parse_ubjson(write_ubjson(value)) == value


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_other_bytes_are_refused_or_an_object(content):
    try:
        value = parse_ubjson(b"{L" + bytes(7) + b"\1a" + content)
    except RefusedError:
        return
    assert value.keys() >= {"a"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b"[#" + _length(None, 0), "is no object"),
        (write_ubjson({"a": 1}) + b"x", "behind the booster's end"),
        (b"{" + (_length(b"a") + b"T") * 2 + b"}", "a field twice"),
        (b"{" + _length(b"a") + b"[$d#L" + b"\x7f" + b"\xff" * 7, "do not fit into it"),
        (b"{" + _length(b"a") + b"[$S#" + _length(None, 0) + b"}", "array of an unknown type"),
        (b"{" + _length(b"a") + b"H" + _length(b"9" * 9) + b"}", "damaged at byte"),
        ((b"{" + _length(b"a")) * 1000, "nested too deeply"),
    ],
)
def test_hostile_ubjson_is_refused(content, message):
    with pytest.raises(RefusedError, match=message):
        parse_ubjson(content)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 5)).astype(np.float32), rng.integers(0, 3, 80)
    return XGBClassifier(n_estimators=2, max_depth=3, n_jobs=1).fit(X, y)


def changed(fitted, change):
    """The booster's bytes after a change to its plain structure."""
    model = parse_ubjson(bytes(fitted.get_booster().save_raw("ubj")))
    change(model["learner"])
    return write_ubjson(model)


def tree(learner):
    return learner["gradient_booster"]["model"]["trees"][0]


def put(name, place, value):
    def change(learner):
        array = tree(learner)[name].copy()
        array[place] = value
        tree(learner)[name] = array

    return change


def test_an_unchanged_booster_passes(fitted):
    check_booster(changed(fitted, lambda learner: None))


CHANGES = {
    "child far away": (put("left_children", 0, 10**6), "children are none"),
    "child before": (put("left_children", 1, 0), "children are none"),
    "circle": (put("right_children", 0, 0), "children are none"),
    "negative child": (put("left_children", 0, -7), "children are none"),
    "leaf with a child": (put("right_children", -1, 1), "children are none"),
    "shared child": (lambda t: put("right_children", 0, 1)(t), "two parents"),
    "parents in a circle": (put("parents", -1, 2**31 - 2), "two parents|without a parent"),
    "root with a parent": (put("parents", 0, 1), "without a parent"),
    "feature far away": (put("split_indices", 0, 10**6), "feature that there is not"),
    "negative feature": (put("split_indices", 0, -1), "feature that there is not"),
    "category": (put("split_type", 0, 1), "categories"),
    "direction": (put("default_left", 0, 7), "missing values nowhere"),
    "threshold": (put("split_conditions", 0, np.nan), "NaN or infinity"),
    "short array": (
        lambda x: tree(x).update(split_conditions=tree(x)["split_conditions"][:-1]),
        "split_conditions; .* belong to it",
    ),
    "wrong type": (
        lambda x: tree(x).update(split_indices=tree(x)["base_weights"]),
        "split_indices are no numbers",
    ),
    "no nodes": (lambda x: tree(x).update(left_children=np.zeros(0, ">i4")), "belong to it"),
    "other count": (
        lambda x: tree(x)["tree_param"].update(num_nodes="99999999"),
        "counts other nodes",
    ),
    "count that is none": (
        lambda x: tree(x)["tree_param"].update(num_nodes="-1"),
        "num_nodes is no number",
    ),
    "targets": (lambda x: tree(x)["tree_param"].update(size_leaf_vector="9"), "several targets"),
    "unknown field": (lambda x: tree(x).update(more=1), "has a field 'more'"),
    "class of a tree": (
        lambda x: x["gradient_booster"]["model"].update(tree_info=[0, 1, 2, 0, 1, 9]),
        "votes for a class",
    ),
    "number of trees": (
        lambda x: x["gradient_booster"]["model"]["gbtree_model_param"].update(num_trees="7"),
        "counts other trees",
    ),
    "rounds": (
        lambda x: x["gradient_booster"]["model"].update(iteration_indptr=[0, 900, 6]),
        "do not add up",
    ),
    "kind": (lambda x: x["gradient_booster"].update(name="plugin"), "is of kind 'plugin'"),
    "objective": (lambda x: x["objective"].update(name="rank:ndcg"), "'rank:ndcg' is unknown"),
    "classes": (
        lambda x: x["objective"]["softmax_multiclass_param"].update(num_class="9"),
        "counts other classes",
    ),
    "many classes": (
        lambda x: x["learner_model_param"].update(num_class="999999999"),
        "base score|counts other classes",
    ),
    "features": (
        lambda x: x["learner_model_param"].update(num_feature="2"),
        "counts other nodes or features",
    ),
    "base score": (
        lambda x: x["learner_model_param"].update(base_score="__import__('os')"),
        "base score is no number",
    ),
    "best round": (lambda x: x["attributes"].update(best_iteration="99"), "behind its last"),
    "names": (lambda x: x.update(feature_names=["a"] * 5), "names or types of features"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_hostile_boosters_are_refused(change, message, fitted):
    with pytest.raises(RefusedError, match=message):
        check_booster(changed(fitted, change))


def test_regressors_and_categories_are_refused_when_saving(fitted):
    with pytest.raises(RefusedError, match="XGBRegressor cannot be a head"):
        describe_booster(XGBRegressor())
    X = np.arange(40, dtype=np.float32)[:, None] % 4
    model = XGBClassifier(n_estimators=1, enable_categorical=True, feature_types=["c"], n_jobs=1)
    with pytest.raises(RefusedError, match=r"names or types|categories"):
        describe_booster(model.fit(X, X[:, 0] == 2))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"__class__": 1}, "whose names are none"),
        ({"_Booster": 1}, "whose names are none"),
        ({"n_jobs": "many"}, "n_jobs='many'"),
    ],
)
def test_hostile_parameters_are_refused(params, message, fitted):
    description, content, _ = describe_booster(fitted)
    description["params"] |= params
    with pytest.raises(RefusedError, match=message):
        build_booster(description, content, "it")
