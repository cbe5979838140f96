"""Boosters in UBJ, changed in ways that XGBoost would crash on or believe."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xgboost import XGBClassifier, XGBRegressor

from common.ubjson import length_prefix, write_ubjson
from effboost._utils.refusal import RefusedError
from effboost.persistence._booster_checks import check_booster
from effboost.persistence._boosters import build_booster, describe_booster
from effboost.persistence._ubjson import parse_ubjson

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
def test_written_values_are_read(value):
    assert parse_ubjson(write_ubjson(value)) == value


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_random_bytes_are_refused_or_an_object(content):
    try:
        value = parse_ubjson(b"{L" + bytes(7) + b"\1a" + content)
    except RefusedError:
        return
    assert value.keys() >= {"a"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b"[#" + length_prefix(None, 0), "is not an object"),
        (write_ubjson({"a": 1}) + b"x", "after the booster's end"),
        (b"{" + (length_prefix(b"a") + b"T") * 2 + b"}", "a field twice"),
        (b"{" + length_prefix(b"a") + b"[$d#L" + b"\x7f" + b"\xff" * 7, "do not fit into it"),
        (b"{" + length_prefix(b"a") + b"[$S#" + length_prefix(None, 0) + b"}", "unknown type"),
        (b"{" + length_prefix(b"a") + b"H" + length_prefix(b"9" * 9) + b"}", "damaged at byte"),
        ((b"{" + length_prefix(b"a")) * 1000, "nested too deeply"),
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


def put_shape(name, value):
    return lambda learner: learner["learner_model_param"].update({name: value})


CHANGES = {
    "no features": (put_shape("num_feature", "0"), "has 0 features"),
    "start that is not a number": (put_shape("boost_from_average", "x"), "boost_from_average"),
    "start that is not finite": (put_shape("base_score", "1e999"), "base score is not a number"),
    "several targets": (put_shape("num_target", "2"), "several targets"),
    "objective of two classes": (
        lambda learner: learner.update(
            objective={"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}}
        ),
        "does not fit its number of classes",
    ),
    "score of text": (
        lambda learner: learner["attributes"].update(best_score="x"),
        "an attribute that XGBoost does not write",
    ),
    "child far away": (put("left_children", 0, 10**6), "children do not exist"),
    "child before": (put("left_children", 1, 0), "children do not exist"),
    "circle": (put("right_children", 0, 0), "children do not exist"),
    "negative child": (put("left_children", 0, -7), "children do not exist"),
    "leaf with a child": (put("right_children", -1, 1), "children do not exist"),
    "shared child": (lambda t: put("right_children", 0, 1)(t), "two parents"),
    "parents in a circle": (put("parents", -1, 2**31 - 2), "two parents|without a parent"),
    "root with a parent": (put("parents", 0, 1), "without a parent"),
    "feature far away": (put("split_indices", 0, 10**6), "feature that does not exist"),
    "negative feature": (put("split_indices", 0, -1), "feature that does not exist"),
    "category": (put("split_type", 0, 1), "categories"),
    "default direction": (put("default_left", 0, 7), "default direction"),
    "threshold": (put("split_conditions", 0, np.nan), "NaN, infinity or very large"),
    "short array": (
        lambda x: tree(x).update(split_conditions=tree(x)["split_conditions"][:-1]),
        "6 split_conditions; expected 7",
    ),
    "wrong type": (
        lambda x: tree(x).update(split_indices=tree(x)["base_weights"]),
        "split_indices are not numbers",
    ),
    "no nodes": (lambda x: tree(x).update(left_children=np.zeros(0, ">i4")), "expected 0"),
    "other count": (
        lambda x: tree(x)["tree_param"].update(num_nodes="99999999"),
        "declares wrong numbers of nodes",
    ),
    "count that is none": (
        lambda x: tree(x)["tree_param"].update(num_nodes="-1"),
        "num_nodes is not a number",
    ),
    "targets": (lambda x: tree(x)["tree_param"].update(size_leaf_vector="9"), "several targets"),
    "unknown field": (lambda x: tree(x).update(more=1), "has an unknown field 'more'"),
    "class of a tree": (
        lambda x: x["gradient_booster"]["model"].update(tree_info=[0, 1, 2, 0, 1, 9]),
        "a class that does not exist",
    ),
    "number of trees": (
        lambda x: x["gradient_booster"]["model"]["gbtree_model_param"].update(num_trees="7"),
        "declares a wrong number of trees",
    ),
    "rounds": (
        lambda x: x["gradient_booster"]["model"].update(iteration_indptr=[0, 900, 6]),
        "do not add up",
    ),
    "kind": (lambda x: x["gradient_booster"].update(name="plugin"), "is of kind 'plugin'"),
    "objective": (lambda x: x["objective"].update(name="rank:ndcg"), "'rank:ndcg' is unknown"),
    "classes": (
        lambda x: x["objective"]["softmax_multiclass_param"].update(num_class="9"),
        "another number of classes",
    ),
    "many classes": (
        lambda x: x["learner_model_param"].update(num_class="999999999"),
        "base score|another number of classes",
    ),
    "classes without trees": (
        # XGBoost reserved gigabytes for them.
        lambda x: [
            x["learner_model_param"].update(num_class="100000000", base_score="[5E-1]"),
            x["objective"]["softmax_multiclass_param"].update(num_class="100000000"),
        ],
        "100,000,000 classes and 6 trees",
    ),
    "huge base score": (
        lambda x: x["learner_model_param"].update(base_score="[1e99]"),
        "base score is not a number",
    ),
    "number of parallel trees": (
        lambda x: x["gradient_booster"]["model"]["gbtree_model_param"].update(
            num_parallel_tree="999999999"
        ),
        "declares a wrong number of trees",
    ),
    "huge leaf": (put("split_conditions", -1, 1e38), "very large numbers"),
    "objective of another type": (lambda x: x["objective"].update(name=[1]), "is unknown"),
    "categories of another type": (
        lambda x: x["gradient_booster"]["model"].update(cats={"enc": 1}),
        "categories",
    ),
    "features": (
        lambda x: x["learner_model_param"].update(num_feature="2"),
        "declares wrong numbers of nodes or features",
    ),
    "base score": (
        lambda x: x["learner_model_param"].update(base_score="__import__('os')"),
        "base score is not a number",
    ),
    "best round": (lambda x: x["attributes"].update(best_iteration="99"), "comes after its last"),
    "names": (lambda x: x.update(feature_names=["a"] * 5), "names or types of features"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_hostile_boosters_are_refused(change, message, fitted):
    with pytest.raises(RefusedError, match=message):
        check_booster(changed(fitted, change))


def grow_chain(depth):
    """Make a change of a tree to one in which every second node is a leaf."""

    def change(learner):
        n = 2 * depth + 1
        left = np.full(n, -1)
        left[:-1:2] = np.arange(1, n - 1, 2)
        right = np.where(left == -1, -1, left + 1)
        parents = np.full(n, 2**31 - 1)
        parents[left[left >= 0]] = parents[right[left >= 0]] = np.flatnonzero(left >= 0)
        numbers = {"left_children": left, "right_children": right, "parents": parents}
        one = tree(learner)
        one |= {name: values.astype(">i4") for name, values in numbers.items()}
        for name in ("base_weights", "loss_changes", "split_conditions", "sum_hessian"):
            one[name] = np.zeros(n, ">f4")
        one["split_indices"] = np.zeros(n, ">i4")
        one["default_left"] = one["split_type"] = np.zeros(n, "u1")
        one["tree_param"]["num_nodes"] = str(n)

    return change


@pytest.mark.parametrize("depth", [513, 40_000])
def test_deep_trees_are_refused(depth, fitted):
    """XGBoost calls itself once a level, which crashed the process at a depth of 40,000."""
    check_booster(changed(fitted, grow_chain(512)))
    with pytest.raises(RefusedError, match="more than 512 levels deep"):
        check_booster(changed(fitted, grow_chain(depth)))


def test_regressors_and_categories_are_refused_when_saving(fitted):
    with pytest.raises(RefusedError, match="XGBRegressor cannot be saved as a head"):
        describe_booster(XGBRegressor())
    X = np.arange(40, dtype=np.float32)[:, None] % 4
    model = XGBClassifier(n_estimators=1, enable_categorical=True, feature_types=["c"], n_jobs=1)
    with pytest.raises(RefusedError, match=r"names or types|categories"):
        describe_booster(model.fit(X, X[:, 0] == 2))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"__class__": 1}, "'__class__' is not a name"),
        ({"_Booster": 1}, "'_Booster' is not a name"),
        ({"missing": "x"}, "'missing' is a str"),
        ({"missing": {"float": "inf"}}, "missing is infinite"),
        ({"verbosity": 99}, "verbosity is not between 0 and 3"),
        ({"objective": [1]}, "'objective' is a list"),
        ({f"p{i}": 1 for i in range(999)}, "parameters; the limit is 200"),
        ({"n_jobs": "many"}, "'n_jobs' is a str"),
    ],
)
def test_hostile_parameters_are_refused(params, message, fitted):
    description, content, _ = describe_booster(fitted)
    description["params"] |= params
    with pytest.raises(RefusedError, match=message):
        build_booster(description, content, "it")
