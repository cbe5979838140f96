import pytest
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

import effboost
from common.networks import tiny_featurizer
from effboost import HybridClassifier


@pytest.fixture
def booster():
    return XGBClassifier(n_estimators=3, max_depth=3, tree_method="hist", n_jobs=1)


@pytest.fixture
def voting(booster):
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    return VotingClassifier([("linear", linear), ("boosted", booster)], voting="soft")


@pytest.fixture
def hybrid(booster, pixels, three_classes):
    return HybridClassifier(tiny_featurizer(), booster, random_state=0).fit(pixels, three_classes)


@pytest.fixture
def saved(hybrid, tmp_path):
    """A small model file, with a network of the tests' own."""
    return effboost.save(hybrid, tmp_path / "model.effboost")


@pytest.fixture
def saved_voting(voting, pixels, three_classes, tmp_path):
    """The same with a head that goes through skops."""
    clf = HybridClassifier(tiny_featurizer(), voting, random_state=0).fit(pixels, three_classes)
    return effboost.save(clf, tmp_path / "voting.effboost")
