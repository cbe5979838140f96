import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier, XGBRFClassifier
from xgboost.callback import EarlyStopping

from common.networks import tiny_featurizer
from effboost import HybridClassifier
from effboost._heads.booster import paper_booster
from effboost._heads.fit import fit_head, stops_early

CPU = torch.device("cpu")


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 5)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(np.int64)


def fit(classifier, train, validation=None, weight=None, device=CPU):
    weight = np.ones(len(train[1])) if weight is None else weight
    return fit_head(classifier, train, validation, sample_weight=weight, device=device)


def test_the_papers_booster_has_a_learning_rate_of_035_and_histograms():
    params = paper_booster().get_xgb_params()
    assert (params["learning_rate"], params["tree_method"]) == (0.35, "hist")


def test_metrics_of_each_round_are_those_of_the_rounds(rows):
    booster = XGBClassifier(n_estimators=6, learning_rate=0.35)
    train, validation = ((part[:60], part[60:]) for part in rows)
    result = fit(booster, (train[0], validation[0]), (train[1], validation[1]))
    assert result.keys() == {"train", "validation"}
    for name, (X, y) in {
        "train": (train[0], validation[0]),
        "validation": (train[1], validation[1]),
    }.items():
        for n in (1, 6):
            wrong = (booster.predict(X, iteration_range=(0, n)) != y).mean()
            assert result[name]["error"][n - 1] == pytest.approx(wrong)


def test_a_forest_of_xgboost_can_be_the_head_of_a_hybrid():
    X = np.random.default_rng(0).integers(0, 256, (12, 24, 24, 3), dtype=np.uint8)
    clf = HybridClassifier(tiny_featurizer(), XGBRFClassifier(n_estimators=3))
    assert clf.fit(X, ["ALL", "HEM"] * 6).predict_proba(X).shape == (12, 2)


def test_nothing_is_printed(rows, capfd):
    fit(XGBClassifier(n_estimators=3), rows, rows)
    assert capfd.readouterr() == ("", "")


def test_early_stopping_decides_by_the_loss_of_the_validation_rows(rows):
    X, y = rows
    booster = XGBClassifier(n_estimators=300, early_stopping_rounds=3)
    result = fit(booster, (X[:60], y[:60]), (X[60:], y[60:]))
    losses = result["validation"]["logloss"]
    assert len(losses) < 300
    assert booster.best_iteration == int(np.argmin(losses))


def test_a_callback_stops_on_the_rows_that_early_stopping_rounds_stops_on(rows):
    X, y = rows
    parts = (X[:60], y[:60]), (X[60:], y[60:])
    fitted = {}
    for name, params in {
        "rounds": {"early_stopping_rounds": 3},
        "callback": {"callbacks": [EarlyStopping(rounds=3)]},
        "named": {"callbacks": [EarlyStopping(rounds=3, data_name="validation_0")]},
        "best": {"callbacks": [EarlyStopping(rounds=3, save_best=True)]},
    }.items():
        booster = XGBClassifier(n_estimators=300, **params)
        assert stops_early(booster)
        assert len(fit(booster, *parts)["validation"]["logloss"]) < 100
        fitted[name] = booster.best_iteration, booster.predict_proba(X)
        for callback in booster.callbacks or ():
            assert callback.stopping_history == {}  # the user's own is as before
            assert callback.data in (None, "validation_0")
    for best, probabilities in fitted.values():
        assert best == fitted["rounds"][0]
        np.testing.assert_array_equal(probabilities, fitted["rounds"][1])


def test_a_hybrid_splits_subjects_off_for_a_callback():
    X = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)
    y, groups = np.array(["ALL", "HEM"])[np.arange(40) // 2 % 2], np.arange(40) // 2
    fitted = [
        HybridClassifier(tiny_featurizer(), booster, random_state=0).fit(X, y, groups=groups)
        for booster in (
            XGBClassifier(n_estimators=100, early_stopping_rounds=2),
            XGBClassifier(n_estimators=100, callbacks=[EarlyStopping(rounds=2)]),
        )
    ]
    assert fitted[0].evals_result_.keys() == {"train", "validation"}
    assert fitted[0].evals_result_ == fitted[1].evals_result_
    np.testing.assert_array_equal(*(clf.predict_proba(X) for clf in fitted))


def test_weights_are_passed_unless_all_are_one(rows):
    y = rows[1]
    plain, weighted = LogisticRegression(), LogisticRegression()
    assert fit(plain, rows) is None
    fit(weighted, rows, weight=np.where(y == 1, 10.0, 1.0))
    assert weighted.intercept_[0] > plain.intercept_[0]


def test_stops_early_recognises_boosters():
    assert stops_early(XGBClassifier(early_stopping_rounds=2))
    assert not stops_early(paper_booster())
    assert not stops_early(LogisticRegression())


def test_a_forest_of_xgboost_can_be_the_head(rows):
    forest = XGBRFClassifier(n_estimators=4)
    fit(forest, rows)
    assert forest.predict(rows[0]).shape == (80,)


def test_the_booster_is_fitted_on_a_gpu_and_predicts_on_the_cpu(rows):
    """Shown by what XGBoost is asked for: there is no GPU here to ask."""
    asked = []

    class Asked(XGBClassifier):
        def fit(self, *args, **kwargs):
            asked.append(self.device)
            self.set_params(device="cpu")
            return super().fit(*args, **kwargs)

    booster = Asked(n_estimators=2)
    fit(booster, rows, device=torch.device("cuda"))
    assert asked == ["cuda"]
    assert booster.device == "cpu"
    fit(Asked(n_estimators=2, device="cpu"), rows, device=torch.device("cuda"))
    assert asked == ["cuda", "cpu"]


def test_weight_of_two_equals_a_repeated_row_bit_for_bit():
    """Wherever it stands again, after the first time."""
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 3, 40)
    counts = rng.integers(1, 4, 40)
    first = np.cumsum(counts) - counts
    others = np.setdiff1d(np.arange(counts.sum()), first)
    order = np.concatenate([first, rng.permutation(others)])
    repeated = features.repeat(counts, axis=0)[order], y.repeat(counts)[order]
    fitted = []
    for rows, weight in (((features, y), counts.astype(float)), (repeated, np.ones(len(order)))):
        head = paper_booster()
        fit_head(head, rows, None, sample_weight=weight, device=CPU)
        fitted.append(head.predict_proba(features))
    np.testing.assert_array_equal(*fitted)


def test_rows_without_duplicates_are_passed_unchanged():
    seen = {}

    class Head(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.update(X=X, weight=sample_weight)
            return super().fit(X, y)

    features = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    rows = features, np.arange(9) % 3
    fit_head(Head(), rows, None, sample_weight=np.ones(9), device=CPU)
    assert seen["X"] is features
    assert seen["weight"] is None
