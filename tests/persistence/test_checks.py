"""Numbers inside of estimators, changed so that compiled code would leave its arrays."""

import copy

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from common.heads import HEADS, N_FEATURES, features, fitted_heads
from effboost._heads.booster import is_booster
from effboost._utils.refusal import RefusedError
from effboost.persistence._checks import check_estimator, check_head, try_head
from effboost.persistence._heads import _walk, read_heads, write_heads
from effboost.persistence._trees import MAX_DEPTH, check_paths


def parts(head):
    return [p for p in _walk(head) if isinstance(p, BaseEstimator) and not is_booster(p)]


def loaded(name, n_classes=3):
    head = fitted_heads(n_classes)[name]
    return read_heads(*write_heads({"head": head})[:2])["head"]


def check(head, n_classes=3):
    """Do what loading does with a head."""
    for part in parts(head):
        check_estimator(part)
    try_head(head, features()[0].mean(axis=0, dtype=np.float64), n_classes)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_every_kind_of_head_passes(name, n_classes):
    check(loaded(name, n_classes), n_classes)


CHANGES = {
    "shape ()": lambda a: np.zeros((), a.dtype),
    "no length": lambda a: a[:0],
    "one fewer": lambda a: a[:-1],
    "one more": lambda a: np.concatenate([a, a[:1]]),
    "another axis": lambda a: a[None],
    "structured": lambda a: np.zeros(a.shape, "f8,i4"),
    "text": lambda a: a.astype(str),
    "objects": lambda a: a.astype(object),
    "complex": lambda a: a.astype(complex),
    "half": lambda a: a.astype(np.float16),
    "NaN": lambda a: np.full(a.shape, np.nan),
    "huge": lambda a: np.full(a.shape, 1e300),
    "large integers": lambda a: np.full(a.shape, 2**62),
    "negative": lambda a: -1 - np.abs(a),
    "numpy class": lambda a: np.float32,
    "list": lambda a: a.tolist(),
    "None": lambda a: None,
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", HEADS)
def test_changed_arrays_are_refused_or_harmless(name):
    """Whatever replaces a fitted array: it is refused, or the head gives probabilities."""
    original = loaded(name)
    X, n_refused, n_tried = features()[0], 0, 0
    for number, part in enumerate(parts(original)):
        params = part.get_params(deep=False)
        arrays = {k: v for k, v in vars(part).items() if isinstance(v, np.ndarray)}
        for attribute, array in arrays.items():
            for change in CHANGES.values():
                if attribute in params or not array.ndim:
                    continue
                n_tried += 1
                head = copy.deepcopy(original)
                setattr(parts(head)[number], attribute, change(array))
                try:
                    check(head)
                except RefusedError:
                    n_refused += 1
                    continue
                for method in ("predict", "predict_proba", "decision_function"):
                    if hasattr(head, method):
                        assert np.isfinite(getattr(head, method)(X)).all()
    assert n_refused >= n_tried / 3


@pytest.mark.parametrize("name", HEADS)
def test_a_missing_attribute_is_refused_or_not_needed(name):
    original = loaded(name)
    for number, part in enumerate(parts(original)):
        for attribute in list(vars(part)):
            head = copy.deepcopy(original)
            delattr(parts(head)[number], attribute)
            try:
                check(head)
            except RefusedError:
                continue
            assert np.array_equal(head.predict(features()[0]), original.predict(features()[0]))


def grown():
    return DecisionTreeClassifier(random_state=0).fit(*features())


def with_nodes(estimator, field, place, value):
    """Write into the nodes of a tree, as a hostile file would."""
    state = estimator.tree_.__getstate__()
    nodes = state["nodes"].copy()
    nodes[field][place] = value
    estimator.tree_.__setstate__(state | {"nodes": nodes})
    return estimator


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("left_child", 10**6, "children do not exist"),
        ("right_child", 0, "children do not exist"),
        ("right_child", 1, "two parents"),
        ("left_child", -5, "children do not exist"),
        ("feature", 99, "a feature that does not exist"),
        ("feature", -3, "a feature that does not exist"),
        ("threshold", np.nan, "a threshold that is NaN"),
    ],
)
def test_trees_that_lead_out_of_their_arrays_are_refused(field, value, message):
    check_estimator(grown())
    with pytest.raises(RefusedError, match=message):
        check_estimator(with_nodes(grown(), field, 0, value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values * 2, "do not sum to 1"),
        (lambda values: values * np.nan, "negative or not finite"),
        (lambda values: -values, "negative or not finite"),
        (lambda values: values * 0, "do not sum to 1"),
    ],
)
def test_shares_of_classes_that_are_not_probabilities_are_refused(change, message):
    tree = grown()
    state = tree.tree_.__getstate__()
    tree.tree_.__setstate__(state | {"values": change(state["values"])})
    with pytest.raises(RefusedError, match=message):
        check_estimator(tree)


def test_trees_of_other_features_or_classes_are_refused():
    tree = grown()
    tree.n_features_in_ = 2
    with pytest.raises(RefusedError, match="is not for 2 features and 3 classes"):
        check_estimator(tree)
    tree = grown()
    tree.classes_ = np.arange(2)
    with pytest.raises(RefusedError, match=f"is not for {N_FEATURES} features and 2 classes"):
        check_estimator(tree)
    forest = RandomForestClassifier(n_estimators=2).fit(*features())
    forest.n_features_in_ = 2
    check_estimator(forest)
    with pytest.raises(RefusedError, match=f"takes 2 features where {N_FEATURES} are computed"):
        check_head(forest, N_FEATURES, 3)
    with pytest.raises(RefusedError, match=f"takes {N_FEATURES} features where 2 are computed"):
        check_head(forest, 2, 3)


def chain(depth):
    """The children of a tree in which every second node is a leaf."""
    left = np.full(2 * depth + 1, -1)
    left[:-1:2] = np.arange(1, 2 * depth, 2)
    return left, np.where(left == -1, -1, left + 1)


def test_depth_is_measured_and_limited():
    assert check_paths("it", *chain(7)) == 7
    assert check_paths("it", *chain(MAX_DEPTH)) == MAX_DEPTH
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(RefusedError, match="more than 512 levels deep"):
            check_paths("it", *chain(depth))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_n_support", np.array([10**6, 0, 0], dtype=np.int32)),
        ("_n_support", np.array([-1, 16, 15], dtype=np.int32)),
        ("_n_support", np.array([2**31 - 1, 2**31 - 1, 32], dtype=np.int32)),
        ("support_", np.zeros(2, dtype=np.int32)),
        ("support_", np.full(48, 48, dtype=np.int32)),
        ("_dual_coef_", np.zeros((9, 48))),
        ("_intercept_", np.zeros(1)),
        ("support_vectors_", np.zeros((48, 2))),
        ("support_vectors_", np.zeros((48, N_FEATURES, 1))),
        ("support_vectors_", np.asfortranarray(np.zeros((48, N_FEATURES)))),
        ("classes_", np.arange(200)),
        ("kernel", "precomputed"),
        ("_sparse", True),
        ("_probA", np.zeros(1)),
        ("_effective_probability", True),
        ("_gamma", -1.0),
        ("degree", -3),
        ("shape_fit_", (1, 1)),
    ],
)
def test_support_vectors_that_do_not_exist_are_refused(name, value):
    machine = SVC(C=1e-3).fit(*features())
    assert machine.support_.size == 48
    check_estimator(machine)
    setattr(machine, name, value)
    with pytest.raises(RefusedError, match=r"SVC|parameter"):
        check_estimator(machine)


@pytest.mark.parametrize("n_jobs", ["all", 2.5])
def test_numbers_of_jobs_that_are_not_integers_are_refused(n_jobs):
    with pytest.raises(RefusedError, match="n_jobs"):
        check_estimator(RandomForestClassifier(n_jobs=n_jobs))


def test_heads_of_too_many_parts_are_refused():
    head = copy.deepcopy(fitted_heads()["vote"])
    head.estimators_ = [head.estimators_[2]] * 30_000
    head.estimators = [("a", "x")] * 30_000
    with pytest.raises(RefusedError, match="more than 20,000 estimators"):
        check_head(head, N_FEATURES, 3)


def test_a_head_that_is_not_fitted_is_refused():
    head = copy.deepcopy(fitted_heads()["vote"])
    head.estimators_[1] = head.estimators[1][1]
    with pytest.raises(RefusedError, match="a booster is not fitted"):
        check_head(head, N_FEATURES, 3)
    head.estimators_[1] = LogisticRegression()
    with pytest.raises(RefusedError, match="LogisticRegression that is not fitted"):
        check_head(head, N_FEATURES, 3)


@pytest.mark.parametrize("name", ["booster", "logistic", "vote"])
def test_heads_of_other_classes_are_refused(name):
    with pytest.raises(RefusedError, match=r"expected 4|0 to 3"):
        check_head(fitted_heads()[name], N_FEATURES, 4)


class Uncertain(LogisticRegression):
    def predict_proba(self, X):
        return super().predict_proba(X) * 2


def test_a_head_whose_probabilities_do_not_sum_to_1_is_refused():
    head = Uncertain().fit(*features())
    with pytest.raises(RefusedError, match=r"cannot predict \(its probabilities"):
        try_head(head, np.zeros(N_FEATURES), 3)


def test_a_head_that_predicts_floats_is_refused():
    """They cannot be positions in the classes of a model."""
    head = copy.deepcopy(fitted_heads()["logistic"])
    head.classes_ = head.classes_.astype(float)
    with pytest.raises(RefusedError, match="other classes than the model has"):
        try_head(head, np.zeros(N_FEATURES), 3)


def test_trying_a_head_leaves_its_threads_as_they_were():
    head = copy.deepcopy(fitted_heads()["booster"])
    head.n_jobs = None
    try_head(head, np.ones(N_FEATURES), 3)
    assert head.n_jobs is None
    assert '"nthread":"0"' in head.get_booster().save_config()


def change(name, **attributes):
    """Load a head and change its attributes, by functions of what they are."""
    head = loaded(name)
    for attribute, convert in attributes.items():
        setattr(head, attribute, convert(getattr(head, attribute)))
    return head


def scaler(n_features=N_FEATURES):
    return StandardScaler().fit(features()[0][:, :n_features])


COMPOSITIONS = {
    "transformer": (scaler, "a StandardScaler is not a classifier"),
    "booster that is not fitted": (XGBClassifier, "a booster is not fitted"),
    "pipeline without steps": (lambda: change("pipeline", steps=lambda s: []), "has no steps"),
    "classifier as a step": (
        lambda: change("pipeline", steps=lambda s: [("x", loaded("tree")), *s]),
        "a DecisionTreeClassifier is not a transformer",
    ),
    "step of another width": (
        lambda: change("pipeline", steps=lambda s: [("x", scaler(2)), *s[1:]]),
        f"takes 2 features where {N_FEATURES} are computed",
    ),
    "member that is none": (
        lambda: change("forest", estimators_=lambda e: ["x", *e[1:]]),
        "contains a str, not an estimator",
    ),
    "member that is not fitted": (
        lambda: change("vote", estimators_=lambda e: [LogisticRegression(), *e[1:]]),
        "contains a LogisticRegression that is not fitted",
    ),
    "too many members": (
        lambda: change("forest", estimators_=lambda e: [e[0]] * 20_001),
        "more than 20,000 estimators",
    ),
    "no members": (lambda: change("forest", estimators_=lambda e: []), "has no estimators"),
    "names of other members": (
        lambda: change("vote", estimators=lambda e: e[:1]),
        "do not match their names",
    ),
    "neither part": (
        lambda: change("linear boosted", linear_=lambda p: None, trees_=lambda p: None),
        "neither a linear model nor trees",
    ),
    "no scaler": (lambda: change("linear boosted", scaler_=lambda p: None), "has no scaler"),
    "no calibrators": (
        lambda: change(
            "calibrated, sigmoid", calibrated_classifiers_=lambda c: [without_calibrators(c[0])]
        ),
        "other calibrators than classes",
    ),
    "other calibrators": (
        lambda: change(
            "calibrated, sigmoid",
            calibrated_classifiers_=lambda c: [with_calibrators(c[0], IsotonicRegression())],
        ),
        "a calibrator is not a fitted _SigmoidCalibration",
    ),
    "other classes": (
        lambda: change("tree", classes_=lambda c: c[::-1].copy()),
        "expected the numbers 0 to 2",
    ),
}


def without_calibrators(calibrated):
    calibrated.calibrators = []
    return calibrated


def with_calibrators(calibrated, other):
    calibrated.calibrators = [other] * len(calibrated.calibrators)
    return calibrated


@pytest.mark.parametrize(("make", "message"), COMPOSITIONS.values(), ids=COMPOSITIONS.keys())
def test_parts_that_do_not_go_together_are_refused(make, message):
    with pytest.raises(RefusedError, match=message):
        check_head(make(), N_FEATURES, 3)


def test_steps_that_pass_everything_through_are_accepted():
    head = change("pipeline", steps=lambda s: [("x", "passthrough"), ("y", None), *s])
    assert check_head(head, N_FEATURES, 3) == []


def test_types_without_a_schema_and_folders_of_pickles_are_refused():
    rows, target = features()
    neighbours = KNeighborsClassifier().fit(rows, target)
    with pytest.raises(RefusedError, match="a KNeighborsClassifier cannot be in a model file"):
        check_estimator(neighbours)
    head = change("pipeline", memory=lambda m: "folder")
    with pytest.raises(RefusedError, match="a Pipeline has a memory"):
        check_estimator(head)
