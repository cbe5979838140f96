import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier

from common.pictures import hide
from effboost import LinearBoostedClassifier
from effboost._utils.onnx_session import start_session
from effboost.exceptions import MissingDependencyError, UnsupportedInputError
from effboost.onnx._head import convert_head

WIDTH = 12


def table(k, n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(1, 1, (n, WIDTH)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] + rng.normal(0, 0.5, n) > 1).astype(int) + (k > 2) * (X[:, 2] > 1)
    return X, y


def fitted(head, k):
    X, y = table(k)
    head = clone(head)
    if isinstance(head, XGBClassifier) and head.early_stopping_rounds:
        return head.fit(X[:200], y[:200], eval_set=[(X[200:], y[200:])], verbose=False)
    return head.fit(X, y)


def scores(model, X):
    return start_session(model.SerializeToString()).run(["scores"], {"features": X})[0]


def linear():
    return make_pipeline(StandardScaler(), LogisticRegression())


def trees(**params):
    return XGBClassifier(n_estimators=10, max_depth=3, **params)


def vote(**params):
    members = [("linear", linear()), ("forest", RandomForestClassifier(5)), ("trees", trees())]
    return VotingClassifier(members, voting="soft", **params)


def own():
    return LinearBoostedClassifier(trees=trees(), random_state=0)


CONVERTIBLE = {
    "trees": trees(),
    "the paper's trees": XGBClassifier(learning_rate=0.35, tree_method="hist", n_estimators=20),
    "trees that stopped early": XGBClassifier(n_estimators=200, early_stopping_rounds=3),
    "trees from another start": trees(base_score=0.2),
    "one tree": XGBClassifier(n_estimators=1),
    "trees that never split": trees(min_child_weight=1e6),
    "linear": linear(),
    "forest": RandomForestClassifier(10, random_state=0),
    "neighbours": KNeighborsClassifier(),
    "stack": StackingClassifier([("trees", trees()), ("linear", linear())], cv=2),
    "vote": vote(),
    "weighted vote": vote(weights=[3, 1, 2]),
    "vote without a member": vote(weights=[3, 1, 2]).set_params(forest="drop"),
    "sigmoid": CalibratedClassifierCV(trees(), cv=2),
    "temperature of trees": CalibratedClassifierCV(trees(), method="temperature", cv=2),
    "temperature of scores": CalibratedClassifierCV(linear(), method="temperature", cv=2),
    "temperature of a vote": CalibratedClassifierCV(
        vote(), method="temperature", cv=2, ensemble=False
    ),
    "linear and trees": own(),
    "linear and trees in a vote": VotingClassifier([("a", own()), ("b", linear())], voting="soft"),
    "temperature of linear and trees": CalibratedClassifierCV(own(), method="temperature", cv=2),
}


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("name", CONVERTIBLE)
def test_probabilities_equal_those_of_the_head(name, k):
    head = fitted(CONVERTIBLE[name], k)
    X = np.concatenate([table(k)[0], table(k, seed=1)[0]])
    got = scores(convert_head(head, X.mean(axis=0)), X)
    assert got.dtype == np.float32
    assert np.abs(got - head.predict_proba(X)).max() <= 1e-5


@pytest.mark.parametrize("method", ["temperature", "sigmoid"])
def test_a_head_calibrated_after_fitting_is_converted(method):
    frozen = FrozenEstimator(fitted(vote(), 3))
    X, y = table(3, seed=1)
    head = CalibratedClassifierCV(frozen, method=method).fit(X, y)
    got = scores(convert_head(head, X.mean(axis=0)), X)
    assert np.abs(got - head.predict_proba(X)).max() <= 1e-5


def test_early_stopping_is_kept():
    head = fitted(CONVERTIBLE["trees that stopped early"], 3)
    assert head.best_iteration + 1 < head.get_booster().num_boosted_rounds() < 200


REFUSED = {
    "parallel trees": trees(num_parallel_tree=3),
    "dropped trees": trees(booster="dart"),
    "a linear booster": XGBClassifier(n_estimators=3, booster="gblinear"),
    "isotonic": CalibratedClassifierCV(trees(), method="isotonic", cv=2),
}


@pytest.mark.filterwarnings("ignore:.*gblinear:UserWarning", "ignore:.*gblinear:FutureWarning")
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("name", REFUSED)
def test_heads_that_converters_get_wrong_are_refused(name, k, capfd):
    X, _ = table(k)
    with pytest.raises(UnsupportedInputError, match=r"cannot be exported: .* can be exported$"):
        convert_head(fitted(REFUSED[name], k), X.mean(axis=0))
    assert capfd.readouterr().err == ""


def test_a_head_without_probabilities_is_refused_with_a_remedy():
    X, y = table(2)
    with pytest.raises(UnsupportedInputError, match=r"LinearSVC has no predict_proba.*Calibrated"):
        convert_head(LinearSVC().fit(X, y), X.mean(axis=0))


class Contrary(LogisticRegression):
    """Decides against what it finds probable."""

    def predict(self, X):
        return 1 - super().predict(X)


def test_a_head_whose_predictions_contradict_its_probabilities_is_refused(monkeypatch):
    from effboost.onnx import _head

    X, y = table(2)
    contrary = Contrary().fit(X, y)
    twin = LogisticRegression().fit(X, y)
    convert = _head._convert
    monkeypatch.setattr(_head, "_convert", lambda _, width: convert(twin, width))
    with pytest.raises(UnsupportedInputError, match="does not predict the class with"):
        convert_head(contrary, X.mean(axis=0))


def test_without_converters_the_error_names_the_extra(monkeypatch):
    hide(monkeypatch, "skl2onnx")
    X, y = table(2)
    with pytest.raises(MissingDependencyError, match=r"pip install 'effboost\[export\]'"):
        convert_head(LogisticRegression().fit(X, y), X.mean(axis=0))
